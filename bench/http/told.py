"""What is told: two tables, the same as JSON, and the plot."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.contestants import CONTROL, FASTKIT, HAND
from bench.http.line_up import COLUMNS, DIRECT, FLOOR, KEYSET, PEERS, STOCK_FLOOR
from bench.http.plot import svg
from bench.measure import Spread, Timing, spread

NAMES = (FASTKIT, DIRECT, COLUMNS, KEYSET, *PEERS, STOCK_FLOOR, FLOOR)
PACKAGES = ("fastapi", "starlette", "pydantic", "orjson", *PEERS)


@dataclass(frozen=True)
class Cell:
    """
    One workload through one driver.

    Attributes:
        driver: The driver.
        workload: The workload.
        timings: Of each contestant.
        without: Why others took no part.
        grown: Megabytes by which the process grew in an export.
    """

    driver: str
    workload: str
    timings: dict[str, Timing]
    without: dict[str, str]
    grown: dict[str, float]

    def ratio(self, name: str) -> Spread:
        """Return how long a contestant takes in relation to the hand-written one."""
        return spread(self.timings[name].wall, self.timings[HAND].wall)

    def faster(self, name: str) -> float:
        """Return how many times faster a contestant is."""
        return 1 / self.ratio(name).median

    def data(self) -> dict[str, Any]:
        """Return everything, for a program."""
        return {
            "driver": self.driver,
            "workload": self.workload,
            "rounds": len(self.timings[HAND].wall),
            "contestants": {name: self._contestant(name) for name in self.timings},
            "without": self.without,
            "grown_mb": {name: round(value, 1) for name, value in self.grown.items()},
        }

    def _contestant(self, name: str) -> dict[str, Any]:
        timing = self.timings[name]
        cpu = spread(timing.cpu, self.timings[HAND].cpu)
        return {
            "best_us": round(min(timing.wall), 1),
            "median_us": round(statistics.median(timing.wall), 1),
            "median_cpu_us": round(statistics.median(timing.cpu), 1),
            "times_faster": round(self.faster(name), 3),
            "ratio": {key: round(value, 4) for key, value in asdict(self.ratio(name)).items()},
            "cpu_ratio": {key: round(value, 4) for key, value in asdict(cpu).items()},
        }


def versions() -> dict[str, str]:
    """Return the versions of those who compete."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed, not measured"
    return found


def markdown(cells: Sequence[Cell], known: dict[str, Any]) -> str:
    """Return the tables."""
    names = [name for name in NAMES if any(name in cell.timings for cell in cells)]
    lines = [
        "# Whole requests",
        "",
        f"Times faster than {HAND}, which is 1.00: the median of all rounds; below 1 is slower.",
        "",
        _line(["driver", "request", f"{HAND}, us", *names, CONTROL]),
        _line(["---", "---", *["---:"] * (len(names) + 2)]),
    ]
    for cell in cells:
        row = [cell.driver, cell.workload, f"{min(cell.timings[HAND].wall):.0f}"]
        for name in (*names, CONTROL):
            value = f"{cell.faster(name):.2f}" if name in cell.timings else ""
            row.append(f"**{value}**" if value and name == FASTKIT else value)
        lines.append(_line(row))
    lines += ["", *_reasons(cells), "", "## Each of them", ""]
    lines += [
        _line(
            [
                "driver",
                "request",
                "contestant",
                "best, us",
                "time / by hand (quartiles)",
                "the same in CPU time",
                "grown, MB",
            ]
        ),
        _line(["---", "---", "---", "---:", "---:", "---:", "---:"]),
    ]
    for cell in cells:
        for name, timing in cell.timings.items():
            cpu = spread(timing.cpu, cell.timings[HAND].cpu).median
            grown = f"{cell.grown[name]:.0f}" if name in cell.grown else ""
            best = f"{min(timing.wall):.0f}"
            lines.append(_line([cell.driver, cell.workload, name, best, str(cell.ratio(name)), f"{cpu:.2f}", grown]))
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in known.items()), ""])


def _reasons(cells: Sequence[Cell]) -> list[str]:
    told: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        for name, reason in cell.without.items():
            told.setdefault((name, reason), []).append(cell)
    lines = []
    for (name, reason), found in told.items():
        workloads = dict.fromkeys(cell.workload for cell in found)
        drivers = dict.fromkeys(cell.driver for cell in found)
        where = f'in "{found[0].workload}"' if len(workloads) == 1 else f"through {', '.join(drivers)}"
        lines.append(f"- {name} is not measured {where}: {reason}.")
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(folder: Path, text: str, cells: Sequence[Cell], known: dict[str, Any]) -> None:
    """Write the three files."""
    folder.mkdir(exist_ok=True)
    (folder / "http.md").write_text(text)
    data = {"facts": known, "cells": [cell.data() for cell in cells]}
    (folder / "http.json").write_text(json.dumps(data, indent=1) + "\n")
    names = [name for name in NAMES if any(name in cell.timings for cell in cells)]
    groups = {
        f"{cell.driver}: {cell.workload}": {name: cell.faster(name) for name in names if name in cell.timings}
        for cell in cells
    }
    (folder / "http.svg").write_text(svg(f"Times faster than {HAND} (logarithmic)", groups, names))
