"""Maintenance of an installation: retention, recovery, and the export of a case for support."""
