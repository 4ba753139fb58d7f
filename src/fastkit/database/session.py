"""A SQLAlchemy session that is watched over by a unit of work."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn, Protocol

from sqlalchemy import Connection, Engine, Executable, MetaData, TextClause, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql.selectable import TextualSelect
from sqlalchemy.util import immutabledict

from fastkit.database._modes import SEVERAL_READS, SINGLE_READ, Mode
from fastkit.database._overlap import OneAtATime
from fastkit.database._statements import what_it_writes
from fastkit.database._transaction import OpenTransaction
from fastkit.database._translate import translate
from fastkit.errors import FastkitError, OutsideBlockError, ReadOnlyError, UnitClosedError, UnitOfWorkError

_NO_OPTIONS: Mapping[str, Any] = immutabledict()
_OPEN_A_BLOCK = "Writes need an open block: `async with shop:` (without async: `with shop:`) around them, and commit()."


class Engines(Protocol):
    """Where a session gets its engine from: a `Database` or an `AsyncDatabase`."""

    def engine_for(self, mode: Mode) -> Engine:
        """Return the engine whose connections run transactions in this mode."""
        ...


class GuardedSession(Session):
    """
    A `Session` in which nothing happens by accident; lives as long as its unit of work.

    Inside a block it is an ordinary session, which refuses overlapping use, notes what is written, raises fastkit's
    errors instead of each driver's, and cannot be committed behind the back of the unit. Outside a block each read
    is complete in itself: when it returns, its connection is back in the pool.
    """

    def __init__(self, *, engines: Engines, metadata: Sequence[MetaData] = (), **ignored: Any) -> None:
        super().__init__(expire_on_commit=False, autoflush=False)
        self._engines = engines
        self._metadata = metadata
        self._engine: Engine | None = None
        self._open: OpenTransaction | None = None
        self._closed: str | None = None
        self._alone = OneAtATime()

    # -- for the unit of work

    @property
    def open_transaction(self) -> OpenTransaction | None:
        """Return the notes of the open transaction, or None outside a block."""
        return self._open

    def open(self, mode: Mode) -> OpenTransaction:
        """Let writes in; the connection is taken by the first statement."""
        self._engine = self._engines.engine_for(mode)
        self._open = OpenTransaction(mode, self.identity_map.all_states())
        self.autoflush = True
        return self._open

    def commit_open(self) -> None:
        """Flush, commit and give the connection back; the caller rolls back if this raises."""
        self.flush()
        if self._open is not None:
            self._open.committing = True
        with self._guarded():
            super().commit()
        self._end()

    def rollback_open(self) -> None:
        """Roll back and give the connection back; objects are detached with the values that they had."""
        try:
            super().rollback()
        finally:
            self.expunge_all()
            self._end()

    def _end(self) -> None:
        self._open = None
        self._engine = None
        self.autoflush = False

    def close_for_good(self, why: str) -> None:
        """Give everything back, and answer every later use with `UnitClosedError` and the reason *why*."""
        self._closed = why
        super().close()

    def unsaved(self) -> list[object]:
        """Return the objects that differ from the database."""
        changed = [entity for entity in self.dirty if self.is_modified(entity)]
        return [*self.new, *changed, *self.deleted]

    # -- what SQLAlchemy calls

    def get_bind(self, mapper: Any = None, **ignored: Any) -> Engine:
        """Return the engine of the open transaction, or of the read that is under way."""
        if self._engine is None:
            self._refuse_outside(f"No block is open. {_OPEN_A_BLOCK}")
        return self._engine

    def execute(
        self,
        statement: Executable,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = _NO_OPTIONS,
        **more: Any,
    ) -> Any:
        """Run a statement; outside a block, only a read, and a complete one."""
        writes = what_it_writes(statement, execution_options)
        if self._open is not None:
            self._check_open(self._open, statement, writes=writes)
            if self._open.stale and not writes:
                execution_options = self._refreshing(execution_options)
        elif writes:
            self._refuse_outside()
        elif self._engine is None:
            with self.reading(several=bool(execution_options.get("stream_results"))):
                return super().execute(statement, params, execution_options=execution_options, **more).freeze()()
        with self._guarded():
            return super().execute(statement, params, execution_options=execution_options, **more)

    def scalar(self, statement: Executable, params: Any = None, **more: Any) -> Any:
        """Run a statement and return the first column of the first row, or None."""
        return self.execute(statement, params, **more).scalar()

    def scalars(self, statement: Executable, params: Any = None, **more: Any) -> Any:
        """Run a statement and return the first column of each row."""
        return self.execute(statement, params, **more).scalars()

    def get(self, entity: Any, ident: Any, **more: Any) -> Any:
        """Return the object with this primary key, or None; read again if it was last read before the block."""
        with self.reading(), self._guarded():
            if self._open is not None:
                self._open.refuse_if_doomed()
            found = super().get(entity, ident, **more)
            if self._open is None or found is None or inspect(found) not in self._open.stale:
                return found
            self._autoflush()
            self.now_fresh([found])
            more["populate_existing"] = True
            return super().get(entity, ident, **more)

    def now_fresh(self, entities: Iterable[object]) -> None:
        """Note that these objects were read in the open transaction."""
        if self._open is not None and self._open.stale:
            self._open.stale.difference_update([inspect(entity) for entity in entities])

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes; an error dooms the transaction, because half of them may be missing."""
        if self._open is None:
            if self.unsaved():
                self._refuse_outside()
            return
        try:
            with self._guarded():
                super().flush(objects)
        except BaseException as error:
            self._open.doom(error)
            raise

    def add(self, instance: object, **more: Any) -> None:
        """Add a new object to the open block."""
        self._check_write()
        super().add(instance, **more)

    def delete(self, instance: object) -> None:
        """Mark an object for deletion in the open block."""
        self._check_write()
        with self._guarded():
            super().delete(instance)

    def merge(self, instance: Any, **more: Any) -> Any:
        """Copy an object's state onto the one in the session, in the open block."""
        self._check_write()
        with self._guarded():
            return super().merge(instance, **more)

    def connection(self, *args: Any, **more: Any) -> Connection:
        """Return the connection of the open block; what is sent on it directly is not noted as a write."""
        if self._open is not None:
            self._open.refuse_if_doomed()
        with self._guarded():
            return super().connection(*args, **more)

    def commit(self) -> NoReturn:
        """Refuse: the unit of work commits."""
        raise UnitOfWorkError("Call commit() of the unit of work, not of its session: `await shop.commit()`.")

    def rollback(self) -> NoReturn:
        """Refuse: the unit of work rolls back."""
        raise UnitOfWorkError("Call rollback() of the unit of work, not of its session: `await shop.rollback()`.")

    def close(self) -> NoReturn:
        """Refuse: the unit of work closes its session when it ends."""
        raise UnitOfWorkError("The unit of work closes its session when it ends: leave its block instead.")

    def begin(self, nested: bool = False) -> NoReturn:
        """Refuse: the unit of work opens blocks."""
        what = "a savepoint is not supported yet" if nested else "`async with shop:` or `shop.begin()`"
        raise UnitOfWorkError(f"The unit of work opens blocks, not its session: {what}.")

    def bulk_save_objects(self, *args: Any, **more: Any) -> NoReturn:
        """Refuse: this legacy path passes by everything that watches over writes."""
        raise UnitOfWorkError(
            "Use add_all(objects), or execute(insert(Model), rows), instead of the legacy bulk methods."
        )

    bulk_insert_mappings = bulk_update_mappings = bulk_save_objects

    # -- the guard itself

    @contextmanager
    def reading(self, *, several: bool = False) -> Generator[None]:
        """Make what is read here complete in itself outside a block; inside one, change nothing."""
        if self._open is not None or self._engine is not None:
            yield
            return
        if self._closed:
            raise UnitClosedError(self._closed)
        with self._guarded():
            self._engine = self._engines.engine_for(SEVERAL_READS if several else SINGLE_READ)
            try:
                yield
            finally:
                self._engine = None
                if transaction := self.get_transaction():
                    transaction.close()

    @contextmanager
    def _guarded(self) -> Generator[None]:
        with self._alone:
            try:
                yield
            except FastkitError:
                raise
            except BaseException as error:
                translated = translate(error, self._metadata)
                if self._open is not None and (translated or isinstance(error, DBAPIError) or _is_exit(error)):
                    self._open.doom(translated or error)
                if translated is not None:
                    raise translated from error
                raise

    def refuse_lock_outside_block(self) -> None:
        """Raise if no block is open: a lock would be gone before its result was used."""
        if self._open is None:
            self._refuse_outside("for_update() locks rows until the block ends: open one first, `async with shop:`.")

    def _refuse_outside(self, why: str = _OPEN_A_BLOCK) -> NoReturn:
        if self._closed:
            raise UnitClosedError(self._closed)
        raise OutsideBlockError(why)

    def _check_write(self) -> None:
        if self._open is None:
            self._refuse_outside()
        self._open.refuse_if_doomed()
        if self._open.mode.read_only:
            raise ReadOnlyError("This block is read-only: open one without read_only=True to write.")

    def _check_open(self, transaction: OpenTransaction, statement: Executable, *, writes: str | None) -> None:
        transaction.refuse_if_doomed()
        if writes:
            if transaction.mode.read_only and not isinstance(statement, TextClause | TextualSelect):
                raise ReadOnlyError("This block is read-only: open one without read_only=True to write.")
            transaction.executed(writes)

    def _refreshing(self, execution_options: Any) -> Any:
        """Let a select refresh what was loaded before the block, unless SQLAlchemy itself is loading."""
        if "_sa_orm_load_options" in execution_options or "populate_existing" in execution_options:
            return execution_options
        if not self.autoflush and self.unsaved():
            return execution_options  # a refresh would overwrite changes that are not flushed on purpose
        return {**execution_options, "populate_existing": True}


def reading(session: Session, *, several: bool = False) -> AbstractContextManager[None]:
    """Make the reads in this context one complete read; a no-op for a session that no unit of work watches over."""
    return session.reading(several=several) if isinstance(session, GuardedSession) else nullcontext()


def _is_exit(error: BaseException) -> bool:
    return not isinstance(error, Exception)
