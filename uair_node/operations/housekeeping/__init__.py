"""Upkeep of an installation: retention, recovery, and a case as a file for support."""
