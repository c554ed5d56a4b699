"""Lists and look-ups of what the ledger holds."""
