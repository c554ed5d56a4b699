"""Health, info, metrics, logs and docs pages."""
