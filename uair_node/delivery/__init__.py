"""The delivery of results to destinations: outbox, storage commitment and resending."""
