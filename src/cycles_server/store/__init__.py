"""Redis: connections, scripts and key names. Nothing outside this package talks to Redis."""
