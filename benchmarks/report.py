"""What was measured, against what was aimed at: as a table, as Markdown, as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HEADINGS = ("Measure", "Target", "Base", "Measured", "Min, max", "To base", "Verdict")
_WIDTH = 120


@dataclass(frozen=True)
class Measure:
    """One figure, measured several times; the median counts.

    Attributes:
        target: what the figure is to be at most, or at least; None for one that is only told.
        base: what it is held against, measured in turns with it: the floor's figure, say.
        of_base: whether the target is one for the ratio to the base.
    """

    name: str
    unit: str
    samples: Sequence[float]
    target: float | None = None
    at_least: bool = False
    base: Sequence[float] = ()
    of_base: bool = False

    @property
    def measured(self) -> float:
        return statistics.median(self.samples)

    @property
    def ratio(self) -> float | None:
        """To the base, median to median."""
        return self.measured / statistics.median(self.base) if self.base else None

    @property
    def met(self) -> bool | None:
        value = self.ratio if self.of_base else self.measured
        if self.target is None or value is None:
            return None
        return value >= self.target if self.at_least else value <= self.target

    def cells(self) -> list[str]:
        """What stands under the headings."""
        target = ""
        if self.target is not None:
            unit = "of base" if self.of_base else self.unit
            target = f"{'≥' if self.at_least else '≤'} {_number(self.target)} {unit}"
        return [
            self.name,
            target,
            _number(statistics.median(self.base)) if self.base else "",
            f"{_number(self.measured)} {self.unit}",
            f"{_number(min(self.samples))}, {_number(max(self.samples))}",
            "" if self.ratio is None else f"{self.ratio:.2f}",
            {None: "", True: "met", False: "missed"}[self.met],
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "measured": self.measured,
            "samples": list(self.samples),
            "base": list(self.base),
            "target": self.target,
            "at_least": self.at_least,
            "of_base": self.of_base,
            "met": self.met,
        }


@dataclass
class Section:
    """The measures of one subcommand.

    Attributes:
        others: for each run, the share of the processors that other work on the machine took.
    """

    title: str
    measures: list[Measure] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def caption(self) -> str:
        if not self.others:
            return ""
        middle, most = statistics.median(self.others), max(self.others)
        return f"Other work on the machine: {middle:.0%} of the processors, at most {most:.0%}."


def show(section: Section) -> None:
    """Print a section as a table."""
    table = Table(*HEADINGS, title=section.title, caption=section.caption())
    for column in table.columns[1:6]:
        column.justify = "right"
    styles = {None: "", True: "green", False: "red"}
    for measure in section.measures:
        *cells, verdict = measure.cells()
        table.add_row(*cells, f"[{styles[measure.met]}]{verdict}[/]" if verdict else "")
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    console.print(table)


def markdown(sections: Sequence[Section], machine: dict[str, str]) -> str:
    """The sections as they stand in docs/performance.md."""
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()) + "."]
    for section in sections:
        lines += ["", f"### {section.title}", "", _row(HEADINGS)]
        lines.append(_row(["---", *["---:"] * 5, "---"]))
        lines += [_row(measure.cells()) for measure in section.measures]
        if section.others:
            lines += ["", section.caption()]
    return "\n".join(lines) + "\n"


def write_json(file: Path, sections: Sequence[Section], machine: dict[str, str]) -> None:
    told = {
        "machine": machine,
        "sections": [
            {
                "title": section.title,
                "others": section.others,
                "measures": [measure.as_json() for measure in section.measures],
            }
            for section in sections
        ],
    }
    file.write_text(json.dumps(told, indent=2) + "\n")


def describe_machine(redis_version: str) -> dict[str, str]:
    """What the figures depend on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "processors": f"{os.cpu_count()} of {model}",
        "Python": platform.python_version(),
        "Redis": redis_version,
    }


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    """Three digits are what such a figure can tell."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"
