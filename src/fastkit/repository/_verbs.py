"""The read verbs: the same ones whatever is read, in both colours side by side."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.errors import DeclarationError
from fastkit.pages import Count, Page, PageQuery, Slice, Window, WindowQuery
from fastkit.repository.list_query import ListQuery

R = TypeVar("R")
S = TypeVar("S", bound=Session | AsyncSession)


class Source(Protocol[R]):
    """What can be read: objects, or response models; a value, which knows no session."""

    def get(self, session: Session, ident: Any) -> R | None:
        """Return what has this primary key, or None."""

    def get_one(self, session: Session, ident: Any) -> R:
        """Return what has this primary key, or raise."""
        ...

    def one(self, session: Session, *where: ColumnElement[bool]) -> R:
        """Return the only one that matches, or raise."""
        ...

    def first(self, session: Session, *where: ColumnElement[bool]) -> R | None:
        """Return the first one that matches, or None."""

    def all(self, session: Session, *where: ColumnElement[bool]) -> Sequence[R]:
        """Return everything that matches."""
        ...

    def count(self, session: Session, *where: ColumnElement[bool]) -> int:
        """Return how many rows match."""
        ...

    def exists(self, session: Session, *where: ColumnElement[bool]) -> bool:
        """Return whether a row matches."""
        ...

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool], count: Count = ...) -> Page[R]:
        """Return one page and the total."""
        ...

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Return one page and whether there are more."""
        ...

    def window(self, session: Session, query: WindowQuery, *where: ColumnElement[bool]) -> Window[R]:
        """Return what follows a cursor, or comes before it."""
        ...

    def batch(
        self,
        session: Session,
        size: int,
        after: Sequence[Any] | None,
        query: ListQuery[Any] | None,
        *where: ColumnElement[bool],
    ) -> tuple[list[R], Sequence[Any] | None]:
        """Return the next part of a stream, and where the part after it begins; None at the end."""
        ...


class _Verbs(Generic[R, S]):
    """What is read, and the session that it is read through."""

    def __init__(self, session: S, source: Source[R]) -> None:
        self.session = session
        self._source = source


