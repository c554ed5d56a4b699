"""Every Redis key name is made here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cycles_server.store.layout import Layout, ReferenceLayout

API_KEY_PREFIX_LENGTH = 14
"""How many characters of an API key's secret name it in ``apikey:lookup:{prefix}``."""

_TENANT_CACHE_SIZE = 10_000

_RESERVATION = "reservation:res_"
_BUDGETS = "budgets:"
_TENANT, _API_KEY = "tenant:", "apikey:"
_AUDIT, _ALL = "audit:logs:", "_all"
_INDEX, _INDEX_END = "reservation:idx:", ":created_at_ms"
_TWIN = "cycles:sorted:"


class Listed(NamedTuple):
    """A set that is listed, and its twin: a sorted set of the same members (paging/twins.py)."""

    members: str
    twin: str


class BucketKeys:
    """The key names under one tag: what a sweep over many tenants works on."""

    __slots__ = (
        "audit_index",
        "audit_prefix",
        "budget_prefix",
        "closed",
        "closings",
        "events_index",
        "policy_prefix",
        "quarantine",
        "reservation_prefix",
        "tag",
        "ttl",
    )

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.ttl = f"{tag}reservation:ttl"
        self.quarantine = f"{tag}reservation:quarantine"
        self.reservation_prefix = tag + _RESERVATION
        self.budget_prefix = f"{tag}budget:"
        self.audit_index = f"{tag}{_AUDIT}{_ALL}"
        self.audit_prefix = f"{tag}audit:log:"
        self.events_index = f"{tag}events:_all"
        self.closings = f"{tag}cycles:closings"
        """Tenants whose close is not through, each with the request that began it."""
        self.closed = f"{tag}cycles:closed"
        """Tenants whose close is through."""
        self.policy_prefix = f"{tag}policy:"

    def reservation(self, reservation_id: str) -> str:
        return self.reservation_prefix + reservation_id

    def budget(self, scope: str, unit: str) -> str:
        return f"{self.budget_prefix}{scope}:{unit}"

    def api_key(self, key_id: str) -> str:
        return f"{self.tag}{_API_KEY}{key_id}"

    def api_keys_of(self, tenant: str) -> str:
        """The set of the ids of a tenant's keys."""
        return f"{self.tag}apikeys:{tenant}"

    def policies_of(self, tenant: str) -> str:
        """The set of the ids of a tenant's policies."""
        return f"{self.tag}policies:{tenant}"

    def webhook(self, subscription_id: str) -> str:
        return f"{self.tag}webhook:{subscription_id}"

    def policy(self, policy_id: str) -> str:
        return self.policy_prefix + policy_id

    def policy_owner(self, policy_id: str) -> str:
        """Whose a policy is: its record may be written again without that."""
        return f"{self.tag}cycles:policyowner:{policy_id}"

    def scope_and_unit(self, budget_key: str) -> tuple[str, str]:
        """The scope and unit that a budget's key names."""
        scope, _, unit = budget_key[len(self.budget_prefix) :].rpartition(":")
        return scope, unit

    def budgets_of(self, tenant: str) -> str:
        """The set of the keys of a tenant's budgets."""
        return f"{self.tag}{_BUDGETS}{tenant}"

    def index_of(self, tenant: str) -> str:
        """A tenant's reservations by their creation."""
        return f"{self.tag}{_INDEX}{tenant}{_INDEX_END}"

    def event_record(self, event_id: str) -> str:
        """An event for subscribers; ``event_id`` with its ``evt_``."""
        return f"{self.tag}event:{event_id}"

    def audit_entry(self, log_id: str) -> str:
        return self.audit_prefix + log_id

    # Patterns for SCAN: what there is of a kind under this tag.

    def reservation_pattern(self) -> str:
        return self.reservation_prefix + "*"

    def budget_pattern(self) -> str:
        return self.budget_prefix + "*"

    def budgets_pattern(self) -> str:
        return self.budgets_of("*")

    def index_pattern(self) -> str:
        return self.index_of("*")

    def tenant_pattern(self) -> str:
        return f"{self.tag}{_TENANT}*"

    def api_key_pattern(self) -> str:
        """Finds look-up entries, too, where keys have no tags."""
        return self.api_key("*")

    def api_keys_pattern(self) -> str:
        return self.api_keys_of("*")

    def policy_pattern(self) -> str:
        return self.policy("*")

    def policies_pattern(self) -> str:
        return self.policies_of("*")

    # What a key that such a pattern found is about.

    def tenant_in(self, record: str) -> str:
        return record.removeprefix(f"{self.tag}{_TENANT}")

    def api_key_id(self, record: str) -> str:
        return record.removeprefix(f"{self.tag}{_API_KEY}")

    def tenant_of_api_keys(self, members: str) -> str:
        return members.removeprefix(self.api_keys_of(""))

    def policy_id(self, record: str) -> str:
        return record.removeprefix(self.policy_prefix)


