"""Worker processes: how one starts, what it says of itself, how it returns memory."""
