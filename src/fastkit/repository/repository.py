"""Repositories: the objects of one model, read and written through a session, in both colours side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from sqlalchemy import ColumnElement, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption

from fastkit._generics import type_argument
from fastkit.errors import DeclarationError
from fastkit.pages import Page, PageQuery
from fastkit.repository._selection import Selection, selection_of
from fastkit.repository.declaration import mapped

M = TypeVar("M")
S = TypeVar("S", bound=Session | AsyncSession)


class _Reads(Generic[M, S]):
    """A selection of objects and the session that it is read through."""

    def __init__(self, session: S, selection: Selection[M]) -> None:
        self.session = session
        self._selection = selection

    def select(self, *where: ColumnElement[bool]) -> Select[M]:
        """
        Return the SQLAlchemy statement, for anything that the verbs do not say.

        >>> statement = shop.books.select(Book.stock > 0).join(Book.author).limit(3)
        >>> books = (await shop.session.scalars(statement)).all()
        """
        return self._selection.select(*where)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._selection.model.__name__}>"


class Reads(_Reads[M, Session]):
    """
    The read verbs of a repository and of its views; criteria are SQLAlchemy expressions, joined by AND.

    Outside a block each read is complete in itself: its connection is back in the pool when it returns.
    """

    def with_options(self, *options: ExecutableOption) -> Reads[M]:
        """Return a view that reads with these loader options, such as `selectinload(Book.reviews)`."""
        return Reads(self.session, self._selection.with_options(*options))

    def order_by(self, *keys: Any) -> Reads[M]:
        """Return a view in this order; equal rows follow in the order of the primary key."""
        return Reads(self.session, self._selection.order_by(*keys))

    def for_update(self) -> Reads[M]:
        """
        Return a view that locks the rows it reads until the block ends, and reads them afresh.

        On SQLite, where a block that may write is alone anyway, it only reads afresh.

        Raises:
            OutsideBlockError: By its verbs, if no block is open to hold the lock.
            UnflushedChangesError: By its verbs, if an object was changed before it was locked.
        """
        return Reads(self.session, self._selection.for_update())

    def get(self, ident: Any) -> M | None:
        """Return the object with this primary key, a tuple if it is composite, or None."""
        return self._selection.get(self.session, ident)

    def get_one(self, ident: Any) -> M:
        """
        Return the object with this primary key, a tuple if it is composite.

        Raises:
            NotFoundError: There is none.
        """
        return self._selection.get_one(self.session, ident)

    def one(self, *where: ColumnElement[bool]) -> M:
        """
        Return the only object that matches.

        Raises:
            NotFoundError: None matches.
            MultipleFoundError: More than one matches.
        """
        return self._selection.one(self.session, *where)

    def first(self, *where: ColumnElement[bool]) -> M | None:
        """Return the first object that matches, in the view's order or that of the primary key, or None."""
        return self._selection.first(self.session, *where)

    def all(self, *where: ColumnElement[bool]) -> Sequence[M]:
        """Return every object that matches; without criteria, every object."""
        return self._selection.all(self.session, *where)

    def count(self, *where: ColumnElement[bool]) -> int:
        """Return how many rows match."""
        return self._selection.count(self.session, *where)

    def exists(self, *where: ColumnElement[bool]) -> bool:
        """Return whether any row matches."""
        return self._selection.exists(self.session, *where)

    def page(self, query: PageQuery, *where: ColumnElement[bool]) -> Page[M]:
        """Return one page, in a total order, with the number of rows on all pages; two statements at most."""
        return self._selection.page(self.session, query, *where)


