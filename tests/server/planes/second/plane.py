"""The value of the second plane."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cycles_server.auth.access import ANY_KEY, PUBLIC, Access
from cycles_server.auth.principal import Principal
from cycles_server.contract.security import Authenticator
from cycles_server.http.cors import Cors
from cycles_server.http.exchange import Exchange, Reply
from cycles_server.http.problems import STATUS_OF
from cycles_server.jobs.scheduler import Job
from cycles_server.jobs.timetable import every
from cycles_server.monitoring.metrics import Metrics
from cycles_server.planes.plane import Plane
from cycles_server.refusal import unauthorized
from cycles_server.settings.common import CommonSettings, plane_port
from cycles_server.settings.readers import Port
from cycles_server.store.store import Store

FOLDER = Path(__file__).parent
ORIGIN = "https://notes.example"


class NotesSettings(CommonSettings):
    server_port: Port = plane_port(7999)


class NotesKey:
    """One key for everybody."""

    header = b"x-notes-key"

    def __init__(self, key: str) -> None:
        self._key = key

    def recall(self, secret: str) -> Principal | None:
        if not hmac.compare_digest(secret.encode(), self._key.encode()):
            return None
        return Principal(tenant=None, key_id="notes", permissions=frozenset())

    async def authenticate(self, secret: str) -> Principal:
        principal = self.recall(secret)
        if principal is None:
            raise unauthorized()
        return principal

    def close(self) -> None:
        return


@dataclass(slots=True)
class Services:
    """Handlers share what jobs see."""

    store: Store
    notes: set[str] = field(default_factory=set)


def _authenticators(settings: NotesSettings, _: Services) -> Sequence[Authenticator]:
    return [NotesKey(settings.admin_api_key)]


def _jobs(services: Services) -> Sequence[Job]:
    async def count() -> int:
        return len(services.notes)

    return [Job("count-notes", count, every(50))]


def _answer_headers(exchange: Exchange, reply: Reply) -> list[tuple[bytes, bytes]]:
    return [(b"x-notes", b"yes")]


SECOND = Plane(
    name="second",
    contract=FOLDER / "contract.yaml",
    handlers="planes.second.handlers",
    access={
        "getBalances": ANY_KEY,
        "putNote": ANY_KEY,
        "deleteNote": ANY_KEY,
        "greet": PUBLIC,
        "claim": Access(frozenset(), confirmed_by_script=True),
    },
    statuses={**STATUS_OF, "NOTE_GONE": 410},
    settings=NotesSettings,
    metrics=lambda _: Metrics(),
    services=lambda _settings, store, _metrics: Services(store),
    authenticators=_authenticators,
    jobs=_jobs,
    answer_headers=_answer_headers,
    cors=lambda _: Cors(ORIGIN, ("X-Request-Id",)),
)
