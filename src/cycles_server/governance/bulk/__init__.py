"""Bulk actions: what they have in common, and a module for each."""
