"""Match the objects that a reader sends back, decide their effect, and apply it."""
