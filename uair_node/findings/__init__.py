"""Measurements of a segmentation, and the change since earlier studies."""
