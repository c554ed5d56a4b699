"""Cursors outlive the server that gave them: those that clients hold are still read."""

from __future__ import annotations

from typing import Any

import pytest

from cycles_server.paging.cursors import Cursor, fingerprint
from cycles_server.paging.windows import Window
from cycles_server.reservations.filters import Criterion
from cycles_server.reservations.selection import Selection, read_selection

NOON = "2026-04-10T12:00:00Z"
EVERYTHING = {
    "status": "COMMITTED",
    "idempotency_key": "k-1",
    "workspace": "Prod",
    "agent": "bot",
    "from": NOON,
    "expires_from": "2026-04-10T12:00:00.5Z",
    "finalized_to": "2026-04-11T00:00:00+02:00",
}
SORTED = "WyJyZXNlcnZhdGlvbnMtc29ydGVkIixbNywiaWQtMSJdLFsicmVzZXJ2ZWQiLCJhc2MiXSwi"


@pytest.mark.parametrize(
    ("query", "binding"),
    [
        ({}, "YTBmOTM5M2ZlMzIwOWU2MjMwMjQ4OTUyNTlmMmFlMGIiXQ"),
        (EVERYTHING, "MzI0OWM1MWNkNDE4MzVkNmQ3M2VhNTAyZGM4YWRmYjAiXQ"),
        ({"status": "ACTIVE"}, "NzE0ZjUyZjEyMGRmZDkyNzZlN2Q2MmI0MWYwNDc2NGIiXQ"),
        ({"toolset": "T", "to": NOON}, "ZTJkN2UyN2EzNTc3MjNiZDY2MDZjNTM4ZWVlYzlkNTUiXQ"),
        # Blank filters and bounds count as not given.
        ({"status": "", "from": " "}, "YTBmOTM5M2ZlMzIwOWU2MjMwMjQ4OTUyNTlmMmFlMGIiXQ"),
    ],
)
def test_a_sorted_list_binds_as_ever(query: dict[str, Any], binding: str) -> None:
    order = ("reserved", "asc")
    bound = fingerprint("acme", order, read_selection(query, ()).asked())
    assert Cursor("reservations-sorted", (7, "id-1"), order, bound).text() == SORTED + binding


def test_a_later_filter_binds_only_where_it_is_asked_for() -> None:
    def asked(**criteria: Criterion) -> list[Any]:
        return Selection(created=Window(), criteria=criteria, scope_filter=()).asked()

    one, other = (Criterion(value, (), lambda row: True) for value in ("one", "other"))
    assert asked() == read_selection({}, ()).asked()
    assert len({fingerprint(*bound) for bound in (asked(), asked(a=one), asked(a=other))}) == 3
    assert asked(a=one, b=other) == asked(b=other, a=one) != asked(a=other, b=one)


def test_other_lists_cursors_are_as_ever() -> None:
    assert Cursor("reservations", (7, "id-1")).text() == (
        "WyJyZXNlcnZhdGlvbnMiLFs3LCJpZC0xIl0sbnVsbCwiIl0"
    )
    assert Cursor("balances", ("tenant:acme", "TOKENS")).text() == (
        "WyJiYWxhbmNlcyIsWyJ0ZW5hbnQ6YWNtZSIsIlRPS0VOUyJdLG51bGwsIiJd"
    )
