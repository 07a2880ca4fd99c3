"""What is measured in a segmentation, and what changed since earlier studies."""
