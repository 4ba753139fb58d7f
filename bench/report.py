"""What is told: one Markdown table, the same as JSON, and the facts that the numbers depend on."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench.contestants import AUTOCOMMIT, BEGIN, CONTROL, FASTKIT, HAND
from bench.measure import Spread, Timing, spread

GOAL = 1.10
PACKAGES = ("fastkit-blocks", "sqlalchemy", "greenlet", "anyio", "aiosqlite", "asyncpg", "psycopg")
COLUMNS = (
    "driver",
    "operation",
    "hand-written, us",
    "fastkit, us",
    "fastkit / hand-written",
    "the same in CPU time",
    BEGIN,
    AUTOCOMMIT,
    CONTROL,
    "rounds",
)


@dataclass(frozen=True)
class Cell:
    """One operation through one driver."""

    driver: str
    operation: str
    timings: dict[str, Timing]

    def ratio(self, name: str) -> Spread | None:
        """Return how a contestant's wall time compares with the hand-written one's, or None if it did not run."""
        return spread(self.timings[name].wall, self.timings[HAND].wall) if name in self.timings else None

    @property
    def cpu_ratio(self) -> Spread:
        """Return the same of fastkit, in processor time."""
        return spread(self.timings[FASTKIT].cpu, self.timings[HAND].cpu)

    def row(self) -> list[str]:
        """Return the cells of a table row."""
        others = [self.ratio(name) for name in (BEGIN, AUTOCOMMIT, CONTROL)]
        return [
            self.driver,
            self.operation,
            *(f"{min(self.timings[name].wall):.0f}" for name in (HAND, FASTKIT)),
            f"**{self.ratio(FASTKIT)}**",
            f"{self.cpu_ratio.median:.2f}",
            *(str(other or "") for other in others),
            str(len(self.timings[HAND].wall)),
        ]

    def data(self) -> dict[str, Any]:
        """Return everything, for a program."""
        return {
            "driver": self.driver,
            "operation": self.operation,
            "rounds": len(self.timings[HAND].wall),
            "contestants": {name: self._contestant(name) for name in self.timings},
        }

    def _contestant(self, name: str) -> dict[str, Any]:
        timing, base = self.timings[name], self.timings[HAND]
        return {
            "best_us": round(min(timing.wall), 1),
            "median_us": round(statistics.median(timing.wall), 1),
            "median_cpu_us": round(statistics.median(timing.cpu), 1),
            "garbage_objects": round(timing.garbage, 1),
            "ratio": _rounded(spread(timing.wall, base.wall)),
            "cpu_ratio": _rounded(spread(timing.cpu, base.cpu)),
        }


def _rounded(found: Spread) -> dict[str, float]:
    return {name: round(value, 4) for name, value in asdict(found).items()}


def facts(servers: dict[str, str], load_before: Iterable[float]) -> dict[str, Any]:
    """Return versions and what the machine is, without what would name it."""
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        "event loop": f"uvloop {version('uvloop')}" if find_spec("uvloop") else "asyncio",
        **servers,
        "machine": f"{os.cpu_count()} cores, {_processor()}, {platform.system()}",
        "load before": [round(each, 2) for each in load_before],
        "load after": [round(each, 2) for each in os.getloadavg()],
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def markdown(cells: list[Cell], known: dict[str, Any]) -> str:
    """Return the table and its summary."""
    ratios = [ratio.median for cell in cells if (ratio := cell.ratio(FASTKIT))]
    controls = [ratio for cell in cells if (ratio := cell.ratio(CONTROL))]
    within = sum(ratio <= GOAL for ratio in ratios)
    off = max(abs(control.median - 1) for control in controls)
    half = statistics.median((control.high - control.low) / 2 for control in controls)
    lines = [
        "# fastkit against hand-written SQLAlchemy",
        "",
        _line(COLUMNS),
        _line("---" if column in {"driver", "operation"} else "---:" for column in COLUMNS),
        *(_line(cell.row()) for cell in cells),
        "",
        f"{within} of {len(ratios)} within the goal of {GOAL:.2f}; median of all {statistics.median(ratios):.3f}.",
        f"Noise: {CONTROL!r} should be 1.00; its median is off by {off:.3f} at worst.",
        f"Half of its rounds are within {half:.3f} of its median.",
        "",
        *(f"- {name}: {value}" for name, value in known.items()),
        "",
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(folder: Path, text: str, cells: list[Cell], known: dict[str, Any]) -> None:
    """Write both files."""
    folder.mkdir(exist_ok=True)
    data = {"facts": known, "goal": GOAL, "cells": [cell.data() for cell in cells]}
    (folder / "first.md").write_text(text)
    (folder / "first.json").write_text(json.dumps(data, indent=1) + "\n")
