"""Secrets out of what is reported: a report is made to be published."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from cycles_conformance.results import CaseResult, Exchange, Problem, RunResult

MASK = "***"

API_KEY = "x-cycles-api-key"
ADMIN_KEY = "x-admin-api-key"
SECRET_HEADERS = frozenset(
    {API_KEY, ADMIN_KEY, "authorization", "proxy-authorization", "cookie", "set-cookie"}
)

# A shorter value (a case may send "x" as a key) would blot out ordinary words.
_SHORTEST = 8

# What a server hands out is a secret even where no request of the case has used it.
_HANDED_OUT = re.compile(r'"key_secret"\s*:\s*"([^"]+)"')

_USERINFO = re.compile(r"(?<=://)[^/?#\s]*@")


def masked(run: RunResult) -> RunResult:
    """A copy of the run that holds no secret.

    Secrets are the values of the headers above. They are masked where they were sent and where
    else they turn up in the same case: a server may echo a key into an error message.
    """
    everywhere = _hider(_secrets(exchange for case in run.results for exchange in _all(case)))
    return replace(
        run,
        target=_url(run.target),
        results=[masked_case(case) for case in run.results],
        incomplete=everywhere(_url(run.incomplete)),
        not_offered={name: everywhere(answer) for name, answer in run.not_offered.items()},
        planes={
            name: replace(plane, target=_url(plane.target)) for name, plane in run.planes.items()
        },
    )


def masked_case(case: CaseResult) -> CaseResult:
    """A copy of the case that holds no secret."""
    hide = _hider(_secrets(_all(case)))
    return replace(
        case,
        reason=hide(_url(case.reason)),
        kit_failure=case.kit_failure
        and replace(
            case.kit_failure,
            error=hide(case.kit_failure.error),
            traceback=hide(case.kit_failure.traceback),
        ),
        problems=[_problem(problem, hide) for problem in case.problems],
        readings=[replace(reading, saw=hide(reading.saw)) for reading in case.readings],
        exchanges=[_exchange(exchange, hide) for exchange in case.exchanges],
    )


def masked_exchange(exchange: Exchange) -> Exchange:
    """A copy of the exchange that holds no secret."""
    return _exchange(exchange, _hider(_secrets([exchange])))


def _all(case: CaseResult) -> list[Exchange]:
    shown = [problem.exchange for problem in case.problems if problem.exchange is not None]
    return case.exchanges + shown


def _secrets(exchanges: Iterable[Exchange]) -> set[str]:
    found = set()
    for exchange in exchanges:
        for headers in (exchange.request_headers, exchange.response_headers):
            found |= {value for name, value in headers.items() if name.lower() in SECRET_HEADERS}
        found |= {*_HANDED_OUT.findall(exchange.response_body)}
    return {secret for secret in found if len(secret) >= _SHORTEST}


def _hider(secrets: set[str]) -> Callable[[str], str]:
    if not secrets:
        return lambda text: text
    # The longest first, lest a key that begins another one leave the other's rest behind.
    either = "|".join(re.escape(secret) for secret in sorted(secrets, key=len, reverse=True))
    pattern = re.compile(either)
    return lambda text: pattern.sub(MASK, text)


def _problem(problem: Problem, hide: Callable[[str], str]) -> Problem:
    exchange = problem.exchange and _exchange(problem.exchange, hide)
    return replace(problem, message=hide(problem.message), exchange=exchange)


def _exchange(exchange: Exchange, hide: Callable[[str], str]) -> Exchange:
    body = exchange.request_body
    return replace(
        exchange,
        url=hide(_url(exchange.url)),
        request_headers=_headers(exchange.request_headers, hide),
        request_body=None if body is None else hide(body),
        response_headers=_headers(exchange.response_headers, hide),
        response_body=hide(exchange.response_body),
        failure=None if exchange.failure is None else hide(exchange.failure),
    )


def _headers(headers: dict[str, str], hide: Callable[[str], str]) -> dict[str, str]:
    # An empty key is no secret, and a reader has to see that it was empty.
    return {
        name: MASK if value and name.lower() in SECRET_HEADERS else hide(value)
        for name, value in headers.items()
    }


def _url(url: str) -> str:
    return _USERINFO.sub(f"{MASK}@", url)
