"""Units of work: a scope, an outcome and repositories, in both colours side by side."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import Unpack

from fastkit.database import AsyncDatabase, Database, GuardedSession
from fastkit.errors import DeclarationError
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow._life import UnitLife
from fastkit.uow._shield import DeadlinePassedError, shielded
from fastkit.uow.blocks import PLAIN, Asked, AsyncBlock, Block, BlockOptions

PATIENCE = 1.0
"""Seconds that a block waits at its end for a statement that another task runs in it, before it is cut off."""


class UnitOfWork(UnitLife):
    """
    What belongs together in one transaction; made by hand it lives as long as its `with`, in a request as long as that.

    A subclass lists its repositories; an annotation is enough:

    >>> class Shop(UnitOfWork):
    ...     books: Repository[Book]
    >>> with Shop(database) as shop:
    ...     shop.books.get_one(1).stock -= 1
    ...     shop.commit()

    Without `commit()` the block leaves nothing behind, and says so if something would be lost.

    Attributes:
        outcome: How the latest outermost block ended.
    """

    _repository_root: ClassVar[type[Any]] = Repository

    def __init__(self, database: Database) -> None:
        if not isinstance(database, Database):
            raise DeclarationError(f"{type(self).__name__} is sync: it takes a Database, not {database!r}.")
        super().__init__(database)
        self._session: GuardedSession | None = None

    @property
    def session(self) -> GuardedSession:
        """
        Return the SQLAlchemy session, for anything that repositories do not say.

        Raises:
            UnitClosedError: The unit was not opened yet, or has ended.
        """
        self._refuse_unless_alive()
        return self._guarded

    @property
    def _guarded(self) -> GuardedSession:
        if self._session is None:
            self._session = GuardedSession(engines=self._database, metadata=self._metadata)
        return self._session

    def _me(self) -> object:
        return threading.current_thread()

    def __enter__(self) -> Self:
        self._enter(PLAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error, commits=False)

    def block(self, **options: Unpack[Asked]) -> Block[Self]:
        """
        Return a block with options, to be entered with `with`; `with shop:` is the plain one.

        Args:
            options: *isolation*, the isolation level, at least (SQLite is always serializable); *read_only*, whether
                the database refuses every write (on SQLite such a block waits for no writer); *timeout*, the seconds
                that one statement may take; *durable*, whether the block must be the outermost one.

        Raises:
            DeclarationError: An isolation level or a timeout that no database has.
            BlockMismatchError: When entered, if it is nested in a block that is something else.
        """
        return Block(self, BlockOptions(**options))

    def begin(self, **options: Unpack[Asked]) -> Block[Self]:
        """Return a block that commits on a clean exit; takes the options of `block`."""
        return Block(self, BlockOptions(**options, commits=True))

    def commit(self) -> None:
        """
        Store everything and end the block: when this returns, it is stored. In a nested block, flush only.

        Raises:
            ConstraintError: A constraint refuses the rows; nothing was stored.
            TransactionDoomedError: An error was swallowed before; nothing was stored.
            CommitUnknownError: The connection was lost during COMMIT.
        """
        self._refuse_unless_open("commit()")
        self._commit()

    def rollback(self) -> None:
        """Undo everything and end the block. In a nested block, make a commit of the outer one impossible."""
        self._refuse_unless_open("rollback()")
        self._rollback()

    @classmethod
    @contextmanager
    def serving(cls, database: Database) -> Generator[Self]:
        """Make a unit that reads without a block and may open many, one after the other, until this context ends."""
        unit = cls(database)
        unit._serve()
        try:
            yield unit
        except BaseException as error:
            unit._retire(error)
            raise
        unit._retire(None)


class AsyncUnitOfWork(UnitLife):
    """
    Same as `UnitOfWork`, but awaited.

    >>> class Shop(AsyncUnitOfWork):
    ...     books: AsyncRepository[Book]
    >>> async with Shop(database) as shop:
    ...     (await shop.books.get_one(1)).stock -= 1
    ...     await shop.commit()

    COMMIT and the way out of a block are shielded: a cancellation arrives after them, never in the middle.
    """

    _repository_root: ClassVar[type[Any]] = AsyncRepository

    def __init__(self, database: AsyncDatabase) -> None:
        if not isinstance(database, AsyncDatabase):
            raise DeclarationError(f"{type(self).__name__} is async: it takes an AsyncDatabase, not {database!r}.")
        super().__init__(database)
        self._session: AsyncSession | None = None
        self._sync_session: GuardedSession | None = None

    @property
    def session(self) -> AsyncSession:
        """Same as `UnitOfWork.session`."""
        self._refuse_unless_alive()
        return self._async_session

    @property
    def _async_session(self) -> AsyncSession:
        if self._session is None:
            self._session = AsyncSession(
                sync_session_class=GuardedSession, engines=self._database, metadata=self._metadata
            )
        return self._session

    @property
    def _guarded(self) -> GuardedSession:
        if self._sync_session is None:
            guarded = self._async_session.sync_session
            assert isinstance(guarded, GuardedSession)  # noqa: S101 - made so above
            self._sync_session = guarded
        return self._sync_session

    def _me(self) -> object:
        return asyncio.current_task()

    async def __aenter__(self) -> Self:
        self._enter(PLAIN)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave_shielded(error, commits=False)

    def block(self, **options: Unpack[Asked]) -> AsyncBlock[Self]:
        """Same as `UnitOfWork.block`, but entered with `async with`."""
        return AsyncBlock(self, BlockOptions(**options))

    def begin(self, **options: Unpack[Asked]) -> AsyncBlock[Self]:
        """Same as `UnitOfWork.begin`, but entered with `async with`."""
        return AsyncBlock(self, BlockOptions(**options, commits=True))

    async def commit(self) -> None:
        """Same as `UnitOfWork.commit`, but awaited."""
        self._refuse_unless_open("commit()")
        await self._shielded(self._commit, committing=True)

    async def rollback(self) -> None:
        """Same as `UnitOfWork.rollback`, but awaited."""
        self._refuse_unless_open("rollback()")
        await self._shielded(self._rollback)

    @classmethod
    @asynccontextmanager
    async def serving(cls, database: AsyncDatabase) -> AsyncGenerator[Self]:
        """Same as `UnitOfWork.serving`, but entered with `async with`."""
        unit = cls(database)
        unit._serve()
        try:
            yield unit
        except BaseException as error:
            await unit._shielded(partial(unit._retire, error))
            raise
        await unit._shielded(partial(unit._retire, None))

    async def _leave_shielded(self, error: BaseException | None, *, commits: bool) -> None:
        leave = partial(self._leave, error, commits=commits)
        await self._shielded(leave, committing=commits and error is None)

    async def _shielded(self, work: Callable[[], None], *, committing: bool = False) -> None:
        """Run *work* so that no cancellation can cut it in two, and no dead server can hold it for ever."""
        session, guarded = self._async_session, self._guarded
        transaction = guarded.open_transaction
        if not (guarded.in_transaction() or guarded.unsaved() or guarded.is_busy):
            work()
            return

        async def settle_and_work() -> None:
            patience = time.monotonic() + PATIENCE
            # whoever is at work has no event to set
            while guarded.is_settling or (guarded.is_busy and time.monotonic() < patience):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await session.run_sync(lambda _: work())

        try:
            await shielded(settle_and_work(), deadline=self._database.timeouts.commit)
        except DeadlinePassedError:
            self._abandon(sent=transaction is not None and transaction.committing, committing=committing)
