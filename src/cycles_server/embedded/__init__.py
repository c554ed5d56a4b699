"""A store of its own, for a server on one machine."""
