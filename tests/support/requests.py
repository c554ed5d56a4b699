"""Random requests: each is drawn so that it often meets a budget, a limit or an earlier key."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
Draw = Any

INT64_MAX = 2**63 - 1
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
POLICIES = ("REJECT", "ALLOW_IF_AVAILABLE", "ALLOW_WITH_OVERDRAFT")
LEVELS = ("workspace", "app", "workflow", "agent", "toolset")
TENANTS = ("acme", "Beta", "gamma")

EDGES = (
    *(around + step for around in (10**10, 10**13, 10**15, 2**53) for step in (-1, 0, 1)),
    *(2**62, INT64_MAX - 1, INT64_MAX),
)
"""Where an amount outgrows what some part can hold: a pair's half, a double, int64."""

# Keys that would meet another's record if the store's key names were put together carelessly.
SHARED_KEYS = ("k", "k:hash", "k:1", "reserve:k", "ü {k}")


@dataclass(frozen=True)
class Call:
    """One request of a client."""

    operation: str
    tenant: str
    body: Json = field(default_factory=dict)
    target: str = ""
    """The reservation's id, where the path names one."""
    filters: dict[str, str] = field(default_factory=dict)
    by_operator: bool = False

    @property
    def slot(self) -> tuple[str, str, str, str]:
        """Where the answer is remembered under the request's key."""
        key = self.body["idempotency_key"]
        if self.target:
            return ("", self.operation, self.target, key)
        return (self.tenant, self.operation, "", key)


def mostly(usual: Any, *rare: Any) -> st.SearchStrategy[Any]:
    """``usual`` in four of five cases."""
    return st.sampled_from([usual] * (4 * len(rare)) + list(rare))


def weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of several strategies; ``one_of`` would count a repeated one once."""
    every = [strategy for weight, strategy in choices for _ in range(weight)]
    return st.sampled_from(every).flatmap(lambda strategy: strategy)


def sometimes(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """None in about two of three cases."""
    return weighted((2, st.none()), (1, strategy))


small = st.integers(0, 30)
amounts = weighted((4, small), (2, st.integers(0, 2000)), (1, st.sampled_from(EDGES)))
units = mostly("TOKENS", *UNITS)
tenants = st.sampled_from((*TENANTS, *TENANTS[:1] * 3))
policies = st.sampled_from((*POLICIES, "ALLOW_WITH_OVERDRAFT"))
_STEPS = {
    # First what costs least: Hypothesis takes the first for many a run.
    "wait": 1,
    "spend": 6,
    "settle": 6,
    "repeat": 3,
    "govern": 3,
    "look": 2,
    "sweep": 1,
    "create": 1,
    "register": 1,
}
steps = st.sampled_from([step for step, weight in _STEPS.items() for _ in range(weight)])
_beside = st.integers(-1, 1)
asked_amounts = weighted(
    (3, amounts.map(lambda amount: ("plain", amount))),
    (2, st.tuples(st.sampled_from(("left", "most", "limit")), _beside)),
)
used_amounts = weighted(
    (1, amounts.map(lambda amount: ("plain", amount))),
    (2, st.tuples(st.just("estimate"), st.integers(-20, 40))),
    (3, st.tuples(st.sampled_from(("estimate", "left", "limit", "limit")), _beside)),
    (1, st.tuples(st.just("most"), st.sampled_from((-1, 0, 1, 50)))),
)
"""What is asked for, what was used: an amount by itself, or one beside a boundary that only the
state tells."""

_FIXED_LEVELS: tuple[dict[str, str], ...] = (
    {},
    {"workspace": "a"},
    {"workspace": "A", "agent": "x"},
    {"workspace": "a", "agent": "X"},
    {"agent": "x"},
    {"workspace": "a", "app": "b", "workflow": "c-1", "agent": "x", "toolset": "T.z"},
)
_free_levels = st.fixed_dictionaries(
    {}, optional={level: st.sampled_from(("a", "x", "X")) for level in LEVELS}
)
_NUMBERS = (0, 7, -1, 0.5, 2**53, 2**53 + 1, INT64_MAX)
metadata = st.dictionaries(
    st.sampled_from(("n", "text", "deep", "ü")),
    st.one_of(
        st.sampled_from(_NUMBERS),
        st.sampled_from(("", 'a "quoted" \\ ü 🦊', "5")),
        st.booleans(),
        st.lists(st.sampled_from(_NUMBERS), max_size=2),
        st.dictionaries(st.sampled_from("ab"), st.none() | st.booleans(), max_size=2),
    ),
    max_size=3,
)


@st.composite
def subjects(draw: Draw, tenant: str) -> Json:
    levels = dict(draw(weighted((4, st.sampled_from(_FIXED_LEVELS)), (1, _free_levels))))
    flaw = draw(mostly("", "", "", "stranger", "characters", "dimensions"))
    if flaw == "dimensions":
        return {"dimensions": {"cost_center": "9"}}
    if flaw == "characters":
        levels["app"] = draw(st.sampled_from(("a/b", "a:b", " ", "é", "a\n")))
    if flaw == "stranger":
        levels["tenant"] = draw(tenants)
    elif draw(mostly(True, False)) or not levels:
        levels["tenant"] = tenant
    if draw(mostly(False, True)):
        levels["dimensions"] = {"team": "blue"}
    return levels


@st.composite
def keys(draw: Draw, fresh: str) -> str:
    """Mostly a key that nobody has used."""
    return str(draw(mostly(fresh, *SHARED_KEYS[: draw(st.integers(1, len(SHARED_KEYS)))])))


@st.composite
def spending_bodies(draw: Draw, tenant: str, key: str, amount_member: str) -> Json:
    """What reserve, decide and event have in common; the amount is for the caller to fill in."""
    body: Json = {
        "idempotency_key": draw(keys(key)),
        "subject": draw(subjects(tenant)),
        "action": {"kind": "llm.completion", "name": draw(st.sampled_from(("m", "m ü")))},
        amount_member: {"unit": draw(units), "amount": 0},
    }
    given = draw(sometimes(metadata))
    if given is not None:
        body["metadata"] = given
    return body


@st.composite
def reserve_members(draw: Draw) -> Json:
    optional: Json = {
        "ttl_ms": draw(sometimes(st.sampled_from((1000, 5000, 90_000, 86_400_000)))),
        "grace_period_ms": draw(sometimes(st.sampled_from((0, 1, 60_000)))),
        "overage_policy": draw(st.none() | policies),
        "dry_run": draw(mostly(None, None, False, True, True)),
    }
    return {name: value for name, value in optional.items() if value is not None}


@st.composite
def event_members(draw: Draw) -> Json:
    optional: Json = {
        "overage_policy": draw(st.none() | policies),
        "metrics": draw(sometimes(metrics)),
        "client_time_ms": draw(mostly(None, 0, INT64_MAX)),
    }
    return {name: value for name, value in optional.items() if value is not None}


metrics = st.fixed_dictionaries(
    {}, optional={"tokens_input": small, "model_version": st.just("v"), "custom": metadata}
)


@st.composite
def settling_bodies(draw: Draw, key: str, operation: str) -> Json:
    """The body of a commit (its actual for the caller to fill in), release or extend."""
    body: Json = {"idempotency_key": draw(keys(key))}
    if operation == "extend":
        body["extend_by_ms"] = draw(st.sampled_from((1, 1000, 45_000, 86_400_000)))
    if operation == "release" and draw(st.booleans()):
        body["reason"] = draw(st.sampled_from(("", "done", "ü")))
    if operation != "release":
        given = draw(sometimes(metadata))
        if given is not None:
            body["metadata"] = given
    if operation == "commit":
        given = draw(sometimes(metrics))
        if given is not None:
            body["metrics"] = given
    return body


@st.composite
def filters(draw: Draw, tenant: str, operation: str) -> dict[str, str]:
    """The query of a list or of balances."""
    values = st.sampled_from(("a", "A", "x", " "))
    optional: dict[str, Any] = {"tenant": mostly(tenant, *TENANTS)}
    optional |= dict.fromkeys(("workspace", "agent"), values)
    if operation == "list":
        optional["status"] = st.sampled_from(("ACTIVE", "COMMITTED", "RELEASED", "EXPIRED"))
        optional["idempotency_key"] = st.sampled_from(("k", "key-2", "key-3", "key-4"))
    return dict(draw(st.fixed_dictionaries({}, optional=optional)))


def reordered(value: Any) -> Any:
    """The same JSON value with its members in the opposite order."""
    if isinstance(value, dict):
        return {name: reordered(value[name]) for name in reversed(value)}
    return value


def with_fractions(value: Any, exact: int = 2**53) -> Any:
    """The same JSON value with amounts written as ``5.0``."""
    if isinstance(value, dict):
        return {
            name: float(member)
            if name in ("amount", "extend_by_ms", "ttl_ms") and member <= exact
            else with_fractions(member)
            for name, member in value.items()
        }
    return value


@st.composite
def changed(draw: Draw, call: Call) -> Json:
    """The body of another request under the same key."""
    body = dict(call.body)
    ways = ["metadata"] if call.operation != "release" else ["reason"]
    ways += [name for name in ("estimate", "actual", "extend_by_ms", "dry_run") if name in body]
    if call.operation in ("reserve", "event"):
        ways.append("overage_policy")
    if call.operation == "reserve":
        ways.append("dry_run")
    way = draw(st.sampled_from(ways))
    if way in ("estimate", "actual"):
        amount = body[way]["amount"]
        body[way] = {**body[way], "amount": amount - 1 if amount else 1}
    elif way == "extend_by_ms":
        body[way] = 2 if body[way] == 1 else body[way] - 1
    elif way == "dry_run":
        body[way] = not body.get(way, False)
    elif way == "overage_policy":
        body[way] = draw(policies)
    elif way == "reason":
        body[way] = body.get(way, "") + "."
    elif body.get("metadata", {}).get("n") == 2**53:
        body["metadata"] = {**body["metadata"], "n": 2**53 + 1}
    else:
        body["metadata"] = {**body.get("metadata", {}), "n": 2**53}
    return body
