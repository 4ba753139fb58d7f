"""Rows that are only changed in the version that somebody has seen, however often they are read in between."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.orm import InstanceState, Session
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.orm.exc import StaleDataError

from fastkit.database._transaction import OpenTransaction
from fastkit.errors import PreconditionFailedError

ANOTHER_VERSION = "The row is not the version that you have seen; read it again and repeat the change."


class Pins:
    """
    The rows that one session may write in one version only; each until a transaction that has written it is committed.

    SQLAlchemy writes with the version that was read last. A refresh or a lock between the check of a precondition and
    the write would read a newer one, and what the client has not seen would be overwritten. A row is named by its key,
    because it may be read again as another object.
    """

    def __init__(self) -> None:
        self._versions: dict[Any, Any] = {}

    def pin(self, state: InstanceState[Any], version: object) -> None:
        """Let the row of an object be written in this version only."""
        if state.key is not None:
            self._versions[state.key] = version

    def unpin(self, keys: Iterable[Any]) -> None:
        """Let rows be written in any version, because they have been written in theirs."""
        for key in keys:
            self._versions.pop(key, None)

    @contextmanager
    def watched(self, session: Session, transaction: OpenTransaction) -> Generator[None]:
        """
        Watch over a flush.

        Raises:
            PreconditionFailedError: A pinned object is changed or deleted, and its row is another version.
        """
        pinned = dict(self._about_to_be_written(session, transaction.settled))
        for key, state in pinned.items():
            if version_of(state) != self._versions[key]:
                raise PreconditionFailedError(ANOTHER_VERSION, table=_table_of(state))
        gone = {key for key, state in pinned.items() if state.obj() in session.deleted}
        try:
            yield
        except StaleDataError as error:
            for state in pinned.values():
                if f"'{_table_of(state)}'" in str(error):
                    raise PreconditionFailedError(ANOTHER_VERSION, table=_table_of(state)) from error
            raise
        transaction.settled |= gone | {
            key for key, state in pinned.items() if version_of(state) != self._versions[key]
        }  # the others were as they are in the database, so that no statement was sent for them

    def _about_to_be_written(
        self, session: Session, settled: frozenset[Any]
    ) -> Iterator[tuple[Any, InstanceState[Any]]]:
        for key in self._versions.keys() - settled:
            entity = session.identity_map.get(key)
            if entity is not None and (instance_state(entity).modified or entity in session.deleted):
                yield key, instance_state(entity)


def version_of(state: InstanceState[Any]) -> Any:
    """Return the version of an object as it was read, or None if it was not."""
    column = state.mapper.version_id_col
    if column is None:
        return None
    key = state.mapper.get_property_by_column(column).key
    return state.committed_state.get(key, state.dict.get(key))


def _table_of(state: InstanceState[Any]) -> str:
    """Return the table in which the version is."""
    column: Any = state.mapper.version_id_col
    name: str = column.table.description
    return name
