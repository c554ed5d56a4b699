"""The doctor: silent about a healthy ledger, also a busy one; finds each kind of damage."""

from __future__ import annotations

import json
import random
import threading
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from redis import Redis
from support.findings import found
from support.stores import Functions

from cycles_server.cli.provision import provide_budget, provide_key, provide_tenant
from cycles_server.doctor.examine import examine
from cycles_server.ledger.scripts import release, reserve
from cycles_server.ledger.scripts.head import HeadArguments, HeadKeys
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout
from cycles_server.store.scripts import load_script

KEYS = Keys()
DAY_MS = 86_400_000
ROOT, BOT = "tenant:acme", "tenant:acme/agent:bot"


class Ledger:
    """The ledger's own scripts, as the server calls them."""

    def __init__(self, client: Redis, keys: Keys = KEYS, tenant: str = "acme") -> None:
        self.client = client
        self.names = keys.tenant(tenant)
        self.tenant = tenant
        record = client.get(self.names.record) or ""
        self.head_keys = HeadKeys(key_record="nokey", tenant_record=self.names.record)
        self.head = HeadArguments(
            verified_key=b"",
            verified_tenant=record,
            key_valid_until="",
            tenant=tenant,
            tenant_guard="OPEN",
        )

    def run(self, script: str, keys: Iterable[str], arguments: Iterable[Any]) -> list[Any]:
        loaded = load_script(script)
        keys, arguments = [*self.head_keys, *keys], [*self.head, *arguments]
        answer: list[Any] = self.client.eval(loaded.source.decode(), len(keys), *keys, *arguments)
        return answer

    def reserve(self, amount: int, *scopes: str, unit: str = "TOKENS") -> str:
        names, one = self.names, str(uuid.uuid4())
        answer = self.run(
            reserve.NAME,
            [
                *reserve.Keys(
                    idempotency_record=names.idempotency("reserve", one),
                    reservation=names.reservation(one),
                    expiries=names.ttl,
                    creations=names.index,
                    policies=names.policies,
                ),
                *(names.budget(scope, unit) for scope in scopes),
            ],
            [
                *reserve.Arguments(
                    reservation_prefix=names.reservation_prefix,
                    request_hash=b"hash",
                    reservation_id=one,
                    estimate=str(amount),
                    unit=unit,
                    lease_ms=60_000,
                    grace_ms=5_000,
                    asked_policy="",
                    default_policy="",
                    max_extensions=10,
                    subject=b"{}",
                    action=b"{}",
                    metadata=b"",
                    scopes_json=json.dumps(scopes).encode(),
                    idempotency_key=one,
                    policies_known=0,
                    policy_count=0,
                    policy_until="",
                    policy_caps=b"",
                    policy_limit="",
                ),
                *scopes,
            ],
        )
        assert answer[0] == "OK", answer
        return one

    def release(self, one: str) -> None:
        names = self.names
        answer = self.run(
            release.NAME,
            release.Keys(
                reservation=names.reservation(one),
                expiries=names.ttl,
                audit_record="noaudit",
                audit_of_tenant="noaudit",
                audit_of_all="noaudit",
            ),
            release.Arguments(
                budget_prefix=names.budget_prefix,
                reservation_id=one,
                idempotency_key="key",
                request_hash=b"hash",
                audit_entry=b"",
                audit_id="",
                audit_kept_ms=0,
            ),
        )
        assert answer[0] == "OK", answer


@pytest.fixture
def ledger(client: Redis, do: Functions) -> Ledger:
    """A tenant with two budgets; one reservation is live on both, one was released."""
    do(provide_tenant, "acme")
    do(provide_budget, "acme", ROOT, "TOKENS", 10_000)
    do(provide_budget, "acme", BOT, "TOKENS", 5_000)
    ledger = Ledger(client)
    ledger.reserve(100, ROOT, BOT)
    ledger.release(ledger.reserve(30, ROOT))
    return ledger


def budget(scope: str = ROOT) -> str:
    return KEYS.tenant("acme").budget(scope, "TOKENS")


