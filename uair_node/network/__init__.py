"""Connections in both directions: the listener, TLS, C-STORE, STOW-RS, storage commitment and retrieval."""
