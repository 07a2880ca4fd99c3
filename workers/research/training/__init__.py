"""Training of the packaged networks on phantoms and real CTs."""
