"""The way from received instances to cases: receive, register, assemble, choose."""
