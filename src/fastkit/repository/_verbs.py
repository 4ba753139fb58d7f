"""The read verbs: the same ones whatever is read, in both colours side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.pages import Page, PageQuery, Slice

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

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Page[R]:
        """Return one page and the total."""
        ...

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Return one page and whether there are more."""
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

    def page(self, query: PageQuery, *where: ColumnElement[bool]) -> Page[R]:
        """Return one page, in a total order, with the number of rows on all pages; two statements at most."""
        return self._source.page(self.session, query, *where)

    def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Return one page, in a total order, and whether there are more; one statement, and no row is counted."""
        return self._source.slice(self.session, query, *where)


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

    async def page(self, query: PageQuery, *where: ColumnElement[bool]) -> Page[R]:
        """Same as `Verbs.page`, but awaited."""
        return await self.session.run_sync(self._source.page, query, *where)

    async def slice(self, query: PageQuery, *where: ColumnElement[bool]) -> Slice[R]:
        """Same as `Verbs.slice`, but awaited."""
        return await self.session.run_sync(self._source.slice, query, *where)
