"""Who competes: each one an app of its own in a module of its own, made anew for each database as its docs make it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.contestants import CONTROL, FASTKIT, HAND
from bench.http.workloads import DEEP, EXPORT, GET, LIST, Ask

HERE = Path(__file__).resolve().parent
KEYSET = "hand-written, keyset"
DIRECT = "fastkit, direct"
COLUMNS = "columns + TypeAdapter"
FLOOR = "driver + orjson"
STOCK_FLOOR = "driver in FastAPI"
PEERS = {
    "advanced-alchemy": ("with_advanced_alchemy", "advanced_alchemy"),
    "fastcrud": ("with_fastcrud", "fastcrud"),
    "fastapi-toolsets": ("with_fastapi_toolsets", "fastapi_toolsets"),
    "sqlmodel": ("with_sqlmodel", "sqlmodel"),
}
MODULES = {
    HAND: ("hand_written", "fastapi"),
    FASTKIT: ("with_fastkit", "fastapi"),
    DIRECT: ("with_fastkit_direct", "msgspec"),
    COLUMNS: ("columns", "fastapi"),
    KEYSET: ("hand_written", "fastapi"),
    **PEERS,
    STOCK_FLOOR: ("driver_in_fastapi", "orjson"),
    FLOOR: ("driver", "orjson"),
    CONTROL: ("hand_written", "fastapi"),
}
"""By name: the module in `contestants`, and the package that it needs."""

ONLY = {KEYSET: {DEEP}, STOCK_FLOOR: {GET, LIST}}
WITHOUT = {CONTROL: {EXPORT: "an export takes too long to be run twice"}}


@dataclass(frozen=True)
class Contestant:
    """
    Somebody who answers.

    Attributes:
        name: Its name in the table.
        app: Its app.
        asks: Its requests, by workload.
        without: Why it takes no part, by workload.
    """

    name: str
    app: Any
    asks: Mapping[str, Ask]
    without: Mapping[str, str] = field(default_factory=dict)


def installed() -> list[str]:
    """Return the names of those whose package is installed."""
    return [name for name, (_, package) in MODULES.items() if importlib.util.find_spec(package)]


def made(name: str, label: str, url: str) -> ModuleType | str:
    """Return a contestant's module, executed for a database; or why it cannot run there."""
    os.environ["FASTKIT_BENCH_URL"] = url
    file = HERE / "contestants" / f"{MODULES[name][0]}.py"
    spec = importlib.util.spec_from_file_location(f"contestant_{len(sys.modules)}", file)
    if spec is None or spec.loader is None:
        raise AssertionError(file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # annotations are looked up there
    spec.loader.exec_module(module)
    reasons: dict[str, str] = getattr(module, "WITHOUT", {})
    return reasons.get(label, module)


async def contestant(name: str, module: ModuleType) -> Contestant:
    """Return a contestant whose app has started."""
    asks: dict[str, Ask] = {**module.ASKS}
    if name == KEYSET:
        asks |= module.KEYSET
    if hasattr(module, "prepare"):
        asks |= await module.prepare()
    if name in ONLY:
        asks = {workload: ask for workload, ask in asks.items() if workload in ONLY[name]}
    without = {**getattr(module, "WITHOUT", {}), **WITHOUT.get(name, {})}
    return Contestant(name, module.app, {key: ask for key, ask in asks.items() if key not in without}, without)
