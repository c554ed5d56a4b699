"""Carries out the steps of one case against one server."""
