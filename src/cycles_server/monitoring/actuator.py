"""``/actuator`` over HTTP: health, info and metrics, a small Flask application.

=============================== ============================== ==============================
``/actuator/health``            200 UP, 503 DOWN               anybody; details for the operator
``/actuator/health/readiness``  200 UP, 503 DOWN               anybody
``/actuator/info``              200                            the operator
``/actuator/prometheus``        200, Prometheus's text format  the operator
=============================== ============================== ==============================

Liveness is answered elsewhere (see :mod:`cycles_server.monitoring.liveness`). The operator is who
the admin key; while none is configured, anybody is. All else is answered with the contract's
ErrorResponse.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, Response, jsonify, request
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_flask_exporter import PrometheusMetrics
from werkzeug.exceptions import HTTPException, MethodNotAllowed, Unauthorized

from cycles_server.auth.adminkey import HEADER as ADMIN_KEY_HEADER
from cycles_server.auth.adminkey import AdminKey
from cycles_server.http.problems import SERVER_FAILED
from cycles_server.http.tracing import fresh_id
from cycles_server.monitoring.probe import StoreStatus
from cycles_server.monitoring.wsgi import EXCHANGE

log = logging.getLogger(__name__)

PROTECTED = ("/actuator/info", "/actuator/prometheus")

_ALLOW = "GET, HEAD"
_ERRORS = {
    400: ("INVALID_REQUEST", "The request cannot be read"),
    401: ("UNAUTHORIZED", f"A valid {ADMIN_KEY_HEADER} is required"),
    404: ("NOT_FOUND", "There is nothing at this path"),
    405: ("INVALID_REQUEST", f"This path answers {_ALLOW} only"),
    500: ("INTERNAL_ERROR", SERVER_FAILED),
}


def create_actuator(
    *,
    registry: CollectorRegistry,
    admin_key: str | None,
    ping: Callable[[], StoreStatus],
    info: dict[str, Any],
) -> Flask:
    """The WSGI application for everything under ``/actuator``.

    Args:
        registry: what ``/actuator/prometheus`` exposes.
        admin_key: the operator's key; None or empty leaves info and metrics open.
        ping: the store's status, within the time that a readiness probe may take.
        info: the JSON of ``/actuator/info``.
    """
    app = Flask(__name__, static_folder=None)
    app.url_map.merge_slashes = False  # a doubled slash is another path, never a redirect
    key = AdminKey(admin_key or "")

    def operator() -> bool:
        # WSGI reads header bytes as Latin-1; compared is what was sent.
        return key.opens(request.headers.get(ADMIN_KEY_HEADER, "").encode("latin-1"))

    @app.before_request
    def guard() -> None:
        if request.url_rule is None:
            return  # no route, or not this method: answered below
        if request.method == "OPTIONS":  # which Flask would answer itself, in HTML
            raise MethodNotAllowed
        if request.path in PROTECTED and not operator():
            raise Unauthorized

    @app.get("/actuator/health")
    def health() -> tuple[Response, int]:
        status = ping()
        store: dict[str, Any] = _state(status.up)
        if operator():
            store["details"] = {"detail": status.detail, "warnings": list(status.warnings)}
        body = {**_state(status.up), "components": {"redis": store}}
        return jsonify(body), 200 if status.up else 503

    @app.get("/actuator/health/readiness")
    def readiness() -> tuple[Response, int]:
        up = ping().up
        return jsonify(_state(up)), 200 if up else 503

    @app.get("/actuator/info")
    def about() -> Response:
        return jsonify(info)

    _Exporter(app, path="/actuator/prometheus", export_defaults=False, registry=registry)

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        return _error_response(error.code or 500)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> Response:
        response = _error_response(500)
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        return response

    return app


def _state(up: bool) -> dict[str, Any]:
    return {"status": "UP" if up else "DOWN"}


def _error_response(status: int) -> Response:
    code, message = _ERRORS.get(status, _ERRORS[400 if status < 500 else 500])
    request_id, trace_id = _ids()
    body = {"error": code, "message": message, "request_id": request_id, "trace_id": trace_id}
    response = jsonify(body)
    response.status_code = status
    if status == 405:
        response.headers["Allow"] = _ALLOW
    return response


def _ids() -> tuple[str, str]:
    """The request's ids: of the exchange around this application, or fresh ones without it."""
    exchange = request.environ.get(EXCHANGE)
    if exchange is None:
        return fresh_id(), fresh_id()
    return exchange.request_id, exchange.trace_id


class _Exporter(PrometheusMetrics):  # type: ignore[misc]  # the package has no types
    """Exposes exactly the registry it was given.

    The package's own way would build a second registry from ``PROMETHEUS_MULTIPROC_DIR``, fail on
    ``name[]`` there, and fail on an ``Accept`` header with a version that is no number.
    """

    def generate_metrics(
        self, accept_header: str | None = None, names: Iterable[str] | None = None
    ) -> tuple[str, str]:
        """The text and its content type; ``names`` limits it to these samples."""
        try:
            encode, content_type = choose_encoder(accept_header or "")
        except (TypeError, ValueError):
            encode, content_type = choose_encoder("")
        source = self.registry if names is None else _Selection(self.registry, frozenset(names))
        return encode(source).decode(), content_type


class _Selection:
    """The samples of a registry that bear one of the names."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str]) -> None:
        self._registry = registry
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            samples = [sample for sample in metric.samples if sample.name in self._names]
            if samples:
                chosen = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                chosen.samples = samples
                yield chosen