class TenantKeys(BucketKeys):
    """The key names of one tenant."""

    __slots__ = (
        "_idem",
        "_idem_hash",
        "audit_tenant_index",
        "budgets",
        "event_prefix",
        "index",
        "policies",
        "record",
        "tenant",
    )

    def __init__(self, tenant: str, tag: str) -> None:
        super().__init__(tag)
        self.tenant = tenant
        self.record = f"{tag}{_TENANT}{tenant}"
        self.budgets = self.budgets_of(tenant)
        self.policies = self.policies_of(tenant)
        self.index = self.index_of(tenant)
        self.event_prefix = f"{tag}event:evt_"
        self.audit_tenant_index = f"{tag}{_AUDIT}{tenant}"
        self._idem = f"{tag}idem:{tenant}:"
        # Not below `idem:`: there a client's own key that ends in ":hash" would meet it.
        self._idem_hash = f"{tag}cycles:idemhash:{tenant}:"

    def api_keys(self) -> str:
        return self.api_keys_of(self.tenant)

    def webhooks(self) -> str:
        """The ids of the tenant's webhook subscriptions."""
        return f"{self.tag}webhooks:{self.tenant}"

    def listed(self, members: str) -> Listed:
        """One of the tenant's sets, with its twin."""
        return Listed(members, f"{self.tag}{_TWIN}{members[len(self.tag) :]}")

    def event(self, event_id: str) -> str:
        return self.event_prefix + event_id

    def policy_rate(self, policy_id: str, scope: str) -> str:
        """How many reserves there were in this minute on a scope that a policy limits."""
        return f"{self.tag}cycles:policyrate:{self.tenant}:{policy_id}:{scope}"

    def idempotency(self, operation: str, key: str) -> str:
        """``operation``: ``reserve``, ``decide``, ``event``, or ``extend`` (its key follows the
        reservation's id and a colon)."""
        return f"{self._idem}{operation}:{key}"

    def idempotency_hash(self, operation: str, key: str) -> str:
        """The request hash beside a decision, which has no record of its own to hold it."""
        return f"{self._idem_hash}{operation}:{key}"

    def funding(self, budget: str, key: str) -> str:
        """What is remembered of a funding; ``budget``: the key of the budget's record. The client's
        own key stands last, so that no two pairs are one name."""
        return f"{self._idem}fund:{budget}:{key}"

    def bulk_action(self, operation: str, key: str) -> str:
        """What was answered to a bulk action of an operator."""
        return f"{self.tag}cycles:bulk:{operation}:{key}"

    def bulk_plan(self, operation: str, key: str) -> str:
        """Which rows an unfinished bulk action is for."""
        return f"{self.tag}cycles:bulkplan:{operation}:{key}"

    def bulk_row(self, operation: str, run: str) -> str:
        """That a bulk action has changed this tenant; ``run``: its plan's id."""
        return f"{self._idem}bulkrow:{operation}:{run}"

    def bulk_funding(self, budget: str, run: str) -> str:
        """What is remembered of a row of a bulk action; ``run``: its plan's id."""
        return f"{self._idem}bulkfund:{budget}:{run}"

    def reference_funding(self, key: str) -> str:
        """Where the reference remembers a funding, whoever's it was."""
        return f"{self.tag}idempotency:fund:v2:{key}"

    def reference_funding_hash(self, key: str) -> str:
        return f"{self.reference_funding(key)}:hash"

    def reference_funding_budget(self, key: str) -> str:
        """Which budget's funding it is that this server has put where the reference looks."""
        return f"{self.tag}cycles:fundedfor:{key}"

    def first_answer(self, operation: str, reservation_id: str) -> str:
        """Where the reference keeps a first answer's body: ``reserve``, ``commit``, ``release``."""
        return f"{self.tag}{operation}:body:{reservation_id}"

    def idempotency_prefix(self, operation: str) -> str:
        return f"{self._idem}{operation}:"


