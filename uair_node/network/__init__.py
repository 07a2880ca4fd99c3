"""Incoming and outgoing connections: listener, TLS, C-STORE, STOW-RS, storage commitment and retrieval."""
