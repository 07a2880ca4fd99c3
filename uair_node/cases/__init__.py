"""The database tables, the states of a case, and the only module that changes a case's state."""
