"""What ``lua/observe.lua`` is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cycles_server.store.clock import epoch_ms
from cycles_server.store.link import Reply
from cycles_server.store.store import Store

NAME = "observe"


class Keys(NamedTuple):
    """Behind it the indexes."""

    record: str


class Arguments(NamedTuple):
    """Behind it the record's fields."""

    name: str


@dataclass(frozen=True, slots=True)
class Observation:
    """A record and its places in indexes at one moment.

    Attributes:
        at_ms: the moment, by the store's clock.
        kind: Redis's type, ``none`` for a record that is not there.
        fields: by name, None for one that is absent; empty unless it is a hash.
        text: of a string, else None; what is not UTF-8 in it comes escaped.
        places: its score in each index, 1 in a set; None where it is not named.
    """

    at_ms: int
    kind: str
    fields: dict[str, str | None]
    text: str | None
    places: tuple[str | None, ...]

    @property
    def exists(self) -> bool:
        return self.kind != "none"

    @property
    def is_damaged(self) -> bool:
        """Whether something else than a hash stands there."""
        return self.kind not in ("none", "hash")


class Answer(NamedTuple):
    """As the script words it; the values in the order of what was asked for.

    Attributes:
        fields: of a string its text alone; none at all unless the record is one or a hash.
    """

    at_ms: int
    kind: str
    fields: tuple[str | None, ...]
    places: tuple[str | None, ...]


def read(answer: Reply) -> Answer:
    """The answer by name."""
    clock, kind, fields, places = answer
    return Answer(
        epoch_ms(clock), kind.decode(), tuple(map(_text, fields)), tuple(map(_text, places))
    )


async def observe(
    store: Store,
    record: str,
    *,
    fields: Sequence[str] = (),
    name: str = "",
    indexes: Sequence[str] = (),
) -> Observation:
    """Look at a record.

    Args:
        name: what the indexes name it by.
        indexes: keys of sets and sorted sets.

    Raises:
        StoreError: the store failed.
    """
    answer = read(
        await store.call(
            "", NAME, [*Keys(record), *indexes], [*Arguments(name), *fields], bulk=True
        )
    )
    is_text = answer.kind == "string"
    return Observation(
        at_ms=answer.at_ms,
        kind=answer.kind,
        fields={} if is_text else dict(zip(fields, answer.fields, strict=False)),
        text=answer.fields[0] if is_text else None,
        places=answer.places,
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")
