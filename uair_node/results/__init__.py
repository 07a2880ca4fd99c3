"""The objects that go back to the PACS."""
