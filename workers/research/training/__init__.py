"""Phantoms, and the training of what is embedded."""
