"""A SQLAlchemy session that is watched over by a unit of work."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn, TypeAlias, TypeVar, cast

from sqlalchemy import Connection, Engine, Executable, Insert, Row, Select, event, inspect
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state, set_committed_value
from sqlalchemy.sql.ddl import ExecutableDDLElement
from sqlalchemy.util import immutabledict

from fastkit.database._backend import PATIENCE
from fastkit.database._modes import SEVERAL_READS, SINGLE_READ, Mode
from fastkit.database._refresh import found_by, read_afresh, refreshable
from fastkit.database._rows import all_rows
from fastkit.database._session_life import OPEN_A_BLOCK, READ_ONLY, SessionLife
from fastkit.database._statements import is_refresh, is_several, is_text, what_it_ends, what_it_writes
from fastkit.database._transaction import OpenTransaction
from fastkit.errors import (
    ReadOnlyError,
    UnitClosedError,
    UnitOfWorkError,
)
from fastkit.events import RecordsEvents

T = TypeVar("T")

StatementFor: TypeAlias = Callable[[Dialect], Insert]
"""Returns the statement that a kind of database understands."""

NOTHING = nullcontext()
_OWN_LISTENERS = 1  # for after_begin: a further one is the app's, and wants to see each connection that is used
NO_OPTIONS: Mapping[str, Any] = immutabledict()


class GuardedSession(SessionLife):
    """
    A `Session` in which nothing happens by accident; lives as long as its unit of work.

    Inside a block it is an ordinary session, which refuses overlapping use, notes what is written, raises fastkit's
    errors instead of each driver's, and cannot be committed behind the back of the unit. Outside a block each read
    is complete in itself: when it returns, its connection is back in the pool.

    Attributes:
        open_transaction: The notes of the open transaction, or None outside a block.
    """

    # -- what SQLAlchemy calls

    def get_bind(self, mapper: Any = None, *, bind: Any = None, **ignored: Any) -> Engine | Connection:
        """Return the engine of the open transaction, or of the read that is under way."""
        if bind is not None:
            raise UnitOfWorkError("A unit of work has one database: make another unit for the other one.")
        if self._engine is None:
            self._refuse_outside(f"No block is open. {OPEN_A_BLOCK}")
        if self._engines.ledger.age != self._age:
            self.refuse_new_pool()
        return self._reading or self._engine

    def execute(
        self,
        statement: Executable,
        params: Any = None,
        *,
        execution_options: Mapping[str, Any] = NO_OPTIONS,
        **more: Any,
    ) -> Any:
        """Run a statement; outside a block, only a read, and a complete one."""
        writes = what_it_writes(statement, execution_options)
        if self.scoping is not None:
            statement = self.scoping.applied(statement, params, execution_options)
        if self.open_transaction is not None:
            self._check_open(self.open_transaction, statement, writes=writes)
            if self.open_transaction.stale and not writes and not is_refresh(execution_options):
                return self._execute_afresh(statement, params, execution_options=execution_options, **more)
        elif writes:
            self._refuse_outside()
        elif getattr(statement, "_for_update_arg", None) is not None:
            self.refuse_lock()
        elif self._engine is None:
            several = is_several({**statement.get_execution_options(), **execution_options})
            with self.reading(several=several):
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
        if self.open_transaction is None:
            if more.get("with_for_update"):
                self.refuse_lock()
            with self.reading():
                return super().get(entity, ident, **more)
        with self._guard:
            self.open_transaction.refuse_if_doomed()
            found = super().get(entity, ident, **more)
            if (
                found is None
                or not self.open_transaction.stale
                or (state := instance_state(found)) not in self.open_transaction.stale
            ):
                return found
            self.open_transaction.stale.discard(state)
            return self._refreshed(found, state)

    def fetch(self, statement: Select[Any], parameters: Mapping[str, Any] = NO_OPTIONS) -> Sequence[Sequence[Any]]:
        """
        Return all rows of a query of columns, whose values have places but no names, as quickly as can be.

        Outside a block each call is complete in itself, and several within `reading(several=True)` see one moment.
        """
        if self.scoping is not None:
            statement = self.scoping.applied(statement, parameters, NO_OPTIONS)
        if self.dispatch.do_orm_execute or len(self.dispatch.after_begin) > _OWN_LISTENERS:
            return cast("Sequence[Sequence[Any]]", self.execute(statement, parameters).all())
        if self.open_transaction is None:
            if self._engine is None:
                return self._fetch_alone(statement, parameters)
            with self._guard:
                return all_rows(self._connection_of_read(), statement, parameters)
        self.open_transaction.refuse_if_doomed()
        with self._guard:
            self._autoflush()
            return all_rows(super().connection(), statement, parameters)

    def insert_row(self, statement_for: StatementFor, parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        """
        Insert a row without an object of it, and return what the statement returns; if that is nothing, the key.

        Which statement it is may depend on what the database can, which is known once there is a connection.
        """
        transaction = self._check_write()
        with self._guard:
            self._autoflush()
            connection = super().connection()
            statement = statement_for(connection.dialect)
            transaction.executed(what_it_writes(statement, NO_OPTIONS) or "INSERT")
            execute = super().execute if self.dispatch.do_orm_execute else connection.execute
            return rows_or_key(execute(statement, parameters))

    def prepare_write(self) -> OpenTransaction:
        """Send what is pending before something is written without objects, and return the notes of the transaction."""
        transaction = self._check_write()
        with self._guard:
            self._autoflush()
        return transaction

    def write_on_connection(self, what: str, work: Callable[[Connection], T]) -> T:
        """Write by *work* on the connection of the open block; *what* is noted, such as "COPY book"."""
        transaction = self._check_write()
        with self._guard:
            transaction.executed(what)
            return work(super().connection())

    def _connection_of_read(self) -> Connection:
        if self.in_transaction():
            return super().connection()  # something else was read before, at the same moment
        if self._reading is None:
            self._reading = cast("Engine", self.get_bind()).connect()
        return self._reading

    def _fetch_alone(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        if self._closed:
            raise UnitClosedError(self._closed())
        with self._guard:
            self._be_of_this_pool()
            connection = self._engines.engine_for(SINGLE_READ).connect()
            try:
                return all_rows(connection, statement, parameters)
            finally:
                connection.close()

    def _identity_lookup(self, mapper: Any, *args: Any, **more: Any) -> Any:
        """Return an object that is held; not one that may not be there any more for the scopes."""
        stale = self.open_transaction is not None and bool(self.open_transaction.stale)
        if self.scoping is not None and self.scoping.hides(inspect(mapper).mapper, stale=stale):
            return None
        return super()._identity_lookup(mapper, *args, **more)

    def _refreshed(self, found: Any, state: InstanceState[Any]) -> Any:
        """Return the object with its unmodified columns read again, or None if its row has gone."""
        self._autoflush()
        values = refreshable(state)
        unread = state.expired_attributes & {*state.mapper.column_attrs.keys()}  # such as a column that is computed
        if not (values or unread):
            return found
        try:
            self.refresh(found, [*values, *unread])
        except InvalidRequestError:  # SQLAlchemy's word for a row that has gone
            for key, value in values.items():
                set_committed_value(found, key, value)
            self.expunge(found)
            return None
        return found

    def _execute_afresh(self, statement: Executable, *arguments: Any, **more: Any) -> Any:
        """Run a query that refreshes what it comes across and was loaded before the block."""
        assert self.open_transaction is not None  # noqa: S101 - the caller looked
        with self._guard:
            if {**statement.get_execution_options(), **more["execution_options"]}.get("autoflush", True):
                self._autoflush()
            with read_afresh(self, found_by(statement, self.open_transaction.stale or ())) as read:
                rows = _unique(super().execute(statement, *arguments, **more)).freeze()
            self.open_transaction.read_afresh(read)
            return rows()

    def _autoflush(self) -> None:
        if self.open_transaction is not None and not self._is_clean():
            super()._autoflush()

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send pending changes; an error dooms the transaction, because half of them may be missing."""
        transaction = self.open_transaction
        if transaction is None:
            if self.unsaved():
                self._refuse_outside()
            return
        if transaction.cause_of_doom is not None and not self._is_clean():
            transaction.refuse_if_doomed()
        if transaction.mode.read_only and self.unsaved():
            raise ReadOnlyError(READ_ONLY)
        try:
            with self._guard, NOTHING if self.pins is None else self.pins.watched(self, transaction):
                if self.scoping is not None:
                    self.scoping.prepare_flush(self)
                super().flush(objects)
        except BaseException as error:
            transaction.doom(error)
            raise

    def add(self, instance: object, **more: Any) -> None:
        """Add a new object to the open block."""
        self._check_write()
        super().add(instance, **more)

    def delete(self, instance: object) -> None:
        """Mark an object for deletion in the open block."""
        self._check_write()
        with self._guard:
            if self.scoping is None or not self.scoping.hide(self, instance):
                super().delete(instance)

    def delete_all(self, instances: Iterable[object]) -> None:
        """Same as `delete`, for several."""
        for instance in list(instances):
            self.delete(instance)

    def merge(self, instance: Any, **more: Any) -> Any:
        """Copy an object's state onto the one in the session, in the open block."""
        self._check_write()
        with self._guard:
            merged = super().merge(instance, **more)
        state = instance_state(instance)
        for given in [instance, *(each[0] for each in state.mapper.cascade_iterator("merge", state))]:
            if isinstance(given, RecordsEvents) and instance_state(given).session is not self:
                self.recorder.take_from(given)
        return merged

    def merge_all(self, instances: Iterable[Any], **more: Any) -> Sequence[Any]:
        """Same as `merge`, for several."""
        return [self.merge(instance, **more) for instance in instances]

    def connection(self, *args: Any, **more: Any) -> Connection:
        """Return the connection of the open block; what is sent on it directly is not noted as a write."""
        if self.scoping is not None:
            self.scoping.refuse_raw("What a connection is given")
        return self.own_connection(*args, **more)

    def own_connection(self, *args: Any, **more: Any) -> Connection:
        """Same as `connection`, for what the library itself sends."""
        if self.open_transaction is not None:
            self.open_transaction.refuse_if_doomed()
        if "isolation_level" in (more.get("execution_options") or {}):
            raise UnitOfWorkError("A block has its isolation level: shop.block(isolation=...).")
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

    def reset(self) -> NoReturn:
        """Refuse: the unit of work ends its block."""
        raise UnitOfWorkError("The unit of work ends its block: call its rollback(), or leave its block.")

    invalidate = prepare = reset

    def begin(self, nested: bool = False) -> NoReturn:
        """Refuse: the unit of work opens blocks."""
        what = "`shop.savepoint()`" if nested else "`async with shop:` or `shop.begin()`"
        raise UnitOfWorkError(f"Open a block of the unit of work instead of one of its session: {what}.")

    def bulk_save_objects(self, *args: Any, **more: Any) -> NoReturn:
        """Refuse: this legacy path passes by everything that watches over writes."""
        raise UnitOfWorkError(
            "Use add_all(objects), or execute(insert(Model), rows), instead of the legacy bulk methods."
        )

    bulk_insert_mappings = bulk_update_mappings = bulk_save_objects

    # -- the guard itself

    def reading(self, *, several: bool = False) -> AbstractContextManager[None]:
        """Make what is read here complete in itself outside a block; inside one, change nothing."""
        if self.open_transaction is not None or self._engine is not None:
            return NOTHING
        return self._complete_read(SEVERAL_READS if several else SINGLE_READ)

    @contextmanager
    def _complete_read(self, mode: Mode) -> Generator[None]:
        if self._closed:
            raise UnitClosedError(self._closed())
        with self._guard:
            self._be_of_this_pool()
            self._engine = self._engines.engine_for(mode)
            try:
                yield
            finally:
                connection, self._reading, self._engine = self._reading, None, None
                try:
                    if transaction := self.get_transaction():
                        transaction.close()
                finally:
                    if connection is not None:
                        connection.close()

    def refuse_lock(self) -> None:
        """Raise if no block is open to hold a lock until its end, or if the block may not lock."""
        if self.open_transaction is None:
            self._refuse_outside("for_update() locks rows until the block ends: open one first, `async with shop:`.")
        if self.open_transaction.mode.read_only:
            raise ReadOnlyError("for_update() locks rows for a change, and this block is read-only.")

    def connect_within(self, seconds: float) -> None:
        """Take the connection of the open block; on SQLite, wait at most so long to be the one that writes."""
        if not self.connections:
            self.own_connection(execution_options={PATIENCE: seconds})

    def ask_for_lock(self, name: str, seconds: float | None) -> bool:
        """Return whether the database gives a lock on a name, within so long or within its own limit for locks."""
        with self._guard:
            if seconds is not None:
                self.connect_within(seconds)
            limit = self._engines.timeouts.lock if seconds is None else seconds
            return self._engines.ledger.lock(self.own_connection(), name, limit)

    def _check_write(self) -> OpenTransaction:
        if self.open_transaction is None:
            self._refuse_outside()
        self.open_transaction.refuse_if_doomed()
        if self.open_transaction.mode.read_only:
            raise ReadOnlyError(READ_ONLY)
        return self.open_transaction

    def _check_open(self, transaction: OpenTransaction, statement: Executable, *, writes: str | None) -> None:
        transaction.refuse_if_doomed()
        if writes:
            if is_text(statement) and (word := what_it_ends(statement, self.get_bind().dialect.name)):
                raise UnitOfWorkError(
                    f"A text that begins with {word} ends the transaction behind its unit: call commit() or rollback() "
                    "of the unit, and run what cannot be in a transaction outside units of work."
                )
            if isinstance(statement, ExecutableDDLElement) and self.get_bind().dialect.name in {"mariadb", "mysql"}:
                raise UnitOfWorkError("MariaDB commits by itself when it runs DDL: run it outside units of work.")
            if not transaction.mode.read_only:
                transaction.executed(writes)
            elif not is_text(statement):  # whose changes the database refuses
                raise ReadOnlyError(READ_ONLY)


@event.listens_for(GuardedSession, "after_flush")
def _check_scopes(session: Any, context: Any) -> None:
    if session.scoping is not None:
        session.scoping.check_flushed(context)


@event.listens_for(GuardedSession, "detached_to_persistent")
def _note_from_elsewhere(session: Any, entity: Any) -> None:
    if session.scoping is not None:
        session.scoping.note_from_elsewhere(instance_state(entity))


def rows_or_key(result: Any) -> Sequence[Row[Any]]:
    """Return the rows of an INSERT that returns some, or else the key of the one that it made."""
    return result.all() if result.returns_rows else [result.inserted_primary_key]


def _unique(result: Any) -> Any:
    """Let rows be kept whose lists were loaded by a join: SQLAlchemy wants them to be made unique first."""
    state = getattr(result, "_unique_filter_state", None)  # there is no public word for it
    return result.unique() if state is not None and state[1] is not None else result
