"""A plane: one contract, and what answers it.

Everything that differs between two planes is here; the engine, the edge, the command line and the
background jobs are the same for all. A plane's value is made in a module of its name beside this
one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cycles_server.auth.access import Access
from cycles_server.contract.security import Authenticator
from cycles_server.http.cors import Cors
from cycles_server.http.edge import AnswerHeaders, OnRefusal
from cycles_server.jobs.scheduler import Job
from cycles_server.monitoring.metrics import Metrics
from cycles_server.settings.common import CommonSettings
from cycles_server.store.store import Store


class ServedDocs(NamedTuple):
    """Whether the contract itself is served, and pages to browse it."""

    document: bool = False
    pages: bool = False


@dataclass(frozen=True, slots=True)
class Plane:
    """What a server is made of.

    Attributes:
        name: how the command line calls it.
        contract: its OpenAPI document: the name of one in ``openapi/``, or a path.
        handlers: the package with a module for each tag and a function for each operationId.
        access: who may call each operation, by operationId; one that is missing stops the start.
        statuses: the status of each error code of the contract; one that is missing stops the
            start.
        settings: the class of its settings; the default of ``SERVER_PORT`` is the plane's port.
        metrics: what it counts, by its settings.
        services: what its handlers and jobs work with.
        authenticators: who verifies callers, in order of precedence, by the settings and the
            services.
        jobs: what is done in the background.
        answer_headers: what every answer carries beside the ids.
        on_refusal: what is asked before an error is sent; None for nothing.
        cors: who may call from a browser; None for nobody.
        docs: what is served to read the contract.
        warnings: what is said once at the start of settings with which it cannot do all it is for.
    """

    name: str
    contract: str | Path
    handlers: str
    access: Mapping[str, Access]
    statuses: Mapping[str, int]
    settings: type[CommonSettings]
    metrics: Callable[[Any], Metrics]
    services: Callable[[Any, Store, Any], Any]
    authenticators: Callable[[Any, Any], Sequence[Authenticator]]
    jobs: Callable[[Any], Sequence[Job]] = lambda _: ()
    answer_headers: AnswerHeaders = lambda _exchange, _reply: []
    on_refusal: Callable[[Any], OnRefusal | None] = lambda _: None
    cors: Callable[[Any], Cors | None] = lambda _: None
    docs: Callable[[Any], ServedDocs] = lambda _: ServedDocs()
    warnings: Callable[[Any], Sequence[str]] = lambda _: ()
