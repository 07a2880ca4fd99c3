"""The tables, the state machine, and the only module that changes a case's state."""
