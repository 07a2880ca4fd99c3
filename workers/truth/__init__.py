"""Truth masks of a series, and the agreement of a segmentation with them."""
