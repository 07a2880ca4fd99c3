"""The DICOM objects that go back to the PACS: SEG, structure set, report, pages, notices, rejection notes."""
