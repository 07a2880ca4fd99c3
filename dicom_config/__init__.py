"""The configuration of a site, and constants of the DICOM standard.

This package imports no other package of this project.
"""
