"""A SQLAlchemy session that is watched over by a unit of work."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn, Protocol
from weakref import ref

from sqlalchemy import Connection, Delete, Engine, Executable, Insert, MetaData, TextClause, Update, event, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstanceState, Session, SessionTransaction
from sqlalchemy.orm.query import FromStatement
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.sql.selectable import TextualSelect
from sqlalchemy.util import immutabledict

from fastkit.database._modes import SEVERAL_READS, SINGLE_READ, Mode
from fastkit.database._overlap import OneAtATime
from fastkit.database._transaction import TRANSACTION, OpenTransaction
from fastkit.database._translate import translate
from fastkit.errors import FastkitError, OutsideBlockError, ReadOnlyError, UnitOfWorkError

READS = "fastkit_reads"
"""Execution option that marks a textual statement as one that only reads."""

_OPEN_A_BLOCK = "Writes need an open block: `async with shop:` (without async: `with shop:`) around them, and commit()."


class Engines(Protocol):
    """Where a session gets its engine from: a `Database` or an `AsyncDatabase`."""

    def engine_for(self, mode: Mode) -> Engine:
        """Return the engine whose connections run transactions in this mode."""


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

    def close_for_good(self) -> None:
        """Give everything back; to be called once, by the unit's owner."""
        super().close()

    def unsaved(self) -> list[object]:
        """Return the objects that differ from the database."""
        changed = [entity for entity in self.dirty if self.is_modified(entity)]
        return [*self.new, *changed, *self.deleted]

    # -- what SQLAlchemy calls

    def get_bind(self, mapper: Any = None, **ignored: Any) -> Engine:
        """Return the engine of the open transaction, or of the read that is under way."""
        if self._engine is None:
            raise OutsideBlockError(f"No block is open. {_OPEN_A_BLOCK}")
        return self._engine

    def execute(  # type: ignore[override]  # one signature instead of SQLAlchemy's overloads; the async face keeps them
        self,
        statement: Executable,
        params: Any = None,
        *,
        execution_options: Any = immutabledict(),
        **more: Any,
    ) -> Any:
        """Run a statement; outside a block, only a read, and a complete one."""
        writes = _writes(statement, execution_options)
        if self._open is not None:
            self._check_open(self._open, statement, writes=writes)
            if self._open.stale and not writes:
                execution_options = self._refreshing(execution_options)
        elif writes:
            raise OutsideBlockError(_OPEN_A_BLOCK)
        elif self._engine is None:
            with self.reading():
                return super().execute(statement, params, execution_options=execution_options, **more).freeze()()
        with self._guarded():
            return super().execute(statement, params, execution_options=execution_options, **more)

    def scalar(self, statement: Executable, params: Any = None, **more: Any) -> Any:  # type: ignore[override]
        """Run a statement and return the first column of the first row, or None."""
        return self.execute(statement, params, **more).scalar()

    def scalars(self, statement: Executable, params: Any = None, **more: Any) -> Any:  # type: ignore[override]
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
            return super().get(entity, ident, populate_existing=True, **more)

    def now_fresh(self, entities: Iterable[object]) -> None:
        """Note that these objects were read in the open transaction."""
        if self._open is not None and self._open.stale:
            self._open.stale.difference_update([inspect(entity) for entity in entities])

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes; an error dooms the transaction, because half of them may be missing."""
        if self._open is None:
            if self.unsaved():
                raise OutsideBlockError(_OPEN_A_BLOCK)
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
        raise UnitOfWorkError("Open a block of the unit of work instead: `async with shop:` or `shop.begin()`.")

    def bulk_save_objects(self, *args: Any, **more: Any) -> NoReturn:
        """Refuse: this legacy path passes by everything that watches over writes."""
        raise UnitOfWorkError("Use add_all(objects), or execute(insert(Model), rows), instead of the legacy bulk methods.")

    bulk_insert_mappings = bulk_update_mappings = bulk_save_objects

    # -- the guard itself

    @contextmanager
    def reading(self, *, several: bool = False) -> Generator[None]:
        """Make what is read here complete in itself outside a block; inside one, change nothing."""
        if self._open is not None or self._engine is not None:
            yield
            return
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
            raise OutsideBlockError("for_update() locks rows until the block ends: open one first, `async with shop:`.")

    def _check_write(self) -> None:
        if self._open is None:
            raise OutsideBlockError(_OPEN_A_BLOCK)
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


def _writes(statement: Executable, execution_options: Any) -> str | None:
    """Return what a statement writes, such as "UPDATE book", or None if it only reads."""
    if isinstance(statement, FromStatement):
        statement = statement.element
    if statement.is_select and not isinstance(statement, TextualSelect):
        return None
    if isinstance(statement, Insert | Update | Delete):
        return f"{statement.__visit_name__.upper()} {getattr(statement.table, 'name', '')}"
    if execution_options.get(READS) or statement.get_execution_options().get(READS):
        return None
    if isinstance(statement, TextClause | TextualSelect | ExecutableDDLElement):
        return "textual statement" if not isinstance(statement, ExecutableDDLElement) else "DDL statement"
    return None


@event.listens_for(GuardedSession, "before_flush")
def _refuse_read_only(session: GuardedSession, context: Any, instances: Any) -> None:
    transaction = session.open_transaction
    if transaction is not None and transaction.mode.read_only and session.unsaved():
        raise ReadOnlyError("This block is read-only: open one without read_only=True to write.")


@event.listens_for(GuardedSession, "after_flush")
def _note_writes(session: GuardedSession, context: Any) -> None:
    transaction = session.open_transaction
    if transaction is not None:
        transaction.wrote("added", session.new)
        transaction.wrote("changed", [entity for entity in session.dirty if session.is_modified(entity)])
        transaction.wrote("deleted", session.deleted)


@event.listens_for(GuardedSession, "persistent_to_deleted")
def _note_deletion(session: GuardedSession, instance: object) -> None:
    if session.open_transaction is not None:
        state: InstanceState[Any] = inspect(instance)
        session.open_transaction.deleted.add(state)


@event.listens_for(GuardedSession, "after_rollback")
def _detach_with_values(session: GuardedSession) -> None:
    """Take the objects out before SQLAlchemy expires them, so that they keep the values that they had."""
    if session.open_transaction is None or session.in_nested_transaction():
        return
    for state in list(session.open_transaction.deleted):
        if (entity := state.obj()) is not None and state.session is session:
            session.expunge(entity)
    session.expunge_all()


@event.listens_for(GuardedSession, "after_begin")
def _introduce(session: GuardedSession, transaction: SessionTransaction, connection: Connection) -> None:
    """Tell the connection whose transaction it runs, for what happens on it without passing the session."""
    if session.open_transaction is not None:
        connection.info[TRANSACTION] = ref(session.open_transaction)
