"""Outbox and the ways out of it."""
