"""Monitoring: liveness, readiness and metrics. They contain no patient data and no complete UID."""
