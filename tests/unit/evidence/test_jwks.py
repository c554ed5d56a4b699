"""The set of public keys that is published: the active one, and retired ones with their windows."""

from __future__ import annotations

from typing import Any

import pytest

from cycles_server.evidence.jwks import jwk_set

KEY = "207a067892821e25d770f1fba0c47c11ff4b813e54162ece9eb839e076231ab6"
OLD = "aa" * 32
OLDER = "bb" * 32


@pytest.mark.parametrize(
    "signer", ["", "did:cycles:" + "0" * 64 + "#1", KEY[:-1], KEY + "0", "z" * 64]
)
def test_what_is_no_key_publishes_nothing(signer: str) -> None:
    assert jwk_set(signer, "", 0, []) is None


def keys(*retired: Any, nbf_ms: int = 0, kid: str = "now") -> list[tuple[str, int, int | None]]:
    """Kid and window of every published key."""
    body = jwk_set(KEY.upper(), kid, nbf_ms, retired)
    assert body is not None
    return [(key["kid"], key["cycles_nbf_ms"], key.get("cycles_exp_ms")) for key in body["keys"]]


def entry(**changes: Any) -> dict[str, Any]:
    return {"signer_did": OLD, "kid": "old", "nbf_ms": 10, "exp_ms": 20, **changes}


def test_retired_keys_keep_their_window() -> None:
    older = entry(signer_did=OLDER, kid="older", nbf_ms=0, exp_ms=10)
    assert keys(entry(), older, nbf_ms=50) == [
        ("now", 50, None),
        ("old", 10, 20),
        ("older", 0, 10),
    ]
    assert keys(entry(kid=None)) == [("now", 20, None), (OLD[:16], 10, 20)]
    # The same key twice is one key with two windows.
    assert keys(entry(), entry(kid="again", nbf_ms=20, exp_ms=30)) == [
        ("now", 30, None),
        ("old", 10, 20),
        ("again", 20, 30),
    ]
    # Also the active key may have had an earlier life.
    assert keys(entry(signer_did=KEY)) == [("now", 20, None), ("old", 10, 20)]


@pytest.mark.parametrize(
    "bad",
    [
        entry(signer_did="xx"),
        entry(signer_did=None),
        entry(signer_did="did:cycles:" + "0" * 64 + "#old"),
        entry(kid=7),
        entry(nbf_ms=None),
        entry(nbf_ms="10"),
        entry(nbf_ms=10.5),
        entry(nbf_ms=True),
        entry(nbf_ms=20),
        entry(nbf_ms=21),
        entry(kid="now"),
        entry(kid="good"),
    ],
)
def test_a_retired_key_that_would_confuse_is_left_out(bad: dict[str, Any]) -> None:
    good = entry(signer_did=OLDER, kid="good", nbf_ms=0, exp_ms=5)
    # Its end counts all the same: the active key was not in force before.
    assert keys(good, bad) == [("now", 20, None), ("good", 0, 5)]


def test_overlaps_and_nonsense_are_left_out() -> None:
    assert keys(entry(), entry(kid="b", nbf_ms=19, exp_ms=30)) == [
        ("now", 30, None),
        ("old", 10, 20),
    ]
    assert keys("x", None, 5, [], entry(exp_ms=None), entry(exp_ms=2**63)) == [("now", 0, None)]
