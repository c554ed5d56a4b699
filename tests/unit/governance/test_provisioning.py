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
from support.tenants import UNIT

from cycles_server.auth.apikeys import ApiKeys
from cycles_server.auth.principal import Principal
from cycles_server.auth.records import DEFAULT_PERMISSIONS, iso_instant, read_key, read_tenant
from cycles_server.cli.keyfile import kept_key
from cycles_server.cli.money import parse_amount, show_amount
from cycles_server.embedded.store import EmbeddedError, EmbeddedRedis
from cycles_server.governance.provisioning import (
    MAX_AMOUNT,
    ProvisioningError,
    create_api_key,
    create_budget,
    create_tenant,
    has_api_key,
    in_force,
    set_budget,
)
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout
from cycles_server.store.store import Store

KEYS = Keys()
SECRET = "cyc_live_" + "s" * 32


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with EmbeddedRedis(tmp_path_factory.mktemp("data"), fsync="everysec") as store:
            yield store.url
    except EmbeddedError as error:
        pytest.skip(str(error))


@pytest.fixture(params=[True, False], ids=["text", "bytes"])
def client(server: str, request: pytest.FixtureRequest) -> Iterator[Redis]:
    client: Redis = Redis.from_url(server, decode_responses=request.param)
    client.flushall()
    yield client
    client.close()


def text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


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
    def test_is_in_force_and_listed(self, client: Redis) -> None:
        assert create_tenant(client, KEYS, "acme", name="Acme")
        record = client.get("tenant:acme")
        policy = read_tenant(record if isinstance(record, bytes) else record.encode())
        assert (policy.guard, policy.suspended, policy.max_ttl_ms) == ("OPEN", False, 3_600_000)
        fields = orjson.loads(record)
        assert fields["name"] == "Acme"
        assert fields["created_at"].endswith("Z")
        assert {text(one) for one in client.smembers("tenants")} == {"acme"}

    def test_one_that_exists_is_left_alone(self, client: Redis) -> None:
        create_tenant(client, KEYS, "acme", name="Acme")
        before = client.get("tenant:acme")
        client.delete("tenants")  # as a crash between the two writes would leave it
        assert not create_tenant(client, KEYS, "acme", name="Other")
        assert client.get("tenant:acme") == before
        assert client.sismember("tenants", "acme")

    @pytest.mark.parametrize("tenant_id", ["", "ab", "Acme", "a_b_c", "a" * 65, "acme/x", "a:b"])
    def test_an_id_outside_the_contract(self, client: Redis, tenant_id: str) -> None:
        with pytest.raises(ProvisioningError, match="an id is"):
            create_tenant(client, KEYS, tenant_id)
        assert not client.keys()

    @pytest.mark.parametrize(
        ("record", "status"), [('{"status":"CLOSED"}', "CLOSED"), ("{", "unreadable")]
    )
    def test_one_that_is_not_in_force(self, client: Redis, record: str, status: str) -> None:
        client.set("tenant:acme", record)
        with pytest.raises(ProvisioningError, match=f"is {status}"):
            create_tenant(client, KEYS, "acme")


