"""The steps of the method. Their inputs and results are arrays."""
