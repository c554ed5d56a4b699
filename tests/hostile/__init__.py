"""Clients that no server should have: slow, huge, half, meaningless or prying ones.

They know nothing of the server's code and need the standard library only. ``python -m hostile``,
run in the folder ``tests``, sets one kind of them on a server.
"""
