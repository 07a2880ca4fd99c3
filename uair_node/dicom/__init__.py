"""Readers of received DICOM objects: files, headers, stacks, volumes and the gate.

No module here uses the database.
"""
