"""The truth: tables, state machine, and the one place that changes state."""
