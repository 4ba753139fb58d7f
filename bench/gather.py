"""
When `gather` pays, and when it does not: `python bench/gather.py`.

Three reads one after the other in one unit against the same three at once, on PostgreSQL through asyncpg and psycopg:
reads that wait (as for a disk or a lock; 13 ms, the case that gave rise to this), reads that compute, trivial reads.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.shop import DRIVERS, AsyncShop, Shop, Store, store  # noqa: E402 - found through the line above
from sqlalchemy import text  # noqa: E402 - same

from fastkit.database import READS, AsyncDatabase, Database  # noqa: E402 - same

BRANCHES = 3
GOAL = 1 / 2.5
LABELS = ("asyncpg", "psycopg, sync")
READ = {
    "wait 13 ms": "SELECT pg_sleep(0.013)",
    "compute 13 ms or so": "SELECT count(*) FROM generate_series(1, 150000) AS n WHERE n % 7 = 0",
    "trivial": "SELECT 1",
}
Way = Callable[[], Awaitable[Any]]


def _ways(database: Any, sql: str) -> dict[str, Way]:
    statement = text(sql).execution_options(**{READS: True})

    async def read_async(shop: AsyncShop) -> Any:
        return await shop.session.scalar(statement)

    def read(shop: Shop) -> Any:
        return shop.session.scalar(statement)

    async def in_turn() -> None:
        if isinstance(database, AsyncDatabase):
            async with AsyncShop(database).block(read_only=True) as shop:
                for _ in range(BRANCHES):
                    await read_async(shop)
        else:
            with Shop(database).block(read_only=True) as sync_shop:
                for _ in range(BRANCHES):
                    read(sync_shop)

    async def at_once(*, snapshot: bool = False) -> None:
        if isinstance(database, AsyncDatabase):
            await database.gather(AsyncShop, *[read_async] * BRANCHES, snapshot=snapshot)
        else:
            database.gather(Shop, *[read] * BRANCHES, snapshot=snapshot)

    return {
        "one after the other": in_turn,
        "gather": at_once,
        "gather, snapshot=True": lambda: at_once(snapshot=True),
        "one after the other, again": in_turn,
    }


async def _measure(ways: dict[str, Way], seconds: float) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in ways}
    order, end = list(ways), time.monotonic() + seconds
    for way in ways.values():
        await way()
    while time.monotonic() < end or len(times[order[0]]) < 5:  # noqa: PLR2004 - quartiles need a few
        random.shuffle(order)
        for name in order:
            start = time.perf_counter()
            await ways[name]()
            times[name].append(time.perf_counter() - start)
    return times


def _rows(label: str, read: str, times: dict[str, list[float]]) -> list[str]:
    base = times["one after the other"]
    rows = []
    for name, taken in times.items():
        low, middle, high = statistics.quantiles([a / b for a, b in zip(taken, base, strict=True)], n=4)
        best = f"{statistics.median(taken) * 1000:.1f}"
        rows.append(f"| {label} | {read} | {name} | {best} | {middle:.2f} ({low:.2f} to {high:.2f}) |")
    return rows


async def _driver(label: str, found: Store, *, is_async: bool, seconds: float) -> tuple[list[str], float]:
    database: Any = (AsyncDatabase if is_async else Database)(found.url)
    rows, seed = [], 0.0
    for read, sql in READ.items():
        times = await _measure(_ways(database, sql), seconds)
        rows += _rows(label, read, times)
        if read == next(iter(READ)):
            pairs = zip(times["gather"], times["one after the other"], strict=True)
            seed = statistics.median(a / b for a, b in pairs)
    if (closing := database.close()) is not None:
        await closing
    return rows, seed


def main() -> None:
    """Measure; exit with 1 if the waiting reads at once take more than 1/2.5 of the time in turn."""
    parser = argparse.ArgumentParser(description="When gather pays.")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each kind of read")
    asked = parser.parse_args()
    lines = [
        "| driver | each of three reads | how | median, ms | / one after the other |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    seeds = list[float]()
    with tempfile.TemporaryDirectory() as folder:
        for driver in (each for each in DRIVERS if each.label in LABELS):
            with store(driver, Path(folder)) as found:
                if found is None:
                    sys.exit("PostgreSQL does not answer; nothing was measured.")
                work = _driver(driver.label, found, is_async=driver.is_async, seconds=asked.seconds)
                rows, seed = asyncio.run(work)
                lines, seeds = lines + rows, [*seeds, seed]
    reached = ", ".join(f"{label} {seed:.2f}" for label, seed in zip(LABELS, seeds, strict=True))
    result = f"# Reads at once\n\n{chr(10).join(lines)}\n\nThree reads that wait, at once: {reached}; goal {GOAL}.\n"
    print(result)
    if asked.seconds >= 3:  # noqa: PLR2004 - fewer rounds say little
        (HERE / "results" / "gather.md").write_text(result)
    sys.exit(1 if max(seeds) > GOAL else 0)


if __name__ == "__main__":
    main()
