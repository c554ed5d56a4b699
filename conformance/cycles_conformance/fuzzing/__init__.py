"""Schemathesis against a Cycles server, with what it must know of Cycles beyond the schemas."""
