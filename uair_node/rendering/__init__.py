"""Make pictures, surfaces and files for other programs from arrays."""
