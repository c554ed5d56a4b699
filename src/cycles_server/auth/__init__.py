"""Who calls, and what may they do: API keys, the operator's key, permissions, scope filters."""
