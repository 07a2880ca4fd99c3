"""Training samples: a slice of a geometry with a new appearance, seen through a random crop, and prompts."""
