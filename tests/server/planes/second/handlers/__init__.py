"""Handlers of the second plane."""
