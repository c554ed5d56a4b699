"""Tenants, API keys and budgets, in the stored shapes of the governance contract."""
