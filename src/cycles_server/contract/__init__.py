"""The engine: turns an OpenAPI document into operations that are ready to run.

Connexion loads the document and calls each middleware's ``make_operation`` once for each
operation; what is compiled there is all that a request meets.
"""

import warnings

# Connexion imports Starlette's test client, which warns about its own HTTP client: nothing that
# whoever starts this server could act on.
warnings.filterwarnings("ignore", message=".*starlette.testclient.*")
