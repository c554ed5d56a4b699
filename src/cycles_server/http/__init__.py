"""The edge of every exchange: ids, headers, JSON, the error shape, the answer."""