class TestApiKeys:
    def test_opens_the_door(self, server: str, client: Redis) -> None:
        create_tenant(client, KEYS, "acme")
        secret = create_api_key(client, KEYS, "acme")
        principal = authenticate(server, secret)
        assert (principal.tenant, principal.permissions) == ("acme", DEFAULT_PERMISSIONS)
        assert secret.startswith("cyc_live_")
        assert len(secret) == 41

    def test_is_stored_as_the_reference_stores_it(self, client: Redis) -> None:
        create_api_key(client, KEYS, "acme", permissions=["balances:read"], secret=SECRET)
        key_id = text(client.get("apikey:lookup:cyc_live_sssss"))
        assert (len(key_id), key_id[:4]) == (20, "key_")
        assert {text(one) for one in client.smembers("apikeys:acme")} == {key_id}
        record = orjson.loads(client.get(f"apikey:{key_id}"))
        assert record["key_prefix"] == SECRET[:14]
        assert record["permissions"] == ["balances:read"]
        assert record["key_hash"].startswith("$2a$12$")
        assert bcrypt.checkpw(SECRET.encode(), record["key_hash"].encode())
        assert SECRET not in str(record)
        assert {"tenant_id", "status", "created_at", "expires_at"} <= record.keys()

    def test_the_same_secret_again_changes_nothing(self, client: Redis) -> None:
        create_api_key(client, KEYS, "acme", secret=SECRET)
        names = sorted(client.keys())
        assert create_api_key(client, KEYS, "acme", secret=SECRET) == SECRET
        assert sorted(client.keys()) == names
        assert in_force(client, KEYS, "acme", SECRET)
        assert not in_force(client, KEYS, "other", SECRET)

    def test_a_prefix_that_is_taken(self, client: Redis) -> None:
        create_api_key(client, KEYS, "acme", secret=SECRET)
        for tenant, secret in (("acme", SECRET + "x"), ("other", SECRET)):
            with pytest.raises(ProvisioningError, match="another key begins with cyc_live_sssss"):
                create_api_key(client, KEYS, tenant, secret=secret)
        assert len(client.keys("apikey:key_*")) == 1

    def test_a_lookup_that_leads_nowhere_is_not_taken_over(self, client: Redis) -> None:
        client.set("apikey:lookup:cyc_live_sssss", "key_gone")
        with pytest.raises(ProvisioningError, match="another key"):
            create_api_key(client, KEYS, "acme", secret=SECRET)
        assert not client.keys("apikey:key_*")

    def test_a_key_no_longer_in_force(self, client: Redis) -> None:
        create_api_key(client, KEYS, "acme", secret=SECRET)
        assert has_api_key(client, KEYS, "acme")
        name = f"apikey:{text(client.get('apikey:lookup:cyc_live_sssss'))}"
        record = orjson.loads(client.get(name))
        for change in ({"status": "REVOKED"}, {"expires_at": iso_instant(1_000)}):
            client.set(name, orjson.dumps({**record, **change}))
            assert not has_api_key(client, KEYS, "acme")
            assert not in_force(client, KEYS, "acme", SECRET)
            with pytest.raises(ProvisioningError, match="revoked or has expired"):
                create_api_key(client, KEYS, "acme", secret=SECRET)

    @pytest.mark.parametrize("secret", ["", "x" * 40, "cyc_live_short", "cyc_live_" + "x" * 64])
    def test_a_secret_that_cannot_be_one(self, client: Redis, secret: str) -> None:
        with pytest.raises(ProvisioningError, match="a secret is"):
            create_api_key(client, KEYS, "acme", secret=secret)

    def test_no_permissions_at_all_is_not_the_default(self, client: Redis) -> None:
        create_api_key(client, KEYS, "acme", permissions=[], secret=SECRET)
        key_id = text(client.get("apikey:lookup:cyc_live_sssss"))
        key = read_key(orjson.dumps(orjson.loads(client.get(f"apikey:{key_id}"))))
        assert key is not None
        assert key.permissions == frozenset()

    def test_in_the_bucket_layout(self, server: str, client: Redis) -> None:
        keys = Keys(BucketLayout())
        create_tenant(client, keys, "acme")
        secret = create_api_key(client, keys, "acme")
        assert authenticate(server, secret, keys).tenant == "acme"
        assert in_force(client, keys, "acme", secret)


class TestBudgets:
    def test_is_stored_as_the_reference_stores_it(self, client: Redis) -> None:
        entry = create_budget(client, KEYS, "acme", "tenant:acme/agent:bot", "TOKENS", 500, 20)
        assert (entry.created, entry.allocated, entry.remaining) == (True, 500, 500)
        key = "budget:tenant:acme/agent:bot:TOKENS"
        fields = {text(k): text(v) for k, v in client.hgetall(key).items()}
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
        assert {text(one) for one in client.smembers("budgets:acme")} == {key}

    def test_one_that_exists_keeps_its_money(self, client: Redis) -> None:
        create_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 500)
        client.hset("budget:tenant:acme:TOKENS", mapping={"remaining": "1", "spent": "499"})
        client.delete("budgets:acme")
        before = client.hgetall("budget:tenant:acme:TOKENS")
        entry = create_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 9000)
        assert (entry.created, entry.allocated, entry.remaining) == (False, 500, 1)
        assert client.hgetall("budget:tenant:acme:TOKENS") == before
        assert client.scard("budgets:acme") == 1

    def test_another_tenants(self, client: Redis) -> None:
        create_budget(client, KEYS, "acme", "agent:bot", "TOKENS", 500)
        with pytest.raises(ProvisioningError, match="belongs to tenant acme"):
            create_budget(client, KEYS, "other", "agent:bot", "TOKENS", 500)
        assert not client.exists("budgets:other")

    def test_a_half_written_one_is_not_touched(self, client: Redis) -> None:
        client.hset("budget:tenant:acme:TOKENS", mapping={"tenant_id": "acme", "spent": "5"})
        with pytest.raises(ProvisioningError, match="cannot be read"):
            create_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 500)
        assert not client.hexists("budget:tenant:acme:TOKENS", "allocated")

    def test_the_whole_of_int64(self, client: Redis) -> None:
        create_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", MAX_AMOUNT)
        assert int(client.hget("budget:tenant:acme:TOKENS", "remaining")) == MAX_AMOUNT

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
    def test_a_scope_that_no_subject_has(self, client: Redis, scope: str, says: str) -> None:
        with pytest.raises(ProvisioningError) as caught:
            create_budget(client, KEYS, "acme", scope, "TOKENS", 1)
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
        self, client: Redis, unit: str, allocated: int, limit: int, policy: str | None
    ) -> None:
        with pytest.raises(ProvisioningError):
            create_budget(
                client, KEYS, "acme", "tenant:acme", unit, allocated, limit, overage_policy=policy
            )
        assert not client.keys()


