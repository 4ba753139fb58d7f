"""What a session remembers of one open transaction: its mode, what it wrote, what went wrong."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable
from typing import Any, TypeAlias
from weakref import WeakSet, ref

from sqlalchemy.orm import InstanceState, SessionTransaction

from fastkit.database._modes import Mode
from fastkit.errors import TransactionDoomedError, UnitOfWorkError

Counts: TypeAlias = dict[str | tuple[str, type[Any]], int]
"""How often something was written, by a description or by verb and class."""

PRUNE_AT = 1024
"""How many references to written objects are kept before dead ones are thrown away."""


class NestedRollback(UnitOfWorkError):  # noqa: N818 - it is never raised
    """
    What dooms a transaction when a nested block asks for a rollback.

    Attributes:
        place: Where it asked, as "module:line in function".
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class OpenTransaction:
    """
    The notes of one transaction, from the opening of a block to its commit or rollback.

    It keeps no object alive: a block that adds a million rows in chunks may let go of them.

    Attributes:
        mode: What the block asked for.
        cause_of_doom: The first error that makes a commit impossible, until a savepoint that it belongs to has ended.
        in_savepoint: Whether rolling back to the innermost savepoint clears the doom.
        committing: Whether everything is flushed, so that COMMIT is the only thing left to be sent.
        commit_sent: Whether an error came back from COMMIT itself, and not from what goes before it.
        committed: Whether the database has confirmed the COMMIT.
        root: SQLAlchemy's own transaction, from the first statement on; only this one may be committed.
        number: What the database calls it, if it may have to be asked whether it was committed.
        stale: States that were loaded before the transaction and not read in it yet, or None if there were none.
        settled: Keys of the pinned rows that it has written, so that nobody else can before it ends.
    """

    def __init__(self, mode: Mode, loaded: Iterable[InstanceState[Any]]) -> None:
        self.mode = mode
        self.cause_of_doom: BaseException | None = None
        self.in_savepoint = False
        self.settled: frozenset[Any] = frozenset()
        self._savepoints: list[tuple[Counts, list[ref[InstanceState[Any]]], frozenset[Any]]] = []
        self.committing = False
        self.committed = False
        self.root: SessionTransaction | None = None
        self.number: str | None = None
        self.commit_sent = False
        states = list(loaded)
        self.stale: WeakSet[InstanceState[Any]] | None = WeakSet(states) if states else None
        self._counts: Counts = {}
        self._written: list[ref[InstanceState[Any]]] = []
        self._prune_at = PRUNE_AT
        self._deleted: WeakSet[InstanceState[Any]] | None = None

    def wrote(self, verb: str, states: Iterable[InstanceState[Any]]) -> None:
        """Note that a flush wrote these states; *verb* is "added", "changed" or "deleted"."""
        for state in states:
            kind = (verb, state.class_)
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._written.append(ref(state))
        self._prune()

    def _prune(self) -> None:
        if len(self._written) >= self._prune_at:
            self._written = [each for each in self._written if each() is not None]
            self._prune_at = PRUNE_AT + 2 * len(self._written)

    def executed(self, description: str) -> None:
        """Note a statement that wrote, such as "UPDATE book"."""
        self._counts[description] = self._counts.get(description, 0) + 1

    def read_afresh(self, states: set[InstanceState[Any]]) -> None:
        """Note that the transaction has read these states itself."""
        if self.stale:
            self.stale -= states

    def read_all_afresh(self, states: Iterable[InstanceState[Any]]) -> None:
        """Note that these states may hold what was rolled back."""
        self.stale = WeakSet(states) or None

    def deleted(self, state: InstanceState[Any]) -> None:
        """Note that a flush deleted the row of this state."""
        if self._deleted is None:
            self._deleted = WeakSet()
        self._deleted.add(state)

    @property
    def has_written(self) -> bool:
        """Return whether anything was sent that a rollback undoes."""
        return bool(self._counts)

    @property
    def writes(self) -> dict[str, int]:
        """Return what was sent to the database, by kind."""
        return {
            _statement(kind) if isinstance(kind, str) else f"{kind[0]} {kind[1].__name__}": count
            for kind, count in self._counts.items()
        }

    @property
    def written(self) -> list[object]:
        """Return the flushed objects that are still alive."""
        return _alive({state for each in self._written if (state := each()) is not None})

    @property
    def gone(self) -> list[object]:
        """Return the objects whose rows were deleted and that are still alive."""
        return _alive(self._deleted)

    def doom(self, cause: BaseException, *, whole: bool = False) -> None:
        """
        Make a commit impossible, of the innermost savepoint or of all if there is none; the first cause stays.

        Args:
            cause: What went wrong.
            whole: Whether the transaction itself is lost, so that no savepoint helps.
        """
        if self.cause_of_doom is None or (self.in_savepoint and whole):
            self.cause_of_doom = cause
            self.in_savepoint = bool(self._savepoints) and not whole

    def doom_said_better(self, cause: BaseException, said_before: BaseException) -> None:
        """Let the cause of doom be the error that the caller sees, instead of the one that it was made from."""
        if self.cause_of_doom is said_before:
            self.cause_of_doom = cause
        else:
            self.doom(cause)

    def open_savepoint(self) -> None:
        """Note that what goes wrong from now on can be undone by rolling back to a savepoint."""
        self._savepoints.append((dict(self._counts), self._written, self.settled))
        self._written = []

    def close_savepoint(self, *, rolled_back: bool) -> None:
        """Note that the innermost savepoint has ended, and forget what was written in it if it was rolled back."""
        counts, written, settled = self._savepoints.pop()
        if rolled_back:
            self._counts, self._written, self.settled = counts, written, settled
        else:
            written.extend(self._written)  # in place: a block may have a million savepoints
            self._written = written
            self._prune()
        if self.in_savepoint:
            self.cause_of_doom, self.in_savepoint = None, False

    def refuse_if_doomed(self) -> None:
        """
        Let nothing more happen in a transaction that cannot be committed.

        Raises:
            TransactionDoomedError: An earlier error was swallowed; it is the cause.
        """
        if self.cause_of_doom is not None:
            raise doomed_by(self.cause_of_doom, "savepoint" if self.in_savepoint else "block") from self.cause_of_doom


