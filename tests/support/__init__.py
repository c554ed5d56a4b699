"""Real parts for the tests: a Redis, a server, and clients over HTTP."""
