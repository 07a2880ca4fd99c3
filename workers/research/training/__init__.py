"""Phantoms, and the training of the packaged networks."""
