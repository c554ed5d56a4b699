"""One case against one server: its steps, in order, until the first problem."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from cycles_conformance.client import Answer, TargetLost, path_of
from cycles_conformance.collection import DEFAULT_UNIT, Case, templates
from cycles_conformance.expectations import misfits, statuses_of, summary
from cycles_conformance.failures import KitFailed, UnusableAnswer
from cycles_conformance.ledger import check_rows, read_balances
from cycles_conformance.matching import MISSING, match, same, shown
from cycles_conformance.paging import pages
from cycles_conformance.provision import Change, Prepared, ProvisioningError
from cycles_conformance.results import CaseResult, Exchange, Level, Problem, Reading
from cycles_conformance.target import ADMIN_KEY, API_KEY, Target
from cycles_conformance.values import UnknownValue, Values, at_pointer, merge_patch, without

POLL_SECONDS = 0.5
KEPT_EXCHANGES = 50
LONGEST_WAIT = 65
"""Seconds: a little over the window of a limit by the minute."""
PATIENCE = 2 * LONGEST_WAIT
"""Seconds that one request may be held up by a limit that other requests of the run use up."""


class CaseEnded(Exception):
    """A problem was found and written down; nothing more can be learnt from this case."""


class CaseUnjudged(Exception):
    """The server leaves out, as it may, what the case needs to go on; one line."""


_VERDICTS = (
    CaseEnded, CaseUnjudged, KitFailed, ProvisioningError, TargetLost, UnusableAnswer,
)  # fmt: skip
"""What a step raises that is no mistake of the kit."""


class CaseRun:
    """The state of one case while it runs."""

    def __init__(self, target: Target, case: Case, prepared: Prepared, result: CaseResult) -> None:
        self._target = target
        self._case = case
        self._prepared = prepared
        self._result = result
        self._named: dict[str, Answer] = {}
        self._lacking: dict[str, str] = {}
        """What the server left out, by the name that a template would have given it."""
        self._lock = threading.Lock()
        self._known: dict[str, Any] = dict(prepared.tenants)
        self._known["unit"] = DEFAULT_UNIT
        for name, value in case.variables.items():
            self._known[name] = self._values("tenant").resolve(value)

    def run(self) -> None:
        """All steps. Raises CaseEnded at the first problem."""
        self._steps(self._case.steps, "")

    def ask(self, step: Mapping[str, Any], label: str) -> Answer:
        """Send one request, and hold the answer to the contract and to ``step["expect"]``. May be
        called from several threads. Raises CaseEnded when there is no answer, or a wrong one."""
        with self.within(label):
            answer = self._sent(step, label)
            if problems := self._judged(step, answer, label):
                self._fail(problems)
        return answer

    def balances(self, tenant: str, scopes: Iterable[str], label: str) -> list[Any]:
        """The balances of a tenant (by its name in the case), those of ``scopes`` (paths below the
        tenant) at least. Raises CaseEnded."""
        below = [scope for scope in scopes if scope]
        rows, _ = read_balances(lambda query: self._balances_page(tenant, query, label), below)
        return rows

    def fail(self, message: str, label: str, answer: Answer | None = None) -> NoReturn:
        """Write a problem down. Raises CaseEnded."""
        exchange = None if answer is None else answer.exchange
        self._fail([Problem(self._case.level, message, label, exchange)])

    def _steps(self, steps: Any, prefix: str) -> None:
        for number, step in enumerate(steps, 1):
            where = f"{prefix}{number}"
            label = f"step {where} ({_named(step)})"
            with self.within(label):
                if "wait" in step:
                    time.sleep(step["wait"])
                elif "provision" in step:
                    self._target.plug.change(self._prepared, self._change(step["provision"]))
                elif "ledger" in step:
                    self._ledger(step, label)
                elif "pages" in step:
                    self._pages(step, label)
                elif "parallel" in step:
                    self._parallel(step, label)
                else:
                    self._request(step, label, where)

    @contextmanager
    def within(self, label: str) -> Iterator[None]:
        """Tells the server's failures from mistakes of the kit and of the case: raises KitFailed,
        with the label, for the latter."""
        try:
            yield
        except _VERDICTS:
            raise
        except UnknownValue as error:
            if error.name not in self._lacking:
                raise KitFailed(label) from error
            self._fail([Problem(self._case.level, self._lacking[error.name], label)])
        except Exception as error:
            raise KitFailed(label) from error

    # -- one request ------------------------------------------------------------------------------

    def _request(self, step: Mapping[str, Any], label: str, where: str) -> None:
        for _ in range(step.get("times", 1)):
            deadline = time.monotonic() + step.get("until", 0)
            while True:
                last = time.monotonic() >= deadline
                answer = self._sent(step, label)
                reading = self._reading(step, answer)
                problems = self._judged(step, answer, label, reading)
                if not problems or last:
                    break
                time.sleep(POLL_SECONDS)
            if problems:
                self._fail(problems)
            if "name" in step:
                self._named[step["name"]] = answer
            self._save(step, answer, label)
            if reading is not None:
                self._follow(reading, answer, label, where)

    def _sent(self, step: Mapping[str, Any], label: str) -> Answer:
        """Raises CaseEnded when no answer comes."""
        answer = self._unthrottled(step, label, statuses_of(step))
        if isinstance(answer, Exchange):
            self._fail([Problem("MUST", answer.failure or "no answer", label, answer)])
        return answer

    def _unthrottled(
        self, step: Mapping[str, Any], label: str, named: Iterable[int]
    ) -> Answer | Exchange:
        """Send it again while the server throttles; ``named`` are the statuses that are expected,
        as 429 is where throttling is the matter."""
        patient = 429 not in named
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._send(step, label)
            seconds = _asked_to_wait(answer)
            if seconds is None or not patient or time.monotonic() + seconds > deadline:
                return answer
            time.sleep(seconds)

    def _send(self, step: Mapping[str, Any], label: str) -> Answer | Exchange:
        template = templates()[step["do"]] if "do" in step else {}
        who = step.get("as", "tenant")
        values = self._values(who)
        headers = self._headers(who)
        if "do" in step:
            operation = self._target.contract.operations[template["operation"]]
            method = operation.method
            members = values.resolve({**template.get("path", {}), **step.get("path", {})})
            path = path_of(operation.path, members)
        else:
            method, path = values.resolve(step["send"]).split(" ", 1)
        body: str | None = None
        if "raw" in step:
            body = values.resolve(step["raw"])
        elif "body_exact" in step:
            body = json.dumps(values.resolve(step["body_exact"]))
        elif "body" in template or "body" in step:
            merged = merge_patch(template.get("body", {}), step.get("body", {}))
            body = json.dumps(values.resolve(merged))
        if body is not None:
            headers["Content-Type"] = "application/json"
        for name, value in values.resolve(dict(step.get("headers", {}))).items():
            for known in [known for known in headers if known.lower() == name.lower()]:
                del headers[known]
            if value is not None:
                headers[name] = str(value)
        query = values.resolve({**template.get("query", {}), **step.get("query", {})})
        answer = self._target.client.send(
            label, method, path, query=query, headers=headers, body=body
        )
        self._keep(answer)
        return answer

    def _headers(self, who: str) -> dict[str, str]:
        if who == "nobody":
            return {}
        if who == "admin":
            return {ADMIN_KEY: self._target.runtime_admin_key or ""}
        return {API_KEY: self._prepared.secrets[who]}

    # -- judging ----------------------------------------------------------------------------------

    def _judged(
        self,
        step: Mapping[str, Any],
        answer: Answer,
        label: str,
        reading: Mapping[str, Any] | None = None,
    ) -> list[Problem]:
        """``reading``: which of the step's readings was seen."""
        problems: list[Problem] = []
        if "readings" in step:
            if reading is None:
                allowed = "; ".join(reading["saw"] for reading in step["readings"])
                message = f"{summary(answer)} fits none of the answers that are allowed: {allowed}"
                problems.append(self._problem(message, label, answer))
        else:
            expectation = step.get("expect", {"status": "2xx"})
            problems += [
                self._problem(message, label, answer)
                for message in self._misfits(expectation, answer, self._values_of(step))
            ]
        return problems + self._breaches(step, answer, label)

    def _breaches(self, step: Mapping[str, Any], answer: Answer, label: str) -> list[Problem]:
        """What the contract itself forbids in this answer."""
        if "do" not in step:
            return []
        contract = self._target.contract
        operation = contract.operations[templates()[step["do"]]["operation"]]
        found = contract.check_answer(
            operation, answer.status, answer.headers, answer.text, statuses_of(step)
        )
        return [Problem("MUST", f"contract: {text}", label, answer.exchange) for text in found]

    def _misfits(self, expectation: Mapping[str, Any], answer: Answer, values: Values) -> list[str]:
        return misfits(expectation, answer, values, self._named, self._schema)

    def _schema(self, name: str, value: Any) -> list[str]:
        try:
            return self._target.contract.check_schema(name, value)
        except KeyError:
            raise CaseUnjudged(f"the contract has no schema {name}") from None

    def _reading(self, step: Mapping[str, Any], answer: Answer) -> Mapping[str, Any] | None:
        values = self._values_of(step)
        for reading in step.get("readings", ()):
            if not self._misfits(reading, answer, values):
                return reading  # type: ignore[no-any-return]
        return None

    def _follow(self, reading: Mapping[str, Any], answer: Answer, label: str, where: str) -> None:
        self._result.readings.append(Reading(label, reading["saw"]))
        self._save_named(reading, answer, label)
        if "then" in reading:
            self._steps(reading["then"], f"{where}.")

    # -- values -----------------------------------------------------------------------------------

    def _values(self, who: str) -> Values:
        tenant = next((key.tenant for key in self._case.given.keys if key.name == who), "tenant")
        own = self._prepared.tenants.get(tenant, "")
        return Values({**self._known, "self": own}, self._prepared.secrets)

    def _values_of(self, step: Mapping[str, Any]) -> Values:
        return self._values(step.get("as", "tenant"))

    def _save(self, step: Mapping[str, Any], answer: Answer, label: str) -> None:
        template = templates()[step["do"]] if "do" in step else {}
        for name, source in template.get("save", {}).items():
            try:
                self._known[name] = at_pointer(answer.body, source)
                self._lacking.pop(name, None)
            except KeyError:
                # A refusal has none to give: a case that goes on regardless is at fault itself.
                if 200 <= answer.status < 300:
                    what = f"{summary(answer)} has no {source}, which a later step needs"
                    self._lacking[name] = what
        self._save_named(step, answer, label, template.get("may_lack", ()))

    def _save_named(
        self,
        step: Mapping[str, Any],
        answer: Answer,
        label: str,
        may_lack: Collection[str] = (),
    ) -> None:
        for name, source in step.get("save", {}).items():
            if source.startswith("header "):
                value = answer.headers.get(source.removeprefix("header ").lower(), MISSING)
            else:
                try:
                    value = at_pointer(answer.body, source)
                except KeyError:
                    value = MISSING
            if value is MISSING and source in may_lack:
                raise CaseUnjudged(f"the server does not tell {source}, which is optional there")
            if value is MISSING:
                message = f"{summary(answer)} has no {source}, which a later step needs"
                self._fail([self._problem(message, label, answer)])
            self._known[name] = value

    # -- several requests -------------------------------------------------------------------------

    def _parallel(self, step: Mapping[str, Any], label: str) -> None:
        requests = [one for one in step["parallel"] for _ in range(one.get("times", 1))]
        statuses = [*statuses_of({"readings": step["outcomes"]})]
        ready = threading.Barrier(len(requests))

        def sent(request: Mapping[str, Any]) -> Answer | Exchange:
            ready.wait()
            return self._unthrottled(request, f"{label} {request['do']}", statuses)

        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            answers = list(pool.map(sent, requests))
        problems: list[Problem] = []
        counts = [0] * len(step["outcomes"])
        for request, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Exchange):
                problems.append(Problem("MUST", answer.failure or "no answer", label, answer))
                continue
            named = {"expect": {"status": statuses}}
            problems += self._breaches({**request, **named}, answer, label)
            values = self._values_of(request)
            for i, outcome in enumerate(step["outcomes"]):
                if not self._misfits(outcome, answer, values):
                    counts[i] += 1
                    break
            else:
                message = f"{summary(answer)} fits none of the outcomes that are allowed"
                problems.append(self._problem(message, label, answer))
        for outcome, count in zip(step["outcomes"], counts, strict=True):
            pattern = self._values("tenant").resolve(outcome["count"])
            if match(pattern, count, self._schema):
                kind = {name: value for name, value in outcome.items() if name != "count"}
                message = (
                    f"{count} of {len(requests)} answers are {shown(kind)}, "
                    f"expected {shown(pattern)}"
                )
                problems.append(Problem(self._case.level, message, label))
        if "same" in step:
            problems += self._unequal(step["same"], answers, label)
        if problems:
            self._fail(problems[:5])

    def _unequal(
        self, pointers: list[str], answers: list[Answer | Exchange], label: str
    ) -> Iterator[Problem]:
        good = [a for a in answers if isinstance(a, Answer) and 200 <= a.status < 300]
        for other in good[1:]:
            one, two = without(good[0].body, pointers), without(other.body, pointers)
            if not same(one, two):
                message = f"two answers differ: {shown(one)} and {shown(two)}"
                yield self._problem(message, label, other)
                return

    def _pages(self, step: Mapping[str, Any], label: str) -> None:
        name = step["pages"]
        items = {"list": "reservations", "balances": "balances"}[name]
        request = {"do": name, **{k: step[k] for k in ("as", "headers") if k in step}}
        first = step.get("query", {})
        rows: list[Any] = []

        def page(query: Mapping[str, Any]) -> Answer:
            answer = self.ask({**request, "query": query}, f"{label} from row {len(rows) + 1}")
            if problems := self._page_problems(query, items, answer, label):
                self._fail(problems)
            return answer

        for answer in pages(page, first, step.get("most", 50)):
            rows += answer.told(f"/{items}", list)
        problems = []
        if answer.maybe("/next_cursor", str) is not None:
            problems.append(
                f"the list goes on after {step.get('most', 50)} pages and {len(rows)} rows"
            )
        patterns = [step["rows"]] if "rows" in step else []
        if unique := step.get("unique", "/reservation_id" if name == "list" else ""):
            patterns.insert(0, {"$distinct": unique})
        values = self._values_of(step)
        for pattern in patterns:
            problems += [f"rows {m}" for m in match(values.resolve(pattern), rows, self._schema)]
        for saved, pointer in step.get("save", {}).items():
            try:
                self._known[saved] = at_pointer(rows, pointer)
            except KeyError:
                problems.append(f"the rows have no {pointer}, which a later step needs")
        if problems:
            self._fail([self._problem(message, label, answer) for message in problems])

    def _page_problems(
        self, query: Mapping[str, Any], items: str, answer: Answer, label: str
    ) -> list[Problem]:
        rows, problems = answer.told(f"/{items}", list), []
        limit = int(query.get("limit", 200))
        if len(rows) > limit:
            problems.append(f"{len(rows)} rows on a page with limit {limit}")
        more, cursor = answer.maybe("/has_more", bool), answer.maybe("/next_cursor", str)
        if more is not None and more != (cursor is not None):
            problems.append(f"has_more is {shown(more)} and next_cursor {shown(cursor)}")
        return [self._problem(message, label, answer) for message in problems]

    # -- the ledger -------------------------------------------------------------------------------

    def _ledger(self, step: Mapping[str, Any], label: str) -> None:
        deadline = time.monotonic() + step.get("within", 0)
        while True:
            last = time.monotonic() >= deadline
            problems: list[Problem] = []
            for tenant in dict.fromkeys(row.get("tenant", "tenant") for row in step["ledger"]):
                problems += self._ledger_of(tenant, step["ledger"], label)
            if not problems or last:
                break
            time.sleep(POLL_SECONDS)
        if problems:
            self._fail(problems)

    def _ledger_of(self, tenant: str, rows: Any, label: str) -> list[Problem]:
        tenant_id = self._prepared.tenants[tenant]
        values = self._values(tenant)
        wanted = [
            values.resolve({"scope": "", "unit": "${unit}", **row})
            for row in rows
            if row.get("tenant", "tenant") == tenant
        ]
        balances, last = read_balances(
            lambda query: self._balances_page(tenant, query, label),
            [row["scope"] for row in wanted if row["scope"]],
        )
        return [
            self._problem(message, label, last)
            for message in check_rows(tenant_id, wanted, balances)
        ]

    def _balances_page(self, tenant: str, query: Mapping[str, Any], label: str) -> Answer:
        return self.ask({"do": "balances", "as": tenant, "query": query}, label)

    # -- provisioning and notes -------------------------------------------------------------------

    def _change(self, change: Mapping[str, Any]) -> Change:
        [(kind, argument)] = change.items()
        values = self._values("tenant")
        unit = str(self._known["unit"])
        if kind == "revoke":
            return Change(kind, key=argument)
        if kind.endswith("_tenant"):
            return Change(kind, tenant=argument)
        if isinstance(argument, str):
            return Change(kind, scope=argument, unit=unit)
        details = values.resolve(argument)
        return Change(
            kind,
            tenant=details.get("tenant", "tenant"),
            scope=details.get("scope", ""),
            unit=details.get("unit", unit),
            amount=details.get("amount", 0),
        )

    def _keep(self, answer: Answer | Exchange) -> None:
        with self._lock:
            kept = self._result.exchanges
            kept.append(answer.exchange if isinstance(answer, Answer) else answer)
            del kept[:-KEPT_EXCHANGES]

    def _problem(self, message: str, label: str, answer: Answer) -> Problem:
        level: Level = self._case.level
        return Problem(level, message, label, answer.exchange)

    def _fail(self, problems: list[Problem]) -> NoReturn:
        with self._lock:
            self._result.problems += problems
        raise CaseEnded


def _named(step: Mapping[str, Any]) -> str:
    """What a step does, for its label: ``reserve``, ``GET /v1/x``, ``pages list``, ``ledger``."""
    if "pages" in step:
        return f"pages {step['pages']}"
    others = (kind for kind in ("wait", "provision", "ledger", "parallel") if kind in step)
    return step.get("do") or step.get("send") or next(others)


def _asked_to_wait(answer: Answer | Exchange) -> float | None:
    """Seconds to wait when the server throttles, which it may do to anyone."""
    if not isinstance(answer, Answer) or answer.status != 429:
        return None
    told = answer.headers.get("retry-after", "")
    return float(told) + 0.1 if told.isdecimal() and int(told) <= LONGEST_WAIT else None
