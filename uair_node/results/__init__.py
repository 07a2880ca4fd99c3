"""What goes back to the PACS."""
