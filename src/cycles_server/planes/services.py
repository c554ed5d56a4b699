"""What handlers work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cycles_server.ledger.accounts import Accounts
    from cycles_server.ledger.ledger import Ledger
    from cycles_server.monitoring.metrics import Metrics
    from cycles_server.settings.runtime import RuntimeSettings as Settings
    from cycles_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    store: Store
    accounts: Accounts
    ledger: Ledger
    metrics: Metrics
