"""Searches of workers in archives."""
