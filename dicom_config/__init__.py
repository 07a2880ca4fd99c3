"""The configuration of a site, and constants of the standard; imports nothing of ours."""
