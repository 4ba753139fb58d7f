"""Readers, as type checkers see them: checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, assert_type

from bookshop.models import Author, Book
from fastkit import AsyncRepository, AsyncUnitOfWork, From, Page, PageQuery, Repository, Schema, UnitOfWork
from fastkit.deps import UnitFactory
from fastkit.pages import CountUpTo, Slice, Window, WindowQuery
from fastkit.repository import (
    AsyncReader,
    Between,
    Contains,
    Equals,
    ListQuery,
    OneOf,
    Range,
    Reader,
    Sort,
    check_reader,
)


class AuthorOut(Schema):
    """One related row."""

    name: str


class BookOut(Schema):
    """A field's source does not change its type."""

    title: str
    author: AuthorOut
    author_name: Annotated[str, From("author.name")]
    review_count: Annotated[int, From.count("reviews")]


class BookIn(Schema):
    """What a new row is made of."""

    title: str


class BookQuery(ListQuery[Book]):
    """A filter is a field whose value may be missing."""

    title: Contains[str] = None
    ids: Annotated[OneOf[int], From("id")] = None
    price: Range[Decimal] = None
    author: Annotated[Equals[str], From("author.name")] = None
    sort = Sort("title", default="title")
    max_size = 50


class Shop(AsyncUnitOfWork):
    """The async colour."""

    books: AsyncRepository[Book]


class SyncShop(UnitOfWork):
    """The sync colour."""

    books: Repository[Book]


async def async_reads(shop: Shop) -> None:
    """Each verb gives the response model."""
    books = shop.books.into(BookOut)
    assert_type(books, AsyncReader[BookOut])
    assert_type(books.order_by(Book.title), AsyncReader[BookOut])
    assert_type(shop.books.order_by(Book.title).into(BookOut), AsyncReader[BookOut])
    assert_type(await books.get(1), BookOut | None)
    assert_type(await books.get_one(1), BookOut)
    assert_type(await books.one(Book.id == 1), BookOut)
    assert_type(await books.first(), BookOut | None)
    assert_type(await books.all(Book.stock > 0), Sequence[BookOut])
    assert_type(await books.count(), int)
    assert_type(await books.page(PageQuery()), Page[BookOut])
    assert_type(await books.slice(PageQuery()), Slice[BookOut])
    assert_type(await books.window(WindowQuery()), Window[BookOut])
    assert_type(await books.page(PageQuery(), count=CountUpTo(10)), Page[BookOut])
    await books.page(PageQuery(), count="about")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for book in books.stream(Book.stock > 0, query=BookQuery(), batch=10):
        assert_type(book, BookOut)
    async for entity in shop.books.stream():
        assert_type(entity, Book)
    assert_type(books.explain(BookQuery()), str)
    assert_type(await books.insert(BookIn(title="Emma")), BookOut)
    assert_type(await books.insert({"title": "Emma"}), BookOut)
    await books.insert(Book())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await books.window(PageQuery())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await books.json().page(PageQuery()), bytes)
    assert_type(await books.json().get(1), bytes | None)
    async for lines in books.json().stream(query=BookQuery()):
        assert_type(lines, bytes)
    assert_type((await books.get_one(1)).author_name, str)
    assert_type((await books.get_one(1)).author, AuthorOut)
    (await books.get_one(1)).autor  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    shop.books.into(Book)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    books.add(Book())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def lists(shop: Shop) -> None:
    """A list query goes where a page query goes."""
    query = BookQuery(title="emma", price=Between(max=Decimal(10)), page=2)
    assert_type(query.title, str | None)
    assert_type(query.ids, list[int] | None)
    assert_type(query.price, Between[Decimal] | None)
    assert_type(await shop.books.page(query), Page[Book])
    assert_type(await shop.books.window(query), Window[Book])
    assert_type(await shop.books.into(BookOut).page(query, Book.stock > 0), Page[BookOut])
    query.titel  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018


def sync_reads(shop: SyncShop) -> None:
    """The same without async."""
    books = shop.books.into(BookOut)
    assert_type(books, Reader[BookOut])
    assert_type(books.get_one(1), BookOut)
    assert_type(books.page(PageQuery()), Page[BookOut])
    assert_type(books.window(WindowQuery()), Window[BookOut])
    assert_type(books.insert(BookIn(title="Emma")), BookOut)
    for book in books.stream():
        assert_type(book, BookOut)
    check_reader(BookOut, Book)
    check_reader(Author, Book)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def factories(make: UnitFactory[Shop], make_sync: UnitFactory[SyncShop]) -> None:
    """A factory makes units for a block, and units that read without one."""
    assert_type(make(), Shop)
    async with make.serving() as shop:
        assert_type(shop, Shop)
    with make_sync.serving() as sync_shop:
        assert_type(sync_shop, SyncShop)
    with make.serving():  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
