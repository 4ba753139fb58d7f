"""Run independent reads at once, without ever starving the pool that they share with everybody else."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AsyncExitStack, ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from weakref import WeakKeyDictionary

import anyio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from fastkit._calls import awaited, refuse_awaitable
from fastkit.database._modes import Asked
from fastkit.database._scope_writes import OWN_STATEMENT
from fastkit.database._units import AsyncUnit, Unit
from fastkit.errors import ConcurrentUseError, DeclarationError, FastkitError, PoolTimeoutError

if TYPE_CHECKING:
    from fastkit.database._state import DatabaseState

U = TypeVar("U", bound=Unit)
A = TypeVar("A", bound=AsyncUnit)

WITHOUT_POOL = 16
"""Branches that may run at once on a database whose pool has no limit."""

_BRANCH: Asked = {"read_only": True, "primary": True}
_SNAPSHOT: Asked = {"isolation": "REPEATABLE READ", **_BRANCH}
_MISSING = object()
_READ = "A read of gather"
_BUSY = "All branches that may run at once are taken, and none became free in time."


class Slots:
    """
    The connections that branches may take, all together: at most half of the pool.

    A fan-out waits for its first slot only; further ones it takes if they are free now. Each slot does one branch after
    the other, so a fan-out with one slot ends too, and none holds a slot while it waits for another.
    """

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self.limit = WITHOUT_POOL if capacity is None else capacity // 2
        self._threads = threading.Semaphore(max(1, self.limit))
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, anyio.CapacityLimiter] = WeakKeyDictionary()

    @contextmanager
    def taken(self, most: int, seconds: float) -> Generator[int]:
        """Take between one slot and so many; yield how many."""
        if not self._threads.acquire(timeout=seconds):
            raise PoolTimeoutError(_BUSY)
        taken = 1
        try:
            while taken < most and self._threads.acquire(blocking=False):
                taken += 1
            yield taken
        finally:
            self._threads.release(taken)

    async def take(self, stack: AsyncExitStack, most: int, seconds: float) -> int:
        """Same as `taken`, but awaited; *stack* gives the slots back."""
        limiter = self._loops.setdefault(asyncio.get_running_loop(), anyio.CapacityLimiter(max(1, self.limit)))
        slots = [object() for _ in range(most)]
        try:
            with anyio.fail_after(seconds):
                await limiter.acquire_on_behalf_of(slots[0])
        except TimeoutError:
            raise PoolTimeoutError(_BUSY) from None
        stack.callback(limiter.release_on_behalf_of, slots[0])
        for taken, slot in enumerate(slots[1:], start=1):
            try:
                limiter.acquire_on_behalf_of_nowait(slot)
            except anyio.WouldBlock:
                return taken
            stack.callback(limiter.release_on_behalf_of, slot)
        return most


class Branches:
    """
    The branches of one fan-out that are still to be run, and the results of the others.

    Attributes:
        results: One for each branch, in order.
    """

    def __init__(self, reads: Sequence[Callable[..., Any]]) -> None:
        self._left: Iterator[tuple[int, Callable[..., Any]]] = iter(enumerate(reads))
        self._lock = threading.Lock()
        self.results: list[Any] = [_MISSING] * len(reads)
        self._failure: BaseException | None = None
        self._no_snapshot: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """Return the error that the caller sees: the first of a branch."""
        return self._failure or self._no_snapshot

    def __iter__(self) -> Iterator[tuple[int, Callable[..., Any]]]:
        while (branch := self._next()) is not None:
            yield branch

    def _next(self) -> tuple[int, Callable[..., Any]] | None:
        with self._lock:
            return next(self._left, None)

    def fail(self, error: BaseException) -> None:
        """Begin no further branch."""
        with self._lock:
            self._left = iter(())
            self._failure = self._failure or error

    def fail_without_snapshot(self, error: BaseException) -> None:
        """Begin no further branch; the transaction that shares its snapshot has failed, as a rule, and says why."""
        with self._lock:
            self._left = iter(())
            self._no_snapshot = self._no_snapshot or error


class FanOut:
    """
    How one call of `gather` runs; checked before anything is sent.

    Raises:
        ConcurrentUseError: The caller has a block open, so it would wait for connections while it holds one.
        DeclarationError: Nothing to run, a pool too small, or a snapshot that the database cannot share.
    """

    def __init__(
        self,
        database: DatabaseState,
        reads: Sequence[Callable[..., Any]],
        *,
        snapshot: bool,
        fallback: Literal["sequential"] | None,
    ) -> None:
        self.branches = Branches(reads)
        self.shares = snapshot and database.ledger.shares_snapshots
        self.in_one_transaction = snapshot and not self.shares
        self.most = 1 if self.in_one_transaction else len(reads)
        _check(database, reads, fallback)
        if self.in_one_transaction and fallback is None and database.dialect_name != "postgresql":
            raise DeclarationError(
                f"snapshot=True needs PostgreSQL: {database.dialect_name} cannot show one snapshot to several "
                'transactions. Say fallback="sequential" to run the branches one after the other in one transaction.'
            )

    def run(self, database: DatabaseState, unit: type[U], slots: int) -> list[Any]:
        """Run all branches on so many connections, each in a thread of its own; the first error is raised."""
        with ExitStack() as stack:
            leader, number = None, None
            if self.shares or self.in_one_transaction:
                leader = stack.enter_context(stack.enter_context(unit.serving(database)).block(**_SNAPSHOT))
            if leader is not None and slots > 1:
                number = _exported(leader.session)
            threads = stack.enter_context(ThreadPoolExecutor(slots, thread_name_prefix="fastkit-gather"))
            work = partial(self._work, database, unit, None, number)
            others = [threads.submit(copy_context().run, work) for _ in range(slots - 1)]
            self._work(database, unit, leader, None)
            wait(others)
            if self.branches.failure is not None:
                raise self.branches.failure
        return self.branches.results

    def _work(self, database: DatabaseState, unit: type[U], leader: U | None, number: str | None) -> None:
        try:
            for position, read in self.branches:
                if leader is not None:
                    with leader.block() as nested:  # so that no read ends the snapshot of the others
                        self.branches.results[position] = refuse_awaitable(read(nested), _READ)
                    continue
                with unit.serving(database) as served, served.block(**_options(number)) as branch:
                    if number and not self._import(branch.session, number):
                        return
                    self.branches.results[position] = refuse_awaitable(read(branch), _READ)
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            self.branches.fail(error)

    async def run_async(self, database: DatabaseState, unit: type[A], slots: int) -> list[Any]:
        """Run all branches on so many connections, each in a task of its own; the first error cancels the others."""
        failure: BaseException | None = None
        async with AsyncExitStack() as stack:
            leader, number = None, None
            if self.shares or self.in_one_transaction:
                served = await stack.enter_async_context(unit.serving(database))
                leader = await stack.enter_async_context(served.block(**_SNAPSHOT))
            if leader is not None and slots > 1:
                number = await leader.session.run_sync(_exported)
            cancellations = _cancellations()
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(slots - 1):
                        group.create_task(self._work_async(database, unit, None, number))
                    await self._work_async(database, unit, leader, None)
            except BaseExceptionGroup as failures:
                failure = failures.exceptions[0]
                if (caller := asyncio.current_task()) and _cancellations() > cancellations:
                    caller.uncancel()  # before Python 3.13 a group that fails while it is left forgets to
            if failure := self.branches.failure or failure:
                raise failure
            if any(each is _MISSING for each in self.branches.results):  # `in` would compare results
                raise asyncio.CancelledError  # by somebody else than the caller
        return self.branches.results

    async def _work_async(self, database: DatabaseState, unit: type[A], leader: A | None, number: str | None) -> None:
        try:
            for position, read in self.branches:
                if leader is not None:
                    async with leader.block() as nested:
                        self.branches.results[position] = await awaited(read(nested), _READ)
                    continue
                async with unit.serving(database) as served, served.block(**_options(number)) as branch:
                    if number and not await branch.session.run_sync(self._import, number):
                        return
                    self.branches.results[position] = await awaited(read(branch), _READ)
        except Exception as error:
            self.branches.fail(error)
            raise

    def _import(self, session: Session, number: str) -> bool:
        """Return whether the transaction sees this snapshot now."""
        if not re.fullmatch("[0-9A-F-]+", number):
            raise ValueError("not the number of a snapshot")  # it cannot be a parameter
        try:
            statement = text(f"SET TRANSACTION SNAPSHOT '{number}'").execution_options(fastkit_reads=True)
            session.execute(statement, execution_options=OWN_STATEMENT)
        except (FastkitError, DBAPIError) as error:
            self.branches.fail_without_snapshot(error)
            return False
        return True


def _check(database: DatabaseState, reads: Sequence[Callable[..., Any]], fallback: object) -> None:
    if not reads or not all(callable(read) for read in reads):
        raise DeclarationError("gather(Shop, read_a, read_b) takes functions of a unit of work, uncalled.")
    if fallback not in {None, "sequential"}:
        raise DeclarationError(f'fallback={fallback!r}: it is "sequential" or None.')
    if not database.ledger.slots.limit:
        raise DeclarationError(
            f"gather needs a pool of at least 2 connections, and this one has {database.capacity}: "
            "its branches take at most half of them, so that others are never kept waiting for all."
        )
    if database.ledger.is_held_here():
        raise ConcurrentUseError(
            "gather was called inside an open block: its branches would wait for connections while this one is held, "
            "and would not see what the block has written. Call it before the block, or after it."
        )


def _cancellations() -> int:
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _options(number: str | None) -> Asked:
    return _SNAPSHOT if number else _BRANCH


def _exported(session: Session) -> str:
    """
    Return the number of the snapshot of this transaction, which is valid as long as the transaction.

    Source: postgresql.org/docs/current/functions-admin.html, "Snapshot Synchronization Functions".
    """
    statement = text("SELECT pg_export_snapshot()").execution_options(fastkit_reads=True)
    return str(session.execute(statement, execution_options=OWN_STATEMENT).scalar())
