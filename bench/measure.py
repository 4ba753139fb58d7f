"""How it is measured: equal outcomes first, then rounds in which every contestant runs, in a shuffled order."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import statistics
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench.contestants import HAND, Operation
from bench.shop import Book, Store
from sqlalchemy import event
from sqlalchemy.orm import class_mapper

try:
    import uvloop
except ImportError:  # it is not made for Windows
    uvloop = None

T = TypeVar("T")

BATCH_SECONDS = 0.005
"""About as long as a process runs before another one gets the core, so that many batches run undisturbed."""

WARM_UP = 30
Runners = dict[str, Operation]


def run(measuring: Coroutine[Any, Any, T]) -> T:
    """Run all of a measurement on one event loop: uvloop's, as `uvicorn[standard]` does, where it is installed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        return runner.run(measuring)


@dataclass
class Timing:
    """
    What one contestant needed for one operation.

    Attributes:
        wall: Microseconds for one operation, in each round.
        cpu: The same in processor time of this process, which other processes disturb less.
        garbage: Objects that only the garbage collector can free, for one operation.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    garbage: float = 0.0


@dataclass(frozen=True)
class Spread:
    """The middle of the ratios of all rounds, and its quartiles."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(ours: list[float], theirs: list[float]) -> Spread:
    """Return the spread of the ratios ours / theirs, round by round."""
    return Spread(*statistics.quantiles([a / b for a, b in zip(ours, theirs, strict=True)], n=4))


async def once(operation: Operation, number: int) -> Any:
    """Do an operation once, whatever its colour."""
    done = operation(number)
    return await done if inspect.isawaitable(done) else done


async def assert_equal_outcomes(runners: Runners, engines: list[Any], store: Store) -> None:
    """
    Run each contestant once and compare what it returned, stored and sent.

    Raises:
        AssertionError: A contestant does something else than the hand-written one, or keeps a connection.
    """
    seen = {name: await _outcome(run, engines, store) for name, run in runners.items()}
    for name, outcome in seen.items():
        if outcome != seen[HAND]:
            raise AssertionError(f"{name} does something else:\n{outcome}\n{seen[HAND]}")


async def _outcome(run: Operation, engines: list[Any], store: Store) -> Any:
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    await once(run, 7)  # the first use of a connection asks the server for its settings
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    before = store.totals()
    result = await once(run, 8)
    after = store.totals()
    for engine in engines:
        event.remove(engine, "before_cursor_execute", note)
        if engine.pool.checkedout():
            raise AssertionError("A connection was not given back.")
    stored = (after[0] - before[0], after[1] - before[1])
    return _plain(result, inserted=bool(stored[0]), changed=bool(stored[1])), stored, sent


def _plain(result: Any, *, inserted: bool, changed: bool) -> Any:
    """Return the values of books; without what another contestant's turn has changed."""
    left_out = ({"id"} if inserted else set()) | ({"stock"} if changed else set())
    names = [column.key for column in class_mapper(Book).column_attrs if column.key not in left_out]
    books = [result] if isinstance(result, Book) else list(result)
    return [tuple(getattr(book, name) for name in names) for book in books]


async def measure(runners: Runners, *, seconds: float, shuffle: random.Random) -> dict[str, Timing]:
    """Return the timings of each contestant; all of them run in each round, so that noise hits all alike."""
    is_async = inspect.iscoroutinefunction(next(iter(runners.values())))
    batch = _async_batch if is_async else _sync_batch
    for run in runners.values():
        await batch(run, WARM_UP)
    wall, _ = await batch(runners[HAND], WARM_UP)
    count = max(5, round(BATCH_SECONDS / (wall / 1e6)))
    timings = {name: Timing() for name in runners}
    order, garbage, rounds = list(runners), dict.fromkeys(runners, 0), 0
    end = time.monotonic() + seconds
    gc.collect()
    gc.freeze()
    while time.monotonic() < end or rounds < 5:  # noqa: PLR2004 - quartiles need a few
        shuffle.shuffle(order)
        for name in order:
            gc.disable()
            wall, cpu = await batch(runners[name], count)
            garbage[name] += gc.collect()
            gc.enable()
            timings[name].wall.append(wall)
            timings[name].cpu.append(cpu)
        rounds += 1
    gc.unfreeze()
    for name, timing in timings.items():
        timing.garbage = garbage[name] / (rounds * count)
    return timings


async def _async_batch(run: Operation, count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for number in range(count):
        await run(number)
    return _per_operation(wall, cpu, count)


async def _sync_batch(run: Operation, count: int) -> tuple[float, float]:
    wall, cpu = time.perf_counter_ns(), time.process_time_ns()
    for number in range(count):
        run(number)
    return _per_operation(wall, cpu, count)


def _per_operation(wall: int, cpu: int, count: int) -> tuple[float, float]:
    cpu_now, wall_now = time.process_time_ns(), time.perf_counter_ns()
    return (wall_now - wall) / count / 1000, (cpu_now - cpu) / count / 1000
