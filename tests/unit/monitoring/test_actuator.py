"""The operations plane over HTTP."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry, Counter

from cycles_server.http.exchange import Exchange
from cycles_server.monitoring.actuator import create_actuator
from cycles_server.monitoring.metrics import LedgerMetrics
from cycles_server.monitoring.probe import StoreStatus
from cycles_server.monitoring.workers import render_registry
from cycles_server.monitoring.wsgi import ThreadedPages
from cycles_server.store.findings import WARNING, Finding

UNSAFE = Finding(WARNING, "PERSISTENCE", "appendonly", "no")
ADMIN = {"X-Admin-API-Key": "operator-secret"}
PATHS = (
    "/actuator/health",
    "/actuator/health/readiness",
    "/actuator/info",
    "/actuator/prometheus",
)
HEX32 = re.compile("[0-9a-f]{32}")


class Store:
    """A store whose status is set by hand, and which knows how often it was asked."""

    def __init__(self) -> None:
        self.status = StoreStatus(True, "ok", (UNSAFE,))
        self.asked = 0

    def ping(self) -> StoreStatus:
        self.asked += 1
        return self.status


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def metrics() -> LedgerMetrics:
    return LedgerMetrics()


Client = Callable[..., FlaskClient]


@pytest.fixture
def client(store: Store, metrics: LedgerMetrics) -> Client:
    def make(
        admin_key: str | None = None, registry: CollectorRegistry | None = None
    ) -> FlaskClient:
        return create_actuator(
            registry=registry or metrics.registry,
            admin_key=admin_key,
            ping=store.ping,
            info={"app": {"name": "cycles-server"}},
        ).test_client()

    return make


def assert_error(response: Any, status: int, code: str) -> None:
    assert response.status_code == status
    assert response.content_type == "application/json"
    body = response.get_json()
    assert set(body) == {"error", "message", "request_id", "trace_id"}
    assert body["error"] == code
    assert HEX32.fullmatch(body["request_id"])
    assert HEX32.fullmatch(body["trace_id"])


def test_up(client: Client) -> None:
    http = client()
    health = http.get("/actuator/health")
    assert health.status_code == 200
    assert health.get_json() == {
        "status": "UP",
        "components": {
            "redis": {
                "status": "UP",
                "details": {"detail": "ok", "warnings": ["appendonly is no"]},
            }
        },
    }
    readiness = http.get("/actuator/health/readiness")
    assert (readiness.status_code, readiness.get_json()) == (200, {"status": "UP"})


def test_down(client: Client, store: Store) -> None:
    store.status = StoreStatus(False, "no answer within 1.5 s")
    http = client()
    health = http.get("/actuator/health")
    assert health.status_code == 503
    assert health.get_json()["status"] == "DOWN"
    assert health.get_json()["components"]["redis"]["status"] == "DOWN"
    readiness = http.get("/actuator/health/readiness")
    assert (readiness.status_code, readiness.get_json()) == (503, {"status": "DOWN"})
    store.status = StoreStatus(True, "ok")
    assert http.get("/actuator/health/readiness").status_code == 200


def test_everything_is_open_without_an_admin_key(client: Client) -> None:
    for admin_key in (None, ""):
        http = client(admin_key)
        assert [http.get(path).status_code for path in PATHS] == [200] * len(PATHS)
    assert http.get("/actuator/info").get_json() == {"app": {"name": "cycles-server"}}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Admin-API-Key": ""},
        {"X-Admin-API-Key": "operator-secre"},
        {"X-Admin-API-Key": "opérator-secret"},
        {"X-Cycles-API-Key": "operator-secret"},
    ],
)
def test_only_the_operator_sees_info_metrics_and_details(
    client: Client, headers: dict[str, str]
) -> None:
    http = client("operator-secret")
    for path in ("/actuator/info", "/actuator/prometheus"):
        assert_error(http.get(path, headers=headers), 401, "UNAUTHORIZED")
        assert http.head(path, headers=headers).status_code == 401
        assert http.get(path, headers=ADMIN).status_code == 200
    for path in PATHS[:2]:
        assert http.get(path, headers=headers).status_code == 200
    health = "/actuator/health"
    assert "details" not in http.get(health, headers=headers).get_json()["components"]["redis"]
    assert "details" in http.get(health, headers=ADMIN).get_json()["components"]["redis"]


def test_an_admin_key_beyond_ascii(client: Client) -> None:
    http = client("clé")
    # WSGI shows the bytes of a header as Latin-1.
    environ = {"HTTP_X_ADMIN_API_KEY": "clé".encode().decode("latin-1")}
    assert http.get("/actuator/info", environ_overrides=environ).status_code == 200


def test_prometheus_exposes_the_registry_and_nothing_of_flask(
    client: Client, metrics: LedgerMetrics
) -> None:
    metrics.extend("acme", "ACTIVE", "OK")
    http = client()
    response = http.get("/actuator/prometheus")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    line = 'cycles_reservations_extend_total{decision="ACTIVE",reason="OK",tenant="acme"} 1.0\n'
    assert line in response.text
    assert "flask" not in http.get("/actuator/prometheus").text


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "text/html",
        "text/plain;version=x.y",
        "text/plain;version=1.x;escaping=nonsense",
        "text/plain;version=1.0.0;escaping=allow-utf-8",
        "application/openmetrics-text;version=1.0.0",
        "application/openmetrics-text;version=",
        "application/openmetrics-text;version=nonsense",
        ";;=,,",
    ],
)
def test_any_accept_header_gets_the_metrics(
    client: Client, metrics: LedgerMetrics, accept: str
) -> None:
    metrics.extend("acme", "ACTIVE", "OK")
    response = client().get("/actuator/prometheus", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.content_type.startswith(("text/plain", "application/openmetrics-text"))
    assert "cycles_reservations_extend_total{" in response.text


def test_a_scrape_of_named_samples(client: Client, metrics: LedgerMetrics) -> None:
    metrics.extend("acme", "ACTIVE", "OK")
    metrics.overdraft_incurred("acme")
    query = {"name[]": "cycles_overdraft_incurred_total"}
    text = client().get("/actuator/prometheus", query_string=query).text
    assert "cycles_overdraft_incurred_total{" in text
    assert "cycles_reservations_extend_total" not in text


def test_the_exporter_keeps_to_its_registry_when_workers_share_files(
    client: Client, metrics: LedgerMetrics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    shared = render_registry(tmp_path, metrics.registry)
    mine = CollectorRegistry()
    Counter("mine_total", "", registry=mine).inc()
    assert client(registry=shared).get("/actuator/prometheus?name[]=a").status_code == 200
    assert "mine_total 1.0" in client(registry=mine).get("/actuator/prometheus").text


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/actuator",
        "/actuator/",
        "/actuator/health/",
        "//actuator/health",
        "/actuator//health",
        "/actuator/env",
        "/static/x",
        "/actuator/%00",
        "/actuator/<b>",
    ],
)
def test_unknown_paths(client: Client, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS", "FOO"):
        assert_error(client().open(path, method=method), 404, "NOT_FOUND")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO"])
@pytest.mark.parametrize("path", PATHS)
def test_other_methods(client: Client, path: str, method: str) -> None:
    response = client().open(path, method=method)
    assert_error(response, 405, "INVALID_REQUEST")
    assert response.headers["Allow"] == "GET, HEAD"


def test_head(client: Client) -> None:
    for path in PATHS:
        response = client().head(path)
        assert (response.status_code, response.data) == (200, b"")


def test_a_failure_is_logged_and_told_as_json(
    client: Client, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.status = None  # type: ignore[assignment]
    assert_error(client().get("/actuator/health"), 500, "INTERNAL_ERROR")
    assert "GET /actuator/health failed" in caplog.text


@pytest.mark.parametrize("host", ["evil.example", "evil b", "[evil", "evil:99999", "evil\x7f"])
def test_the_host_header_decides_nothing(client: Client, host: str) -> None:
    response = client().get("/actuator/health", headers={"Host": host})
    assert response.status_code in (200, 400)
    assert response.content_type == "application/json"
    assert "evil" not in response.text


def test_errors_bear_the_ids_of_the_exchange_around(client: Client) -> None:
    exchange = Exchange(
        {"method": "GET", "path": "/actuator/nothing", "query_string": b"", "headers": []}
    )
    pages = ThreadedPages(client().application.wsgi_app, threads=1, name="test")
    reply = asyncio.run(pages.answer(exchange))
    assert (reply.status, reply.media_type) == (404, "application/json")
    body = json.loads(reply.raw or b"")
    assert body["request_id"] == exchange.request_id
    assert body["trace_id"] == exchange.trace_id
