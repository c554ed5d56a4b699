"""One call of the ledger: on whose account, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field

from cycles_server.auth.confirmation import Confirmation
from cycles_server.ledger.accounts import Account


@dataclass(frozen=True, slots=True)
class Call:
    """What the ledger has to know of a call, beside its validated body.

    A script that finds the account's records changed does nothing. With a caller's key, the one
    who has its secret repeats the whole call (``contract/security.py``): rights may be others
    now. On an operator's account the ledger repeats, on the account as it is then.

    Attributes:
        account: on whose budgets it works.
        confirmation: done as soon as a script has found the caller's records unchanged.
        request_id, trace_id, client: what an audit entry tells of it (``client`` is a socket
            address); empty where no request stands behind the call.
    """

    account: Account
    confirmation: Confirmation = field(default_factory=Confirmation)
    request_id: str = ""
    trace_id: str = ""
    client: str = ""
