"""Which budgets a list is asked for: by their names alone where that is enough, else by the row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NamedTuple

from cycles_server.auth.scopefilter import admits
from cycles_server.governance.ledgers import (
    Body,
    Row,
    amount_in,
    is_over_limit,
    ledger_body,
    status_in,
)
from cycles_server.governance.listing.pages import contains, search_in
from cycles_server.jsontext import Number
from cycles_server.paging.queries import given
from cycles_server.refusal import invalid
from cycles_server.scopes import lower_case

_TINY = Fraction(1, 10**40)
"""Less than any utilization but 0, and still a number to reckon with."""
_TINY_DIGITS = -40


class Ledger(NamedTuple):
    """A stored budget.

    Attributes:
        tenant: whose it is.
        key: of its record.
    """

    tenant: str
    key: str
    scope: str
    unit: str
    row: Row

    @property
    def id(self) -> str:
        """Empty where the record does not say."""
        return self.row.get("ledger_id", "")

    @property
    def status(self) -> str:
        """Raises: StoreCorrupt."""
        return status_in(self.row, self.scope, self.unit)

    @property
    def is_over_limit(self) -> bool:
        """Raises: StoreCorrupt."""
        return is_over_limit(self.row, self.scope, self.unit)

    def amount(self, field: str) -> int:
        """Raises: StoreCorrupt; what is allocated must be there."""
        default = "" if field == "allocated" else "0"
        return amount_in(self.row, self.scope, self.unit, field, default)

    def body(self) -> Body:
        """The contract's BudgetLedger. Raises: StoreCorrupt."""
        return ledger_body({**self.row, "tenant_id": self.tenant}, self.scope, self.unit)

    def size(self) -> int:
        """How many characters are stored of what is shown."""
        return sum(map(len, self.row.values()))

    def tie(self) -> str:
        """Its id; the key behind it tells two apart that another server gave the same."""
        return f"{self.id} {self.key}"


@dataclass(frozen=True, slots=True)
class BudgetFilter:
    """What is asked for, but for whose it is.

    Attributes:
        scope_prefix: canonical; this scope and those below.
        search: in any case, part of the tenant's id or the scope.
        scope_filter: what the caller's key is limited to.
        least, most: of ``spent / allocated``, both included.
    """

    scope_prefix: str
    unit: str | None
    search: str
    scope_filter: tuple[str, ...]
    status: str | None
    over_limit: bool | None
    has_debt: bool | None
    least: Fraction | None
    most: Fraction | None

    def admits_name(self, tenant: str, scope: str, unit: str) -> bool:
        """Whether a budget of this name may be asked for."""
        prefix = self.scope_prefix
        return (
            self.unit in (None, unit)
            and (not prefix or scope == prefix or scope.startswith(f"{prefix}/"))
            and contains(self.search, tenant, scope)
            and admits(self.scope_filter, scope)
        )

    def admits_row(self, ledger: Ledger) -> bool:
        """Whether it is asked for by what it holds. Raises: StoreCorrupt."""
        if self.status is not None and ledger.status != self.status:
            return False
        if self.over_limit is not None and ledger.is_over_limit != self.over_limit:
            return False
        if self.has_debt is not None and (ledger.amount("debt") > 0) != self.has_debt:
            return False
        return self.least is self.most is None or self._is_used_so_far(ledger)

    def _is_used_so_far(self, ledger: Ledger) -> bool:
        spent, allocated = ledger.amount("spent"), ledger.amount("allocated")
        if not allocated:  # counts as utilization 0
            spent, allocated = 0, 1
        least, most = self.least, self.most
        # Multiplied crosswise: a quotient of two int64 is not exact.
        return (least is None or spent * least.denominator >= least.numerator * allocated) and (
            most is None or spent * most.denominator <= most.numerator * allocated
        )

    def as_json(self) -> list[Any]:
        """What a cursor is bound to."""
        bounds = [None if bound is None else str(bound) for bound in (self.least, self.most)]
        named = [self.scope_prefix, self.unit, self.search, self.scope_filter]
        return [*named, self.status, self.over_limit, self.has_debt, *bounds]


def read_filter(query: Mapping[str, Any], scope_filter: tuple[str, ...]) -> BudgetFilter:
    """The filters of a validated query.

    Raises:
        Refusal: 400 for a utilization outside 0 to 1, or a least one above the most.
    """
    least, most = (_bound(query, f"utilization_{end}") for end in ("min", "max"))
    if least is not None and most is not None and least > most:
        raise invalid("utilization_min", "must not be above utilization_max")
    return BudgetFilter(
        scope_prefix=lower_case(given(query, "scope_prefix").strip()).removesuffix("/"),
        unit=query.get("unit"),
        search=search_in(query),
        scope_filter=scope_filter,
        status=query.get("status"),
        over_limit=query.get("over_limit"),
        has_debt=query.get("has_debt"),
        least=least,
        most=most,
    )


def _bound(query: Mapping[str, Any], name: str) -> Fraction | None:
    """A bound exactly as it was written."""
    number: Number | None = query.get(name)
    if number is None:
        return None
    try:
        exact = Decimal(number.text)
    except InvalidOperation:  # an exponent beyond what even a decimal can have
        return _TINY
    if not 0 <= exact <= 1:
        raise invalid(name, "must be a fraction from 0 to 1")
    if exact and exact.adjusted() < _TINY_DIGITS:
        return _TINY
    return Fraction(exact)
