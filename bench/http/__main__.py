"""
Whole HTTP requests against the same written by hand, and against other libraries: `python bench http`.

Each contestant is an app of its own, called in this process as a server would call it. The base is what FastAPI's docs
have: objects of the session and a response model. (A folder and not `http.py`, which would hide Python's `http` from
every script in `bench`.)
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import time
import warnings
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parents[1])

from bench.contestants import HAND  # noqa: E402 - found through the line above
from bench.http import line_up, shop, told  # noqa: E402 - same
from bench.http.client import ask  # noqa: E402 - same
from bench.http.equality import assert_equal  # noqa: E402 - same
from bench.http.line_up import MODULES, Contestant, contestant  # noqa: E402 - same
from bench.http.told import Cell  # noqa: E402 - same
from bench.http.workloads import EXPORT, GET, LIST, WORKLOADS, Ask  # noqa: E402 - same
from bench.measure import Timing, measure, run  # noqa: E402 - same
from bench.report import facts  # noqa: E402 - same
from bench.shop import DRIVERS, Driver, Store, store  # noqa: E402 - same
from sqlalchemy.exc import SAWarning  # noqa: E402 - same

MEASURED = {"aiosqlite": WORKLOADS, "asyncpg": WORKLOADS, "psycopg, async": (GET, LIST)}
"""By driver: what is asked. Psycopg differs from asyncpg in what the driver costs, so two requests say enough."""


def _runner(app: Any, make: Ask) -> Any:
    async def run(number: int) -> None:
        parts: list[bytes] = []
        status = await ask(app, make(number), parts.append)
        if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110: success
            raise AssertionError(f"{status}: {parts}")

    return run


async def _exports(contestants: list[Contestant], shuffle: random.Random, rounds: int) -> dict[str, Timing]:
    """Return the timings of exports: one is long enough to be timed alone."""
    timings = {each.name: Timing() for each in contestants}
    order = list(contestants)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for each in order:
            gc.collect()
            wall, cpu = time.perf_counter_ns(), time.process_time_ns()
            await ask(each.app, each.asks[EXPORT](0), len)
            timings[each.name].cpu.append((time.process_time_ns() - cpu) / 1000)
            timings[each.name].wall.append((time.perf_counter_ns() - wall) / 1000)
    return timings


async def _driver(driver: Driver, found: Store, asked: argparse.Namespace) -> list[Cell]:
    workloads = [each for each in MEASURED[driver.label] if asked.only in f"{driver.label}: {each}"]
    cells, shuffle, refused = list[Cell](), random.Random(1), dict[str, str]()
    async with AsyncExitStack() as stack:
        contestants = []
        for name in line_up.installed():
            module = line_up.made(name, driver.label, found.url)
            if isinstance(module, str):
                refused[name] = module
                continue
            await stack.enter_async_context(module.app.router.lifespan_context(module.app))
            contestants.append(await contestant(name, module))
        for workload in workloads:
            taking_part = [each for each in contestants if workload in each.asks]
            without = {each.name: each.without[workload] for each in contestants if workload in each.without}
            grown = await assert_equal(workload, taking_part, found.observer)
            if workload == EXPORT:
                timings = await _exports(taking_part, shuffle, 2 if asked.quick else asked.exports)
            else:
                runners = {each.name: _runner(each.app, each.asks[workload]) for each in taking_part}
                timings = await measure(runners, seconds=asked.seconds, shuffle=shuffle)
            cells.append(Cell(driver.label, workload, timings, {**refused, **without}, grown))
            ratios = ", ".join(f"{name} {cells[-1].faster(name):.2f}" for name in timings if name != HAND)
            print(f"{driver.label}: {workload}: {ratios}", file=sys.stderr, flush=True)
    return cells


def main() -> None:
    """Run every cell, print the tables and, after a full run, keep them."""
    parser = argparse.ArgumentParser(prog="bench http", description="Compare whole requests.")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each driver and request")
    parser.add_argument("--exports", type=int, default=4, help="rounds of exports")
    parser.add_argument("--quick", action="store_true", help="only see that it works; keep no result")
    parser.add_argument("--only", default="", help="cells whose 'driver: request' has this in it; keep no result")
    asked = parser.parse_args()
    asked.seconds = min(asked.seconds, 0.3) if asked.quick else asked.seconds
    warnings.simplefilter("ignore", SAWarning)  # SQLite has no Decimal, for anybody
    load, servers, cells = os.getloadavg(), dict[str, str](), list[Cell]()
    for name in MODULES.keys() - line_up.installed():
        print(f"not measured, because it is not installed: {name}", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        for driver in (each for each in DRIVERS if each.label in MEASURED):
            if not any(asked.only in f"{driver.label}: {each}" for each in MEASURED[driver.label]):
                continue
            with store(driver, Path(folder)) as found:
                if found is None:
                    print(f"not measured, because its server does not answer: {driver.label}", file=sys.stderr)
                    continue
                servers["PostgreSQL" if driver.is_server else "SQLite"] = found.version
                shop.fill(found.observer)
                cells += run(_driver(driver, found, asked))
    known = {**facts(servers, load), **told.versions()}
    text = told.markdown(cells, known)
    print(text)
    if not (asked.quick or asked.only):
        told.write(HERE.parent / "results", text, cells, known)


if __name__ == "__main__":
    main()