def live(ledger: Ledger) -> str:
    (one,) = ledger.client.zrange(ledger.names.ttl, 0, -1)
    return str(one)


class TestHealthy:
    def test_an_empty_store(self, client: Redis, do: Functions) -> None:
        report = do(examine)
        assert report.healthy
        assert report.findings == []
        assert not any(report.counted.values())

    def test_a_ledger_at_rest(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        do(provide_key, "acme")
        report = do(examine)
        assert report.findings == []
        books = {"budgets": 2, "reservations": 2, "live": 1, "indexed": 2}
        assert report.counted == {**books, "tenants": 1, "keys": 1, "policies": 0}
        assert report.store["maxmemory-policy"] == "noeviction"

    def test_a_scope_without_a_budget_holds_nothing(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        ledger.reserve(7, ROOT, "tenant:acme/agent:other")
        assert found(do) == {}

    def test_a_budget_may_stand_at_a_scope_without_tenant(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        # None can be made here, but others may have made one.
        client.copy(budget(BOT), budget("agent:bot"))
        client.hset(budget("agent:bot"), mapping=dict.fromkeys(("reserved", "spent", "debt"), 0))
        client.hset(budget("agent:bot"), mapping=dict.fromkeys(("allocated", "remaining"), 50))
        client.sadd(KEYS.tenant("acme").budgets, budget("agent:bot"))
        ledger.reserve(7, "agent:bot")
        assert found(do) == {}

    def test_a_closed_budget_gave_its_holds_back(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.hset(budget(), mapping={"status": "CLOSED", "reserved": 0, "remaining": 10_000})
        assert found(do) == {}

    def test_a_budget_made_anew_never_held_them(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.delete(budget())
        do(provide_budget, "acme", ROOT, "TOKENS", 10_000)
        client.hincrby(budget(), "created_at", 1000)
        assert found(do) == {}

    def test_amounts_beyond_doubles(self, client: Redis, do: Functions) -> None:
        do(provide_tenant, "acme")
        do(provide_budget, "acme", ROOT, "TOKENS", 2**63 - 1)
        Ledger(client).reserve(2**62 + 1, ROOT)
        assert found(do) == {}
        client.hset(budget(), "reserved", 2**62)
        assert found(do).keys() == {"INVARIANT", "HOLDS"}

    def test_in_the_bucket_layout(self, server: str, client: Redis) -> None:
        keys = Keys(BucketLayout())
        do = Functions(server, keys)
        for tenant in ("acme", "other"):
            do(provide_tenant, tenant)
            do(provide_budget, tenant, f"tenant:{tenant}", "TOKENS", 500)
            Ledger(client, keys, tenant).reserve(5, f"tenant:{tenant}")
        report = do(examine)
        assert report.findings == []
        assert report.counted["live"] == 2
        client.hincrby(keys.tenant("acme").budget(ROOT, "TOKENS"), "spent", 1)
        assert found(do).keys() == {"INVARIANT"}

    def test_a_ledger_at_work(
        self, server: str, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        stop = threading.Event()
        failures: list[Exception] = []

        def work(seed: int) -> None:
            chance = random.Random(seed)
            mine: Redis = Redis.from_url(server, decode_responses=True)
            books = Ledger(mine)
            held: list[str] = []
            try:
                while not stop.is_set():
                    scopes = (ROOT, BOT) if chance.random() < 0.5 else (ROOT,)
                    held.append(books.reserve(chance.randrange(5), *scopes))
                    if len(held) > 20:
                        books.release(held.pop(chance.randrange(len(held))))
            except Exception as error:
                failures.append(error)
            finally:
                mine.close()

        workers = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(10):
                assert do(examine).findings == []
        finally:
            stop.set()
            for worker in workers:
                worker.join()
        assert failures == []


class TestDamagedBudgets:
    @pytest.mark.parametrize("part", ["allocated", "spent", "debt", "remaining"])
    def test_the_books_do_not_balance(
        self, ledger: Ledger, client: Redis, do: Functions, part: str
    ) -> None:
        client.hincrby(budget(), part, 1)
        findings = found(do)
        assert findings.keys() == {"INVARIANT"}
        assert findings["INVARIANT"].key == budget()
        off = "off by 1)" if part == "allocated" else "off by -1)"
        assert findings["INVARIANT"].message.endswith(off)

    @pytest.mark.parametrize("difference", [-1, 1])
    def test_reserved_is_not_what_is_held(
        self, ledger: Ledger, client: Redis, do: Functions, difference: int
    ) -> None:
        client.hincrby(budget(BOT), "reserved", difference)
        client.hincrby(budget(BOT), "remaining", -difference)
        finding = found(do)["HOLDS"]
        assert finding.key == budget(BOT)
        assert f"reserved is {100 + difference}, live reservations hold 100" in finding.message

    def test_a_hold_of_nobody(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.delete(ledger.names.reservation(live(ledger)))
        codes = [finding.code for finding in do(examine).findings]
        assert sorted(codes) == ["HOLDS", "HOLDS", "INDEX_ORPHAN", "TTL_ORPHAN"]

    def test_a_closed_budget_that_still_holds(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.hset(budget(), "status", "CLOSED")
        assert "must hold nothing" in found(do)["HOLDS"].message

    def test_anothers_reservation_holds_nothing_here(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.hset(budget(), "tenant_id", "other")
        findings = found(do)
        assert "hold 0" in findings["HOLDS"].message
        assert findings.keys() == {"HOLDS", "BUDGET_UNLISTED"}

    @pytest.mark.parametrize("part", ["reserved", "spent", "debt"])
    def test_negative(self, ledger: Ledger, client: Redis, do: Functions, part: str) -> None:
        client.hincrby(budget(), part, -1000)
        client.hincrby(budget(), "remaining", 1000)
        findings = found(do)
        assert findings["NEGATIVE"].message.startswith(f"{part} is -")
        assert "INVARIANT" not in findings

    @pytest.mark.parametrize("text", ["1.5", "1e3", " 1", "x", "+1", "9223372036854775808"])
    def test_an_amount_that_is_none(
        self, ledger: Ledger, client: Redis, do: Functions, text: str
    ) -> None:
        client.hset(budget(), "spent", text)
        finding = found(do)["MALFORMED_BUDGET"]
        assert finding.key == budget()
        assert "spent" in finding.message

    def test_an_optional_amount_may_be_empty(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.hset(budget(), mapping={"debt": "", "overdraft_limit": "", "spent": ""})
        assert found(do) == {}

    def test_half_a_budget(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.hdel(budget(), "allocated")
        assert found(do)["MALFORMED_BUDGET"].message == "no allocated"

    def test_not_a_budget_at_all(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.set("budget:tenant:acme:CREDITS", "x")
        assert found(do)["MALFORMED_BUDGET"].message == "not a hash"

    def test_missing_from_its_tenants_set(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        client.srem("budgets:acme", budget(BOT))
        assert found(do)["BUDGET_UNLISTED"].key == budget(BOT)

    def test_a_set_that_names_no_budget(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.sadd("budgets:acme", "budget:tenant:acme/app:x:TOKENS")
        finding = found(do)["BUDGET_MISSING"]
        assert (finding.key, "app:x" in finding.message) == ("budgets:acme", True)

    def test_names_that_are_no_text(self, ledger: Ledger, server: str, do: Functions) -> None:
        with Redis.from_url(server) as raw:
            raw.hset(b"budget:tenant:acme\xff:TOKENS", "spent", 1)
            raw.set(b"reservation:res_\xff", "x")
            raw.sadd("budgets:acme", b"budget:\xfe:TOKENS")
        assert found(do) == {}  # nobody's, and nothing that stops the check


class TestDamagedReservations:
    def test_without_an_expiry_it_never_lapses(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        one = live(ledger)
        client.zrem(ledger.names.ttl, one)
        assert found(do)["TTL_MISSING"].key == ledger.names.reservation(one)

    def test_an_expiry_of_nothing(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.zadd(ledger.names.ttl, {str(uuid.uuid4()): 1})
        assert "has no record" in found(do)["TTL_ORPHAN"].message

    def test_an_expiry_of_one_that_is_over(
        self, ledger: Ledger, client: Redis, do: Functions
    ) -> None:
        one = ledger.reserve(5, ROOT)
        ledger.release(one)
        client.zadd(ledger.names.ttl, {one: 1})
        assert "is RELEASED" in found(do)["TTL_ORPHAN"].message

    def test_an_index_entry_of_nothing(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        now = int(client.time()[0]) * 1000
        old, new = str(uuid.uuid4()), str(uuid.uuid4())
        client.zadd(ledger.names.index, {old: now - 30 * DAY_MS - 1, new: now - 29 * DAY_MS})
        finding = found(do)["INDEX_ORPHAN"]
        assert (finding.key, new in finding.message) == (ledger.names.index, True)

    def test_set_aside(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        one = live(ledger)
        client.zrem(ledger.names.ttl, one)
        client.zadd(ledger.names.quarantine, {one: 1})
        assert found(do).keys() == {"QUARANTINED"}
        client.hset(ledger.names.reservation(one), "affected_scopes", "nonsense")
        codes = [finding.code for finding in do(examine).findings]
        assert sorted(codes) == ["HOLDS", "HOLDS", "QUARANTINED"]

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("estimate_amount", "-5"),
            ("estimate_amount", "1.0"),
            ("estimate_unit", ""),
            ("affected_scopes", "tenant:acme"),
            ("affected_scopes", "[1]"),
            ("affected_scopes", "{}"),
            ("tenant", ""),
            ("state", "LIVE"),
        ],
    )
    def test_a_record_that_cannot_be_read(
        self, ledger: Ledger, client: Redis, do: Functions, field: str, value: str
    ) -> None:
        key = ledger.names.reservation(live(ledger))
        client.hset(key, field, value)
        findings = [one for one in do(examine).findings if one.code != "HOLDS"]
        assert findings[0].code == "MALFORMED_RESERVATION"
        assert findings[0].key == key

    def test_not_a_record_at_all(self, ledger: Ledger, client: Redis, do: Functions) -> None:
        client.set(ledger.names.reservation("x"), "y")
        assert found(do)["MALFORMED_RESERVATION"].message == "not a hash"


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "value", "code", "healthy"),
        [
            ("maxmemory-policy", "allkeys-lru", "EVICTION", False),
            ("appendonly", "no", "PERSISTENCE", False),
            ("hash-max-listpack-value", "64", "MEMORY", True),
        ],
    )
    def test_unfit(
        self, client: Redis, do: Functions, name: str, value: str, code: str, healthy: bool
    ) -> None:
        client.config_set(name, value)
        report = do(examine)
        assert [finding.code for finding in report.findings] == [code]
        assert report.healthy is healthy

    def test_told_before_anything_is_read(self, client: Redis, do: Functions) -> None:
        report = do(examine)
        assert report.store["role"] == "master"
        assert report.store["appendonly"] == "yes"
        assert report.store["hash-max-listpack-value"] == "256"
        assert report.store["server"].split()[0] in ("Redis", "Valkey")

    def test_a_store_that_does_not_tell(self, client: Redis, do: Functions) -> None:
        client.acl_setuser("default", enabled=True, commands=["-info", "-config"])
        try:
            report = do(examine)
        finally:
            client.acl_setuser("default", enabled=True, commands=["+info", "+config"])
        assert [finding.code for finding in report.findings] == ["UNCHECKED"]
        assert report.healthy

    def test_a_replica_is_read_all_the_same(self, ledger: Ledger, do: Functions) -> None:
        ledger.client.replicaof("127.0.0.1", 1)  # a master that never comes: data stays
        try:
            report = do(examine)
        finally:
            ledger.client.replicaof("NO", "ONE")
        assert [finding.code for finding in report.findings] == ["ROLE"]
        assert report.counted["live"] == 1


def test_progress_is_told(ledger: Ledger, client: Redis, do: Functions) -> None:
    told: dict[str, int] = {}
    do(examine, told.__setitem__)
    assert told["budgets"] == 2
    assert told["reservations"] == 2
