"""One round of one case: load the series, run the engine, keep the four label volumes."""
