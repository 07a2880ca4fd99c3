"""What monitoring sees: liveness, readiness and metrics. Never patient data, never a whole UID."""
