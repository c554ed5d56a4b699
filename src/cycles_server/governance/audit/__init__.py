"""The audit log: its entries, the list of them, and what a refused call leaves."""
