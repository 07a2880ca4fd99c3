"""Worker processes: their start, their description for the console, and their memory."""
