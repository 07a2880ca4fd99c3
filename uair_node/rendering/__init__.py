"""Pictures, surfaces and files that other programs read, made from arrays."""
