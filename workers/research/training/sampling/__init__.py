"""Training samples: anatomies and real CTs with random appearance, view and prompts."""
