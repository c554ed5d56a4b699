"""What the doctor finds."""

from __future__ import annotations

from typing import Any

from cycles_server.doctor.examine import examine
from cycles_server.store.findings import Finding
from support.stores import Functions


def found(do: Functions, **named: Any) -> dict[str, Finding]:
    """The findings by code, which must each be there once."""
    findings = do(examine, **named).findings
    by_code = {finding.code: finding for finding in findings}
    assert len(by_code) == len(findings), findings
    return by_code
