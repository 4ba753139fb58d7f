"""What a guarded session and its connections tell the notes of the open transaction."""

from __future__ import annotations

from typing import Any, cast
from weakref import ref

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.orm import InstanceState, SessionTransaction
from sqlalchemy.orm.attributes import instance_state

from fastkit.database._backend import mode_of
from fastkit.database._rows import listen_as_own
from fastkit.database._statements import is_marked, is_text
from fastkit.database._transaction import OpenTransaction
from fastkit.database.session import GuardedSession
from fastkit.errors import OutsideBlockError
from fastkit.events import RecordsEvents

TRANSACTION = "fastkit_transaction"
"""Key under which a pooled connection knows, by a weak reference, the transaction that it runs."""


@event.listens_for(GuardedSession, "after_flush")
def _note_writes(session: GuardedSession, context: Any) -> None:
    transaction = session.open_transaction
    if transaction is not None:
        for verb, states in session.pending():
            transaction.wrote(verb, states)


@event.listens_for(GuardedSession, "persistent_to_deleted")
def _note_deletion(session: GuardedSession, instance: object) -> None:
    if session.open_transaction is not None:
        session.open_transaction.deleted(instance_state(instance))


@event.listens_for(GuardedSession, "after_rollback")
def _detach_with_values(session: GuardedSession) -> None:
    # A flush that fails rolls back by itself.
    if session.open_transaction is not None and not session.in_nested_transaction():
        session.detach_all()


@event.listens_for(GuardedSession, "after_begin")
def _introduce(session: GuardedSession, transaction: SessionTransaction, connection: Connection) -> None:
    """Tell the connection whose transaction it runs, for what happens on it without passing the session."""
    if session.open_transaction is not None:
        connection.info[TRANSACTION] = ref(session.open_transaction)
        if session.open_transaction.root is None:
            session.open_transaction.root = session.get_transaction()


@event.listens_for(GuardedSession, "after_commit", insert=True)
def _note_commit(session: GuardedSession) -> None:
    # First of all listeners: what fails after it, fails after the commit.
    if session.open_transaction is not None and not session.in_nested_transaction():
        session.open_transaction.committed = True


@event.listens_for(GuardedSession, "before_attach", raw=True)
def _refuse_unhandled_events(session: GuardedSession, state: InstanceState[Any]) -> None:
    if issubclass(state.class_, RecordsEvents):
        session.recorder.refuse_unhandled(cast("RecordsEvents", state.obj()))


@event.listens_for(GuardedSession, "after_attach", raw=True)
def _take_events_over(session: GuardedSession, state: InstanceState[Any]) -> None:
    # Not before: SQLAlchemy may still refuse the object.
    if issubclass(state.class_, RecordsEvents):
        session.recorder.take_over(cast("RecordsEvents", state.obj()))


@event.listens_for(RecordsEvents, "load", propagate=True)
def _receive_events(instance: RecordsEvents, context: Any) -> None:
    session = context.session if context is not None else instance_state(instance).session  # None: from merge()
    if isinstance(session, GuardedSession):
        session.recorder.take_over(instance)


def watch(engine: Engine) -> None:
    """Let an open transaction know of errors on its connection, also of those that do not pass its session."""
    event.listen(engine, "handle_error", _note_error)
    if engine.dialect.name == "postgresql":
        listen_as_own(engine, "before_cursor_execute", _note_writing_cte)


def _transaction_of(connection: Connection | None) -> OpenTransaction | None:
    if connection is None or connection.invalidated:
        return None
    reference = connection.info.get(TRANSACTION)
    return reference() if reference else None


def _note_writing_cte(connection: Connection, _: Any, sent: str, *more: Any) -> tuple[str, Any]:
    """Catch the SELECT that writes, `WITH x AS (INSERT ... RETURNING ...) SELECT`, which only its compiler knows."""
    parameters, context = more[0], more[1]
    ctes = getattr(context.compiled, "ctes", None)
    if not ctes or not any(cte.element.is_dml or _is_unmarked_text(cte.element) for cte in ctes):
        return sent, parameters
    mode = mode_of(connection)
    if mode is not None and mode.autocommit:
        raise OutsideBlockError("This SELECT writes by a common table expression: open a block, `async with shop:`.")
    if transaction := _transaction_of(connection):
        transaction.executed("SELECT that writes")
    return sent, parameters


def _is_unmarked_text(element: Any) -> bool:
    return is_text(element) and not is_marked(element)


def _note_error(context: ExceptionContext) -> None:
    transaction = _transaction_of(context.connection)
    if transaction is None:
        return
    # PostgreSQL answers COMMIT with success after a swallowed error, and stores nothing: the unit must not ask it.
    whole = context.is_disconnect or _has_ended(context)
    transaction.doom(context.sqlalchemy_exception or context.original_exception, whole=whole)
    if context.statement is None and transaction.committing:
        transaction.commit_sent = True


_DEADLOCK, _RECORD_CHANGED = 1213, 1020


def _has_ended(context: ExceptionContext) -> bool:
    """Return whether the database has ended the transaction by itself, so that its savepoints are gone too."""
    if context.dialect.name == "sqlite":
        connection = context.connection.connection if context.connection is not None else None
        return connection is not None and not getattr(connection.driver_connection, "in_transaction", True)
    codes = getattr(context.original_exception, "args", ())[:1]
    return context.dialect.name in {"mysql", "mariadb"} and codes in {(_DEADLOCK,), (_RECORD_CHANGED,)}
