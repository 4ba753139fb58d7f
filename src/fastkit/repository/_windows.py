"""Windows: where a client goes on in a list, and the cursors of what it gets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select
from sqlalchemy.orm import Session

from fastkit.database import dialect_of, signer_of
from fastkit.errors import DeclarationError
from fastkit.pages import Signer, Window, WindowQuery
from fastkit.repository._keyset import Keyset
from fastkit.repository.list_query import ListQuery

T = TypeVar("T")

_VERSION = 1
_AFTER, _FROM, _BEFORE, _UP_TO = ">", ">=", "<", "<="


@dataclass(frozen=True, slots=True)
class Step:
    """
    One statement of a stream: rows that follow those of the statement before.

    Attributes:
        keyset: The order of the stream.
        size: Rows at most.
        after: The values of the sort keys of the last row before, or None at the beginning.
    """

    keyset: Keyset
    size: int
    after: Sequence[Any] | None

    @classmethod
    def of(
        cls, session: Session, size: int, model: type[Any], ordering: Sequence[Any], after: Sequence[Any] | None
    ) -> Step:
        """Return the step through the rows of a mapped class."""
        return cls(Keyset.of(model, ordering, dialect_of(session, model)), size, after)

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the statement."""
        return self.keyset.parameters(self.after, self.size)

    def narrow(self, statement: Select[Any], *, lasts: bool = False) -> Select[Any]:
        """Return a statement for the rows of this step; one that *lasts* is narrowed once for all of its kind."""
        return self.keyset.narrowed(statement, self.after, inclusive=False, lasts=lasts)

    def next(self, rows: Sequence[Sequence[Any]]) -> Sequence[Any] | None:
        """Return where the step after these rows begins, or None if they were the last."""
        return rows[-1][-len(self.keyset.keys) :] if len(rows) == self.size else None


class Place:
    """
    Where a client goes on, and in which direction.

    Args:
        query: What the client asks for.
        keyset: The order of the list.
        signer: Writes and reads its cursors.
        context: What they are bound to.
    """

    def __init__(self, query: WindowQuery, keyset: Keyset, signer: Signer, context: str) -> None:
        self._size = query.size
        self._signer = signer
        self._context = context
        cursor = signer.read(context, query.cursor) if query.cursor else [None]
        self._way: str | None = cursor[0]
        self._values = cursor[1:]
        self._backwards = self._way in {_BEFORE, _UP_TO}
        self._keyset = keyset.reversed if self._backwards else keyset

    @classmethod
    def of(cls, session: Session, query: WindowQuery, model: type[Any], ordering: Sequence[Any]) -> Place:
        """
        Return where a client goes on in the rows of a mapped class.

        Raises:
            DeclarationError: The database has no keys to sign cursors with, or the order cannot be gone on from.
            InvalidCursorError: The cursor is not one of this list.
        """
        if not isinstance(query, WindowQuery):
            raise DeclarationError(
                f"window() takes WindowQuery(size=20, cursor=...) or a list query, not {type(query).__name__}; "
                "numbered pages are page() and slice()."
            )
        dialect = dialect_of(session, model)
        keyset = Keyset.of(model, ordering, dialect)
        filters = query.filters_of_window() if isinstance(query, ListQuery) else ""
        context = f"{_VERSION} {model.__name__} by {keyset.name(dialect)} {filters}"
        return cls(query, keyset, signer_of(session), context)

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the statement."""
        return self._keyset.parameters(self._values, self._size + 1)

    def narrow(self, statement: Select[Any], *, lasts: bool = False) -> Select[Any]:
        """Return a statement for the rows of this window and one more; one that *lasts* is narrowed once."""
        after = self._values if self._way is not None else None
        return self._keyset.narrowed(statement, after, inclusive=self._way in {_FROM, _UP_TO}, lasts=lasts)

    def cut(self, rows: Sequence[T]) -> list[T]:
        """Return those of the rows that are shown, in the order of the list."""
        shown = list(rows[: self._size])
        return shown[::-1] if self._backwards else shown

    def window(self, items: list[T], rows: Sequence[Any], *, more: bool) -> Window[T]:
        """Return the window of these items, which were made of these rows; *more* were found than are shown."""
        after = self._at(_AFTER, rows[-1]) if rows and (more or self._backwards) else None
        before = self._at(_BEFORE, rows[0]) if rows and (more if self._backwards else self._way) else None
        if not rows and self._backwards:  # what was there has gone: go on with the row that the client came from
            after = self._cursor(_FROM if self._way == _BEFORE else _AFTER, self._values)
        elif not rows and self._way:
            before = self._cursor(_UP_TO if self._way == _AFTER else _BEFORE, self._values)
        return Window.model_construct(items=items, next_cursor=after, previous_cursor=before, size=self._size)

    def _at(self, way: str, row: Sequence[Any]) -> str:
        return self._cursor(way, row[-len(self._keyset.keys) :])

    def _cursor(self, way: str, values: Sequence[Any]) -> str:
        return self._signer.write(self._context, [way, *values])
