"""What a session remembers of one open transaction: its mode, what it wrote, what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

from sqlalchemy import inspect
from sqlalchemy.orm import InstanceState

from fastkit.database._modes import Mode
from fastkit.errors import TransactionDoomedError


class OpenTransaction:
    """
    The notes of one transaction, from the opening of a block to its commit or rollback.

    It keeps no object alive: a block that adds a million rows in chunks may let go of them.

    Attributes:
        mode: What the block asked for.
        cause_of_doom: The first error that makes a commit impossible.
        committing: Whether everything is flushed, so that COMMIT is the only thing left to be sent.
        commit_sent: Whether an error came back from COMMIT itself, and not from what goes before it.
        stale: States that were loaded before the transaction and not read in it yet.
    """

    def __init__(self, mode: Mode, loaded: Iterable[InstanceState[Any]]) -> None:
        self.mode = mode
        self.cause_of_doom: BaseException | None = None
        self.committing = False
        self.commit_sent = False
        self.stale: WeakSet[InstanceState[Any]] = WeakSet(loaded)
        self.deleted: WeakSet[InstanceState[Any]] = WeakSet()
        self._counts: Counter[str] = Counter()
        self._written: WeakSet[InstanceState[Any]] = WeakSet()

    def wrote(self, verb: str, objects: Iterable[object]) -> None:
        """Note that a flush wrote these objects; *verb* is "added", "changed" or "deleted"."""
        for entity in objects:
            self._counts[f"{verb} {type(entity).__name__}"] += 1
            self._written.add(inspect(entity))

    def executed(self, description: str) -> None:
        """Note a statement that wrote, such as "UPDATE book"."""
        self._counts[description] += 1

    @property
    def writes(self) -> dict[str, int]:
        """Return what was sent to the database, by kind."""
        return dict(self._counts)

    @property
    def written(self) -> list[object]:
        """Return the flushed objects that are still alive."""
        return [entity for state in self._written if (entity := state.obj()) is not None]

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
            raise TransactionDoomedError(
                f"The transaction cannot go on: {type(self.cause_of_doom).__name__} was raised in it and swallowed. "
                "Let the error leave the block, and do what must be done after it in a new block."
            ) from self.cause_of_doom
