"""Does the conformance kit leave alone what the contract allows?

The contract leaves much to a server: members that may be absent, orders that it does not fix,
sentences that can be read in two ways. Every file in ``allowed/`` holds small edits of this
server that use such room, in the form of the faults beside it::

    area: answers
    variants:
      - id: no-balances
        about: what is different, and why that is allowed
        allowed_by: createReservation
        edits:
          - file: lua/evaluate.lua
            replace: text that is there exactly once
            with: what stands there instead

``allowed_by`` is a place in the contract, named as a fault's ``breaks`` is. A variant that
departs from a SHOULD has ``level: MUST``: it is held to no more than that.

The kit must find nothing in any of them, or it would fail servers that are conformant::

    python tests/faults/allowed.py [--only ID] [--jobs 2] [--cases PATTERN]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import yaml
from rich.console import Console
from rich.markup import escape
from support.server import ADMIN_KEY

from faults.catalogue import Edit, Fault, FaultError
from faults.runner import KIT_SECONDS, RunError, running

ALLOWED = Path(__file__).parent / "allowed"
REQUIRED = {"id", "about", "allowed_by", "edits"}


@dataclass(frozen=True, slots=True)
class Variant:
    """``server`` says how this server differs; ``level`` is what the kit may hold it to."""

    server: Fault
    level: str

    @property
    def id(self) -> str:
        return self.server.id


@dataclass(frozen=True, slots=True)
class Complaint:
    """A case that the kit failed, and the first thing it had to say."""

    case: str
    message: str


def load_variants(folder: Path = ALLOWED) -> list[Variant]:
    """Every variant of every file.

    Raises:
        FaultError: a file is not in the form above, or an id is used twice.
    """
    variants: dict[str, Variant] = {}
    for path in sorted(folder.glob("*.yaml")):
        for variant in _read(path):
            if variant.id in variants:
                raise FaultError(f"{path.name}: {variant.id} is there twice")
            variants[variant.id] = variant
    return list(variants.values())


def _read(path: Path) -> Iterator[Variant]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for item in document["variants"]:
            if not REQUIRED <= set(item) <= REQUIRED | {"level"}:
                raise ValueError(f"{item.get('id')}: has to have {', '.join(sorted(REQUIRED))}")
            edits = tuple(
                Edit(edit["file"], edit["replace"], edit["with"]) for edit in item["edits"]
            )
            server = Fault(item["id"], document["area"], item["about"], item["allowed_by"], edits)
            yield Variant(server, item.get("level", "SHOULD"))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise FaultError(f"{path.name}: {error!r}") from None


def complaints(variant: Variant, patterns: Sequence[str]) -> list[Complaint]:
    """What the kit has against a copy of the server that differs like this.

    Raises:
        FaultError: the variant does not fit the server any more.
        RunError: the kit could not run to its end, or the server did not start.
    """
    # A short name: the path of a Unix socket has few characters.
    with tempfile.TemporaryDirectory(prefix="may-") as name:
        folder = Path(name)
        report = folder / "report.json"
        try:
            with running(folder, variant.server) as (server, store):
                command = [
                    sys.executable, "-m", "cycles_conformance", "run",
                    "--url", server.url,
                    "--redis-url", store.url,
                    "--admin-key", ADMIN_KEY,
                    "--level", variant.level,
                    "--no-throttle",  # no variant is about it, and it takes its time
                    "--seed", "1",
                    "--report", str(report),
                    *(word for pattern in patterns for word in ("--only", pattern)),
                ]  # fmt: skip
                # The kit takes options from the environment too: none but those above.
                environment = {
                    key: value for key, value in os.environ.items() if not key.startswith("CYCLES_")
                }
                kit = subprocess.run(
                    command,
                    cwd=folder,
                    env=environment,
                    capture_output=True,
                    text=True,
                    timeout=KIT_SECONDS,
                )
        except subprocess.TimeoutExpired:
            raise RunError(f"the kit took more than {KIT_SECONDS} s") from None
        except AssertionError as problem:  # the server's or store's log, where it did not start
            last = (str(problem).strip().splitlines() or ["no log"])[-1]
            raise RunError(f"did not start: {last}") from None
        if kit.returncode not in (0, 1) or not report.exists():
            said = (kit.stderr or kit.stdout).strip().splitlines() or ["nothing"]
            raise RunError(f"the kit ended with {kit.returncode} and said: {said[-1]}")
        results = json.loads(report.read_text(encoding="utf-8"))["results"]
    found = [_complaint(result) for result in results if result["verdict"] == "failed"]
    if kit.returncode == 1 and not found:
        raise RunError("the kit ended with 1 and names no case")
    return found if kit.returncode == 1 else []


def _complaint(result: dict[str, Any]) -> Complaint:
    problem = result["problems"][0]
    return Complaint(result["case"], f"{problem['step']}: {problem['message']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="ID", help="a variant, or a whole area")
    parser.add_argument("--jobs", type=int, default=2, help="how many servers at the same time")
    parser.add_argument(
        "--cases", action="append", default=[], metavar="PATTERN", help="only these cases or areas"
    )
    options = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)

    try:
        variants = load_variants()
    except FaultError as error:
        console.print(f"[red]{escape(str(error))}[/]")
        return 2
    if options.only:
        known = {name for variant in variants for name in (variant.id, variant.server.area)}
        unknown = [name for name in options.only if name not in known]
        if unknown:
            parser.error(f"no such variant or area: {', '.join(unknown)}")
        variants = [
            variant
            for variant in variants
            if variant.id in options.only or variant.server.area in options.only
        ]

    def left_alone(variant: Variant) -> bool:
        started = time.monotonic()
        try:
            found = complaints(variant, options.cases)
        except (FaultError, RunError) as error:
            console.print(f"{variant.id}: [red]error[/]: {escape(str(error))}")
            return False
        verdict = f"[red]{len(found)} complaints[/]" if found else "left alone"
        lines = [f"{variant.id}: {verdict} ({time.monotonic() - started:.0f} s)"]
        lines += [f"    {complaint.case}: {escape(complaint.message)}" for complaint in found]
        console.print("\n".join(lines))
        return not found

    with ThreadPoolExecutor(options.jobs) as pool:
        alone = list(pool.map(left_alone, variants))
    console.print(f"{sum(alone)} of {len(alone)} variants left alone")
    return 0 if all(alone) else 1


if __name__ == "__main__":
    sys.exit(main())
