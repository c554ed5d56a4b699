"""The application: a contract, the engine that serves it, and the operations plane beside it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cycles_server import __version__
from cycles_server.auth.adminkey import AdminKey
from cycles_server.auth.apikeys import ApiKeys
from cycles_server.contract.document import Contract, load_contract
from cycles_server.contract.engine import ProtocolPlane
from cycles_server.http.crowd import LIVENESS_PATH
from cycles_server.http.edge import Edge, Mount
from cycles_server.jobs.scheduler import Scheduler
from cycles_server.ledger.accounts import Accounts
from cycles_server.ledger.ledger import Ledger
from cycles_server.monitoring.actuator import create_actuator
from cycles_server.monitoring.docs import DOCUMENT_PATH, PAGES_PATH, Docs
from cycles_server.monitoring.liveness import liveness
from cycles_server.monitoring.metrics import Metrics, join_multiprocess, render_registry
from cycles_server.monitoring.probe import StoreProbe
from cycles_server.monitoring.wsgi import ThreadedPages
from cycles_server.planes.services import Services
from cycles_server.settings.runtime import RuntimeSettings as Settings
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
    settings: Settings, *, spec: Path | None = None, metrics_directory: Path | None = None
) -> ASGIApp:
    """The ASGI application of one worker process.

    Args:
        spec: another contract document to serve (same operations).
        metrics_directory: where several workers count together.

    Raises:
        ContractError: the contract cannot be served.
        LookupError: an operation of the contract has no handler.
    """
    contract = load_contract(spec)
    join_multiprocess(metrics_directory)
    metrics = Metrics(tenant_label=settings.cycles_metrics_tenant_tag_enabled)
    store = Store(
        settings.redis_connection_url,
        keys=Keys(LAYOUTS[settings.cycles_key_layout]()),
        timeout_ms=settings.redis_pool_max_wait_ms,
    )
    accounts = Accounts(store)
    services = Services(
        settings=settings,
        store=store,
        accounts=accounts,
        ledger=Ledger(store, accounts, reference_replays=settings.cycles_reference_replays),
        metrics=metrics,
    )
    api_keys = ApiKeys(store)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        scheduler = Scheduler(services)
        scheduler.start()
        # What lives now lives as long as the process: no collection needs to walk it again.
        gc.collect()
        gc.freeze()
        # Requests make no cycles to speak of; looking for them every 700 objects costs 3 %.
        gc.set_threshold(50_000, 20, 100)
        try:
            yield
        finally:
            await scheduler.stop()
            api_keys.close()
            await store.close()

    protocol = ProtocolPlane(services, lifespan=lifespan)
    protocol.add_contract(contract, authenticators=[AdminKey(settings.admin_api_key), api_keys])
    protocol.build()
    mounts = operations_plane(contract, settings, metrics, metrics_directory)
    return Edge(protocol, metrics, mounts)


def operations_plane(
    contract: Contract, settings: Settings, metrics: Metrics, metrics_directory: Path | None
) -> list[Mount]:
    """Health, info, metrics and docs: what is served beside the contract."""
    flask = create_actuator(
        registry=render_registry(metrics_directory, metrics),
        admin_key=settings.admin_api_key,
        ping=StoreProbe(settings.redis_connection_url).check,
        info={
            "app": {"name": "cycles-server", "version": __version__},
            "contract": {"title": contract.title, "version": contract.version},
        },
    )
    health = ThreadedPages(flask, threads=_HEALTH_THREADS, name="health")
    pages = ThreadedPages(flask, threads=_PAGES_THREADS, name="actuator")
    docs = Docs(
        contract,
        admin_key=settings.admin_api_key,
        document=settings.springdoc_api_docs_enabled,
        pages=settings.springdoc_swagger_ui_enabled,
    )
    return [
        Mount(LIVENESS_PATH, _ACTUATOR_ROUTE, liveness),
        Mount("/actuator/health", _ACTUATOR_ROUTE, health.answer),
        Mount("/actuator", _ACTUATOR_ROUTE, pages.answer),
        Mount(DOCUMENT_PATH, f"{DOCUMENT_PATH}/**", docs.answer),
        Mount(PAGES_PATH, f"{PAGES_PATH}/**", docs.answer),
    ]
