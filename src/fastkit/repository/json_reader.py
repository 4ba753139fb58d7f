"""Readers whose results are JSON, in both colours side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.pages import Count, PageQuery, WindowQuery
from fastkit.repository._json import JsonProjection
from fastkit.repository._verbs import check_batch
from fastkit.repository.list_query import ListQuery


class _Encoded:
    """What is read as JSON."""

    def __init__(self, session: Any, projection: JsonProjection) -> None:
        self.session = session
        self._projection = projection

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._projection}>"


class JsonReader(_Encoded):
    """
    The read verbs, with JSON as results; made by `Reader.json`, and as short-lived as its session.

    The bytes are those that FastAPI makes of the same response models, aliases included. Where a model only names
    fields, none is made: the types of the rows are checked instead. `Reader.explain` says which way is taken.

    >>> @app.get("/books", response_model=Page[BookOut])
    ... def books(shop: ShopDep, query: Annotated[BookQuery, listed(BookQuery)]) -> Response:
    ...     return Response(shop.books.into(BookOut).json().page(query), media_type="application/json")
    """

    session: Session

    def get(self, ident: Any) -> bytes | None:
        """Return the object with this primary key, or None; see `Reader.get`."""
        return self._projection.json(self.session, "get", ident)

    def get_one(self, ident: Any) -> bytes:
        """Return the object with this primary key, or raise; see `Reader.get_one`."""
        return self._json("get_one", ident)

    def one(self, *where: ColumnElement[bool]) -> bytes:
        """Return the only object that matches, or raise; see `Reader.one`."""
        return self._json("one", *where)

    def first(self, *where: ColumnElement[bool]) -> bytes | None:
        """Return the first object that matches, or None; see `Reader.first`."""
        return self._projection.json(self.session, "first", *where)

    def all(self, *where: ColumnElement[bool]) -> bytes:
        """Return an array of every object that matches; see `Reader.all`."""
        return self._json("all", *where)

    def page(self, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> bytes:
        """Return one page, with the total; see `Reader.page`."""
        return self._json("page", query, *where, count=count)

    def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> bytes:
        """Return one page, and whether there are more; see `Reader.slice`."""
        return self._json("slice", query, *where)

    def window(self, query: WindowQuery, *where: ColumnElement[bool]) -> bytes:
        """Return what follows a cursor, or comes before it; see `Reader.window`."""
        return self._json("window", query, *where)

    def stream(
        self, *where: ColumnElement[bool], query: ListQuery[Any] | None = None, batch: int = 1000
    ) -> Iterator[bytes]:
        """
        Yield everything that matches as lines of JSON, a batch at a time, in constant memory; see `Reader.stream`.

        >>> return StreamingResponse(shop.books.into(BookOut).json().stream(), media_type="application/jsonl")
        """
        check_batch(batch)
        after: Sequence[Any] | None = None
        while True:
            lines, after = self._projection.lines(self.session, batch, after, query, *where)
            if lines:
                yield lines
            if after is None:
                return

    def _json(self, verb: str, *arguments: Any, **more: Any) -> bytes:
        return cast("bytes", self._projection.json(self.session, verb, *arguments, **more))


class AsyncJsonReader(_Encoded):
    """Same as `JsonReader`, but awaited."""

    session: AsyncSession

    async def get(self, ident: Any) -> bytes | None:
        """Same as `JsonReader.get`, but awaited."""
        return await self.session.run_sync(self._projection.json, "get", ident)

    async def get_one(self, ident: Any) -> bytes:
        """Same as `JsonReader.get_one`, but awaited."""
        return await self._json("get_one", ident)

    async def one(self, *where: ColumnElement[bool]) -> bytes:
        """Same as `JsonReader.one`, but awaited."""
        return await self._json("one", *where)

    async def first(self, *where: ColumnElement[bool]) -> bytes | None:
        """Same as `JsonReader.first`, but awaited."""
        return await self.session.run_sync(self._projection.json, "first", *where)

    async def all(self, *where: ColumnElement[bool]) -> bytes:
        """Same as `JsonReader.all`, but awaited."""
        return await self._json("all", *where)

    async def page(self, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> bytes:
        """Same as `JsonReader.page`, but awaited."""
        return await self._json("page", query, *where, count=count)

    async def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> bytes:
        """Same as `JsonReader.slice`, but awaited."""
        return await self._json("slice", query, *where)

    async def window(self, query: WindowQuery, *where: ColumnElement[bool]) -> bytes:
        """Same as `JsonReader.window`, but awaited."""
        return await self._json("window", query, *where)

    async def stream(
        self, *where: ColumnElement[bool], query: ListQuery[Any] | None = None, batch: int = 1000
    ) -> AsyncIterator[bytes]:
        """Same as `JsonReader.stream`, but for `async for`."""
        check_batch(batch)
        after: Sequence[Any] | None = None
        while True:
            lines, after = await self.session.run_sync(self._projection.lines, batch, after, query, *where)
            if lines:
                yield lines
            if after is None:
                return

    async def _json(self, verb: str, *arguments: Any, **more: Any) -> bytes:
        return cast("bytes", await self.session.run_sync(self._projection.json, verb, *arguments, **more))