class TestSettingABudget:
    KEY = "budget:tenant:acme:TOKENS"

    def stored(self, client: Redis) -> dict[str, str]:
        return {text(name): text(value) for name, value in client.hgetall(self.KEY).items()}

    def existing(self, client: Redis, **fields: int | str) -> dict[str, str]:
        create_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 500, 40)
        client.hset(self.KEY, mapping={**fields, "updated_at": 1})
        return self.stored(client)

    def test_one_that_is_not_there_is_made(self, client: Redis) -> None:
        entry = set_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 500)
        assert (entry.created, entry.replaced, entry.remaining) == (True, None, 500)
        assert client.sismember("budgets:acme", self.KEY)

    @pytest.mark.parametrize(
        ("fields", "allocated", "remaining", "over"),
        [
            ({"reserved": 100, "spent": 200, "debt": 40}, 1000, 660, "false"),
            ({"reserved": 100, "spent": 200, "debt": 41}, 100, -241, "true"),
            ({"reserved": 100, "spent": 200}, 0, -300, "false"),
            ({"is_over_limit": "true"}, 500, 500, "false"),
            ({"spent": 1}, MAX_AMOUNT, MAX_AMOUNT - 1, "false"),
            ({"reserved": 1, "spent": 2**53}, 2**53 + 2, 1, "false"),
            ({"reserved": 1, "spent": MAX_AMOUNT}, 0, -(2**63), "false"),
        ],
    )
    def test_what_remains_follows(
        self,
        client: Redis,
        fields: dict[str, int | str],
        allocated: int,
        remaining: int,
        over: str,
    ) -> None:
        before = self.existing(client, **fields)
        entry = set_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", allocated)
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
            ({"reserved": 2, "spent": MAX_AMOUNT}, "more than can be counted"),
            ({"tenant_id": "other"}, "belongs to tenant other"),
        ],
    )
    def test_what_cannot_be_set_is_left_alone(
        self, client: Redis, fields: dict[str, int | str], says: str
    ) -> None:
        before = self.existing(client, **fields)
        with pytest.raises(ProvisioningError, match=says):
            set_budget(client, KEYS, "acme", "tenant:acme", "TOKENS", 0)
        assert self.stored(client) == before

    def test_under_agents_at_work(self, start: StartServer) -> None:
        running = start()  # its books are looked at as a whole
        tenant = running.tenant()
        crew = Crew(running.server.port, tenant)
        scopes = [f"tenant:{tenant.name}", *(agent.scope for agent in crew.agents)]

        def raise_all() -> None:
            for more in range(1, 51):
                for scope in scopes:
                    amount = 10**12 + more
                    set_budget(running.redis, tenant.keys, tenant.name, scope, UNIT, amount)

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


def test_a_kept_key(client: Redis, tmp_path: Path) -> None:
    path = tmp_path / "acme.key"
    secret, new = kept_key(client, KEYS, "acme", path)
    assert new
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept_key(client, KEYS, "acme", path) == (secret, False)
    client.flushall()  # another store: the kept key is not one of its keys
    other, new = kept_key(client, KEYS, "acme", path)
    assert new
    assert path.read_text().strip() == other != secret
