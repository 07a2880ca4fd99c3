"""Training samples: a slice of a geometry with a new appearance in a random crop, and prompts."""
