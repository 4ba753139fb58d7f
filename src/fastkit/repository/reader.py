"""Readers: rows as response models, in both colours side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.pages import PageQuery, WindowQuery
from fastkit.repository._batches import Rows
from fastkit.repository._deferred import deferred
from fastkit.repository._json import JsonProjection, explained
from fastkit.repository._projection import Projection
from fastkit.repository._selection import selection_of
from fastkit.repository._upsert import Names
from fastkit.repository._verbs import AsyncVerbs, Verbs
from fastkit.repository.json_reader import AsyncJsonReader, JsonReader
from fastkit.repository.versions import versions_of

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
    The read verbs, `insert` and `upsert`, with response models as results; made by `into`, lives as its session does.

    The response model is the query: from its fields follow the columns, the joins, and one statement more for each
    list of related rows, at any depth. No object of the session is made, so nothing can be loaded lazily. What is
    pending in an open block is flushed first.

    >>> page = shop.books.into(BookOut).page(query, Book.stock > 0)
    """

    def __init__(self, session: Session, projection: Projection[B]) -> None:
        super().__init__(session, deferred(projection))
        self._projection = projection

    def order_by(self, *keys: Any) -> Reader[B]:
        """Return a reader in this order; equal rows follow in the order of the primary key."""
        return Reader(self.session, self._projection.order_by(*keys))

    def json(self) -> JsonReader:
        """Return a reader of the same rows whose results are JSON, the bytes of these response models."""
        return JsonReader(self.session, JsonProjection.like(self._projection))

    def insert(self, values: BaseModel | Mapping[str, Any]) -> B:
        """
        Insert one row in the open block, and return it as the response model; mostly by one statement.

        Values go by attribute name of the mapped class: the fields of a Pydantic model, defaults among them, or a
        mapping. As with `add`, None stands for the default of a column that has one. No object is made, so events of
        entities, listeners of attributes and what `__init__` does are left out; a class with `@validates`, or with
        listeners of its inserts, is refused. Options and order of the reader do not matter.

        >>> book = shop.books.into(BookOut).insert(BookIn(title="Emma", author_id=1))

        Raises:
            DeclarationError: A name is that of no column, or the class needs `add`.
            OutsideBlockError: No block is open.
            ReadOnlyError: The block is read-only.
            ConstraintError: The row breaks a constraint; as `UniqueError`, `ForeignKeyError` and so on.
        """
        return self._projection.insert(self.session, values)

    def upsert(self, rows: Rows, *, match: Names, set: Names | None = None) -> list[B]:  # noqa: A002 - as in `Bulk`
        """
        Insert rows, or change those that are there, and return each as it is stored then, in the order given.

        As `bulk.upsert`, which returns only how many: right while others write the same rows. One that is there is
        returned and locked until the block ends, whether it changed or not.

        >>> books = shop.books.into(BookOut).upsert(prices, match=Book.sku, set=[Book.price])

        Raises:
            DeclarationError: As `bulk.upsert`.
            InvalidValueError: As `bulk.upsert`; also if a row has None in what tells it.
            UniqueError: A row is the same as another one by something else.
        """
        return self._projection.upsert(self.session, rows, match, set)

    def versions(self) -> Reader[Any]:
        """
        Return a reader of the same rows that gives only their keys and versions.

        What it reads is another one whenever the rows would be: the cheap way to tell whether a client has them.

        >>> if_none_match.check(shop.books.into(BookOut).versions().page(query))

        Raises:
            DeclarationError: The model has no version, or the response model shows more than columns of the row, for
                which its version does not vouch.
        """
        return Reader(self.session, versions_of(self._projection))

    def explain(self, query: PageQuery | WindowQuery | None = None, *where: ColumnElement[bool]) -> str:
        """
        Return what is read, in words: the statements, and the index that a window in this order wants.

        Nothing is sent. For people, in a shell or a log: the wording may change.

        >>> print(shop.books.into(BookOut).explain(BookQuery(sort="-price")))
        """
        return explained(self._projection, self.session, query, *where)


class AsyncReader(_Projected[B], AsyncVerbs[B]):
    """Same as `Reader`, but awaited."""

    def __init__(self, session: AsyncSession, projection: Projection[B]) -> None:
        super().__init__(session, deferred(projection))
        self._projection = projection

    def order_by(self, *keys: Any) -> AsyncReader[B]:
        """Same as `Reader.order_by`."""
        return AsyncReader(self.session, self._projection.order_by(*keys))

    def json(self) -> AsyncJsonReader:
        """Same as `Reader.json`."""
        return AsyncJsonReader(self.session, JsonProjection.like(self._projection))

    async def insert(self, values: BaseModel | Mapping[str, Any]) -> B:
        """Same as `Reader.insert`, but awaited."""
        return await self.session.run_sync(self._projection.insert, values)

    async def upsert(self, rows: Rows, *, match: Names, set: Names | None = None) -> list[B]:  # noqa: A002 - same
        """Same as `Reader.upsert`, but awaited."""
        return await self.session.run_sync(self._projection.upsert, rows, match, set)

    def versions(self) -> AsyncReader[Any]:
        """Same as `Reader.versions`."""
        return AsyncReader(self.session, versions_of(self._projection))

    def explain(self, query: PageQuery | WindowQuery | None = None, *where: ColumnElement[bool]) -> str:
        """Same as `Reader.explain`; not awaited, because nothing is sent."""
        return explained(self._projection, self.session.sync_session, query, *where)