class Verbs(_Verbs[R, Session]):
    """
    The read verbs; criteria are SQLAlchemy expressions, joined by AND.

    Outside a block each read is complete in itself: its connection is back in the pool when it returns.
    """

    def get(self, ident: Any) -> R | None:
        """Return the object with this primary key, a tuple if it is composite, or None."""
        return self._source.get(self.session, ident)

    def get_one(self, ident: Any) -> R:
        """
        Return the object with this primary key, a tuple if it is composite.

        Raises:
            NotFoundError: There is none.
        """
        return self._source.get_one(self.session, ident)

    def one(self, *where: ColumnElement[bool]) -> R:
        """
        Return the only object that matches.

        Raises:
            NotFoundError: None matches.
            MultipleFoundError: More than one matches.
        """
        return self._source.one(self.session, *where)

    def first(self, *where: ColumnElement[bool]) -> R | None:
        """Return the first object that matches, in the view's order or that of the primary key, or None."""
        return self._source.first(self.session, *where)

    def all(self, *where: ColumnElement[bool]) -> Sequence[R]:
        """Return every object that matches; without criteria, every object."""
        return self._source.all(self.session, *where)

    def count(self, *where: ColumnElement[bool]) -> int:
        """Return how many rows match."""
        return self._source.count(self.session, *where)

    def exists(self, *where: ColumnElement[bool]) -> bool:
        """Return whether any row matches."""
        return self._source.exists(self.session, *where)

    def page(self, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> Page[R]:
        """
        Return one page, in a total order, with the number of rows on all pages; two statements at most.

        Args:
            query: Which page.
            where: Criteria.
            count: How the total is found: "exact", `CountUpTo(10_000)`, or "estimated", on PostgreSQL. Rows are only
                counted if this page does not tell how many there are, as the last one does.

        Raises:
            DeclarationError: An estimate is asked for, and the database has none.
        """
        return self._source.page(self.session, query, *where, count=count)

    def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Return one page, in a total order, and whether there are more; one statement, and no row is counted."""
        return self._source.slice(self.session, query, *where)

    def window(self, query: WindowQuery, *where: ColumnElement[bool]) -> Window[R]:
        """
        Return what follows a cursor, or comes before it, in a total order; one statement, however deep in the list.

        Each row is seen once, though others are added or deleted in between. NULL stands where the database puts it.

        Raises:
            InvalidCursorError: The cursor is not one of this list with this order and these filters.
            DeclarationError: The database has no `cursor_keys`, or a sort key is of a kind without order.
        """
        return self._source.window(self.session, query, *where)

    def stream(
        self, *where: ColumnElement[bool], query: ListQuery[Any] | None = None, batch: int = 1000
    ) -> Iterator[R]:
        """
        Yield everything that matches, in a total order and in constant memory.

        Each batch is a read of its own that goes on behind the last row of the one before. So no connection is held
        while a slow client reads; outside a block, what others change in between may be seen.

        Args:
            where: Criteria.
            query: Filters and order that a client asked for; its page is ignored.
            batch: Rows in one statement.

        >>> for book in shop.books.into(BookOut).stream(Book.stock > 0):
        ...     print(book.model_dump_json(), file=export)
        """
        check_batch(batch)
        after: Sequence[Any] | None = None
        while True:
            found, after = self._source.batch(self.session, batch, after, query, *where)
            yield from found
            if after is None:
                return


class AsyncVerbs(_Verbs[R, AsyncSession]):
    """Same as `Verbs`, but awaited."""

    async def get(self, ident: Any) -> R | None:
        """Same as `Verbs.get`, but awaited."""
        return await self.session.run_sync(self._source.get, ident)

    async def get_one(self, ident: Any) -> R:
        """Same as `Verbs.get_one`, but awaited."""
        return await self.session.run_sync(self._source.get_one, ident)

    async def one(self, *where: ColumnElement[bool]) -> R:
        """Same as `Verbs.one`, but awaited."""
        return await self.session.run_sync(self._source.one, *where)

    async def first(self, *where: ColumnElement[bool]) -> R | None:
        """Same as `Verbs.first`, but awaited."""
        return await self.session.run_sync(self._source.first, *where)

    async def all(self, *where: ColumnElement[bool]) -> Sequence[R]:
        """Same as `Verbs.all`, but awaited."""
        return await self.session.run_sync(self._source.all, *where)

    async def count(self, *where: ColumnElement[bool]) -> int:
        """Same as `Verbs.count`, but awaited."""
        return await self.session.run_sync(self._source.count, *where)

    async def exists(self, *where: ColumnElement[bool]) -> bool:
        """Same as `Verbs.exists`, but awaited."""
        return await self.session.run_sync(self._source.exists, *where)

    async def page(self, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> Page[R]:
        """Same as `Verbs.page`, but awaited."""
        return await self.session.run_sync(self._source.page, query, *where, count=count)

    async def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Same as `Verbs.slice`, but awaited."""
        return await self.session.run_sync(self._source.slice, query, *where)

    async def window(self, query: WindowQuery, *where: ColumnElement[bool]) -> Window[R]:
        """Same as `Verbs.window`, but awaited."""
        return await self.session.run_sync(self._source.window, query, *where)

    async def stream(
        self, *where: ColumnElement[bool], query: ListQuery[Any] | None = None, batch: int = 1000
    ) -> AsyncIterator[R]:
        """Same as `Verbs.stream`, but for `async for`."""
        check_batch(batch)
        after: Sequence[Any] | None = None
        while True:
            found, after = await self.session.run_sync(self._source.batch, batch, after, query, *where)
            for each in found:
                yield each
            if after is None:
                return


def check_batch(batch: int) -> None:
    """Refuse a batch that holds nothing."""
    if batch < 1:
        raise DeclarationError(f"stream(batch={batch}): read at least one row at a time.")
