"""
What each guard of a unit of work costs, for one insert and its commit: `python bench/guards.py`.

Each row is fastkit without one guard, or with something that is off by default, in the same run as hand-written
SQLAlchemy that stores the same. bench/README.md says how to read it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.contestants import CONTROL, FASTKIT, HAND, contestants  # noqa: E402 - found through the line above
from bench.measure import Runners, Timing, measure, spread  # noqa: E402 - same
from bench.shop import DRIVERS, AsyncShop, Base, Book, Driver, Shop, Store, store, values  # noqa: E402 - same

from fastkit.database import AsyncDatabase, Database  # noqa: E402 - same
from fastkit.events import EventHandlers, RecordsEvents  # noqa: E402 - same

GOAL = 1.12
LABELS = ("sqlite3", "aiosqlite", "asyncpg", "psycopg, sync")


class Added:
    """What happened to a book."""


class Eventful(RecordsEvents, Base):
    """The same table, recording an event."""

    __table__ = Book.__table__


HANDLERS = EventHandlers()
HANDLERS.ignore(Added)


class EventShop(Shop, events=HANDLERS):
    """The unit of work with handlers for events."""


class AsyncEventShop(AsyncShop, events=HANDLERS):
    """The same, async."""


Variant = tuple[Callable[[], Any], Callable[[Any], None]]
"""How a unit is made, and what is done to it before its commit."""


class _NoGuard:
    is_held_elsewhere = False
    holder = None
    transaction: Any = None

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class _NoLedger:
    def opened(self, unit: object, owner: object) -> None: ...

    def closed(self, unit: object) -> None: ...


def _unguarded(unit: Any) -> Any:
    unit._guarded._guard = _NoGuard()  # noqa: SLF001 - a benchmark takes it apart
    return unit


def _without_notes(unit: Any) -> Any:
    unit._guarded.pending = tuple  # noqa: SLF001 - same
    return unit


def _unowned(unit: Any) -> Any:
    unit._me = lambda: HANDLERS  # noqa: SLF001 - same
    return unit


def _unshielded(unit: Any) -> Any:
    async def run(work: Callable[[], None]) -> None:
        await unit._async_session.run_sync(lambda _: work())  # noqa: SLF001 - same

    unit._uncut = run  # noqa: SLF001 - same
    return unit


def _variants(shop: Any, database: Any, *, is_server: bool) -> dict[str, Variant]:
    def nothing(unit: Any) -> None: ...

    handling = AsyncEventShop if shop is AsyncShop else EventShop
    made: dict[str, Variant] = {
        "without the guard of errors and overlap": (lambda: _unguarded(shop(database)), nothing),
        "without the notes of what was written": (lambda: _without_notes(shop(database)), nothing),
        "without the owner of a block": (lambda: _unowned(shop(database)), nothing),
        "with a hook": (lambda: shop(database), lambda unit: unit.after_commit(int)),
        "with handlers for events, of which none happens": (lambda: handling(database), nothing),
    }
    if shop is AsyncShop:
        made["without the shield of the commit"] = (lambda: _unshielded(shop(database)), nothing)
    if is_server:
        made["with confirm_commit=True"] = (lambda: shop(database, confirm_commit=True), nothing)
    return made


def _runner(make: Callable[[], Any], prepare: Callable[[Any], None], *, is_async: bool) -> Callable[[int], Any]:
    def insert(number: int) -> None:
        with make() as shop:
            shop.books.add(Book(**values(number)))
            prepare(shop)
            shop.commit()

    async def insert_async(number: int) -> None:
        async with make() as shop:
            shop.books.add(Book(**values(number)))
            prepare(shop)
            await shop.commit()

    return insert_async if is_async else insert


def _eventful(database: Any, *, is_async: bool) -> Callable[[int], Any]:
    def insert(number: int) -> None:
        with EventShop(database) as unit:
            book = Eventful(**values(number))
            unit.session.add(book)
            book.record(Added())
            unit.commit()

    async def insert_async(number: int) -> None:
        async with AsyncEventShop(database) as unit:
            book = Eventful(**values(number))
            unit.session.add(book)
            book.record(Added())
            await unit.commit()

    return insert_async if is_async else insert


async def _driver(driver: Driver, found: Store, seconds: float) -> dict[str, Timing]:
    make: Any = AsyncDatabase if driver.is_async else Database
    databases = [make(found.url) for _ in range(4)]
    runners: Runners = {each.name: run for each in contestants(*databases[:3]) if (run := each.operations[0])}
    shop: Any = AsyncShop if driver.is_async else Shop
    for name, (unit, prepare) in _variants(shop, databases[3], is_server=driver.is_server).items():
        runners[name] = _runner(unit, prepare, is_async=driver.is_async)
    runners["with an event"] = _eventful(databases[3], is_async=driver.is_async)
    timings = await measure(runners, seconds=seconds, shuffle=random.Random(1))
    for database in databases:
        if (closing := database.close()) is not None:
            await closing
    return timings


def _table(label: str, timings: dict[str, Timing]) -> str:
    hand, ours = timings.pop(HAND), timings[FASTKIT]
    lines = [
        f"### {label}: insert, commit ({len(hand.wall)} rounds)",
        "",
        "| | us | / hand-written | CPU time / hand-written | more or less than fastkit, us |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| {HAND} | {min(hand.wall):.0f} | 1.00 | 1.00 | |",
    ]
    for name, timing in timings.items():
        more = statistics.median(a - b for a, b in zip(timing.wall, ours.wall, strict=True))
        difference = "" if name in {FASTKIT, CONTROL} else f"{more:+.1f}"
        ratio, cpu = spread(timing.wall, hand.wall), spread(timing.cpu, hand.cpu)
        lines.append(f"| {name} | {min(timing.wall):.0f} | {ratio} | {cpu.median:.2f} | {difference} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Measure every driver whose server answers; exit with 1 if fastkit leaves its goal."""
    parser = argparse.ArgumentParser(description="What each guard costs.")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each driver")
    parser.add_argument("--only", default="", help="a driver's label; keep no result")
    asked = parser.parse_args()
    tables, above = [], []
    with tempfile.TemporaryDirectory() as folder:
        for driver in (each for each in DRIVERS if each.label in LABELS and asked.only in each.label):
            with store(driver, Path(folder)) as found:
                if found is None:
                    print(f"not measured, because its server does not answer: {driver.label}", file=sys.stderr)
                    continue
                timings = asyncio.run(_driver(driver, found, asked.seconds))
            ratio = spread(timings[FASTKIT].wall, timings[HAND].wall).median
            above += [f"{driver.label}: {ratio:.3f}"] if ratio > GOAL else []
            tables.append(_table(driver.label, timings))
    text = "# What each guard costs\n\n" + "\n".join(tables)
    text += f"\nGoal: fastkit within {GOAL} of hand-written. Above it: {', '.join(above) or 'none'}.\n"
    print(text)
    if not asked.only and asked.seconds >= 10:  # noqa: PLR2004 - fewer rounds say little
        (HERE / "results" / "guards.md").write_text(text)
    sys.exit(1 if above else 0)


if __name__ == "__main__":
    main()
