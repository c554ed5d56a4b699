"""Redis: connections, scripts and the names of keys. Nothing outside this package talks to Redis."""
