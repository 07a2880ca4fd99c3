"""What comes back from the reader."""
