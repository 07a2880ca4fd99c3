"""What an accepted segmentation measures, how sure that is, and what changed since the prior study."""
