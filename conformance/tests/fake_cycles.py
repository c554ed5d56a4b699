"""A small Cycles server with answers of the test's choosing; a provisioner that makes nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cycles_conformance import runner
from cycles_conformance.breaches import AS_DECLARED
from cycles_conformance.casefiles.case import Collection
from cycles_conformance.casefiles.loading import load
from cycles_conformance.client import Client
from cycles_conformance.contract import Contract
from cycles_conformance.planes import RUNTIME
from cycles_conformance.provisioners import Change, Given, Prepared, ProvisioningError
from cycles_conformance.results import CaseResult
from cycles_conformance.target import Plane, Target

TRACE_ID = "0123456789abcdef0123456789abcdef"
TENANT = "t-tenant"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """With the query, as it was sent."""
    headers: Mapping[str, str]
    """By lower-case name."""
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Reply:
    """An answer; ``body`` is sent as it is."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    declared_length: int | None = None
    """Where the Content-Length is to lie."""


CLOSED = Reply(0, b"", {})
"""No answer: the connection is closed once the request is read."""


Script = Callable[[Request], Reply]


def reply(status: int, body: Any, **headers: str | None) -> Reply:
    """JSON as a conformant server sends it. ``headers`` (``x_request_id="…"``) change one, and None
    leaves it out."""
    sent = {
        "content-type": "application/json",
        "x-request-id": "r-1",
        "x-cycles-trace-id": TRACE_ID,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return Reply(
        status,
        json.dumps(body).encode(),
        {name: value for name, value in sent.items() if value is not None},
    )


def refusal(status: int, code: str, **members: Any) -> Reply:
    body = {"error": code, "message": "no", "request_id": "r-1", "trace_id": TRACE_ID}
    return reply(status, body | members)


def granted(number: int = 1, **members: Any) -> Reply:
    """A reservation."""
    body = {
        "decision": "ALLOW",
        "reservation_id": f"rsv-{number}",
        "reserved": {"unit": "TOKENS", "amount": 100},
        "expires_at_ms": 2_000_000_000_000,
        "affected_scopes": [f"tenant:{TENANT}"],
    }
    return reply(200, body | members)


def committed(charged: int = 100) -> Reply:
    return reply(200, {"status": "COMMITTED", "charged": {"unit": "TOKENS", "amount": charged}})


def balance(path: str = f"tenant:{TENANT}", unit: str = "TOKENS", **amounts: int) -> Any:
    return {
        "scope": path.rsplit("/", 1)[-1],
        "scope_path": path,
        **{name: {"unit": unit, "amount": amount} for name, amount in amounts.items()},
    }


def balances(*rows: Any, **members: Any) -> Reply:
    return reply(200, {"balances": list(rows), **members})


def reservation(number: int) -> Any:
    """A row of a list."""
    return {
        "reservation_id": f"rsv-{number}",
        "status": "ACTIVE",
        "subject": {"tenant": TENANT},
        "action": {"kind": "k", "name": "n"},
        "reserved": {"unit": "TOKENS", "amount": 100},
        "created_at_ms": number,
        "expires_at_ms": 2_000_000_000_000,
        "scope_path": f"tenant:{TENANT}",
        "affected_scopes": [f"tenant:{TENANT}"],
    }


@dataclass
class FakeServer:
    url: str
    requests: list[Request] = field(default_factory=list)
    """What came, in order."""


def in_turn(*replies: Reply) -> Script:
    """The answers one after the other; the last one for all that come after it."""
    left = list(replies)
    lock = threading.Lock()

    def script(request: Request) -> Reply:
        with lock:
            return left.pop(0) if len(left) > 1 else left[0]

    return script


@contextmanager
def serving(script: Script) -> Iterator[FakeServer]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one piece: apart, each answer would wait for an acknowledgement.
        wbufsize = -1

        def answer(self) -> None:
            length = int(self.headers.get("content-length", 0))
            request = Request(
                self.command,
                self.path,
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length).decode(),
            )
            fake.requests.append(request)
            answer = script(request)
            if answer is CLOSED:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            length = len(answer.body) if answer.declared_length is None else answer.declared_length
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(answer.body)
            if length != len(answer.body):
                self.close_connection = True

        do_GET = do_POST = do_PUT = answer

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        # The default of 5 is too few for steps that send many requests at once.
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """The kit may break a connection off."""

    server = Server(("127.0.0.1", 0), Handler)
    fake = FakeServer(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class FakeProvisioner:
    """Says that all was made, and notes the changes asked for."""

    name: str = "fake"
    doubt: str = "is it real?"
    failure: str = ""
    changes: list[Change] = field(default_factory=list)

    def lacks(self, given: Given) -> str | None:
        return None

    def prepare(self, given: Given) -> Prepared:
        if self.failure:
            raise ProvisioningError(self.failure)
        return Prepared(
            tenants={spec.name: f"t-{spec.name}" for spec in given.tenants},
            secrets={spec.name: f"secret-{spec.name}" for spec in given.keys},
        )

    def change(self, prepared: Prepared, change: Change) -> None:
        self.changes.append(change)

    def close(self) -> None:
        pass


class Quiet:
    """A watcher that tells nobody."""

    def started(self, case_id: str, area: str) -> None: ...

    def finished(self, result: CaseResult) -> None: ...

    def remark(self, text: str) -> None: ...


CLAUSES = """
runtime:
  createReservation:
    tests.one: {declares: something, shape: {/operationId: createReservation}}
"""


def case_file(folder: Path, steps: str, *, head: str = "", level: str = "MUST") -> Path:
    """A folder with a file of one case and one of clauses. ``steps`` is a YAML list; ``head`` holds
    more members of the case, such as ``given``. Both are indented by what they need."""
    lines = [
        "area: tests",
        "about: What a test needs.",
        "cases:",
        "  - id: the-case",
        f"    level: {level}",
        "    clause: tests.one",
        "    why: It would go wrong.",
        *(f"    {line}" for line in head.splitlines()),
        "    steps:",
        *(f"      {line}" for line in steps.strip().splitlines()),
    ]
    folder.mkdir(exist_ok=True)
    (folder / "clauses.yaml").write_text(CLAUSES)
    (folder / "tests.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def collected(folder: Path, steps: str, **kwargs: Any) -> Collection:
    return load(case_file(folder, steps, **kwargs))


def outcome(collection: Collection, url: str, **options: Any) -> CaseResult:
    """What came of the one case of a collection; options as ``outcomes`` has them."""
    result, _ = outcomes(collection, url, **options)
    return result


def outcomes(
    collection: Collection, url: str, provisioner: FakeProvisioner | None = None, **options: Any
) -> tuple[CaseResult, CaseResult]:
    """What came of the one case of a collection, and of the check of all its answers."""
    planes = {RUNTIME: Plane(Client(url, timeout=5), CONTRACT)}
    target = Target(planes=planes, provisioner=provisioner or FakeProvisioner(), **options)
    try:
        run = runner.run(
            target,
            [*collection.cases, AS_DECLARED],
            runner.execute_case,  # type: ignore[arg-type]
            Quiet(),
            level="MAY",
            seed=1,
            jobs=1,
        )
    finally:
        target.close()
    result, declared = run.results
    return result, declared


CONTRACT = Contract.load()
