"""Repositories: the objects of one model, read and written through a session, in both colours side by side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption

from fastkit._generics import type_argument
from fastkit.errors import DeclarationError
from fastkit.repository._bulk import BulkWrites
from fastkit.repository._locks import RowLock
from fastkit.repository._projection import Projection
from fastkit.repository._selection import Selection, selection_of
from fastkit.repository._verbs import AsyncVerbs, Verbs
from fastkit.repository.bulk import AsyncBulk, Bulk
from fastkit.repository.declaration import mapped
from fastkit.repository.reader import AsyncReader, Reader

M = TypeVar("M")
B = TypeVar("B", bound=BaseModel)


class _Selected(Generic[M]):
    """What is read as objects."""

    _selection: Selection[M]

    def select(self, *where: ColumnElement[bool]) -> Select[M]:
        """
        Return the SQLAlchemy statement, for anything that the verbs do not say.

        >>> statement = shop.books.select(Book.stock > 0).join(Book.author).limit(3)
        >>> books = (await shop.session.scalars(statement)).all()
        """
        return self._selection.select(*where)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._selection.model.__name__}>"


class Reads(_Selected[M], Verbs[M]):
    """The read verbs of a repository and of its views, and the views."""

    def __init__(self, session: Session, selection: Selection[M]) -> None:
        super().__init__(session, selection)
        self._selection = selection

    def with_options(self, *options: ExecutableOption) -> Reads[M]:
        """Return a view that reads with these loader options, such as `selectinload(Book.reviews)`."""
        return Reads(self.session, self._selection.with_options(*options))

    def order_by(self, *keys: Any) -> Reads[M]:
        """Return a view in this order; equal rows follow in the order of the primary key."""
        return Reads(self.session, self._selection.order_by(*keys))

    def for_update(
        self, *, nowait: bool = False, skip_locked: bool = False, key_share: bool = False, read: bool = False
    ) -> Reads[M]:
        """
        Return a view that locks the rows it reads until the block ends, and reads them afresh.

        On SQLite, where a block that may write is alone anyway, it only reads afresh: no row is locked by anybody else.

        Args:
            nowait: Raise `LockTimeoutError` at once where somebody else has locked a row. On SQLite: where another
                block that may write is open.
            skip_locked: Leave out the rows that somebody else has locked, as if they were not there.
            key_share: Let others add rows that refer to these ones (PostgreSQL). MariaDB has no such lock and gives the
                stronger one, so others may have to wait.
            read: Let others lock the same rows with *read* too; nobody can change them. On SQLite others wait.

        Raises:
            DeclarationError: *nowait* together with *skip_locked*.
            OutsideBlockError: By its verbs, if no block is open to hold the lock.
            UnflushedChangesError: By its verbs, if an object was changed before it was locked.
        """
        return Reads(self.session, self._selection.for_update(RowLock(nowait, skip_locked, key_share, read)))

    def get_many(self, idents: Iterable[Any]) -> list[M]:
        """
        Return the objects with these primary keys, in the order of the keys; those that are missing are left out.

        A key that is asked for twice gives the object twice. Many keys are several statements.
        """
        return self._selection.get_many(self.session, idents)

    def into(self, schema: type[B]) -> Reader[B]:
        """
        Return a reader, with the same verbs, that gives response models instead of objects.

        The model is the query: its columns and related rows are read, in a fixed number of statements.

        >>> books = shop.books.into(BookOut).all(Book.stock > 0)

        Raises:
            DeclarationError: A field of the model comes from nothing.
        """
        return Reader(self.session, Projection.of(self._selection, schema))


class AsyncReads(_Selected[M], AsyncVerbs[M]):
    """Same as `Reads`, but awaited."""

    def __init__(self, session: AsyncSession, selection: Selection[M]) -> None:
        super().__init__(session, selection)
        self._selection = selection

    def with_options(self, *options: ExecutableOption) -> AsyncReads[M]:
        """Same as `Reads.with_options`."""
        return AsyncReads(self.session, self._selection.with_options(*options))

    def order_by(self, *keys: Any) -> AsyncReads[M]:
        """Same as `Reads.order_by`."""
        return AsyncReads(self.session, self._selection.order_by(*keys))

    def for_update(
        self, *, nowait: bool = False, skip_locked: bool = False, key_share: bool = False, read: bool = False
    ) -> AsyncReads[M]:
        """Same as `Reads.for_update`."""
        return AsyncReads(self.session, self._selection.for_update(RowLock(nowait, skip_locked, key_share, read)))

    async def get_many(self, idents: Iterable[Any]) -> list[M]:
        """Same as `Reads.get_many`, but awaited."""
        return await self.session.run_sync(self._selection.get_many, idents)

    def into(self, schema: type[B]) -> AsyncReader[B]:
        """Same as `Reads.into`."""
        return AsyncReader(self.session, Projection.of(self._selection, schema))


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

    There is no `update` of an object: change it, the session tracks it. Many rows at once are `bulk`.

    Args:
        session: The session to read and write through.
        model: The mapped class; not needed by a subclass that names it, as in `class Books(Repository[Book])`.
    """

    def __init__(self, session: Session, model: type[M] | None = None) -> None:
        super().__init__(session, self._selection_of(model))

    @property
    def bulk(self) -> Bulk[M]:
        """Return the verbs for many rows at once, without objects."""
        return Bulk(self.session, BulkWrites(self._selection.model))

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

    @property
    def bulk(self) -> AsyncBulk[M]:
        """Same as `Repository.bulk`."""
        return AsyncBulk(self.session, BulkWrites(self._selection.model))

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
