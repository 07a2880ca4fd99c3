"""Files: the spool, artifacts, and the stores that machines share."""
