"""What a server counts: each kind of thing has a method, called once when it has happened.

Every label value comes from a closed set or, for the tenant, from authentication: never from what
a stranger sent.
"""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

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
    """What every plane counts.

    Args:
        registry: where the metrics are registered; by default one of their own.

    Raises:
        ValueError: the registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        # A `_created` series beside each counter would double the scrape, and several workers
        # could not tell it as one.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry if registry is not None else CollectorRegistry()
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


class GovernanceMetrics(Metrics):
    """What the admin plane counts besides."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        super().__init__(registry)
        self._audit_lost = self._counter(
            "cycles_audit_entries_lost_total",
            "Audit entries of refused calls that the store did not take.",
            (),
        )

    def audit_lost(self) -> None:
        """An entry that could not be written."""
        self._audit_lost[()].inc()


class LedgerMetrics(Metrics):
    """What the runtime plane counts besides.

    ``reason`` is ``OK``, ``IDEMPOTENT_REPLAY`` or the error code.

    Args:
        tenant_label: False leaves the ``tenant`` label out everywhere.
    """

    def __init__(
        self, registry: CollectorRegistry | None = None, tenant_label: bool = True
    ) -> None:
        super().__init__(registry)
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

    def _by_tenant(self, name: str, text: str, labels: tuple[str, ...]) -> _Children[Counter]:
        if not self._tenant_label:
            return _Children(Counter(name, text, labels, registry=self.registry), dropped=1)
        return self._counter(name, text, ("tenant", *labels))

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
