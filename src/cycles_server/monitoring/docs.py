"""The contract for people: the document itself, and pages to try it.

Everything is made once, when the server starts, and then answered from memory: large files that
are read slowly cost no thread and no copy each.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files

import orjson
from flask import Flask
from flask_swagger_ui import get_swaggerui_blueprint

from cycles_server.auth.adminkey import HEADER, AdminKey
from cycles_server.contract.document import Contract
from cycles_server.http.exchange import READS, Exchange, Reply
from cycles_server.http.problems import Problem, method_not_allowed, no_such_path

DOCUMENT_PATH = "/api-docs"
PAGES_PATH = "/swagger-ui"

Page = tuple[bytes, str]
"""Content and media type."""


class Docs:
    """``/api-docs`` (JSON; ``/api-docs.yaml`` is the file itself) and Swagger UI at
    ``/swagger-ui.html``.

    Args:
        admin_key: whose sender may see them; empty leaves them open.
        document, pages: whether to serve each at all.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        admin_key: str,
        document: bool,
        pages: bool,
    ) -> None:
        self._admin_key = AdminKey(admin_key)
        self._pages: dict[str, Page] = {}
        if document:
            as_json = orjson.dumps(contract.document)
            self._pages[DOCUMENT_PATH] = (as_json, "application/json")
            yaml_type = "application/yaml; charset=utf-8"
            self._pages[f"{DOCUMENT_PATH}.yaml"] = (contract.text, yaml_type)
        if pages:
            self._pages.update(_swagger_ui(contract.title))

    async def answer(self, exchange: Exchange) -> Reply:
        """Raises: Problem 404, 405, or 401 for who is not the operator."""
        page = self._pages.get(exchange.path)
        if page is None:
            raise no_such_path()
        if exchange.method not in READS:
            raise method_not_allowed(exchange.method, READS)
        if not self._admin_key.opens((exchange.header(AdminKey.header) or "").encode()):
            raise Problem("UNAUTHORIZED", f"A valid {HEADER} is required")
        content, media_type = page
        return Reply(200, None, raw=content, media_type=media_type)


def _swagger_ui(title: str) -> Iterator[tuple[str, Page]]:
    """Every page of Swagger UI by its path, as its package serves them."""
    flask = Flask(__name__, static_folder=None)
    flask.register_blueprint(
        get_swaggerui_blueprint(
            PAGES_PATH,
            DOCUMENT_PATH,
            config={
                "app_name": title,
                "tryItOutEnabled": True,
                # Unused, but else the page would hold the address that it was made under.
                "oauth2RedirectUrl": f"{PAGES_PATH}/oauth2-redirect.html",
            },
        )
    )
    client = flask.test_client()

    def page(path: str) -> Page:
        with client.get(path) as response:  # it holds its file open
            if response.status_code != 200:
                raise RuntimeError(f"Swagger UI has no {path}")
            return response.data, response.content_type

    index = page(f"{PAGES_PATH}/")
    for path in (PAGES_PATH, f"{PAGES_PATH}/", f"{PAGES_PATH}.html", f"{PAGES_PATH}/index.html"):
        yield path, index
    for file in files("flask_swagger_ui").joinpath("dist").iterdir():
        yield f"{PAGES_PATH}/{file.name}", page(f"{PAGES_PATH}/{file.name}")