def _statement(kind: str) -> str:
    """Return what is counted: statements, not the rows of each."""
    return kind if kind.endswith("statement") else f"statement {kind}"


def doomed_by(cause: BaseException, part: str) -> TransactionDoomedError:
    """Return the error that says what was swallowed, and where; *part* is what it must leave."""
    if isinstance(cause, NestedRollback):
        what = f"a nested block called rollback() at {cause.place}"
    else:
        what = f"{type(cause).__name__} was raised in it at {place_of(cause)} and swallowed"
    return TransactionDoomedError(
        f"The {'transaction' if part == 'block' else part} cannot go on: {what}. "
        f"Let the error leave the {part}, and do what must be done after it outside."
    )


def place_of_caller() -> str:
    """Return the place that called the caller of this function, as "module:line in function"."""
    frame = sys._getframe(2)  # noqa: SLF001 - the same as in a traceback, without raising
    return f"{frame.f_globals.get('__name__', '?')}:{frame.f_lineno} in {frame.f_code.co_name}"


_NOT_OF_THE_APP = re.compile(
    r"(fastkit|sqlalchemy|greenlet|asyncio|psycopg|asyncpg|asyncmy|pymysql|aiosqlite|sqlite3)\b"
)


def place_of(error: BaseException) -> str:
    """Return the innermost place of the app that an error came through, as "module:line in function"."""
    places = [
        f"{module}:{line} in {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _NOT_OF_THE_APP.match(module := frame.f_globals.get("__name__", "?"))
    ]
    return places[-1] if places else "an unknown place"


def _alive(states: Iterable[InstanceState[Any]] | None) -> list[object]:
    found = [state.obj() for state in states or ()]
    return [entity for entity in found if entity is not None]
