"""Handlers of the governance contract."""
