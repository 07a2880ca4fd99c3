"""Objects that come back from the reader: match, decide, apply."""