class AsyncReads(_Reads[M, AsyncSession]):
    """Same as `Reads`, but awaited."""

    def with_options(self, *options: ExecutableOption) -> AsyncReads[M]:
        """Same as `Reads.with_options`."""
        return AsyncReads(self.session, self._selection.with_options(*options))

    def order_by(self, *keys: Any) -> AsyncReads[M]:
        """Same as `Reads.order_by`."""
        return AsyncReads(self.session, self._selection.order_by(*keys))

    def for_update(self) -> AsyncReads[M]:
        """Same as `Reads.for_update`."""
        return AsyncReads(self.session, self._selection.for_update())

    async def get(self, ident: Any) -> M | None:
        """Same as `Reads.get`, but awaited."""
        return await self.session.run_sync(self._selection.get, ident)

    async def get_one(self, ident: Any) -> M:
        """Same as `Reads.get_one`, but awaited."""
        return await self.session.run_sync(self._selection.get_one, ident)

    async def one(self, *where: ColumnElement[bool]) -> M:
        """Same as `Reads.one`, but awaited."""
        return await self.session.run_sync(self._selection.one, *where)

    async def first(self, *where: ColumnElement[bool]) -> M | None:
        """Same as `Reads.first`, but awaited."""
        return await self.session.run_sync(self._selection.first, *where)

    async def all(self, *where: ColumnElement[bool]) -> Sequence[M]:
        """Same as `Reads.all`, but awaited."""
        return await self.session.run_sync(self._selection.all, *where)

    async def count(self, *where: ColumnElement[bool]) -> int:
        """Same as `Reads.count`, but awaited."""
        return await self.session.run_sync(self._selection.count, *where)

    async def exists(self, *where: ColumnElement[bool]) -> bool:
        """Same as `Reads.exists`, but awaited."""
        return await self.session.run_sync(self._selection.exists, *where)

    async def page(self, query: PageQuery, *where: ColumnElement[bool]) -> Page[M]:
        """Same as `Reads.page`, but awaited."""
        return await self.session.run_sync(self._selection.page, query, *where)


class _OfOneModel(Generic[M]):
    """How a repository class knows its model: from its brackets, once per class."""

    model: ClassVar[type[Any] | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        model = type_argument(cls, _OfOneModel)
        if isinstance(model, type):
            cls.model = mapped(model, cls.__qualname__)

    @classmethod
    def _selection_of(cls, model: type[M] | None) -> Selection[M]:
        if model is None and cls.model is None:
            raise DeclarationError(
                f"{cls.__name__} does not know its model: write {cls.__name__}(session, Book), "
                f"or class Books({cls.__name__}[Book])."
            )
        known: Any = model or cls.model
        return selection_of(known)


class Repository(Reads[M], _OfOneModel[M]):
    """
    The objects of one model; lives as long as its session.

    In a unit of work an annotation makes one. It works on any SQLAlchemy session too:

    >>> books = Repository(session, Book)
    >>> cheap = books.order_by(Book.price).all(Book.price < 10)

    There is no `update`: change the objects, the session tracks it.

    Args:
        session: The session to read and write through.
        model: The mapped class; not needed by a subclass that names it, as in `class Books(Repository[Book])`.
    """

    def __init__(self, session: Session, model: type[M] | None = None) -> None:
        super().__init__(session, self._selection_of(model))

    def add(self, entity: M) -> M:
        """Add a new object to the open block and return it; its row is inserted by the next flush."""
        self.session.add(entity)
        return entity

    def add_all(self, entities: Iterable[M]) -> list[M]:
        """Add new objects to the open block and return them."""
        added = list(entities)
        self.session.add_all(added)
        return added

    def delete(self, entity: M) -> None:
        """Delete an object in the open block; its row is deleted by the next flush."""
        self.session.delete(entity)


class AsyncRepository(AsyncReads[M], _OfOneModel[M]):
    """
    Same as `Repository`, but awaited where the database may be asked.

    >>> books = AsyncRepository(session, Book)
    >>> cheap = await books.order_by(Book.price).all(Book.price < 10)
    """

    def __init__(self, session: AsyncSession, model: type[M] | None = None) -> None:
        super().__init__(session, self._selection_of(model))

    def add(self, entity: M) -> M:
        """Same as `Repository.add`: nothing is sent yet, so there is nothing to await."""
        self.session.add(entity)
        return entity

    def add_all(self, entities: Iterable[M]) -> list[M]:
        """Same as `Repository.add_all`."""
        added = list(entities)
        self.session.add_all(added)
        return added

    async def delete(self, entity: M) -> None:
        """Same as `Repository.delete`, but awaited, because cascades may have to be loaded."""
        await self.session.delete(entity)
