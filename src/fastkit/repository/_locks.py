"""Locks on rows: how they are asked for, and the read that takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from fastkit.database import locking
from fastkit.errors import DeclarationError, UnflushedChangesError

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class RowLock:
    """
    How rows are locked; a value.

    Attributes:
        nowait: Whether a row that somebody else has locked is an error at once.
        skip_locked: Whether such a row is left out.
        key_share: Whether rows that refer to the locked ones may still be added.
        read: Whether others may lock the same rows for reading.
    """

    nowait: bool = False
    skip_locked: bool = False
    key_share: bool = False
    read: bool = False

    def __post_init__(self) -> None:
        if self.nowait and self.skip_locked:
            raise DeclarationError(
                "for_update(nowait=True, skip_locked=True): a row that somebody else has locked is an error, or it is "
                "left out. Ask for one of them."
            )

    def on(self, statement: Select[M], model: type[M]) -> Select[M]:
        """Return the statement with the lock."""
        # OF names the model's own table: PostgreSQL refuses to lock the nullable side of an outer join.
        return statement.with_for_update(
            of=model, nowait=self.nowait, skip_locked=self.skip_locked, key_share=self.key_share, read=self.read
        )

    def fetch(self, session: Session, statement: Select[M], model: type[M]) -> list[M]:
        """
        Return the objects that a statement locks, read afresh.

        Raises:
            OutsideBlockError: No block is open.
            UnflushedChangesError: One of them was changed before.
        """
        modified = _modified(session, model)
        with locking(session, model, at_once=self.nowait):
            found = list(session.scalars(statement).unique().all())
        if any(entity is other for entity in found for other in modified):
            raise UnflushedChangesError(
                f"This {model.__name__} was changed before it was locked, so the change may rest on old values. "
                "Read it with for_update() first, then change it."
            )
        return found


def _modified(session: Session, model: type[Any]) -> Sequence[object]:
    """Return the objects of a model whose columns were changed and not flushed."""
    candidates = [entity for entity in session.dirty if isinstance(entity, model)]
    return [entity for entity in candidates if session.is_modified(entity, include_collections=False)]
