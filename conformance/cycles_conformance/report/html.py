"""A run as one web page that stands for itself: what an implementer publishes."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from cycles_conformance.report import tally, text
from cycles_conformance.report.causes import causes
from cycles_conformance.report.curl import curl
from cycles_conformance.report.mask import masked
from cycles_conformance.results import LEVELS, Exchange, RunResult


def render(run: RunResult) -> bytes:
    """The run as an HTML page in UTF-8.

    The page loads nothing from elsewhere, and works without its script, which only filters and
    copies. What came from the server is escaped, and the page's own policy forbids any other
    script and every request.
    """
    run = masked(run)
    failures = tally.failures(run)
    page = _environment().get_template("page.html.j2")
    shown = page.render(
        run=run,
        started=_date(run.started_at),
        verdict=tally.verdict_line(run),
        verdicts=tally.verdicts(run),
        totals=tally.tally(run.results),
        levels=[level for level in LEVELS if run.at(level)],
        areas=tally.by_area_and_level(run),
        all_areas={level: tally.tally(run.at(level)) for level in LEVELS},
        causes=causes(run),
        failures=failures,
        places={case.case: place for place, case in enumerate(failures, 1)},
        kit_failures=tally.kit_failures(run),
        readings=tally.readings(run),
        not_run=tally.not_run(run),
        passed={
            area: ok
            for area, cases in tally.by_area(run).items()
            if (ok := [case for case in cases if case.verdict == "passed"])
        },
    )
    return shown.encode("utf-8", "backslashreplace")


def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        body=text.shown_body,
        headers=text.shown_headers,
        status_line=text.status_line,
        shortened=text.shortened,
        one_line=text.one_line,
        duration=text.duration,
        cases=text.cases,
        percent=_percent,
        curl=_curl,
        sha256=_sha256,
        gravest=tally.gravest,
        problems=tally.problems,
    )
    return environment


def _finalize(value: Any) -> Any:
    """Everything that the template inserts passes through here, before it is escaped."""
    return text.visible(value) if type(value) is str else value


def _source(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _sha256(script: str) -> str:
    """How a content security policy names an inline script."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _date(rfc3339: str) -> str:
    """``31 January 2026, 12:00 UTC``; a text that is no date stays as it is."""
    try:
        moment = datetime.fromisoformat(rfc3339).astimezone(UTC)
    except (ValueError, OverflowError):
        return rfc3339
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f}%" if whole else "0%"


def _curl(exchange: Exchange) -> str | None:
    """The curl line, unless it is too long to show: a part of it would be of no use."""
    line = curl(exchange)
    return line if len(line) <= text.LIMIT else None
