"""Bulk work of a repository: many rows without objects, in both colours side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from fastkit.repository._batches import Rows
from fastkit.repository._bulk import BulkWrites
from fastkit.repository._upsert import Names

M = TypeVar("M")


class Bulk(Generic[M]):
    """
    Many rows at once, without objects: `shop.books.bulk`.

    Each verb needs an open block, sends what is pending first, and is all or nothing: if it fails after a part was
    written, the block cannot be committed. Values go by attribute name. As with `insert` of readers, events of
    entities and what `__init__` does are left out; a class that wants to see its objects is refused. Loaded objects of
    the model show afterwards what was written.
    """

    def __init__(self, session: Session, writes: BulkWrites[M]) -> None:
        self.session = session
        self._writes = writes

    def insert(self, rows: Rows, *, validate: type[BaseModel] | None = None, copy: bool = False) -> int:
        """
        Insert many rows, and return how many.

        >>> shop.books.bulk.insert({"title": title, "author_id": 1} for title in titles)

        Args:
            rows: Mappings or Pydantic models; a generator is read in chunks. They may name different columns.
            validate: A Pydantic model that each row is validated by first.
            copy: Whether PostgreSQL's COPY is used, which is several times as fast.

        Raises:
            DeclarationError: A name is that of no column, or the class needs `add_all`, or there is no COPY.
            InvalidValueError: A row does not fit, with its number.
            OutsideBlockError: No block is open.
            ReadOnlyError: The block is read-only.
            ConstraintError: A row breaks a constraint; as `UniqueError`, `ForeignKeyError` and so on.
        """
        return self._writes.insert(self.session, rows, validate=validate, copy=copy)

    def update(self, values: Mapping[str, Any], *where: ColumnElement[bool], everything: bool = False) -> int:
        """
        Change all rows that match, and return how many matched, whether they differ or not.

        >>> shop.books.bulk.update({"price": Book.price * 2}, Book.year < 1900)

        Args:
            values: New values, SQL expressions among them; None is NULL.
            where: Criteria about this model.
            everything: Said instead of criteria.

        Raises:
            DeclarationError: A name is that of no column, a criterion is about another model, or there is none.
        """
        return self._writes.update(self.session, values, where, everything=everything)

    def delete(self, *where: ColumnElement[bool], everything: bool = False) -> int:
        """
        Delete all rows that match, and return how many.

        Args:
            where: Criteria about this model.
            everything: Said instead of criteria.

        Raises:
            DeclarationError: A criterion is about another model, or there is none.
        """
        return self._writes.delete(self.session, where, everything=everything)

    def upsert(self, rows: Rows, *, match: Names, set: Names | None = None) -> int:  # noqa: A002 - the word of SQL
        """
        Insert rows, or change those that are there, and return how many were given.

        >>> shop.books.bulk.upsert(prices, match=Book.sku, set=[Book.price])

        Args:
            rows: As for `insert`.
            match: The attributes that tell a row: those of a unique constraint, or the primary key.
            set: The attributes that change in a row that is there; all that are given by default, nothing if empty.

        Raises:
            DeclarationError: No unique constraint is about *match*.
            InvalidValueError: Two rows are the same by it.
            UniqueError: A row is the same as another one by something else.
        """
        return self._writes.upsert(self.session, rows, match, set)

    def upsert_one(
        self,
        row: BaseModel | Mapping[str, Any],
        *,
        match: Names,
        set: Names | None = None,  # noqa: A002 - same
    ) -> M:
        """Insert a row, or change the one that is there, and return its object, locked until the block ends."""
        return self._writes.upsert_one(self.session, row, match, set)


class AsyncBulk(Generic[M]):
    """Same as `Bulk`, but awaited."""

    def __init__(self, session: AsyncSession, writes: BulkWrites[M]) -> None:
        self.session = session
        self._writes = writes

    async def insert(self, rows: Rows, *, validate: type[BaseModel] | None = None, copy: bool = False) -> int:
        """Same as `Bulk.insert`, but awaited."""
        return await self.session.run_sync(self._writes.insert, rows, validate=validate, copy=copy)

    async def update(self, values: Mapping[str, Any], *where: ColumnElement[bool], everything: bool = False) -> int:
        """Same as `Bulk.update`, but awaited."""
        return await self.session.run_sync(self._writes.update, values, where, everything=everything)

    async def delete(self, *where: ColumnElement[bool], everything: bool = False) -> int:
        """Same as `Bulk.delete`, but awaited."""
        return await self.session.run_sync(self._writes.delete, where, everything=everything)

    async def upsert(self, rows: Rows, *, match: Names, set: Names | None = None) -> int:  # noqa: A002 - as in `Bulk`
        """Same as `Bulk.upsert`, but awaited."""
        return await self.session.run_sync(self._writes.upsert, rows, match, set)

    async def upsert_one(
        self,
        row: BaseModel | Mapping[str, Any],
        *,
        match: Names,
        set: Names | None = None,  # noqa: A002 - same
    ) -> M:
        """Same as `Bulk.upsert_one`, but awaited."""
        return await self.session.run_sync(self._writes.upsert_one, row, match, set)
