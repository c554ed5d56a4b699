"""The operations plane: what the server counts, how it is doing, and whether it can work."""
