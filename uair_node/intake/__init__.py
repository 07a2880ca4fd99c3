"""From instances to cases: spool, assembly, gate."""
