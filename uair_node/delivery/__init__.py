"""The outbox, storage commitment and resending: results on their way to destinations."""
