"""What a session remembers of one open transaction: its mode, what it wrote, what went wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from sqlalchemy.orm import InstanceState

from fastkit.database._modes import Mode
from fastkit.errors import TransactionDoomedError, UnitOfWorkError


class NestedRollback(UnitOfWorkError):  # noqa: N818 - it is never raised
    """What dooms a transaction when a nested block asks for a rollback."""


class OpenTransaction:
    """
    The notes of one transaction, from the opening of a block to its commit or rollback.

    It keeps no object alive: a block that adds a million rows in chunks may let go of them.

    Attributes:
        mode: What the block asked for.
        cause_of_doom: The first error that makes a commit impossible.
        committing: Whether everything is flushed, so that COMMIT is the only thing left to be sent.
        commit_sent: Whether an error came back from COMMIT itself, and not from what goes before it.
        stale: States that were loaded before the transaction and not read in it yet, or None if there were none.
    """

    def __init__(self, mode: Mode, loaded: Iterable[InstanceState[Any]]) -> None:
        self.mode = mode
        self.cause_of_doom: BaseException | None = None
        self.committing = False
        self.commit_sent = False
        states = list(loaded)
        self.stale: WeakSet[InstanceState[Any]] | None = WeakSet(states) if states else None
        self._counts: dict[str, int] = {}
        self._written: WeakSet[InstanceState[Any]] | None = None
        self._deleted: WeakSet[InstanceState[Any]] | None = None

    def wrote(self, verb: str, states: Iterable[InstanceState[Any]]) -> None:
        """Note that a flush wrote these states; *verb* is "added", "changed" or "deleted"."""
        for state in states:
            self.executed(f"{verb} {state.class_.__name__}")
            if self._written is None:
                self._written = WeakSet()
            self._written.add(state)

    def executed(self, description: str) -> None:
        """Note a statement that wrote, such as "UPDATE book"."""
        self._counts[description] = self._counts.get(description, 0) + 1

    def read_afresh(self, states: set[InstanceState[Any]]) -> None:
        """Note that the transaction has read these states itself."""
        if self.stale:
            self.stale -= states

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
        return dict(self._counts)

    @property
    def written(self) -> list[object]:
        """Return the flushed objects that are still alive."""
        return _alive(self._written)

    @property
    def gone(self) -> list[object]:
        """Return the objects whose rows were deleted and that are still alive."""
        return _alive(self._deleted)

    def doom(self, cause: BaseException) -> None:
        """Make a commit impossible; the first cause stays."""
        if self.cause_of_doom is None:
            self.cause_of_doom = cause

    def refuse_if_doomed(self) -> None:
        """
        Let nothing more happen in a transaction that cannot be committed.

        Raises:
            TransactionDoomedError: An earlier error was swallowed; it is the cause.
        """
        if self.cause_of_doom is not None:
            what = f"{type(self.cause_of_doom).__name__} was raised in it and swallowed"
            if isinstance(self.cause_of_doom, NestedRollback):
                what = "a nested block called rollback()"
            raise TransactionDoomedError(
                f"The transaction cannot go on: {what}. "
                "Let the error leave the block, and do what must be done after it in a new block."
            ) from self.cause_of_doom


def _alive(states: WeakSet[InstanceState[Any]] | None) -> list[object]:
    found = [state.obj() for state in states or ()]
    return [entity for entity in found if entity is not None]
