"""Simulated reader, metrics, and the comparison with the published table."""
