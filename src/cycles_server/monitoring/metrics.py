"""Everything the server counts, and how several workers count as one.

With one worker the numbers live in memory. With several, each worker keeps them in files of a
directory that all share, and any of them can add up the whole::

    prepare_multiprocess(directory)           # the parent, once, before it starts workers
    join_multiprocess(directory)              # each worker, before it makes its Metrics
    metrics = Metrics()
    registry = render_registry(directory, metrics)

A worker's files are named after its slot, not its process id. A slot is a locked file: the kernel
gives it up when the process dies, however it dies, and the replacement takes it and goes on
counting where the dead one stopped. So no count is ever lost, and no file is ever left behind.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Metric,
    disable_created_metrics,
    values,
)
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.multiprocess import MultiProcessCollector

REQUEST_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds. 0.05 is the service level of reserve, commit and event."""

MAINTENANCE_BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0)
"""Seconds."""

_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE")
)
_OUTCOMES = {
    1: "INFORMATIONAL",
    2: "SUCCESS",
    3: "REDIRECTION",
    4: "CLIENT_ERROR",
    5: "SERVER_ERROR",
}

_M = TypeVar("_M", bound=MetricWrapperBase)


class _Children(dict[tuple[str, ...], _M]):
    """The labelled children of one metric by their label values.

    ``metric.labels()`` costs more than the count itself, so it is asked once for each child.
    """

    def __init__(self, metric: _M, dropped: int = 0) -> None:
        """``dropped``: how many leading values the metric has no label for."""
        super().__init__()
        self._metric = metric
        self._dropped = dropped

    def __missing__(self, key: tuple[str, ...]) -> _M:
        label_values = key[self._dropped :]
        # A metric without any label is its own only child.
        child = self._metric.labels(*label_values) if label_values else self._metric
        self[key] = child
        return child


