"""A tenant's close: what it does, and who sees to it that it is done."""
