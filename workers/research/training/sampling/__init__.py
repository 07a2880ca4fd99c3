"""Draw training samples: an anatomy or a real CT, with random densities, image section and prompts."""
