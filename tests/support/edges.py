"""Every operation with a request that would succeed, bytes over a socket, and the error shape."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from typing import Any

import httpx

from cycles_server.contract.document import load_contract
from cycles_server.contract.schemas import SchemaCompiler
from support.tenants import Tenant, new_key
from support.wire import ANSWER_SECONDS

ERROR = SchemaCompiler(load_contract("cycles-protocol-v0.yaml").document).compile(
    {"$ref": "#/components/schemas/ErrorResponse"}
)
HEX32 = re.compile("(?!0{32})[0-9a-f]{32}")

MUTATIONS = (
    "createReservation",
    "commitReservation",
    "releaseReservation",
    "extendReservation",
    "createEvent",
)
READS = ("listReservations", "getReservation", "getBalances")
OPERATIONS = (*MUTATIONS, *READS, "decide")
BY_OPERATOR = ("listReservations", "getReservation", "releaseReservation")


@dataclass(frozen=True)
class Prepared:
    """A request that succeeds when sent with the tenant's key."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    params: dict[str, str] | None = None

    def send(self, http: httpx.Client, **headers: str | bytes) -> httpx.Response:
        """``headers`` by name with ``_`` for ``-``; they add to the client's own."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.request(
            self.method, self.path, params=self.params, json=self.body, headers=named
        )


def prepare(tenant: Tenant, operation: str, **levels: str) -> Prepared:
    """The request for an operation; its reservation is made now. ``levels`` go to the subject."""
    subject = tenant.subject(**levels)

    def existing(action: str = "") -> str:
        return f"/v1/reservations/{tenant.reserved(5, subject=subject)}{action}"

    key = {"idempotency_key": new_key()}
    charge = {**key, "actual": {"unit": "TOKENS", "amount": 5}}
    match operation:
        case "createReservation":
            return Prepared("POST", "/v1/reservations", tenant.reserve_body(5, subject=subject))
        case "commitReservation":
            return Prepared("POST", existing("/commit"), charge)
        case "releaseReservation":
            return Prepared("POST", existing("/release"), key)
        case "extendReservation":
            return Prepared("POST", existing("/extend"), {**key, "extend_by_ms": 1000})
        case "createEvent":
            action = {"kind": "k", "name": "n"}
            return Prepared("POST", "/v1/events", {**charge, "subject": subject, "action": action})
        case "decide":
            return Prepared("POST", "/v1/decide", tenant.reserve_body(5, subject=subject))
        case "listReservations":
            return Prepared("GET", "/v1/reservations", params={"tenant": tenant.name})
        case "getReservation":
            return Prepared("GET", existing())
        case "getBalances":
            return Prepared("GET", "/v1/balances", params={"tenant": tenant.name})
    raise LookupError(operation)


def prepare_all(tenant: Tenant, **levels: str) -> dict[str, Prepared]:
    return {operation: prepare(tenant, operation, **levels) for operation in OPERATIONS}


def warm_up(tenant: Tenant) -> None:
    """Let the server remember the tenant's key, for reads and for what rides in a script."""
    for operation in OPERATIONS:
        answer = prepare(tenant, operation).send(tenant.http)
        assert answer.is_success, answer.text


def check_error(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """An answer is this error, in the contract's shape, with matching ids; returns its body."""
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["error"]) == (status, code), answer.text
    assert ERROR.is_valid(body), ERROR.violation(body)
    assert answer.headers["content-type"] == "application/json"
    check_ids(answer)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["trace_id"] == answer.headers["x-cycles-trace-id"]
    return body


def check_ids(answer: httpx.Response) -> None:
    """What every answer carries, and what none does."""
    assert HEX32.fullmatch(answer.headers["x-request-id"])
    assert HEX32.fullmatch(answer.headers["x-cycles-trace-id"])
    assert not {"location", "set-cookie", "www-authenticate"} & set(answer.headers)


def send_bytes(port: int, data: bytes) -> httpx.Response:
    """The answer to bytes that no HTTP client would send; the connection is closed after it."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(data)
        received = b""
        while b"\r\n\r\n" not in received:
            chunk = connection.recv(65536)
            assert chunk, f"closed after {received!r}"
            received += chunk
        head, _, content = received.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = httpx.Headers([tuple(line.split(b": ", 1)) for line in lines])
        length = int(headers["content-length"])
        while len(content) < length:
            chunk = connection.recv(65536)
            if not chunk:
                break
            content += chunk
    return httpx.Response(int(first.split()[1]), headers=headers, content=content)


def post_bytes(
    tenant: Tenant,
    body: bytes | str,
    *,
    path: str = "/v1/reservations",
    content_type: str | None = "application/json",
) -> httpx.Response:
    """A body as it is, with the tenant's key."""
    content = body if isinstance(body, bytes) else body.encode()
    headers = {} if content_type is None else {"Content-Type": content_type.encode()}
    return tenant.http.post(path, content=content, headers=headers)


def with_member(prepared: Prepared, place: str, literal: str) -> str:
    """The request's body as text, with this JSON literal at a dotted place."""
    marker = f"<{new_key()}>"
    body = json.loads(json.dumps(prepared.body))
    holder = body
    *path, last = place.split(".")
    for name in path:
        holder = holder.setdefault(name, {})
    holder[last] = marker
    return json.dumps(body).replace(f'"{marker}"', literal)
