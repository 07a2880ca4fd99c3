"""The configuration of a site, and constants of the DICOM standard. It imports no other package of ours."""
