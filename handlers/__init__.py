"""Handlers: one module for each tag of the contract, one function for each operationId.

A handler gets a request that the contract admits and answers it with a few lines around one
ledger call. Rules that the contract states in prose only are checked here too.
"""
