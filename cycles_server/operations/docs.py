"""The contract for people: the document itself, and pages to try it."""

from __future__ import annotations

from collections.abc import Callable

import orjson
from flask import Flask, Response
from flask_swagger_ui import get_swaggerui_blueprint
from werkzeug.exceptions import Unauthorized

from cycles_server.contract.document import Contract

DOCUMENT_PATH = "/api-docs"
PAGES_PATH = "/swagger-ui"


def add_docs(
    app: Flask, contract: Contract, *, operator: Callable[[], bool], document: bool, pages: bool
) -> None:
    """Serve the contract at ``/api-docs`` (JSON; ``/api-docs.yaml`` is the file itself) and
    Swagger UI at ``/swagger-ui.html``.

    Args:
        operator: whether the request at hand may see them.
        document, pages: whether to serve each at all.
    """
    as_json = orjson.dumps(contract.document)

    def guarded(content: bytes, media_type: str) -> Response:
        if not operator():
            raise Unauthorized
        return Response(content, content_type=media_type)

    if document:

        @app.get(DOCUMENT_PATH)
        def document_json() -> Response:
            return guarded(as_json, "application/json")

        @app.get(f"{DOCUMENT_PATH}.yaml")
        def document_yaml() -> Response:
            return guarded(contract.text, "application/yaml; charset=utf-8")

    if pages:
        blueprint = get_swaggerui_blueprint(
            PAGES_PATH,
            DOCUMENT_PATH,
            config={
                "app_name": contract.title,
                "tryItOutEnabled": True,
                # Unused, but else the page would repeat the Host header here.
                "oauth2RedirectUrl": f"{PAGES_PATH}/oauth2-redirect.html",
            },
        )

        @blueprint.before_request  # type: ignore[untyped-decorator]
        def guard() -> None:
            if not operator():
                raise Unauthorized

        app.register_blueprint(blueprint)
        # The bare path too, which would else be a redirect to wherever the Host header says.
        for path in (PAGES_PATH, f"{PAGES_PATH}.html"):
            app.add_url_rule(
                path,
                endpoint="swagger_ui.page",
                view_func=app.view_functions["swagger_ui.show"],
                strict_slashes=False,
            )
