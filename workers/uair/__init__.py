"""The method in numpy and torch: arrays in, arrays out."""
