"""The operator's commands: a group for each noun, each a client of the admin plane's HTTP API.

They need nothing of this machine but the admin plane's URL and the operator's key.
"""
