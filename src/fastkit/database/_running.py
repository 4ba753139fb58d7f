"""Work that a database runs in units of its own: again when it lost a race, or several reads at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, overload

from typing_extensions import Unpack

from fastkit.database._fan_out import FanOut
from fastkit.database._modes import Asked
from fastkit.database._state import DatabaseState
from fastkit.database._units import AsyncUnit, Unit, refuse_other_class
from fastkit.database.retry import Retry

U = TypeVar("U", bound=Unit)
A = TypeVar("A", bound=AsyncUnit)
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")

Fallback: TypeAlias = Literal["sequential"] | None

RETRY = Retry()


class RunsUnits(DatabaseState):
    """What a `Database` runs."""

    def run(self, unit: type[U], work: Callable[[U], T], *, retry: Retry = RETRY, **options: Unpack[Asked]) -> T:
        """
        Run *work* in a unit and a block of its own that commits; again, in a new session, while it loses a race.

        >>> database.run(Shop, lambda shop: transfer(shop, 1, 2, Decimal(10)), isolation="SERIALIZABLE")

        It runs again after a serialization failure, a deadlock or a busy SQLite, found anywhere in the chain of the
        error, so it must do nothing outside the database that cannot be done twice. Hooks and events of an attempt that
        failed are dropped. An unknown commit is never repeated.

        Args:
            unit: The class of the unit of work.
            work: Takes the unit; what it returns is returned.
            retry: How often, and how long.
            options: The options of `UnitOfWork.block`.

        Raises:
            ConcurrencyError: The last attempt lost too; a note on it says how many there were.
        """
        refuse_other_class(unit, "run()")
        with unit.serving(self) as served:
            return served._repeat(partial(work, served), retry, options)  # noqa: SLF001 - no name for apps

    @overload
    def gather(
        self,
        unit: type[U],
        a: Callable[[U], T1],
        b: Callable[[U], T2],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2]: ...
    @overload
    def gather(
        self,
        unit: type[U],
        a: Callable[[U], T1],
        b: Callable[[U], T2],
        c: Callable[[U], T3],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3]: ...
    @overload
    def gather(
        self,
        unit: type[U],
        a: Callable[[U], T1],
        b: Callable[[U], T2],
        c: Callable[[U], T3],
        d: Callable[[U], T4],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    def gather(
        self,
        unit: type[U],
        a: Callable[[U], T1],
        b: Callable[[U], T2],
        c: Callable[[U], T3],
        d: Callable[[U], T4],
        e: Callable[[U], T5],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    def gather(
        self, unit: type[U], /, *reads: Callable[[U], T1], snapshot: bool = ..., fallback: Fallback = ...
    ) -> tuple[T1, ...]: ...
    def gather(
        self, unit: type[U], /, *reads: Callable[[U], Any], snapshot: bool = False, fallback: Fallback = None
    ) -> tuple[Any, ...]:
        """
        Run independent reads at once, each in a read-only unit of its own on the primary; return what they return.

        >>> books, orders = database.gather(Shop, newest_books, open_orders)

        All fan-outs together take at most half of the pool, so they never starve others, nor each other. If one read
        fails, the rest is given up and its error raised. For queries of less than a millisecond it is slower than
        asking one after the other.

        Args:
            unit: The class of the unit of work.
            reads: Functions of a unit.
            snapshot: Whether all reads see the same moment (PostgreSQL).
            fallback: What to do where the database cannot share a snapshot: "sequential" runs the reads one after the
                other in one transaction.

        Raises:
            DeclarationError: No reads, a pool of less than two connections, or a snapshot that cannot be shared.
            ConcurrentUseError: Called inside an open block.
            PoolTimeoutError: No branch could begin in time.
        """
        refuse_other_class(unit, "gather()")
        fan_out = FanOut(self, reads, snapshot=snapshot, fallback=fallback)
        with self.ledger.slots.taken(fan_out.most, self.timeouts.pool) as slots:
            return tuple(fan_out.run(self, unit, slots))


class RunsAsyncUnits(DatabaseState):
    """What an `AsyncDatabase` runs."""

    async def run(
        self,
        unit: type[A],
        work: Callable[[A], Awaitable[T]],
        *,
        retry: Retry = RETRY,
        **options: Unpack[Asked],
    ) -> T:
        """Same as `Database.run`, but awaited."""
        refuse_other_class(unit, "run()")
        async with unit.serving(self) as served:
            return await served._repeat(partial(work, served), retry, options)  # noqa: SLF001 - no name for apps

    @overload
    async def gather(
        self,
        unit: type[A],
        a: Callable[[A], Awaitable[T1]],
        b: Callable[[A], Awaitable[T2]],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2]: ...
    @overload
    async def gather(
        self,
        unit: type[A],
        a: Callable[[A], Awaitable[T1]],
        b: Callable[[A], Awaitable[T2]],
        c: Callable[[A], Awaitable[T3]],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3]: ...
    @overload
    async def gather(
        self,
        unit: type[A],
        a: Callable[[A], Awaitable[T1]],
        b: Callable[[A], Awaitable[T2]],
        c: Callable[[A], Awaitable[T3]],
        d: Callable[[A], Awaitable[T4]],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3, T4]: ...
    @overload
    async def gather(
        self,
        unit: type[A],
        a: Callable[[A], Awaitable[T1]],
        b: Callable[[A], Awaitable[T2]],
        c: Callable[[A], Awaitable[T3]],
        d: Callable[[A], Awaitable[T4]],
        e: Callable[[A], Awaitable[T5]],
        /,
        *,
        snapshot: bool = ...,
        fallback: Fallback = ...,
    ) -> tuple[T1, T2, T3, T4, T5]: ...
    @overload
    async def gather(
        self, unit: type[A], /, *reads: Callable[[A], Awaitable[T1]], snapshot: bool = ..., fallback: Fallback = ...
    ) -> tuple[T1, ...]: ...
    async def gather(
        self, unit: type[A], /, *reads: Callable[[A], Awaitable[Any]], snapshot: bool = False, fallback: Fallback = None
    ) -> tuple[Any, ...]:
        """Same as `Database.gather`, but awaited: `await database.gather(Shop, newest_books, open_orders)`."""
        refuse_other_class(unit, "gather()")
        fan_out = FanOut(self, reads, snapshot=snapshot, fallback=fallback)
        async with AsyncExitStack() as stack:
            slots = await self.ledger.slots.take(stack, fan_out.most, self.timeouts.pool)
            return tuple(await fan_out.run_async(self, unit, slots))
