"""The Cycles runtime server: the OpenAPI contract is the program, Redis the ledger."""

__version__ = "0.1.0"
