"""Measurements of an accepted segmentation, with intervals, and the change since the prior study."""
