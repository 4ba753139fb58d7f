"""Savepoints: the one part of a transaction that can be rolled back alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import FrameType

from sqlalchemy.orm import SessionTransaction

from fastkit.database import NestedRollback, doomed_by
from fastkit.uow._state import UnitState

log = logging.getLogger("fastkit.uow")


@dataclass(slots=True)
class OpenSavepoint:
    """
    One savepoint, and what was there when it was opened.

    Attributes:
        transaction: What SQLAlchemy knows of it.
        depth: How many blocks and savepoints are open inside the unit, itself included.
        hooks: How many hooks were registered before it.
        events: How many events were recorded before it.
        is_meant: Whether rollback() was called right in it, so that its end is no loss.
    """

    transaction: SessionTransaction
    depth: int
    hooks: int
    events: int
    is_meant: bool = False


class Savepoints(UnitState):
    """What a unit of work does about savepoints."""

    def _enter_savepoint(self, frame: FrameType) -> None:
        self._refuse_unless_open("savepoint()")
        transaction = self._guarded.open_savepoint()
        self._entered(frame)
        self._savepoints.append(
            OpenSavepoint(transaction, self._depth, len(self._hooks), len(self._guarded.events)),
        )

    def _take_savepoint(self, frame: FrameType) -> OpenSavepoint | None:
        """Return the innermost savepoint, which is being left; None if it was given up."""
        if not self._leaves(frame) or not self._depth:
            return None
        self._depth -= 1
        savepoint: OpenSavepoint = self._savepoints.pop()
        return savepoint

    def _leave_savepoint(self, savepoint: OpenSavepoint | None, error: BaseException | None) -> None:
        """Keep what was done since if nothing went wrong; otherwise undo it, and see that nobody overlooks it."""
        transaction = self._transaction
        if transaction is None or savepoint is None:
            return  # the deadline passed, or the owner ended: everything is rolled back already
        cause = transaction.cause_of_doom
        if cause is None and error is None:
            self._release(savepoint)
            return
        self._undo(savepoint, error or cause)
        part = "savepoint" if transaction.cause_of_doom is None else "block"
        if error is None and cause is not None and not (savepoint.is_meant and part == "savepoint"):
            raise doomed_by(cause, part) from cause

    def _release(self, savepoint: OpenSavepoint) -> None:
        try:
            self._guarded.release_savepoint(savepoint.transaction)
        except BaseException as error:
            self._undo(savepoint, error)
            raise

    def _undo(self, savepoint: OpenSavepoint, error: BaseException | None) -> None:
        """Roll back to a savepoint; if that fails the transaction is doomed, and *error* is what the caller sees."""
        del self._hooks[savepoint.hooks :]
        try:
            self._guarded.rollback_to(savepoint.transaction, savepoint.events)
        except Exception as failure:
            if error is None:
                raise
            log.exception("A rollback to a savepoint failed; the block cannot be committed any more.")
            error.add_note(f"The rollback to the savepoint failed too: {type(failure).__name__}")
            error.__context__ = error.__context__ or failure

    def _doom_by_rollback(self, place: str) -> None:
        """Make a commit of what encloses a nested rollback() impossible: the innermost savepoint, or all."""
        self._transaction.doom(NestedRollback("rollback() was called in a nested block", place))
        if self._savepoints and self._savepoints[-1].depth == self._depth:
            self._savepoints[-1].is_meant = True
