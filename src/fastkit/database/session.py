"""A SQLAlchemy session that is watched over by a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, NoReturn, Protocol

from sqlalchemy import Connection, Engine, Executable, MetaData, TextClause
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState, PassiveFlag, Session
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.selectable import TextualSelect
from sqlalchemy.util import immutabledict

from fastkit.database._guard import Guard
from fastkit.database._modes import SEVERAL_READS, SINGLE_READ, Mode
from fastkit.database._refresh import read_afresh, refreshable
from fastkit.database._statements import what_it_writes
from fastkit.database._transaction import OpenTransaction
from fastkit.database.timeouts import Timeouts
from fastkit.errors import OutsideBlockError, ReadOnlyError, UnitClosedError, UnitOfWorkError

_NOTHING = nullcontext()
_NO_OPTIONS: Mapping[str, Any] = immutabledict()
_OPEN_A_BLOCK = "Writes need an open block: `async with shop:` (without async: `with shop:`) around them, and commit()."


class Engines(Protocol):
    """Where a session gets its engine from: a `Database` or an `AsyncDatabase`."""

    timeouts: Timeouts
    is_async: ClassVar[bool]

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
        self._engine: Engine | None = None
        self._open: OpenTransaction | None = None
        self._closed: Callable[[], str] | None = None
        self._guard = Guard(metadata)

    # -- for the unit of work

    @property
    def open_transaction(self) -> OpenTransaction | None:
        """Return the notes of the open transaction, or None outside a block."""
        return self._open

    def open(self, mode: Mode) -> OpenTransaction:
        """Let writes in; the connection is taken by the first statement."""
        self._engine = self._engines.engine_for(mode)
        self._open = self._guard.transaction = OpenTransaction(mode, self.identity_map.all_states())
        self.autoflush = True
        return self._open

    def commit_open(self) -> None:
        """Flush, commit and give the connection back; the caller rolls back if this raises."""
        self.flush()
        if self._open is not None:
            self._open.committing = True
        with self._guard:
            super().commit()
        self._end()

    def rollback_open(self) -> None:
        """Roll back and give the connection back; objects are detached with the values that they had."""
        try:
            if self.is_busy:
                self._part_from_busy_connection()
            if self._open is not None and (self._open.has_written or self._open.committing):
                self.detach_all()  # here too: if the ROLLBACK fails, SQLAlchemy expires without an event
                super().rollback()  # what was inserted can be added again
            else:
                self._give_back()
        finally:
            self._end()

    def detach_all(self) -> None:
        """Take the objects out before SQLAlchemy expires them, so that they keep the values that they had."""
        for entity in self._open.gone if self._open is not None else ():
            if instance_state(entity).session is self:
                self.expunge(entity)
        self.expunge_all()

    def _give_back(self) -> None:
        """Roll back what has only read: the same ROLLBACK, without a search for what to undo."""
        transaction = self.get_transaction()
        try:
            super().close()
        except BaseException:
            if transaction is not None:
                transaction.close()  # its connection goes back although its ROLLBACK failed
            raise

    @property
    def is_busy(self) -> bool:
        """Return whether another task or thread is at work here."""
        return self._guard.is_held_elsewhere

    def refuse_if_busy(self) -> None:
        """Raise `ConcurrentUseError` if another task or thread is at work here."""
        with self._guard:
            pass

    @property
    def is_settling(self) -> bool:
        """Return whether somebody else is at work where nothing can be cut off: getting a connection, or a read."""
        transaction = self.get_transaction()
        has_connection = transaction is not None and bool(transaction.connections)
        return self.is_busy and (self._open is None or not has_connection)

    def _part_from_busy_connection(self) -> None:
        """Somebody else's statement is under way: no ROLLBACK may be sent between its packets."""
        if not self._engines.is_async:
            self._guard.wait(self._engines.timeouts.statement)
        elif self.get_bind().dialect.name != "sqlite":  # whose thread takes one statement after the other
            super().invalidate()

    def _end(self) -> None:
        self._open = self._guard.transaction = None
        self._engine = None
        self.autoflush = False

    def close_for_good(self, why: Callable[[], str]) -> None:
        """Give everything back, and answer every later use with `UnitClosedError` and the reason."""
        self._closed = why
        if self.is_busy and not self._engines.is_async:
            self._guard.wait(self._engines.timeouts.statement)  # for other tasks the async unit has waited
        if self._new or self.in_transaction() or len(self.identity_map):
            super().close()

    def unsaved(self) -> list[object]:
        """Return the objects that differ from the database."""
        if self._is_clean():
            return []
        found = (state.obj() for states in self.pending().values() for state in states)
        return [entity for entity in found if entity is not None]

    def pending(self) -> dict[str, list[InstanceState[Any]]]:
        """Return the states that a flush would write, or that the flush under way writes, by verb."""
        changed = [state for state in self._dirty_states if state not in self._deleted and _is_modified(state)]
        return {"added": list(self._new), "changed": changed, "deleted": list(self._deleted)}

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
            if self._open.stale and not writes and "_sa_orm_load_options" not in execution_options:
                return self._execute_afresh(statement, params, execution_options=execution_options, **more)
        elif writes:
            self._refuse_outside()
        elif self._engine is None:
            with self.reading(several=bool(execution_options.get("stream_results"))):
                return super().execute(statement, params, execution_options=execution_options, **more).freeze()()
        with self._guard:
            return super().execute(statement, params, execution_options=execution_options, **more)

    def scalar(self, statement: Executable, params: Any = None, **more: Any) -> Any:
        """Run a statement and return the first column of the first row, or None."""
        return self.execute(statement, params, **more).scalar()

    def scalars(self, statement: Executable, params: Any = None, **more: Any) -> Any:
        """Run a statement and return the first column of each row."""
        return self.execute(statement, params, **more).scalars()

    def get(self, entity: Any, ident: Any, **more: Any) -> Any:
        """Return the object with this primary key, or None; read again if it was last read before the block."""
        if self._open is None:
            with self.reading():
                return super().get(entity, ident, **more)
        with self._guard:
            self._open.refuse_if_doomed()
            found = super().get(entity, ident, **more)
            if found is None or not self._open.stale or (state := instance_state(found)) not in self._open.stale:
                return found
            self._open.stale.discard(state)
            return self._refreshed(found, state)

    def _refreshed(self, found: Any, state: InstanceState[Any]) -> Any:
        """Return the object with its unmodified columns read again, or None if its row has gone."""
        self._autoflush()
        values = refreshable(state)
        if not values:
            return found
        try:
            self.refresh(found, list(values))
        except InvalidRequestError:  # SQLAlchemy's word for a row that has gone
            for key, value in values.items():
                set_committed_value(found, key, value)
            self.expunge(found)
            return None
        return found

    def _execute_afresh(self, statement: Executable, *arguments: Any, **more: Any) -> Any:
        """Run a query that refreshes what it comes across and was loaded before the block."""
        assert self._open is not None  # noqa: S101 - the caller looked
        with self._guard:
            if {**statement.get_execution_options(), **more["execution_options"]}.get("autoflush", True):
                self._autoflush()
            with read_afresh(self, list(self._open.stale or ())) as read:
                rows = super().execute(statement, *arguments, **more).freeze()
            self._open.read_afresh(read)
            return rows()

    def _autoflush(self) -> None:
        if not self._is_clean():
            super()._autoflush()

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes; an error dooms the transaction, because half of them may be missing."""
        if self._open is None:
            if self.unsaved():
                self._refuse_outside()
            return
        try:
            with self._guard:
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
        with self._guard:
            super().delete(instance)

    def merge(self, instance: Any, **more: Any) -> Any:
        """Copy an object's state onto the one in the session, in the open block."""
        self._check_write()
        with self._guard:
            return super().merge(instance, **more)

    def connection(self, *args: Any, **more: Any) -> Connection:
        """Return the connection of the open block; what is sent on it directly is not noted as a write."""
        if self._open is not None:
            self._open.refuse_if_doomed()
        with self._guard:
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
        raise UnitOfWorkError(f"Open a block of the unit of work instead of its session: {what}.")

    def bulk_save_objects(self, *args: Any, **more: Any) -> NoReturn:
        """Refuse: this legacy path passes by everything that watches over writes."""
        raise UnitOfWorkError(
            "Use add_all(objects), or execute(insert(Model), rows), instead of the legacy bulk methods."
        )

    bulk_insert_mappings = bulk_update_mappings = bulk_save_objects

    # -- the guard itself

    def reading(self, *, several: bool = False) -> AbstractContextManager[None]:
        """Make what is read here complete in itself outside a block; inside one, change nothing."""
        if self._open is not None or self._engine is not None:
            return _NOTHING
        return self._complete_read(SEVERAL_READS if several else SINGLE_READ)

    @contextmanager
    def _complete_read(self, mode: Mode) -> Generator[None]:
        if self._closed:
            raise UnitClosedError(self._closed())
        with self._guard:
            self._engine = self._engines.engine_for(mode)
            try:
                yield
            finally:
                self._engine = None
                if transaction := self.get_transaction():
                    transaction.close()

    def refuse_lock(self) -> None:
        """Raise if no block is open to hold a lock until its end, or if the block may not lock."""
        if self._open is None:
            self._refuse_outside("for_update() locks rows until the block ends: open one first, `async with shop:`.")
        if self._open.mode.read_only:
            raise ReadOnlyError("for_update() locks rows for a change, and this block is read-only.")

    def _refuse_outside(self, why: str = _OPEN_A_BLOCK) -> NoReturn:
        if self._closed:
            raise UnitClosedError(self._closed())
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


@contextmanager
def locking(session: Session, model: type[Any]) -> Generator[None]:
    """
    Read the objects of a model afresh that are queried here, and refuse a lock that no block would hold.

    Raises:
        OutsideBlockError: No block is open.
        ReadOnlyError: The block is read-only.
    """
    transaction = session.open_transaction if isinstance(session, GuardedSession) else None
    if isinstance(session, GuardedSession):
        session.refuse_lock()
    if session.autoflush:
        session.flush()
    states = [state for state in session.identity_map.all_states() if issubclass(state.class_, model)]
    with read_afresh(session, states) as read:
        yield
    if transaction is not None:
        transaction.read_afresh(read)


def _is_modified(state: InstanceState[Any]) -> bool:
    """Same as `Session.is_modified`, but looking only at the attributes that were touched."""
    for key in state.committed_state:
        added, _, deleted = state.manager[key].impl.get_history(state, state.dict, PassiveFlag.NO_CHANGE)
        if added or deleted:
            return True
    return False


def reading(session: Session, *, several: bool = False) -> AbstractContextManager[None]:
    """Make the reads in this context one complete read; a no-op for a session that no unit of work watches over."""
    return session.reading(several=several) if isinstance(session, GuardedSession) else _NOTHING
