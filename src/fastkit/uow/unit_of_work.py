"""Units of work: a scope, an outcome and repositories, in both colours side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Self

from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import Unpack

from fastkit.database import Asked, AsyncDatabase, Database, GuardedSession, hold_lock, place_of_caller
from fastkit.errors import DeclarationError
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow._effects import AsyncEffects, Effects
from fastkit.uow._frames import frame_at
from fastkit.uow.blocks import PLAIN, AsyncBlock, AsyncSavepoint, Block, BlockOptions, Savepoint


class UnitOfWork(Effects):
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

    def __init__(self, database: Database, *, confirm_commit: bool | None = None) -> None:
        if not isinstance(database, Database):
            raise DeclarationError(f"{type(self).__name__} is sync: it takes a Database, not {database!r}.")
        super().__init__(database, confirm_commit=confirm_commit)
        self._take_session()

    @property
    def session(self) -> GuardedSession:
        """
        Return the SQLAlchemy session, for anything that repositories do not say.

        Raises:
            UnitClosedError: The unit was not opened yet, or has ended.
        """
        self._refuse_unless_alive()
        return self._guarded

    def __enter__(self) -> Self:
        self._enter(PLAIN, frame_at(1))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit(error, frame_at(1), commits=False)

    def block(self, **options: Unpack[Asked]) -> Block[Self]:
        """
        Return a block with options, to be entered with `with`; `with shop:` is the plain one.

        Args:
            options: *isolation*, the isolation level, at least (SQLite is always serializable); *read_only*, whether
                the database refuses every write (on SQLite such a block waits for no writer), so that a replica may
                serve it; *primary*, whether the primary serves it all the same; *timeout*, the seconds that one
                statement may take; *durable*, whether the block must be the outermost one.

        Raises:
            DeclarationError: An isolation level or a timeout that no database has.
            BlockMismatchError: When entered, if it is nested in a block that is something else.
        """
        return Block(self, BlockOptions(**options))

    def begin(self, **options: Unpack[Asked]) -> Block[Self]:
        """Return a block that commits on a clean exit; takes the options of `block`."""
        return Block(self, BlockOptions(**options, commits=True))

    def savepoint(self) -> Savepoint[Self]:
        """
        Return the part of a block that can fail alone, to be entered with `with`.

        An exception rolls back what was done in it, hooks and events included; where it is handled outside, the block
        goes on. Objects that were changed in it are read again when they are next asked for.

        Raises:
            OutsideBlockError: When entered, if no block is open.
            TransactionDoomedError: When left, if an error was swallowed inside; what was done in it is rolled back.
        """
        return Savepoint(self)

    def lock(self, name: str, *, timeout: float | None = None) -> None:
        """
        Hold a lock on a name until the outermost block ends: in no other process can a block hold the same one.

        Take it first in the block: what was read before it may be old. On SQLite a block that may write is alone
        anyway, so any two names keep each other out. To take it again changes nothing.

        Args:
            name: Any text, such as "invoice-numbers"; it appears in the error, so it is no place for secrets.
            timeout: Seconds to wait for it, 0 not to wait; the limit is that of the `Database` for locks.

        Raises:
            LockTimeoutError: Another block holds it; handle that outside of this one, which can do nothing more.
            OutsideBlockError: No block is open.
            ReadOnlyError: The block is read-only.
        """
        self._refuse_unless_open("lock()")
        hold_lock(self._guarded, name, timeout)

    def commit(self) -> None:
        """
        Store everything and end the block: when this returns, it is stored. In a nested block, flush only.

        Raises:
            ConstraintError: A constraint refuses the rows; nothing was stored.
            TransactionDoomedError: An error was swallowed before; nothing was stored.
            CommitUnknownError: The connection was lost during COMMIT.
        """
        self._refuse_unless_open("commit()")
        self._refuse_to_commit_around(frame_at(1))
        if self._handlers is not None:
            self._call_handlers()
        try:
            self._commit()
        finally:
            if self._hooks:
                self._run_hooks()

    def rollback(self) -> None:
        """
        Undo everything and end the block.

        In a nested block, make a commit of what encloses it impossible: of the innermost savepoint, or of the whole.
        """
        self._refuse_unless_open("rollback()")
        self._rollback(place_of_caller())

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


class AsyncUnitOfWork(AsyncEffects):
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

    def __init__(self, database: AsyncDatabase, *, confirm_commit: bool | None = None) -> None:
        if not isinstance(database, AsyncDatabase):
            raise DeclarationError(f"{type(self).__name__} is async: it takes an AsyncDatabase, not {database!r}.")
        super().__init__(database, confirm_commit=confirm_commit)
        self._take_session()

    @property
    def session(self) -> AsyncSession:
        """Same as `UnitOfWork.session`."""
        self._refuse_unless_alive()
        return self._async_session

    async def __aenter__(self) -> Self:
        self._enter(PLAIN, frame_at(1))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit(error, frame_at(1), commits=False)

    def block(self, **options: Unpack[Asked]) -> AsyncBlock[Self]:
        """Same as `UnitOfWork.block`, but entered with `async with`."""
        return AsyncBlock(self, BlockOptions(**options))

    def begin(self, **options: Unpack[Asked]) -> AsyncBlock[Self]:
        """Same as `UnitOfWork.begin`, but entered with `async with`."""
        return AsyncBlock(self, BlockOptions(**options, commits=True))

    def savepoint(self) -> AsyncSavepoint[Self]:
        """Same as `UnitOfWork.savepoint`, but entered with `async with`."""
        return AsyncSavepoint(self)

    async def lock(self, name: str, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - of the database
        """Same as `UnitOfWork.lock`, but awaited."""
        self._refuse_unless_open("lock()")
        await self._async_session.run_sync(lambda _: hold_lock(self._guarded, name, timeout))

    async def commit(self) -> None:
        """Same as `UnitOfWork.commit`, but awaited."""
        self._refuse_unless_open("commit()")
        self._refuse_to_commit_around(frame_at(1))
        if self._handlers is not None:
            await self._call_handlers()
        try:
            await self._shielded(self._commit, committing=True)
        except asyncio.CancelledError:
            self._skip_hooks()
            raise
        except BaseException:
            await self._run_hooks()  # of a listener of the app, after the commit: same as in a sync unit
            raise
        if self._hooks:
            await self._run_hooks()

    async def rollback(self) -> None:
        """Same as `UnitOfWork.rollback`, but awaited."""
        self._refuse_unless_open("rollback()")
        await self._shielded(partial(self._rollback, place_of_caller()))

    @classmethod
    @asynccontextmanager
    async def serving(cls, database: AsyncDatabase) -> AsyncGenerator[Self]:
        """Same as `UnitOfWork.serving`, but entered with `async with`."""
        unit = cls(database)
        unit._serve()
        try:
            yield unit
        except BaseException as error:
            await unit._end_of_owner(error)
            raise
        await unit._end_of_owner(None)

    async def _end_of_owner(self, error: BaseException | None) -> bool:
        """End for good, and return whether that waited."""
        return await self._shielded(partial(self._retire, error))
