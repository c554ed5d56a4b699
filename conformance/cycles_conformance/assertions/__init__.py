"""What a step asserts of an answer: matchers, expectations, and the ledger's invariant."""
