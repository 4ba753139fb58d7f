"""Bulk work, as type checkers see it: checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

from bookshop.models import Book
from fastkit import AsyncRepository, Repository, Schema
from fastkit.repository import AsyncBulk, Bulk


class BookIn(Schema):
    """What a new row is made of."""

    title: str


async def async_bulk(books: AsyncRepository[Book], rows: list[dict[str, object]], models: list[BookIn]) -> None:
    """Rows are mappings or models; each verb counts, and one row gives its object."""
    assert_type(books.bulk, AsyncBulk[Book])
    assert_type(await books.bulk.insert(rows), int)
    assert_type(await books.bulk.insert(models, copy=True), int)
    assert_type(await books.bulk.insert((each for each in rows), validate=BookIn), int)
    assert_type(await books.bulk.update({"stock": Book.stock + 1}, Book.id == 1), int)
    assert_type(await books.bulk.delete(everything=True), int)
    assert_type(await books.bulk.upsert(models, match=[Book.sku, "title"], set=Book.title), int)
    assert_type(await books.bulk.upsert_one(rows[0], match="sku"), Book)
    assert_type(await books.get_many([1, 2]), list[Book])


def sync_bulk(books: Repository[Book], rows: list[dict[str, object]]) -> None:
    """The same, without waiting."""
    assert_type(books.bulk, Bulk[Book])
    assert_type(books.bulk.insert(rows), int)
    assert_type(books.bulk.upsert_one({"sku": "x"}, match=[Book.sku]), Book)
    assert_type(books.for_update().get_many(range(3)), list[Book])


def mistakes(books: Repository[Book]) -> None:
    """Each is told."""
    books.bulk.insert([Book()])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    books.bulk.delete(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    books.bulk.upsert([{"sku": "x"}])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
