"""Monitoring: liveness, readiness and metrics. Never patient data, never a whole UID."""
