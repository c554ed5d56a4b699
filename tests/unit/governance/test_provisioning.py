"""What provisioning writes, read by the code that serves requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import orjson
import pytest
from conftest import StartServer
from redis import Redis
from support.agents import Crew
from support.stores import Functions
from support.tenants import UNIT

from cycles_server.auth.apikeys import ApiKeys
from cycles_server.auth.lookup import look_up
from cycles_server.auth.principal import Principal
from cycles_server.auth.records import DEFAULT_PERMISSIONS, iso_instant, read_key, read_tenant
from cycles_server.cli.keyfile import kept_key
from cycles_server.cli.money import parse_amount, show_amount
from cycles_server.embedded.store import EmbeddedError, EmbeddedRedis
from cycles_server.governance import api_keys
from cycles_server.governance.api_keys import create_api_key, has_api_key, in_force
from cycles_server.governance.budgets import create_budget, set_budget
from cycles_server.governance.tenants import create_tenant
from cycles_server.jsontext import INT64_MAX
from cycles_server.refusal import Refusal
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout
from cycles_server.store.store import Store

KEYS = Keys()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with EmbeddedRedis(tmp_path_factory.mktemp("data"), fsync="everysec") as store:
            yield store.url
    except EmbeddedError as error:
        pytest.skip(str(error))


@pytest.fixture
def client(server: str) -> Iterator[Redis]:
    client: Redis = Redis.from_url(server, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def do(server: str) -> Functions:
    return Functions(server)


def authenticate(server: str, secret: str, keys: Keys = KEYS) -> Principal:
    async def work() -> Principal:
        store = Store(server, keys=keys, timeout_ms=2000)
        api_keys = ApiKeys(store)
        try:
            return await api_keys.authenticate(secret)
        finally:
            api_keys.close()
            await store.close()

    return asyncio.run(work())


class TestTenants:
    def test_is_in_force_and_listed(self, client: Redis, do: Functions) -> None:
        assert do(create_tenant, "acme", name="Acme")
        record = client.get("tenant:acme")
        policy = read_tenant(record.encode())
        assert (policy.guard, policy.suspended, policy.max_ttl_ms) == ("OPEN", False, 3_600_000)
        fields = orjson.loads(record)
        assert fields["name"] == "Acme"
        assert fields["created_at"].endswith("Z")
        assert client.smembers("tenants") == {"acme"}

    def test_one_that_exists_is_left_alone(self, client: Redis, do: Functions) -> None:
        do(create_tenant, "acme", name="Acme")
        before = client.get("tenant:acme")
        client.delete("tenants")  # as a crash between the two writes would leave it
        assert not do(create_tenant, "acme", name="Other")
        assert client.get("tenant:acme") == before
        assert client.sismember("tenants", "acme")

    @pytest.mark.parametrize("tenant_id", ["", "ab", "Acme", "a_b_c", "a" * 65, "acme/x", "a:b"])
    def test_an_id_outside_the_contract(self, client: Redis, do: Functions, tenant_id: str) -> None:
        with pytest.raises(Refusal, match="an id is"):
            do(create_tenant, tenant_id)
        assert not client.keys()

    @pytest.mark.parametrize(
        ("record", "status"), [('{"status":"CLOSED"}', "CLOSED"), ("{", "unreadable")]
    )
    def test_one_that_is_not_in_force(
        self, client: Redis, do: Functions, record: str, status: str
    ) -> None:
        client.set("tenant:acme", record)
        with pytest.raises(Refusal, match=f"is {status}"):
            do(create_tenant, "acme")


class TestApiKeys:
    def test_opens_the_door(self, server: str, client: Redis, do: Functions) -> None:
        do(create_tenant, "acme")
        secret = do(create_api_key, "acme")
        principal = authenticate(server, secret)
        assert (principal.tenant, principal.permissions) == ("acme", DEFAULT_PERMISSIONS)
        assert secret.startswith("cyc_live_")
        assert len(secret) == 41

    def test_is_stored_as_the_reference_stores_it(self, client: Redis, do: Functions) -> None:
        secret = do(create_api_key, "acme", permissions=["balances:read"])
        key_id = client.get(f"apikey:lookup:{secret[:14]}")
        assert (len(key_id), key_id[:4]) == (20, "key_")
        assert client.smembers("apikeys:acme") == {key_id}
        record = orjson.loads(client.get(f"apikey:{key_id}"))
        assert record["key_prefix"] == secret[:14]
        assert record["permissions"] == ["balances:read"]
        assert record["key_hash"].startswith("$2a$12$")
        assert bcrypt.checkpw(secret.encode(), record["key_hash"].encode())
        assert secret not in str(record)
        assert {"tenant_id", "status", "created_at", "expires_at"} <= record.keys()

    def test_one_that_begins_like_another_is_drawn_again(
        self, client: Redis, do: Functions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        drawn = iter(("cyc_live_" + "s" * 32, "cyc_live_" + "t" * 32))
        monkeypatch.setattr(api_keys, "_new_secret", lambda: next(drawn))
        client.set("apikey:lookup:cyc_live_sssss", "key_gone")  # leads nowhere, and stays another's
        secret = do(create_api_key, "acme")
        assert secret == "cyc_live_" + "t" * 32
        assert client.get("apikey:lookup:cyc_live_sssss") == "key_gone"
        assert len(client.keys("apikey:key_*")) == 1
        assert do(in_force, "acme", secret)

    def test_whether_one_is_in_force(self, client: Redis, do: Functions) -> None:
        secret = do(create_api_key, "acme")
        assert do(has_api_key, "acme")
        assert do(in_force, "acme", secret)
        assert not do(in_force, "other", secret)
        assert not do(in_force, "acme", secret + "x")
        assert not do(in_force, "acme", secret + "x" * 64)  # more than bcrypt takes
        name = f"apikey:{client.get(f'apikey:lookup:{secret[:14]}')}"
        record = orjson.loads(client.get(name))
        for change in ({"status": "REVOKED"}, {"expires_at": iso_instant(1_000)}):
            client.set(name, orjson.dumps({**record, **change}))
            assert not do(has_api_key, "acme")
            assert not do(in_force, "acme", secret)
        client.delete(name)
        assert not do(in_force, "acme", secret)

    def test_no_permissions_at_all_is_not_the_default(self, client: Redis, do: Functions) -> None:
        secret = do(create_api_key, "acme", permissions=[])
        key = read_key(do(look_up, secret).record)
        assert key is not None
        assert key.permissions == frozenset()

    def test_in_the_bucket_layout(self, server: str, client: Redis) -> None:
        do = Functions(server, Keys(BucketLayout()))
        do(create_tenant, "acme")
        secret = do(create_api_key, "acme")
        assert authenticate(server, secret, do.keys).tenant == "acme"
        assert do(in_force, "acme", secret)


class TestBudgets:
    def test_is_stored_as_the_reference_stores_it(self, client: Redis, do: Functions) -> None:
        entry = do(create_budget, "acme", "tenant:acme/agent:bot", "TOKENS", 500, 20)
        assert (entry.created, entry.allocated, entry.remaining) == (True, 500, 500)
        key = "budget:tenant:acme/agent:bot:TOKENS"
        fields = client.hgetall(key)
        assert len(fields.pop("ledger_id")) == 36
        assert fields.pop("created_at") == fields.pop("updated_at")
        assert fields == {
            "tenant_id": "acme",
            "scope": "tenant:acme/agent:bot",
            "unit": "TOKENS",
            "allocated": "500",
            "remaining": "500",
            "reserved": "0",
            "spent": "0",
            "debt": "0",
            "overdraft_limit": "20",
            "is_over_limit": "false",
            "status": "ACTIVE",
        }
        assert client.smembers("budgets:acme") == {key}

    def test_one_that_exists_keeps_its_money(self, client: Redis, do: Functions) -> None:
        do(create_budget, "acme", "tenant:acme", "TOKENS", 500)
        client.hset("budget:tenant:acme:TOKENS", mapping={"remaining": "1", "spent": "499"})
        client.delete("budgets:acme")
        before = client.hgetall("budget:tenant:acme:TOKENS")
        entry = do(create_budget, "acme", "tenant:acme", "TOKENS", 9000)
        assert (entry.created, entry.allocated, entry.remaining) == (False, 500, 1)
        assert client.hgetall("budget:tenant:acme:TOKENS") == before
        assert client.scard("budgets:acme") == 1

    def test_another_tenants(self, client: Redis, do: Functions) -> None:
        do(create_budget, "acme", "agent:bot", "TOKENS", 500)
        with pytest.raises(Refusal, match="belongs to tenant acme"):
            do(create_budget, "other", "agent:bot", "TOKENS", 500)
        assert not client.exists("budgets:other")

    def test_a_half_written_one_is_not_touched(self, client: Redis, do: Functions) -> None:
        client.hset("budget:tenant:acme:TOKENS", mapping={"tenant_id": "acme", "spent": "5"})
        with pytest.raises(Refusal, match="cannot be read"):
            do(create_budget, "acme", "tenant:acme", "TOKENS", 500)
        assert not client.hexists("budget:tenant:acme:TOKENS", "allocated")

    def test_the_whole_of_int64(self, client: Redis, do: Functions) -> None:
        do(create_budget, "acme", "tenant:acme", "TOKENS", INT64_MAX)
        assert int(client.hget("budget:tenant:acme:TOKENS", "remaining")) == INT64_MAX

    @pytest.mark.parametrize(
        ("scope", "says"),
        [
            ("", "must be LEVEL:VALUE"),
            ("acme", "must be LEVEL:VALUE"),
            ("team:x", "must be LEVEL:VALUE"),
            ("tenant:acme/", "must be LEVEL:VALUE"),
            ("tenant:", "one or more of the letters"),
            ("tenant:acme/agent:a b", "one or more of the letters"),
            ("tenant:acme/agent:a:b", "one or more of the letters"),
            ("tenant:acme/agent:x/agent:y", "names agent twice"),
            ("tenant:acme/agent:Bot", "write 'tenant:acme/agent:bot'"),
            ("Tenant:acme", "write 'tenant:acme'"),
            ("agent:bot/tenant:acme", "write 'tenant:acme/agent:bot'"),
            ("tenant:other", "is not one of tenant acme"),
            ("tenant:acme/agent:" + "x" * 129, "over 128 characters"),
        ],
    )
    def test_a_scope_that_no_subject_has(
        self, client: Redis, do: Functions, scope: str, says: str
    ) -> None:
        with pytest.raises(Refusal) as caught:
            do(create_budget, "acme", scope, "TOKENS", 1)
        assert says in str(caught.value)
        assert not client.keys()

    @pytest.mark.parametrize(
        ("unit", "allocated", "limit", "policy"),
        [
            ("USD", 1, 0, None),
            ("TOKENS", -1, 0, None),
            ("TOKENS", 2**63, 0, None),
            ("TOKENS", 1, -1, None),
            ("TOKENS", 1, 0, "NEVER"),
        ],
    )
    def test_amounts_outside_the_contract(
        self,
        client: Redis,
        do: Functions,
        unit: str,
        allocated: int,
        limit: int,
        policy: str | None,
    ) -> None:
        with pytest.raises(Refusal):
            do(create_budget, "acme", "tenant:acme", unit, allocated, limit, overage_policy=policy)
        assert not client.keys()


class TestSettingABudget:
    KEY = "budget:tenant:acme:TOKENS"

    def stored(self, client: Redis) -> dict[str, str]:
        fields: dict[str, str] = client.hgetall(self.KEY)
        return fields

    def existing(self, client: Redis, do: Functions, **fields: int | str) -> dict[str, str]:
        do(create_budget, "acme", "tenant:acme", "TOKENS", 500, 40)
        client.hset(self.KEY, mapping={**fields, "updated_at": 1})
        return self.stored(client)

    def test_one_that_is_not_there_is_made(self, client: Redis, do: Functions) -> None:
        entry = do(set_budget, "acme", "tenant:acme", "TOKENS", 500)
        assert (entry.created, entry.replaced, entry.remaining) == (True, None, 500)
        assert client.sismember("budgets:acme", self.KEY)

    @pytest.mark.parametrize(
        ("fields", "allocated", "remaining", "over"),
        [
            ({"reserved": 100, "spent": 200, "debt": 40}, 1000, 660, "false"),
            ({"reserved": 100, "spent": 200, "debt": 41}, 100, -241, "true"),
            ({"reserved": 100, "spent": 200}, 0, -300, "false"),
            ({"is_over_limit": "true"}, 500, 500, "false"),
            ({"spent": 1}, INT64_MAX, INT64_MAX - 1, "false"),
            ({"reserved": 1, "spent": 2**53}, 2**53 + 2, 1, "false"),
            ({"reserved": 1, "spent": INT64_MAX}, 0, -(2**63), "false"),
        ],
    )
    def test_what_remains_follows(
        self,
        client: Redis,
        do: Functions,
        fields: dict[str, int | str],
        allocated: int,
        remaining: int,
        over: str,
    ) -> None:
        before = self.existing(client, do, **fields)
        entry = do(set_budget, "acme", "tenant:acme", "TOKENS", allocated)
        assert (entry.created, entry.replaced) == (False, 500)
        assert (entry.allocated, entry.remaining) == (allocated, remaining)
        after = self.stored(client)
        assert int(after.pop("updated_at")) >= int(after["created_at"])
        del before["updated_at"]
        assert after == {
            **before,
            "allocated": str(allocated),
            "remaining": str(remaining),
            "is_over_limit": over,
        }

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"status": "FROZEN"}, "is FROZEN: unfreeze it first"),
            ({"status": "CLOSED"}, "is CLOSED"),
            ({"status": "PAUSED"}, "cannot be set: BUDGET_PAUSED"),
            ({"spent": "5.5"}, "cannot be read"),
            ({"debt": 2**63}, "cannot be read"),
            ({"reserved": 2, "spent": INT64_MAX}, "more than can be counted"),
            ({"tenant_id": "other"}, "belongs to tenant other"),
        ],
    )
    def test_what_cannot_be_set_is_left_alone(
        self, client: Redis, do: Functions, fields: dict[str, int | str], says: str
    ) -> None:
        before = self.existing(client, do, **fields)
        with pytest.raises(Refusal, match=says):
            do(set_budget, "acme", "tenant:acme", "TOKENS", 0)
        assert self.stored(client) == before

    def test_under_agents_at_work(self, start: StartServer) -> None:
        running = start()  # its books are looked at as a whole
        tenant = running.tenant()
        crew = Crew(running.server.port, tenant)
        scopes = [f"tenant:{tenant.name}", *(agent.scope for agent in crew.agents)]

        def raise_all() -> None:
            do = Functions(running.store.url, tenant.keys)
            for more in range(1, 51):
                for scope in scopes:
                    do(set_budget, tenant.name, scope, UNIT, 10**12 + more)

        crew.run_through(lambda: asyncio.to_thread(raise_all))
        assert not crew.failures
        assert {tenant.amounts(scope)["allocated"] for scope in scopes} == {10**12 + 50}
        crew.check()


class TestMoney:
    @pytest.mark.parametrize(
        ("written", "amount", "unit"),
        [
            ("100000000:USD_MICROCENTS", 100_000_000, "USD_MICROCENTS"),
            ("5000:TOKENS", 5000, "TOKENS"),
            ("$1", 100_000_000, "USD_MICROCENTS"),
            ("1usd", 100_000_000, "USD_MICROCENTS"),
            ("0.5 USD", 50_000_000, "USD_MICROCENTS"),
            ("$0.00000001", 1, "USD_MICROCENTS"),
            ("$1:USD_MICROCENTS", 100_000_000, "USD_MICROCENTS"),
            ("$90000000000.12345678", 9_000_000_000_012_345_678, "USD_MICROCENTS"),
        ],
    )
    def test_read(self, written: str, amount: int, unit: str) -> None:
        assert parse_amount(written) == (amount, unit)

    @pytest.mark.parametrize(
        "written",
        [
            *("", "1", "1:", "1:USD", "-1:TOKENS", "1.5:TOKENS", "1_0:TOKENS", "٣:TOKENS"),
            *("$", "$-1", "$1:TOKENS", "1e5usd", "$0.000000001"),
        ],
    )
    def test_refused(self, written: str) -> None:
        with pytest.raises(ValueError, match="'"):
            parse_amount(written)

    def test_shown(self) -> None:
        assert show_amount(100_000_000, "USD_MICROCENTS") == "$1.00"
        assert show_amount(-50_042_000, "USD_MICROCENTS") == "-$0.50042"
        assert show_amount(5000, "TOKENS") == "5,000 TOKENS"


def test_a_kept_key(client: Redis, do: Functions, tmp_path: Path) -> None:
    path = tmp_path / "acme.key"
    secret, new = do(kept_key, "acme", path)
    assert new
    assert path.stat().st_mode & 0o777 == 0o600
    assert do(kept_key, "acme", path) == (secret, False)
    client.flushall()  # another store: the kept key is not one of its keys
    other, new = do(kept_key, "acme", path)
    assert new
    assert path.read_text().strip() == other != secret
