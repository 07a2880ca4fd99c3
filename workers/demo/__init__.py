"""The demonstration: the whole loop with real processes and associations, and a simulated reader."""