class Keys:
    """Key names for a layout; names of a tenant by :meth:`tenant`."""

    tenants = "tenants"
    all_webhooks = "webhooks:_all"
    lookup_prefix = f"{_API_KEY}lookup:"
    """In front of the beginning of an API key's secret: an entry that leads to its record."""
    # In a cluster the tag puts the twin beside the set, whose name has none.
    listed_tenants = Listed(tenants, f"{_TWIN}{{{tenants}}}")

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout: Layout = layout or ReferenceLayout()
        self._tenants: dict[str, TenantKeys] = {}

    def tenant(self, tenant: str) -> TenantKeys:
        keys = self._tenants.get(tenant)
        if keys is None:
            if len(self._tenants) >= _TENANT_CACHE_SIZE:
                self._tenants.clear()
            keys = self._tenants[tenant] = TenantKeys(tenant, self.layout.tag(tenant))
        return keys

    @property
    def tagged(self) -> bool:
        """Whether keys have tags: then no script may touch a tenant's keys beside nobody's."""
        return self.layout.tags() != ("",)

    def buckets(self) -> Sequence[BucketKeys]:
        """One set of names for each tag; a single one in the reference layout."""
        return [BucketKeys(tag) for tag in self.layout.tags()]

    def buckets_of_id(self, record_id: str) -> Sequence[BucketKeys]:
        return [BucketKeys(tag) for tag in self.layout.tags_of_id(record_id)]

    @staticmethod
    def api_key_lookup(secret: str) -> str:
        return Keys.lookup_prefix + secret[:API_KEY_PREFIX_LENGTH]

    @staticmethod
    def probe() -> str:
        return "cycles:probe"

    @staticmethod
    def lease(job: str) -> str:
        return f"cycles:lease:{job}"

    @staticmethod
    def rate_limit(address: str, window: int) -> str:
        return f"cycles:rate:{address}:{window}"

    @staticmethod
    def auth_failures() -> str:
        return "cycles:authfailures"

    @staticmethod
    def evidence(prefix: str, evidence_id: str) -> str:
        """``prefix``: the setting EVIDENCE_STORE_KEY_PREFIX."""
        return prefix + evidence_id

    def reservation_pattern(self) -> str:
        """A SCAN pattern for the records of every reservation."""
        return self._any_tag() + _RESERVATION + "*"

    @staticmethod
    def reservation_id(key: str) -> str:
        """The id in a key that :meth:`reservation_pattern` found."""
        return key.partition(_RESERVATION)[2]

    def index_pattern(self) -> str:
        """A SCAN pattern for the indexes of every tenant."""
        return f"{self._any_tag()}{_INDEX}*{_INDEX_END}"

    def twin_pattern(self) -> str:
        """A SCAN pattern for the twins of every tenant's sets."""
        return f"{self._any_tag()}{_TWIN}*"

    def listed_by_twin(self, twin: str) -> Listed:
        """What belongs to a key that :meth:`twin_pattern` found."""
        if twin == self.listed_tenants.twin:
            return self.listed_tenants
        tag, _, members = twin.partition(_TWIN)
        return Listed(tag + members, twin)

    def audit_index_pattern(self) -> str:
        """A SCAN pattern for the audit indexes of every tenant, and the one of all."""
        return f"{self._any_tag()}{_AUDIT}*"

    @staticmethod
    def bucket_of_audit(index: str) -> BucketKeys:
        """The names beside an index that :meth:`audit_index_pattern` found."""
        return BucketKeys(index.partition(_AUDIT)[0])

    @staticmethod
    def index_tenant(key: str) -> str:
        """The tenant of a key that :meth:`index_pattern` found."""
        return key.partition(_INDEX)[2].removesuffix(_INDEX_END)

    def _any_tag(self) -> str:
        return "{*}" if self.tagged else ""
