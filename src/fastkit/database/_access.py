"""What rooms above read and write through a session, watched over by a unit of work or not."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from sqlalchemy import Row, Select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import instance_state

from fastkit.database._pins import version_of
from fastkit.database._refresh import read_afresh
from fastkit.database._scoping import Scoping
from fastkit.database.session import NO_OPTIONS, NOTHING, GuardedSession, StatementFor, rows_or_key


@contextmanager
def locking(session: Session, model: type[Any], *, at_once: bool = False) -> Generator[None]:
    """
    Read the objects of a model afresh that are queried here, and refuse a lock that no block would hold.

    Args:
        session: The session.
        model: The mapped class.
        at_once: Whether to wait for nobody; the statement says so too, but not on SQLite.

    Raises:
        OutsideBlockError: No block is open.
        ReadOnlyError: The block is read-only.
    """
    transaction = session.open_transaction if isinstance(session, GuardedSession) else None
    if isinstance(session, GuardedSession):
        session.refuse_lock()
        if at_once:
            session.connect_within(0)
    if session.autoflush:
        session.flush()
    states = [state for state in session.identity_map.all_states() if issubclass(state.class_, model)]
    with read_afresh(session, states) as read:
        yield
    if transaction is not None:
        transaction.read_afresh(read)


def fetched(
    session: Session, statement: Select[Any], parameters: Mapping[str, Any] = NO_OPTIONS
) -> Sequence[Sequence[Any]]:
    """Return all rows of a query of columns, as quickly as the session can."""
    if isinstance(session, GuardedSession):
        return session.fetch(statement, parameters)
    return session.execute(statement, parameters).all()


def inserted(
    session: Session, model: type[Any], statement_for: StatementFor, parameters: Mapping[str, Any]
) -> Sequence[Row[Any]]:
    """
    Insert a row of a mapped class without an object, and return what the statement returns, or else the key.

    Raises:
        OutsideBlockError: No block is open.
        ReadOnlyError: The block is read-only.
    """
    if isinstance(session, GuardedSession):
        return session.insert_row(statement_for, parameters)
    if session.autoflush:
        session.flush()
    bind: Any = {"mapper": model}
    statement = statement_for(session.connection(bind_arguments=bind).dialect)
    return rows_or_key(session.execute(statement, parameters, bind_arguments=bind))


def pin(entity: object) -> None:
    """Let an object be written only in the version in which it was read last; one of a plain session stays as it is."""
    state = instance_state(entity)
    if isinstance(state.session, GuardedSession):
        state.session.pin(state, version_of(state))


def scoping_of(session: Session) -> Scoping | None:
    """Return the scopes of the unit of work that watches over a session; None if there is none."""
    return session.scoping if isinstance(session, GuardedSession) else None


def reading(session: Session, *, several: bool = False) -> AbstractContextManager[None]:
    """Make the reads in this context one complete read; a no-op for a session that no unit of work watches over."""
    return session.reading(several=several) if isinstance(session, GuardedSession) else NOTHING
