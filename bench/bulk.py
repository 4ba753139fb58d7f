"""
Many rows at once: `python bench/bulk.py`.

Ten thousand rows on PostgreSQL through asyncpg, from one list of mappings to the confirmed COMMIT: objects and Core
by hand, `bulk.insert` with and without COPY, the driver's own COPY; the same rows again as upserts; the same keys read.
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
from collections.abc import Awaitable, Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.shop import DRIVERS, AsyncShop, Book, Store, store, values  # noqa: E402 - found through the line above
from sqlalchemy import insert, select, text  # noqa: E402 - same
from sqlalchemy.dialects import postgresql  # noqa: E402 - same
from sqlalchemy.ext.asyncio import AsyncSession  # noqa: E402 - same

from fastkit.database import AsyncDatabase  # noqa: E402 - same

ROWS = 10_000
GIVEN = [{"id": number, **values(number)} for number in range(1, ROWS + 1)]
KEYS = [each["id"] for each in GIVEN]
Way = Callable[[], Awaitable[Any]]
OBJECTS, CORE, BULK, COPY, RAW = "add_all by hand", "Core by hand", "bulk.insert", "bulk.insert, copy=True", "raw COPY"


def _by_hand(database: AsyncDatabase) -> Callable[[], AsyncSession]:
    return lambda: AsyncSession(database.engine, expire_on_commit=False)


def _inserts(database: AsyncDatabase) -> dict[str, Way]:
    session_of = _by_hand(database)

    async def objects() -> None:
        async with session_of() as session:
            session.add_all([Book(**each) for each in GIVEN])
            await session.commit()

    async def core() -> None:
        async with session_of() as session:
            await session.execute(insert(Book.__table__), GIVEN)  # type: ignore[arg-type]
            await session.commit()

    async def bulk(*, copy: bool = False) -> None:
        async with AsyncShop(database) as shop:
            await shop.books.bulk.insert(GIVEN, copy=copy)
            await shop.commit()

    async def raw() -> None:
        names = list(GIVEN[0])
        async with database.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            async with driver.transaction():
                rows = map(itemgetter(*names), GIVEN)
                await driver.copy_records_to_table("book", records=rows, columns=names)

    return {OBJECTS: objects, CORE: core, BULK: bulk, COPY: lambda: bulk(copy=True), RAW: raw}


def _others(database: AsyncDatabase) -> dict[str, Way]:
    session_of = _by_hand(database)

    async def upsert_by_hand() -> None:
        statement = postgresql.insert(Book.__table__)  # type: ignore[arg-type]
        news = {name: statement.excluded[name] for name in GIVEN[0] if name != "id"}
        async with session_of() as session:
            await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=news), GIVEN)
            await session.commit()

    async def upsert() -> None:
        async with AsyncShop(database) as shop:
            await shop.books.bulk.upsert(GIVEN, match=Book.id)
            await shop.commit()

    async def read_by_hand() -> None:
        async with session_of() as session:
            (await session.scalars(select(Book).where(Book.id.in_(KEYS)))).all()

    async def read() -> None:
        async with AsyncShop(database) as shop:
            await shop.books.get_many(KEYS)
            await shop.rollback()

    return {
        "upsert, Core by hand": upsert_by_hand,
        "bulk.upsert": upsert,
        "IN by hand": read_by_hand,
        "get_many": read,
    }


async def _measure(found: Store, seconds: float) -> dict[str, list[float]]:
    database = AsyncDatabase(found.url)
    inserts, others = _inserts(database), _others(database)
    times: dict[str, list[float]] = {name: [] for name in (*inserts, *others)}
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(times[RAW]) < 3:  # noqa: PLR2004 - the first one is thrown away
        for name, way in _shuffled(inserts):
            _empty(found)
            times[name].append(await _timed(way))
            assert found.totals()[0] == ROWS, name
        for name, way in _shuffled(others):
            times[name].append(await _timed(way))
    await database.close()
    return {name: taken[1:] for name, taken in times.items()}


def _shuffled(ways: dict[str, Way]) -> list[tuple[str, Way]]:
    return random.sample(list(ways.items()), len(ways))


async def _timed(way: Way) -> float:
    gc.collect()
    start = time.perf_counter()
    await way()
    return time.perf_counter() - start


def _empty(found: Store) -> None:
    with found.observer.begin() as connection:
        connection.execute(text("TRUNCATE book"))


def _ratio(times: dict[str, list[float]], name: str, base: str) -> tuple[float, str]:
    low, middle, high = statistics.quantiles([a / b for a, b in zip(times[name], times[base], strict=True)], n=4)
    return middle, f"{middle:.3f} ({low:.3f} to {high:.3f})"


def _table(times: dict[str, list[float]]) -> str:
    bases = {**dict.fromkeys((OBJECTS, CORE, BULK, COPY, RAW), OBJECTS), "bulk.upsert": "upsert, Core by hand"}
    bases["get_many"] = "IN by hand"
    lines = ["| 10,000 rows | median, ms | / by hand |", "| --- | ---: | ---: |"]
    for name, taken in times.items():
        ratio = _ratio(times, name, bases.get(name, name))[1]
        lines.append(f"| {name} | {statistics.median(taken) * 1000:.1f} | {ratio} |")
    return "\n".join(lines)


def main() -> None:
    """Measure; exit with 1 if Core is not 4 times add_all, COPY not 10 times, or over 1.2 times the raw COPY."""
    parser = argparse.ArgumentParser(description="Many rows at once.")
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    driver = next(each for each in DRIVERS if each.label == "asyncpg")
    with tempfile.TemporaryDirectory() as folder, store(driver, Path(folder)) as found:
        if found is None:
            sys.exit("PostgreSQL does not answer; nothing was measured.")
        times = asyncio.run(_measure(found, asked.seconds))
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
