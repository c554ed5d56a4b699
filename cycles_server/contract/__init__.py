"""The engine: turns an OpenAPI document into operations that are ready to run.

Connexion loads the document and calls each middleware's ``make_operation`` once for each
operation; what is compiled there is all that a request meets.
"""