class Metrics:
    """One method for each thing that is counted; call it once, when the thing has happened.

    ``reason`` is ``OK``, ``IDEMPOTENT_REPLAY`` or the error code. Every label value comes from a
    closed set or, for the tenant, from authentication: never from what a stranger sent.

    Args:
        registry: where the metrics are registered; by default one of their own.
        tenant_label: False leaves the ``tenant`` label out everywhere.

    Raises:
        ValueError: the registry has these metrics already.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, tenant_label: bool = True
    ) -> None:
        # A `_created` series beside each counter would double the scrape, and several workers
        # could not tell it as one.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if registry is not None else CollectorRegistry()
        self._tenant_label = tenant_label

        self._reserve = self._by_tenant(
            "cycles_reservations_reserve_total",
            "Reservations asked for (dry runs left out).",
            ("decision", "reason", "overage_policy"),
        )
        self._commit = self._by_tenant(
            "cycles_reservations_commit_total",
            "Commits of reservations.",
            ("decision", "reason", "overage_policy"),
        )
        self._release = self._by_tenant(
            "cycles_reservations_release_total",
            "Releases of reservations, by whom.",
            ("actor_type", "decision", "reason"),
        )
        self._extend = self._by_tenant(
            "cycles_reservations_extend_total",
            "Extensions of reservations.",
            ("decision", "reason"),
        )
        self._expired = self._by_tenant(
            "cycles_reservations_expired_total", "Reservations that lapsed.", ()
        )
        self._quarantined = self._by_tenant(
            "cycles_reservations_quarantined_total",
            "Reservation records set aside because they cannot be settled.",
            ("reason",),
        )
        self._event = self._by_tenant(
            "cycles_events_total", "Direct debits.", ("decision", "reason", "overage_policy")
        )
        self._overdraft = self._by_tenant(
            "cycles_overdraft_incurred_total", "Commits and events that added debt.", ()
        )
        self._evidence_failed = self._counter(
            "cycles_evidence_emit_failed_total",
            "Evidence that could not be handed on.",
            ("artifact_type",),
        )
        self._maintenance_runs = self._counter(
            "cycles_maintenance_runs_total", "Runs of background jobs.", ("job", "outcome")
        )
        self._maintenance_seconds = _Children(
            Histogram(
                "cycles_maintenance_duration_seconds",
                "How long runs of background jobs took.",
                ("job", "outcome"),
                buckets=MAINTENANCE_BUCKETS,
                registry=self.registry,
            )
        )
        self._violations = self._counter(
            "cycles_response_violations_total",
            "Answers of this server that were not what the contract says.",
            ("operation_id", "status"),
        )
        self._request_seconds = Histogram(
            "http_server_requests_seconds",
            "Requests and how long they took to answer.",
            ("method", "uri", "status", "outcome"),
            buckets=REQUEST_BUCKETS,
            registry=self.registry,
        )
        self._requests: dict[tuple[str, str, int], Histogram] = {}

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> _Children[Counter]:
        return _Children(Counter(name, text, labels, registry=self.registry))

    def _by_tenant(self, name: str, text: str, labels: tuple[str, ...]) -> _Children[Counter]:
        if not self._tenant_label:
            return _Children(Counter(name, text, labels, registry=self.registry), dropped=1)
        return self._counter(name, text, ("tenant", *labels))

    # -- the ledger --------------------------------------------------------------------------

    def reserve(self, tenant: str, decision: str, reason: str, overage_policy: str) -> None:
        """``decision``: ALLOW, ALLOW_WITH_CAPS, DENY; ``overage_policy`` as asked, or DEFAULT."""
        self._reserve[tenant, decision, reason, overage_policy].inc()

    def commit(
        self, tenant: str, decision: str, reason: str, overage_policy: str = "UNKNOWN"
    ) -> None:
        """``decision``: COMMITTED, DENY; ``overage_policy``: the reservation's, once known."""
        self._commit[tenant, decision, reason, overage_policy].inc()

    def release(self, tenant: str, actor_type: str, decision: str, reason: str) -> None:
        """``actor_type``: tenant, admin_on_behalf_of; ``decision``: RELEASED, DENY."""
        self._release[tenant, actor_type, decision, reason].inc()

    def extend(self, tenant: str, decision: str, reason: str) -> None:
        """``decision``: ACTIVE, DENY."""
        self._extend[tenant, decision, reason].inc()

    def event(self, tenant: str, decision: str, reason: str, overage_policy: str) -> None:
        """``decision``: APPLIED, DENY."""
        self._event[tenant, decision, reason, overage_policy].inc()

    def expired(self, tenant: str, count: int = 1) -> None:
        """``count`` reservations went from ACTIVE to EXPIRED."""
        self._expired[(tenant,)].inc(count)

    def quarantined(self, tenant: str, reason: str) -> None:
        """``reason``: INVALID_EXPIRY, INVALID_ESTIMATE, MISSING_SCOPES, MALFORMED_SCOPES."""
        self._quarantined[tenant, reason].inc()

    def overdraft_incurred(self, tenant: str) -> None:
        self._overdraft[(tenant,)].inc()

    # -- the server --------------------------------------------------------------------------

    def evidence_emit_failed(self, artifact_type: str) -> None:
        self._evidence_failed[(artifact_type,)].inc()

    def maintenance(self, job: str, outcome: str, seconds: float) -> None:
        """A run of a background job; ``outcome``: success, failed, skipped_locked."""
        self._maintenance_runs[job, outcome].inc()
        self._maintenance_seconds[job, outcome].observe(seconds)

    def request(self, method: str, uri: str, status: int, seconds: float) -> None:
        """An answered request.

        ``uri`` is the route's template, or ``UNKNOWN`` where no route matched. The method may be
        anything a client sends; those that HTTP does not know count as ``OTHER``.
        """
        if method not in _METHODS:
            method = "OTHER"
        child = self._requests.get((method, uri, status))
        if child is None:
            outcome = _OUTCOMES.get(status // 100, "UNKNOWN")
            child = self._request_seconds.labels(method, uri, str(status), outcome)
            self._requests[method, uri, status] = child
        child.observe(seconds)

    def response_violation(self, operation_id: str, status: int) -> None:
        """An answer that its own operation does not allow."""
        self._violations[operation_id, str(status)].inc()


# -- several workers -----------------------------------------------------------------------------

# Only counters and histograms are made here; a gauge would need a rule for how to add it up.
_FILES = ("counter_*.db", "histogram_*.db")


def prepare_multiprocess(directory: Path) -> None:
    """Make the directory ready for a new run of the server, counting from 0.

    The parent calls this once before it starts the first worker. The directory stays this
    process's until it ends.

    Raises:
        RuntimeError: another server that is still running has the directory.
        OSError: the directory cannot be made or written.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _claim(directory / "server.lock"):
        raise RuntimeError(f"another running server keeps its metrics in {directory}")
    # The workers' lock files stay: one that outlived its parent still counts in its slot, and
    # must not come to share it.
    for file in _files(directory):
        file.unlink()


def join_multiprocess(directory: Path | None) -> int:
    """Count in this directory from now on; without one, in this process alone.

    To be called in each worker before it makes its :class:`Metrics` (metrics made earlier stay as
    they are). The slot is this process's until it ends.

    Returns:
        The number of the slot: 0 for the first worker; 0 without a directory.

    Raises:
        OSError: the directory is not there or cannot be written.
    """
    if directory is None:
        # Even if the environment asks prometheus_client for files: those would be named after
        # the process id, and a container's first process always has the same one.
        values.ValueClass = values.MutexValue
        return 0
    slot = next(number for number in count() if _claim(directory / f"worker-{number}.lock"))
    # prometheus_client reads this anew whenever it opens a file.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        process_identifier=lambda: slot
    )
    return slot


def render_registry(directory: Path | None, metrics: Metrics) -> CollectorRegistry:
    """The registry to expose: the sum over all workers, or this process's own metrics."""
    if directory is None:
        return metrics.registry
    registry = CollectorRegistry()
    registry.register(_AllWorkers(directory))
    return registry


class _AllWorkers(MultiProcessCollector):
    """The sum over the files of all workers, the living and the dead."""

    def __init__(self, directory: Path) -> None:
        super().__init__(None, str(directory))  # type: ignore[no-untyped-call]
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        # A worker may have made its file and not yet, or never, written the first byte.
        filled = [str(file) for file in _files(self._directory) if file.stat().st_size]
        merged: Iterable[Metric] = self.merge(filled)  # type: ignore[no-untyped-call]
        return merged


def _files(directory: Path) -> list[Path]:
    return [file for pattern in _FILES for file in directory.glob(pattern)]


def _claim(path: Path) -> bool:
    """Lock a file for the life of this process; False while another process holds it."""
    # The descriptor is never closed on success, and no child inherits it.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
