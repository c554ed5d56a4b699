"""Handlers of the runtime contract."""
