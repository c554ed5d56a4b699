"""Signed envelopes as they are stored, and the keys that verify them."""
