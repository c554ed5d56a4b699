"""The application of a plane: its contract, the engine that serves it, and the pages beside it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cycles_server import __version__
from cycles_server.contract.document import Contract, load_contract
from cycles_server.contract.engine import ContractApp
from cycles_server.http.crowd import LIVENESS_PATH
from cycles_server.http.edge import Edge, Mount
from cycles_server.jobs.scheduler import Scheduler
from cycles_server.monitoring.actuator import create_actuator
from cycles_server.monitoring.docs import DOCUMENT_PATH, PAGES_PATH, Docs
from cycles_server.monitoring.liveness import liveness
from cycles_server.monitoring.metrics import Metrics
from cycles_server.monitoring.probe import StoreProbe
from cycles_server.monitoring.workers import join_multiprocess, render_registry
from cycles_server.monitoring.wsgi import ThreadedPages
from cycles_server.planes.plane import Plane
from cycles_server.settings.common import CommonSettings
from cycles_server.store.keys import Keys
from cycles_server.store.layout import LAYOUTS
from cycles_server.store.store import Store

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_ACTUATOR_ROUTE = "/actuator/**"
# Health has threads of its own: a page of metrics may take its time.
_HEALTH_THREADS = 2
_PAGES_THREADS = 2


def create_app(
    plane: Plane,
    settings: CommonSettings,
    *,
    spec: Path | None = None,
    metrics_directory: Path | None = None,
) -> ASGIApp:
    """The ASGI application of one worker process.

    Args:
        settings: of the plane's own class.
        spec: another contract document to serve (same operations).
        metrics_directory: where several workers count together.

    Raises:
        ContractError: the contract cannot be served, or nobody has declared who may call one of
            its operations.
        LookupError: an operation of the contract has no handler.
    """
    contract = load_contract(plane.contract if spec is None else spec)
    join_multiprocess(metrics_directory)
    metrics = plane.metrics(settings)
    store = Store(
        settings.redis_connection_url,
        keys=Keys(LAYOUTS[settings.cycles_key_layout]()),
        timeout_ms=settings.redis_pool_max_wait_ms,
    )
    services = plane.services(settings, store, metrics)
    authenticators = plane.authenticators(settings, services)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        scheduler = Scheduler(
            store,
            metrics,
            lease_ttl_ms=settings.cycles_maintenance_lease_ttl_ms,
            renew_ms=settings.cycles_maintenance_renew_interval_ms,
        )
        scheduler.start(plane.jobs(services))
        # What lives now lives as long as the process: no collection needs to walk it again.
        gc.collect()
        gc.freeze()
        # Requests make no cycles to speak of; looking for them every 700 objects costs 3 %.
        gc.set_threshold(50_000, 20, 100)
        try:
            yield
        finally:
            await scheduler.stop()
            for authenticator in authenticators:
                authenticator.close()
            await store.close()

    return Edge(
        ContractApp(
            contract,
            handlers=plane.handlers,
            services=services,
            access=plane.access,
            authenticators=authenticators,
            statuses=plane.statuses,
            settings=settings,
            on_violation=metrics.response_violation,
            lifespan=lifespan,
        ),
        _pages(plane, contract, settings, metrics, metrics_directory),
        answer_headers=plane.answer_headers,
        on_answer=metrics.request,
        on_refusal=plane.on_refusal(services),
        cors=plane.cors(settings),
    )


def _pages(
    plane: Plane,
    contract: Contract,
    settings: CommonSettings,
    metrics: Metrics,
    metrics_directory: Path | None,
) -> list[Mount]:
    """Health, info, metrics and docs: what is served beside the contract."""
    flask = create_actuator(
        registry=render_registry(metrics_directory, metrics.registry),
        admin_key=settings.admin_api_key,
        ping=StoreProbe(settings.redis_connection_url).check,
        info={
            "app": {"name": "cycles-server", "version": __version__},
            "contract": {"title": contract.title, "version": contract.version},
        },
    )
    health = ThreadedPages(flask, threads=_HEALTH_THREADS, name="health")
    pages = ThreadedPages(flask, threads=_PAGES_THREADS, name="actuator")
    served = plane.docs(settings)
    docs = Docs(
        contract, admin_key=settings.admin_api_key, document=served.document, pages=served.pages
    )
    return [
        Mount(LIVENESS_PATH, _ACTUATOR_ROUTE, liveness),
        Mount("/actuator/health", _ACTUATOR_ROUTE, health.answer),
        Mount("/actuator", _ACTUATOR_ROUTE, pages.answer),
        Mount(DOCUMENT_PATH, f"{DOCUMENT_PATH}/**", docs.answer),
        Mount(PAGES_PATH, f"{PAGES_PATH}/**", docs.answer),
    ]
