"""Conformance kit for the Cycles protocol."""

__version__ = "0.1.0"
