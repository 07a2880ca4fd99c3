"""From instances to cases: receive, register, assemble, choose."""
