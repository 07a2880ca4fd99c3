"""Searches of the workers in archives."""
