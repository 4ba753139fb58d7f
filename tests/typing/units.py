"""What type checkers know of units of work, repositories and their views; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, selectinload

from bookshop.models import Author, Book
from fastkit import (
    AsyncDatabase,
    AsyncRepository,
    AsyncUnitOfWork,
    Database,
    Outcome,
    Page,
    PageQuery,
    Repository,
    UnitOfWork,
)
from fastkit.database import GuardedSession
from fastkit.repository import AsyncReads, Reads


class Books(AsyncRepository[Book]):
    """A repository with a verb of its own."""

    async def in_stock(self) -> Sequence[Book]:
        """Return what can be sold."""
        return await self.all(Book.stock > 0)


class Shop(AsyncUnitOfWork):
    """An async unit of work."""

    books: Books
    authors: AsyncRepository[Author]


class SyncShop(UnitOfWork):
    """A sync unit of work."""

    books: Repository[Book]


async def async_reads(database: AsyncDatabase) -> None:
    """Each verb gives the model of its repository."""
    async with Shop(database) as shop:
        assert_type(shop, Shop)
        assert_type(shop.books, Books)
        assert_type(shop.authors, AsyncRepository[Author])
        assert_type(shop.session, AsyncSession)
        assert_type(shop.outcome, Outcome)
        assert_type(await shop.books.get(1), Book | None)
        assert_type(await shop.books.get_one(1), Book)
        assert_type(await shop.books.one(Book.title == "Emma"), Book)
        assert_type(await shop.books.first(Book.stock > 0), Book | None)
        assert_type(await shop.books.all(), Sequence[Book])
        assert_type(await shop.books.in_stock(), Sequence[Book])
        assert_type(await shop.books.count(), int)
        assert_type(await shop.books.exists(Book.id == 1), bool)
        assert_type(await shop.books.page(PageQuery()), Page[Book])
        assert_type(await shop.authors.get_one((1,)), Author)
        assert_type(shop.books.select(Book.id == 1), Select[Book])


async def async_views(shop: Shop) -> None:
    """A view reads the same model and cannot write."""
    assert_type(shop.books.for_update(), AsyncReads[Book])
    assert_type(shop.books.for_update(nowait=True, key_share=True), AsyncReads[Book])
    assert_type(await shop.books.for_update(skip_locked=True, read=True).all(), Sequence[Book])
    shop.books.for_update(True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(await shop.lock("invoice-numbers", timeout=0), None)
    assert_type(shop.books.order_by(Book.title.desc()), AsyncReads[Book])
    assert_type(shop.books.with_options(selectinload(Book.reviews)), AsyncReads[Book])
    assert_type(await shop.books.for_update().order_by(Book.id).get_one(1), Book)
    shop.books.for_update().add(Book())  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


async def async_writes(shop: Shop, book: Book) -> None:
    """What goes in comes out as what it is."""
    assert_type(shop.books.add(book), Book)
    assert_type(shop.books.add_all([book]), list[Book])
    assert_type(await shop.books.delete(book), None)
    assert_type(await shop.commit(), None)
    shop.books.add(Author())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await shop.books.delete(Author())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_blocks(shop: Shop, database: AsyncDatabase) -> None:
    """A block gives the unit it belongs to; a wrong option is a type error."""
    async with shop.begin(isolation="SERIALIZABLE", durable=True) as begun:
        assert_type(begun, Shop)
    async with shop.block(read_only=True, timeout=1.5) as block:
        assert_type(block, Shop)
    async with Shop.serving(database) as served:
        assert_type(served, Shop)
    shop.begin(isolation="serializable")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.begin(isolation="SNAPSHOT")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.block(readonly=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with shop:  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass
    Shop(Database("sqlite://"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def async_mistakes(shop: Shop, book: Book) -> None:
    """What the run time refuses, the type checker refuses first."""
    await shop.books.all(True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await shop.books.all(title="Emma")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await shop.books.page()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await shop.books.filter(Book.id == 1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    _ = shop.book  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    _ = (await shop.books.get(1)).title  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
    _ = (await shop.books.get_one(1)).titel  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


def sync_reads(database: Database) -> None:
    """The same in the other colour."""
    with SyncShop(database) as shop:
        assert_type(shop, SyncShop)
        assert_type(shop.session, GuardedSession)
        assert_type(shop.books.get(1), Book | None)
        assert_type(shop.books.get_one(1), Book)
        assert_type(shop.books.one(), Book)
        assert_type(shop.books.first(), Book | None)
        assert_type(shop.books.all(), Sequence[Book])
        assert_type(shop.books.count(), int)
        assert_type(shop.books.exists(), bool)
        assert_type(shop.books.page(PageQuery()), Page[Book])
        assert_type(shop.books.for_update(), Reads[Book])
        assert_type(shop.books.for_update(skip_locked=True), Reads[Book])
        assert_type(shop.lock("invoice-numbers", timeout=2.5), None)
        assert_type(shop.books.select(), Select[Book])
        assert_type(shop.books.add(Book()), Book)
        assert_type(shop.commit(), None)
    with shop.begin(isolation="READ COMMITTED") as begun:
        assert_type(begun, SyncShop)
    with SyncShop.serving(database) as served:
        assert_type(served, SyncShop)


def plain_sessions(session: Session, async_session: AsyncSession) -> None:
    """A repository by hand knows its model from its argument, or from its class."""
    assert_type(Repository(session, Book), Repository[Book])
    assert_type(AsyncRepository(async_session, Book), AsyncRepository[Book])
    assert_type(Repository(session, Book).get_one(1), Book)
    assert_type(Books(async_session), Books)
    Repository(async_session, Book)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def mapped_pages(page: Page[Book]) -> None:
    """A converted page holds what the converter returns."""

    def title(book: Book) -> str:
        return book.title

    assert_type(page.items, list[Book])
    assert_type(page.map(title), Page[str])
    assert_type(page.total, int)
