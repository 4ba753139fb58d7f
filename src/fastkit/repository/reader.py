"""Readers: rows as response models, in both colours side by side."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.repository._projection import Projection
from fastkit.repository._selection import selection_of
from fastkit.repository._verbs import AsyncVerbs, Verbs

B = TypeVar("B", bound=BaseModel)


def check_reader(schema: type[BaseModel], model: type[Any]) -> None:
    """
    Check, at import or in a test, that a response model can be read from the rows of a mapped class.

    >>> check_reader(BookOut, Book)

    Raises:
        DeclarationError: A field of it comes from nothing, or from something that it cannot hold.
    """
    known: Any = model
    Projection.of(selection_of(known), schema)


class _Projected(Generic[B]):
    """What is read as response models."""

    _projection: Projection[B]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._projection}>"


class Reader(_Projected[B], Verbs[B]):
    """
    The read verbs, with response models as results; made by `into`, and as short-lived as its session.

    The response model is the query: from its fields follow the columns, the joins, and one statement more for each
    list of related rows, at any depth. No object of the session is made, so nothing can be loaded lazily. What is
    pending in an open block is flushed first.

    >>> page = shop.books.into(BookOut).page(query, Book.stock > 0)
    """

    def __init__(self, session: Session, projection: Projection[B]) -> None:
        super().__init__(session, projection)
        self._projection = projection

    def order_by(self, *keys: Any) -> Reader[B]:
        """Return a reader in this order; equal rows follow in the order of the primary key."""
        return Reader(self.session, self._projection.order_by(*keys))


class AsyncReader(_Projected[B], AsyncVerbs[B]):
    """Same as `Reader`, but awaited."""

    def __init__(self, session: AsyncSession, projection: Projection[B]) -> None:
        super().__init__(session, projection)
        self._projection = projection

    def order_by(self, *keys: Any) -> AsyncReader[B]:
        """Same as `Reader.order_by`."""
        return AsyncReader(self.session, self._projection.order_by(*keys))
