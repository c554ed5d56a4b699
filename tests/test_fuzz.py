"""Schemathesis against the live server: every operation, and walks over the contract's links."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from conftest import Running
from support.tenants import Tenant

CONTRACT = Path(__file__).parent.parent / "openapi" / "cycles-protocol-v0.yaml"
HOOKS = Path(__file__).parent / "fuzz" / "hooks.py"
EXAMPLES = os.environ.get("CYCLES_FUZZ_EXAMPLES", "25")
UNITS = ("USD_MICROCENTS", "TOKENS", "CREDITS", "RISK_POINTS")
FUNDS = 2**62
# What the contract refuses in prose only (a window that ends before it begins, a cursor of
# another list, balances without a filter) the schema calls valid.
PROSE = "positive_data_acceptance"


def test_no_server_error_and_no_answer_against_the_contract(
    running: Running, tmp_path: Path
) -> None:
    tenant = Tenant(running.redis, running.url)
    for unit in UNITS:
        tenant.budget(allocated=FUNDS, unit=unit)
    environment = {
        **os.environ,
        "SCHEMATHESIS_HOOKS": str(HOOKS),
        "CYCLES_FUZZ_TENANT": tenant.name,
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(CONTRACT),
        "--url", running.url,
        "--header", f"X-Cycles-API-Key: {tenant.secret}",
        "--max-examples", EXAMPLES,
        "--exclude-checks", PROSE,
        "--continue-on-failure",
        "--seed", "1",
        "--generation-database", "none",
        "--no-color",
    ]  # fmt: skip
    run = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-5_000:]
    # A run that never got through would find nothing either.
    assert "Stateful" in run.stdout
    changed = [unit for unit in UNITS if tenant.amounts(unit=unit)["remaining"] < FUNDS]
    assert changed, "no reservation or event of the fuzzer ever succeeded"
