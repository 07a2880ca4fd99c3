"""What a site configures and what the standard fixes; imports nothing of ours."""
