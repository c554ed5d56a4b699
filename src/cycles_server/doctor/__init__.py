"""A check of the store and of the books in it."""
