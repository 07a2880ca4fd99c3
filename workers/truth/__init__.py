"""Truth masks of a series, and how well a segmentation agrees with them."""
