"""The demonstration: all rounds with a simulated reader, real processes and DICOM associations."""
