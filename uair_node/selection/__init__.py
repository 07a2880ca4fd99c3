"""Objects that come back from the reader."""
