"""
Many rows at once: `python bench/bulk.py`.

On PostgreSQL through asyncpg, from a list of mappings to the confirmed COMMIT: ten thousand rows inserted, inserted or
changed, and read by their keys; a hundred thousand streamed. What each way stores and returns is compared first.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import statistics
import sys
import tempfile
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.bulk_ways import (  # noqa: E402 - found through the line above
    BULK,
    COPY,
    GIVEN,
    OBJECTS,
    RAW,
    READ,
    ROWS,
    STREAM,
    UPSERT,
    Group,
    Way,
    groups,
    streams,
)
from bench.shop import DRIVERS, AsyncShop, Book, Store, store, values  # noqa: E402 - same
from sqlalchemy import select, text  # noqa: E402 - same

from fastkit.database import AsyncDatabase  # noqa: E402 - same

MANY = 100_000
PLAIN: Any = attrgetter(*GIVEN[0])


async def _compare(found: Store, ways_of: list[Group]) -> None:
    """Run each way once, and see that all of a group store and return the same."""
    for group in ways_of:
        seen = {}
        for name, way in group.ways.items():
            _send(found, group.before or "UPDATE book SET stock = 0 WHERE id % 2 = 0")
            seen[name] = (sorted(map(_plain, await way() or ())), _content(found))
        first = next(iter(group.ways))
        for name, outcome in seen.items():
            assert outcome == seen[first], f"{name} does something else than {first}"
        assert len(seen[first][1]) == ROWS


def _plain(row: Any) -> Any:
    return tuple(row[name] for name in GIVEN[0]) if isinstance(row, dict) else PLAIN(row)


def _content(found: Store) -> list[Any]:
    with found.observer.connect() as connection:
        return list(connection.execute(select(Book.__table__).order_by(Book.id)))


async def _measure(found: Store, ways_of: list[Group], seconds: float) -> dict[str, list[float]]:
    await _compare(found, ways_of)
    times: dict[str, list[float]] = {name: [] for group in ways_of for name in group.ways}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[RAW]) < 3:  # noqa: PLR2004 - the first one is thrown away
        for group in ways_of:
            for name, way in random.sample(list(group.ways.items()), len(group.ways)):
                if group.before:
                    _send(found, group.before)
                times[name].append(await _timed(way))
    return {name: taken[1:] for name, taken in times.items()}


async def _measure_streams(database: AsyncDatabase, found: Store) -> dict[str, list[float]]:
    ways = streams(database)
    _send(found, "TRUNCATE book")
    async with AsyncShop(database) as shop:
        rows = ({"id": number, **values(number)} for number in range(1, MANY + 1))
        assert await shop.books.bulk.insert(rows, copy=True) == MANY
        await shop.commit()
    outcomes = [await way() for way in ways.values()]
    assert outcomes == [(MANY, 5 * MANY)] * len(ways)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in random.sample(list(ways.items()), len(ways)):
            times[name].append(await _timed(way))
    return times


async def _timed(way: Way) -> float:
    gc.collect()
    start = time.perf_counter()
    await way()
    return time.perf_counter() - start


def _send(found: Store, statement: str) -> None:
    with found.observer.begin() as connection:
        connection.execute(text(statement))


def _ratio(times: dict[str, list[float]], name: str, base: str) -> tuple[float, str]:
    low, middle, high = statistics.quantiles([a / b for a, b in zip(times[name], times[base], strict=True)], n=4)
    return middle, f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _table(times: dict[str, list[float]]) -> str:
    lines, base = ["| 10,000 rows | median, ms | / by hand |", "| --- | ---: | ---: |"], ""
    for name, taken in times.items():
        base = name if name in {OBJECTS, UPSERT, READ, STREAM} else base
        lines.append(f"| {name} | {statistics.median(taken) * 1000:.1f} | {_ratio(times, name, base)[1]} |")
    return "\n".join(lines)


async def _run(found: Store, seconds: float) -> dict[str, list[float]]:
    database = AsyncDatabase(found.url)
    times = await _measure(found, groups(database), seconds)
    times |= await _measure_streams(database, found)
    await database.close()
    return times


def main() -> None:
    """Measure; exit with 1 if Core is not 4 times add_all, COPY not 10 times, or over 1.2 times the raw COPY."""
    parser = argparse.ArgumentParser(description="Many rows at once.")
    parser.add_argument("--seconds", type=float, default=45.0)
    asked = parser.parse_args()
    driver = next(each for each in DRIVERS if each.label == "asyncpg")
    with tempfile.TemporaryDirectory() as folder, store(driver, Path(folder)) as found:
        if found is None:
            sys.exit("PostgreSQL does not answer; nothing was measured.")
        times = asyncio.run(_run(found, asked.seconds))
    goals = [(BULK, OBJECTS, 1 / 4), (COPY, OBJECTS, 1 / 10), (COPY, RAW, 1.2)]
    reached = [(name, base, _ratio(times, name, base)[0], goal) for name, base, goal in goals]
    told = "\n".join(f"- {name} / {base}: {ratio:.3f}, goal {goal:.3f}" for name, base, ratio, goal in reached)
    result = f"# Many rows at once\n\n{_table(times)}\n\n{told}\n"
    print(result)
    if asked.seconds >= 20:  # noqa: PLR2004 - fewer rounds say little
        (HERE / "results" / "bulk.md").write_text(result)
    sys.exit(1 if any(ratio > goal for *_, ratio, goal in reached) else 0)


if __name__ == "__main__":
    main()
