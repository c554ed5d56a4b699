"""The doctor on tenants, keys, policies, audit indexes and twins: silent about what is right, also
as the reference writes it; finds each kind of damage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from support.findings import found
from support.reference import ReferenceTenant
from support.stores import Functions

from cycles_server.cli.provision import provide_budget, provide_key, provide_tenant
from cycles_server.doctor.examine import examine
from cycles_server.governance.api_keys import revoke_api_key
from cycles_server.governance.call import Call
from cycles_server.governance.closing.cascade import begin_close, converge
from cycles_server.governance.listing.tenants import tenant_page
from cycles_server.governance.policies import create_policy
from cycles_server.governance.tenants import update_tenant
from cycles_server.store.keys import Keys
from cycles_server.store.layout import BucketLayout

NAMES = Keys().tenant("acme")
ROOT = "tenant:acme"
RETENTIONS = (400, 400, 30)

Damage = Callable[[Redis], object]


def make(do: Functions, tenant: str = "acme") -> None:
    """A tenant with a budget, a key and a policy."""
    do(provide_tenant, tenant)
    do(provide_budget, tenant, f"tenant:{tenant}", "TOKENS", 500)
    do(provide_key, tenant)
    body = {"name": "calm", "scope_pattern": f"tenant:{tenant}/agent:*"}
    do(create_policy, Call(), tenant, body)


@pytest.fixture
def acme(client: Redis, do: Functions) -> None:
    make(do)


@pytest.fixture
def raw(server: str, client: Redis) -> Iterator[Redis]:
    with Redis.from_url(server) as raw:
        yield raw


def change(client: Redis, key: str, **members: Any) -> None:
    """Members of a JSON record; None takes one away."""
    record = json.loads(client.get(key) or "{}") | members
    record = {name: value for name, value in record.items() if value is not None}
    client.set(key, json.dumps(record))


def one(client: Redis, members: str) -> str:
    """The only member of a set."""
    (member,) = client.smembers(members)
    return str(member)


def api_key(client: Redis) -> str:
    return NAMES.api_key(one(client, NAMES.api_keys()))


def lookup(client: Redis) -> str:
    return Keys.api_key_lookup(json.loads(client.get(api_key(client)) or "")["key_prefix"])


def policy(client: Redis) -> str:
    return NAMES.policy(one(client, NAMES.policies))


class TestHealthy:
    def test_at_rest(self, acme: None, client: Redis, do: Functions) -> None:
        make(do, "idle")
        do(update_tenant, Call(), "idle", {"status": "SUSPENDED"})
        do(revoke_api_key, Call(), one(client, Keys().tenant("idle").api_keys()))
        report = do(examine, audit_retentions=RETENTIONS)
        assert report.findings == []
        assert [report.counted[kind] for kind in ("tenants", "keys", "policies")] == [2, 2, 2]

    def test_a_closed_tenant(self, acme: None, client: Redis, do: Functions) -> None:
        do(begin_close, Call(), "acme", {})
        do(converge, "acme", audit_days=400)
        assert found(do, audit_retentions=RETENTIONS) == {}

    def test_as_the_reference_writes_it(self, raw: Redis, do: Functions) -> None:
        tenant = ReferenceTenant(raw, "http://nobody")
        tenant.record()
        tenant.budget()
        tenant.new_key(status="REVOKED", revoked_at="2026-01-05T08:00:09.000000001Z")
        tenant.new_key(permissions={}, scope_filter=[f"tenant:{tenant.name}/app:chat"])
        tenant.policy()
        tenant.policy(f"Tenant:{tenant.name.upper()}/*", status="DISABLED")
        tenant.was_audited("createTenant")
        below = ReferenceTenant(raw, "http://nobody")
        below.record(
            parent_tenant_id=tenant.name,
            status="SUSPENDED",
            suspended_at="2026-01-05T08:00:03.000000001Z",
        )
        report = do(examine, audit_retentions=RETENTIONS)
        assert report.findings == []
        # Each tenant comes with a key.
        assert [report.counted[kind] for kind in ("tenants", "keys", "policies")] == [2, 4, 2]

    def test_in_the_bucket_layout(self, server: str, client: Redis) -> None:
        keys = Keys(BucketLayout())
        do = Functions(server, keys)
        for tenant in ("acme", "other"):
            make(do, tenant)
        report = do(examine, audit_retentions=RETENTIONS)
        assert report.findings == []
        assert [report.counted[kind] for kind in ("tenants", "keys", "policies")] == [2, 2, 2]
        client.srem(keys.tenants, "acme")
        client.delete(keys.tenant("other").api_key(one(client, keys.tenant("other").api_keys())))
        assert found(do, audit_retentions=RETENTIONS).keys() == {
            *("TENANT_UNLISTED", "KEY_MISSING", "LOOKUP_ORPHAN")
        }


class TestTenants:
    @pytest.mark.parametrize(
        ("damage", "told"),
        [
            (lambda client: client.set(NAMES.record, "{"), "cannot be read"),
            (lambda client: client.set(NAMES.record, "[]"), "cannot be read"),
            (lambda client: change(client, NAMES.record, status="GONE"), "status is 'GONE'"),
            (lambda client: change(client, NAMES.record, status=None), "status is None"),
            (lambda client: change(client, NAMES.record, tenant_id="x"), "tenant_id is 'x'"),
            (lambda client: client.delete(NAMES.record), ""),
        ],
    )
    def test_a_record(
        self, acme: None, client: Redis, do: Functions, damage: Damage, told: str
    ) -> None:
        damage(client)
        findings = found(do)
        if told:
            assert findings.keys() == {"MALFORMED_TENANT"}
            assert findings["MALFORMED_TENANT"].key == NAMES.record
            assert told in findings["MALFORMED_TENANT"].message
        else:
            assert findings.keys() == {"TENANT_MISSING", "KEY_TENANT"}
            assert "acme" in findings["TENANT_MISSING"].message

    def test_a_record_that_is_none(self, acme: None, client: Redis, do: Functions) -> None:
        client.delete(NAMES.record)
        client.hset(NAMES.record, "status", "ACTIVE")
        assert found(do)["MALFORMED_TENANT"].message == "not a string"

    def test_not_in_the_set(self, acme: None, client: Redis, do: Functions) -> None:
        client.srem(Keys.tenants, "acme")
        findings = found(do)
        assert findings.keys() == {"TENANT_UNLISTED"}
        assert findings["TENANT_UNLISTED"].key == NAMES.record

    def test_a_set_that_is_none(self, acme: None, client: Redis, do: Functions) -> None:
        client.delete(NAMES.policies)
        client.set(NAMES.policies, "x")
        findings = found(do)
        assert findings["MALFORMED_INDEX"].key == NAMES.policies
        assert findings.keys() == {"MALFORMED_INDEX", "POLICY_UNLISTED"}


class TestCloses:
    def test_one_that_is_not_through(self, acme: None, client: Redis, do: Functions) -> None:
        do(begin_close, Call(), "acme", {})
        findings = found(do)
        assert findings.keys() == {"CLOSE_PENDING"}  # what it still owns is part of that
        assert "acme" in findings["CLOSE_PENDING"].message
        do(converge, "acme", audit_days=400)
        assert found(do) == {}

    def test_one_that_left_something(self, acme: None, client: Redis, do: Functions) -> None:
        change(client, NAMES.record, status="CLOSED")
        client.hincrby(NAMES.budget(ROOT, "TOKENS"), "reserved", 5)
        client.hincrby(NAMES.budget(ROOT, "TOKENS"), "remaining", -5)
        findings = found(do)
        assert findings.keys() == {"HOLDS", "BUDGET_OPEN", "KEY_OPEN"}
        assert findings["BUDGET_OPEN"].message.startswith("ACTIVE with 5 reserved")
        assert findings["KEY_OPEN"].key == api_key(client)

    def test_a_budget_that_was_frozen(self, acme: None, client: Redis, do: Functions) -> None:
        client.hset(NAMES.budget(ROOT, "TOKENS"), "status", "FROZEN")
        change(client, NAMES.record, status="CLOSED")
        change(client, api_key(client), status="REVOKED")
        findings = found(do)
        assert findings.keys() == {"BUDGET_OPEN"}
        assert findings["BUDGET_OPEN"].message.startswith("FROZEN with 0 reserved")


class TestApiKeys:
    @pytest.mark.parametrize(
        ("members", "told"),
        [
            ({"status": "OPEN"}, "status is 'OPEN'"),
            ({"key_id": "key_x"}, "key_id is 'key_x'"),
            ({"key_hash": "x"}, "bcrypt"),
            ({"key_hash": "$2b$12$short"}, "bcrypt"),
            ({"key_hash": None}, "damaged"),
            ({"tenant_id": 5}, "damaged"),
            ({"expires_at": "soon"}, "damaged"),
            ({"permissions": "all"}, "damaged"),
            ({"key_prefix": "cyc_live_"}, "key_prefix"),
            ({"key_prefix": None}, "key_prefix"),
        ],
    )
    def test_a_record(
        self, acme: None, client: Redis, do: Functions, members: dict[str, Any], told: str
    ) -> None:
        key = api_key(client)
        change(client, key, **members)
        finding = found_but(do, "KEY_MISSING", "LOOKUP_ORPHAN")["MALFORMED_KEY"]
        assert (finding.key, told in finding.message) == (key, True), finding

    @pytest.mark.parametrize("record", ["", "{", "[]", "null"])
    def test_a_record_that_is_none(
        self, acme: None, client: Redis, do: Functions, record: str
    ) -> None:
        key = api_key(client)
        client.set(key, record)
        assert found_but(do, "LOOKUP_ORPHAN")["MALFORMED_KEY"].key == key

    def test_of_nobody(self, acme: None, client: Redis, do: Functions) -> None:
        key = api_key(client)
        change(client, key, tenant_id="other")
        findings = found(do)
        assert findings.keys() == {"KEY_TENANT", "KEY_UNLISTED", "KEY_MISSING"}
        assert "other" in findings["KEY_TENANT"].message
        assert findings["KEY_MISSING"].key == NAMES.api_keys()

    def test_not_in_its_tenants_set(self, acme: None, client: Redis, do: Functions) -> None:
        key = api_key(client)
        client.delete(NAMES.api_keys())
        findings = found(do)
        assert findings.keys() == {"KEY_UNLISTED"}
        assert findings["KEY_UNLISTED"].key == key

    def test_a_set_that_names_no_key(self, acme: None, client: Redis, do: Functions) -> None:
        client.sadd(NAMES.api_keys(), "key_none")
        finding = found(do)["KEY_MISSING"]
        assert (finding.key, "key_none" in finding.message) == (NAMES.api_keys(), True)

    def test_without_an_entry(self, acme: None, client: Redis, do: Functions) -> None:
        client.delete(lookup(client))
        findings = found(do)
        assert findings.keys() == {"KEY_LOOKUP"}
        assert findings["KEY_LOOKUP"].key == api_key(client)
        assert "leads to nothing" in findings["KEY_LOOKUP"].message

    def test_a_revoked_one_needs_none(self, acme: None, client: Redis, do: Functions) -> None:
        client.delete(lookup(client))
        change(client, api_key(client), status="REVOKED", revoked_at="2026-01-05T08:00:09Z")
        assert found(do) == {}

    def test_two_that_begin_alike(self, acme: None, client: Redis, do: Functions) -> None:
        first, entry = api_key(client), lookup(client)
        change(client, NAMES.api_key("key_2"), **json.loads(client.get(first) or ""))
        change(client, NAMES.api_key("key_2"), key_id="key_2")
        client.sadd(NAMES.api_keys(), "key_2")
        findings = found(do)
        assert findings.keys() == {"KEY_LOOKUP"}
        assert findings["KEY_LOOKUP"].key == NAMES.api_key("key_2")
        assert f"{entry} leads to {first}" in findings["KEY_LOOKUP"].message

    @pytest.mark.parametrize("to", ["key_none", ""])
    def test_an_entry_that_leads_nowhere(
        self, acme: None, client: Redis, do: Functions, to: str
    ) -> None:
        client.set(Keys.api_key_lookup("cyc_live_abcde"), to)
        findings = found(do)
        assert findings.keys() == {"LOOKUP_ORPHAN"}
        assert findings["LOOKUP_ORPHAN"].key == Keys.api_key_lookup("cyc_live_abcde")

    def test_an_entry_that_leads_to_another(self, acme: None, client: Redis, do: Functions) -> None:
        client.copy(lookup(client), Keys.api_key_lookup("cyc_live_abcde"))
        assert found(do)["LOOKUP_ORPHAN"].key == Keys.api_key_lookup("cyc_live_abcde")

    def test_an_entry_that_is_none(self, acme: None, client: Redis, do: Functions) -> None:
        entry = lookup(client)
        client.delete(entry)
        client.sadd(entry, "x")
        assert found(do).keys() == {"KEY_LOOKUP", "LOOKUP_ORPHAN"}


class TestPolicies:
    @pytest.mark.parametrize(
        ("members", "told"),
        [
            ({"status": "ON"}, "status is 'ON'"),
            ({"policy_id": "pol_x"}, "policy_id is 'pol_x'"),
            ({"scope_pattern": None}, "scope_pattern is None"),
        ],
    )
    def test_a_record(
        self, acme: None, client: Redis, do: Functions, members: dict[str, Any], told: str
    ) -> None:
        key = policy(client)
        change(client, key, **members)
        findings = found(do)
        assert findings.keys() == {"MALFORMED_POLICY"}
        assert findings["MALFORMED_POLICY"].key == key
        assert told in findings["MALFORMED_POLICY"].message

    def test_a_record_that_is_none(self, acme: None, client: Redis, do: Functions) -> None:
        client.set(policy(client), "{")
        assert "cannot be read" in found(do)["MALFORMED_POLICY"].message

    @pytest.mark.parametrize("pattern", ["tenant:other/*", "colour:red", "", "tenant:acme/*/x"])
    def test_a_pattern_that_matches_nothing(
        self, acme: None, client: Redis, do: Functions, pattern: str
    ) -> None:
        change(client, policy(client), scope_pattern=pattern)
        findings = found(do)
        assert findings.keys() == {"POLICY_PATTERN"}
        assert findings["POLICY_PATTERN"].key == policy(client)

    def test_of_nobody(self, acme: None, client: Redis, do: Functions) -> None:
        change(client, policy(client), tenant_id=None, scope_pattern="agent:*")
        assert found(do).keys() == {"POLICY_OWNER"}

    def test_not_in_its_tenants_set(self, acme: None, client: Redis, do: Functions) -> None:
        key = policy(client)
        client.delete(NAMES.policies)
        findings = found(do)
        assert findings.keys() == {"POLICY_UNLISTED"}
        assert findings["POLICY_UNLISTED"].key == key

    def test_a_set_that_names_no_policy(self, acme: None, client: Redis, do: Functions) -> None:
        client.sadd(NAMES.policies, "pol_none")
        finding = found(do)["POLICY_MISSING"]
        assert (finding.key, "pol_none" in finding.message) == (NAMES.policies, True)


class TestAudit:
    def test_a_young_place_without_an_entry(self, raw: Redis, do: Functions) -> None:
        tenant = ReferenceTenant(raw, "http://nobody")
        tenant.record()
        raw.delete(tenant.names.audit_entry(tenant.was_audited("createTenant", days_ago=29)))
        findings = do(examine, audit_retentions=RETENTIONS).findings
        assert [finding.code for finding in findings] == ["AUDIT_ORPHAN"] * 2
        indexes = {tenant.names.audit_index, tenant.names.audit_tenant_index}
        assert {finding.key for finding in findings} == indexes

    def test_beyond_the_shortest_retention_it_may_have_lapsed(
        self, raw: Redis, do: Functions
    ) -> None:
        tenant = ReferenceTenant(raw, "http://nobody")
        tenant.record()
        tenant.was_audited("createTenant", days_ago=31, kept_days=30)
        assert found(do, audit_retentions=RETENTIONS) == {}
        assert found(do, audit_retentions=(0, 30)) == {}
        for for_ever in ((0, 0), ()):
            findings = do(examine, audit_retentions=for_ever).findings
            assert [finding.code for finding in findings] == ["AUDIT_ORPHAN"] * 2

    def test_an_index_that_is_none(self, acme: None, client: Redis, do: Functions) -> None:
        client.delete(NAMES.audit_tenant_index)
        client.set(NAMES.audit_tenant_index, "x")
        assert found(do)["MALFORMED_INDEX"].message == "no sorted set"


class TestTwins:
    TWIN = Keys.listed_tenants.twin

    @pytest.fixture
    def crowd(self, client: Redis, do: Functions) -> None:
        """More tenants than a list reads without a twin."""
        for number in range(260):
            name = f"t-{number:03d}"
            record = {"tenant_id": name, "name": name, "status": "ACTIVE", "created_at": "2026"}
            client.set(Keys().tenant(name).record, json.dumps(record))
            client.sadd(Keys.tenants, name)
        do(tenant_page, {"limit": 1}, 1 << 20)
        assert client.zcard(self.TWIN) == 260

    def test_one_that_is_true(self, crowd: None, do: Functions) -> None:
        assert found(do) == {}

    def test_one_that_lacks_a_member(self, crowd: None, client: Redis, do: Functions) -> None:
        client.zrem(self.TWIN, "t-007")
        finding = found(do)["TWIN"]
        assert (finding.key, finding.level) == (self.TWIN, "warning")
        assert "t-007 is only in tenants" in finding.message

    def test_one_that_has_another_instead(self, crowd: None, client: Redis, do: Functions) -> None:
        client.zrem(self.TWIN, "t-007", "t-008")
        client.zadd(self.TWIN, {"t-none": 0, "t-nobody": 0})
        finding = found(do)["TWIN"]
        assert finding.message.endswith("(3 more)")

    def test_one_whose_set_is_gone(self, acme: None, client: Redis, do: Functions) -> None:
        twin = NAMES.listed(NAMES.policies).twin
        client.zadd(twin, {"pol_none": 0})
        client.delete(policy(client), NAMES.policies)
        findings = found(do)
        assert findings.keys() == {"TWIN"}
        assert findings["TWIN"].key == twin


def found_but(do: Functions, *codes: str) -> dict[str, Any]:
    """What is found besides findings that follow from it."""
    return {code: finding for code, finding in found(do).items() if code not in codes}


def test_names_that_are_no_text(acme: None, raw: Redis, do: Functions) -> None:
    raw.set(b"apikey:key_\xff", "x")
    raw.sadd("policies:acme", b"pol_\xfe")
    raw.sadd("tenants", b"\xfe")
    assert found(do) == {}  # nobody's, and nothing that stops the check


def test_progress_is_told(acme: None, do: Functions) -> None:
    told: dict[str, int] = {}
    do(examine, told.__setitem__)
    assert (told["tenants"], told["keys"], told["policies"], told["look-ups"]) == (1, 1, 1, 1)
