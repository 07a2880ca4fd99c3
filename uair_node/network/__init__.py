"""Connections in and out: the listener, TLS, and the users of C-STORE, STOW-RS, commitment and retrieve."""
