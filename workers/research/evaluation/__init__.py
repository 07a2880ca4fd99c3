"""Simulated reader, metrics, and comparison with the paper's table."""
