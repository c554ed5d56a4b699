"""What the steps of one case share while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from cycles_conformance.assertions.matching import SchemaCheck
from cycles_conformance.casefiles.case import Case
from cycles_conformance.casefiles.given import DEFAULT_UNIT
from cycles_conformance.casefiles.templates import plane_of, sender_of
from cycles_conformance.client import Answer, TargetLost
from cycles_conformance.execution.patience import Patience, TooSlow
from cycles_conformance.failures import KitFailed, UnusableAnswer
from cycles_conformance.provisioners import Prepared, ProvisioningError
from cycles_conformance.results import CaseResult, Exchange, Problem
from cycles_conformance.target import Target
from cycles_conformance.values import NoCapitals, UnknownValue, Values

KEPT_EXCHANGES = 50


class CaseEnded(Exception):
    """A problem was found and written down; nothing more can be learnt from this case."""


class CaseUnjudged(Exception):
    """What the case needs to go on is optional and not there; one line."""


_VERDICTS = (
    CaseEnded, CaseUnjudged, KitFailed, ProvisioningError, TargetLost, TooSlow, UnusableAnswer,
)  # fmt: skip
"""What a step raises that is no mistake of the kit."""


class CaseContext:
    """One case against one target. ``keep``, ``fail`` and ``within`` may be called from several
    threads."""

    def __init__(
        self,
        target: Target,
        case: Case,
        prepared: Prepared,
        result: CaseResult,
        attempt: int = 0,
    ) -> None:
        self.patience = Patience(target.usual_ms, attempt)
        self.target = target
        self.case = case
        self.prepared = prepared
        self.result = result
        self.named: dict[str, Answer] = {}
        """Answers by the ``name`` of their step."""
        self.lacking: dict[str, str] = {}
        """What the server left out, by the name that a template would have given it."""
        self.known: dict[str, Any] = dict(prepared.tenants)
        """Values by name, as far as the case has come."""
        self.known["unit"] = DEFAULT_UNIT
        for name, value in case.variables.items():
            self.known[name] = self.values("tenant").resolve(value)
        self._lock = threading.Lock()

    def values(self, who: str) -> Values:
        """What a step can read that is sent with the key of this name."""
        tenant = next((key.tenant for key in self.case.given.keys if key.name == who), "tenant")
        own = self.prepared.tenants.get(tenant, self.known.get("tenant", ""))
        return Values({**self.known, "self": own}, self.prepared.secrets, self.patience.spare_ms)

    def values_of(self, step: Mapping[str, Any]) -> Values:
        return self.values(sender_of(step))

    def schemas_of(self, step: Mapping[str, Any]) -> SchemaCheck:
        """Holds a value against a schema of the contract that the step's plane has. Raises
        CaseUnjudged when that contract, another edition, has none of the name."""
        contract = self.target.planes[plane_of(step)].contract

        def check(name: str, value: Any) -> list[str]:
            try:
                return contract.check_schema(name, value)
            except KeyError:
                raise CaseUnjudged(f"the contract has no schema {name}") from None

        return check

    def keep(self, exchange: Exchange) -> None:
        with self._lock:
            kept = self.result.exchanges
            kept.append(exchange)
            del kept[:-KEPT_EXCHANGES]

    def problem(self, message: str, label: str, answer: Answer | None) -> Problem:
        """A problem of the case's own level."""
        return Problem(self.case.level, message, label, None if answer is None else answer.exchange)

    def fail(self, problems: list[Problem]) -> NoReturn:
        """Write problems down. Raises CaseEnded."""
        with self._lock:
            self.result.problems += problems
        raise CaseEnded

    @contextmanager
    def within(self, label: str) -> Iterator[None]:
        """Tells the server's failures from mistakes of the kit and of the case: raises KitFailed,
        with the label, for the latter."""
        try:
            yield
        except _VERDICTS:
            raise
        except NoCapitals as error:
            raise CaseUnjudged(str(error)) from None
        except UnknownValue as error:
            if error.name not in self.lacking:
                raise KitFailed(label) from error
            self.fail([self.problem(self.lacking[error.name], label, None)])
        except Exception as error:
            raise KitFailed(label) from error
