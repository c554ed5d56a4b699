"""A request as a shell line that repeats it."""

from __future__ import annotations

import shlex

from cycles_conformance.report.mask import ADMIN_KEY, API_KEY, masked_exchange
from cycles_conformance.report.text import visible
from cycles_conformance.results import Exchange

_VARIABLES = {API_KEY: "$CYCLES_API_KEY", ADMIN_KEY: "$CYCLES_ADMIN_KEY"}

# What curl sends of its own accord, or would misread if it were told to send it.
_LEFT_TO_CURL = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "transfer-encoding",
        "user-agent",
    }
)


def curl(exchange: Exchange) -> str:
    """A line for a POSIX shell that sends the request again and prints the answer with headers.

    Keys are not in it: it reads ``CYCLES_API_KEY`` and ``CYCLES_ADMIN_KEY`` from the environment.
    """
    sent = masked_exchange(exchange)
    words = ["curl", "-sS"]
    if any(mark in sent.url for mark in "[]{}"):
        words.append("--globoff")
    if "/." in sent.url:
        words.append("--path-as-is")
    words += _method(sent)
    words.append(shlex.quote(sent.url))
    for name, value in sent.request_headers.items():
        if name.lower() not in _LEFT_TO_CURL:
            words += ["-H", _header(name, value)]
    body = sent.request_body
    if body is None:
        return " ".join(words)
    if not any(name.lower() == "content-type" for name in sent.request_headers):
        words += ["-H", "'Content-Type:'"]  # or curl would call the body a form
    if visible(body) == body and "\t" not in body:
        return " ".join([*words, "--data-raw", shlex.quote(body)])
    # Arguments cannot hold a NUL, and a terminal acts on other control characters when pasted.
    piped = ["printf", "%b", shlex.quote(_octal(body)), "|", *words, "--data-binary", "@-"]
    return " ".join(piped)


def _method(sent: Exchange) -> list[str]:
    if sent.method == "HEAD":
        return ["--head"]  # -X HEAD would wait for a body
    if sent.method == "GET" and sent.request_body is None:
        return ["-i"]
    return ["-i", "-X", shlex.quote(sent.method)]


def _header(name: str, value: str) -> str:
    variable = _VARIABLES.get(name.lower())
    if not value:
        return shlex.quote(f"{name};")  # how curl is told to send an empty header
    if variable:
        return f'"{name}: {variable}"'
    return shlex.quote(f"{name}: {value}")


def _octal(body: str) -> str:
    r"""The body for ``printf %b``: ``\0011`` and the like for each byte that cannot be pasted."""
    return "".join(
        "".join(f"\\0{byte:03o}" for byte in character.encode("utf-8", "surrogatepass"))
        if character in "\t\\" or visible(character) != character
        else character
        for character in body
    )
