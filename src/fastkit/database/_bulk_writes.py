"""Writes that no object stands for: all or nothing, as statements or by the driver's own means."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstanceState, Session, class_mapper, undefer
from sqlalchemy.orm.attributes import instance_state

from fastkit.database._keys import of_keys
from fastkit.database._refresh import read_afresh
from fastkit.database._signing import dialect_of
from fastkit.database.session import GuardedSession
from fastkit.errors import UniqueError

T = TypeVar("T")

AT_ONCE = 500


@contextmanager
def all_or_nothing(session: Session) -> Generator[None]:
    """
    Refuse where nothing may be written, send what is pending, and doom the block if only a part is written.

    Raises:
        OutsideBlockError: No block is open.
        ReadOnlyError: The block is read-only.
    """
    if not isinstance(session, GuardedSession):
        if session.autoflush:
            session.flush()
        yield
        return
    transaction = session.prepare_write()
    before = transaction.writes
    try:
        yield
    except BaseException as error:
        if transaction.writes != before:
            transaction.doom(error)
        raise


def sent(session: Session, model: type[Any], what: str, work: Callable[[Connection], T]) -> T:
    """Write by *work* on the connection of the open block, and return what it returns; *what* is noted as written."""
    if isinstance(session, GuardedSession):
        return session.write_on_connection(what, work)
    bind: Any = {"mapper": model}
    return work(session.connection(bind_arguments=bind))


def sent_past_rivals(session: Session, work: Callable[[], T]) -> T:
    """
    Write by *work*, and again after each row that somebody else has inserted at the same moment.

    ON CONFLICT of PostgreSQL waits for a rival by the key that it names. One that inserts the same row is an error all
    the same if it is met by another unique key first; a moment later the row is there. The same error twice is no race.
    """
    told = set[str]()
    while True:
        try:
            with _savepoint(session):
                return work()
        except BaseException as error:
            said = str(error.__cause__ or error)
            if said in told or not isinstance(error, UniqueError | IntegrityError):
                if isinstance(session, GuardedSession) and session.open_transaction is not None:
                    session.open_transaction.doom(error)
                raise
            told.add(said)


@contextmanager
def _savepoint(session: Session) -> Generator[None]:
    if not isinstance(session, GuardedSession):
        with session.begin_nested():
            yield
        return
    savepoint = session.open_savepoint()
    try:
        yield
        session.release_savepoint(savepoint)
    except Exception:  # who is cancelled loses the whole transaction
        with suppress(Exception):  # it has doomed the block then, and the first error is the one to be told
            session.rollback_to(savepoint, len(session.events))
        raise


def show_written(session: Session, model: type[Any]) -> None:
    """
    Let the loaded objects of a class show what a statement has just written to their rows.

    They are read again, columns and not relationships; an object whose row has gone leaves the session.
    """
    loaded = [entity for entity in session.identity_map.values() if isinstance(entity, model)]
    for start in range(0, len(loaded), AT_ONCE):
        states = [instance_state(entity) for entity in loaded[start : start + AT_ONCE]]
        found = _read(session, model, states)
        for state in states:
            if state.key is not None and state.key[1] not in found:
                session._remove_newly_deleted([state])  # noqa: SLF001 - what SQLAlchemy's own DELETE by criteria calls
    if isinstance(session, GuardedSession) and session.open_transaction is not None:
        session.open_transaction.read_afresh({instance_state(entity) for entity in loaded})


def _read(session: Session, model: type[Any], states: Sequence[InstanceState[Any]]) -> set[Any]:
    """Return the keys of the rows that are still there, and fill what is loaded of them in again."""
    idents = [state.key[1] for state in states if state.key is not None]
    criterion = of_keys(class_mapper(model), idents, dialect_of(session, model))
    statement = select(model).where(criterion).options(undefer("*"))
    with read_afresh(session, states):
        found = session.scalars(statement).unique().all()
        return {state.key[1] for entity in found if (state := instance_state(entity)).key is not None}
