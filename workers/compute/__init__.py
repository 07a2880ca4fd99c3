"""Compute one round of a case: load the series, run the engine, keep the four label volumes."""
