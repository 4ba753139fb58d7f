"""What type checkers know of `run`, `gather` and `@transactional`; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from bookshop.models import Author, Book
from fastkit import (
    AsyncDatabase,
    AsyncRepository,
    AsyncUnitOfWork,
    Database,
    Repository,
    Retry,
    Service,
    Timeouts,
    UnitOfWork,
    transactional,
)


class Shop(AsyncUnitOfWork):
    """An async unit of work."""

    books: AsyncRepository[Book]
    authors: AsyncRepository[Author]


class Library(AsyncUnitOfWork):
    """Another one."""

    authors: AsyncRepository[Author]


class SyncShop(UnitOfWork):
    """A sync unit of work."""

    books: Repository[Book]


async def sell(shop: Shop) -> Book:
    """Return what was sold."""
    return await shop.books.get_one(1)


async def count(shop: Shop) -> int:
    """Return a number."""
    return await shop.books.count()


async def name(shop: Shop) -> str | None:
    """Return a name, or none."""
    author = await shop.authors.first()
    return author.name if author else None


async def everything(shop: Shop) -> Sequence[Book]:
    """Return all books."""
    return await shop.books.all()


async def nothing(shop: Shop) -> None:
    """Return nothing."""


async def of_library(shop: Library) -> int:
    """Take another unit."""
    return await shop.authors.count()


def sell_sync(shop: SyncShop) -> Book:
    """Return what was sold."""
    return shop.books.get_one(1)


def count_sync(shop: SyncShop) -> int:
    """Return a number."""
    return shop.books.count()


async def async_run(database: AsyncDatabase) -> None:
    """What the work returns is returned; the unit is of the class that was asked for."""
    assert_type(await database.run(Shop, sell), Book)
    assert_type(await database.run(Shop, nothing, retry=Retry(attempts=3), isolation="SERIALIZABLE"), None)
    assert_type(await database.run(Shop, lambda shop: shop.books.count(), read_only=True, timeout=1.5), int)
    await database.run(Shop, of_library)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await database.run(Shop, count_sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await database.run(SyncShop, count)  # type: ignore[type-var, arg-type]  # pyright: ignore[reportArgumentType]
    await database.run(Shop, sell, retry=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await database.run(Shop, sell, isolation="SNAPSHOT")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await database.run(Shop, sell, readonly=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def sync_run(database: Database) -> None:
    """The same in the other colour."""
    assert_type(database.run(SyncShop, sell_sync), Book)
    assert_type(database.run(SyncShop, lambda shop: shop.books.count(), retry=Retry(3, deadline=5)), int)
    _ = database.run(Shop, count)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


async def async_gather(database: AsyncDatabase) -> None:
    """Up to five results keep their types, each its own; more share one."""
    a, b, c = await database.gather(Shop, sell, count, name)
    assert_type(a, Book)
    assert_type(b, int)
    assert_type(c, str | None)
    assert_type(await database.gather(Shop, sell), tuple[Book, ...])
    assert_type(await database.gather(Shop, sell, count), tuple[Book, int])
    assert_type(
        await database.gather(Shop, sell, count, name, everything, snapshot=True),
        tuple[Book, int, str | None, Sequence[Book]],
    )
    assert_type(
        await database.gather(Shop, sell, count, name, everything, nothing, snapshot=True, fallback="sequential"),
        tuple[Book, int, str | None, Sequence[Book], None],
    )
    assert_type(await database.gather(Shop, *[count] * 7), tuple[int, ...])
    assert_type(await database.gather(Shop, count, count, count, count, count, count), tuple[int, ...])
    x, y, z = await database.gather(Shop, sell, count)  # type: ignore[misc]  # pyright: ignore[reportAssignmentType]
    _ = (x, y, z)


async def async_gather_mistakes(database: AsyncDatabase, shop: Shop) -> None:
    """What the run time refuses, the type checker refuses first."""
    await database.gather(Shop, count, count, fallback="parallel")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await database.gather(Shop, of_library, count)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await database.gather(Shop, count(shop), count(shop))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def sync_gather(database: Database) -> None:
    """The same in the other colour."""
    assert_type(database.gather(SyncShop, sell_sync, count_sync), tuple[Book, int])
    assert_type(database.gather(SyncShop, sell_sync, count_sync, count_sync), tuple[Book, int, int])
    assert_type(database.gather(SyncShop, *[count_sync] * 9, snapshot=True), tuple[int, ...])


class Transfer(Service[Shop]):
    """A service whose methods are transactions."""

    @transactional
    async def __call__(self, source: int, *, copies: int = 1) -> Book:
        """Move copies."""
        return await self.uow.books.get_one(source)

    @transactional(retry=Retry(attempts=5), isolation="SERIALIZABLE", durable=True)
    async def again(self, source: int) -> bool:
        """Move copies, again and again."""
        return await self.uow.books.exists(Book.id == source)


@transactional(read_only=True)
def titles(shop: SyncShop, year: int) -> list[str]:
    """Return titles."""
    return [book.title for book in shop.books.all(Book.year == year)]


@transactional()
async def plain(shop: Shop) -> int:
    """Return a number."""
    return await shop.books.count()


async def decorated(shop: Shop, sync_shop: SyncShop) -> None:
    """A decorated function keeps its signature and its type."""
    assert_type(await Transfer(shop)(1, copies=2), Book)
    assert_type(await Transfer(shop).again(1), bool)
    assert_type(titles(sync_shop, 1815), list[str])
    assert_type(await plain(shop), int)
    await Transfer(shop)("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    titles(sync_shop)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    titles(shop, 1815)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    transactional(retry=3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    transactional(isolation="SNAPSHOT")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


def replicated(url: str, other: AsyncDatabase, sync_other: Database) -> None:
    """Replicas are URLs, or databases of the same colour."""
    database = AsyncDatabase(url, replicas=[url, other], timeouts=Timeouts())
    assert_type(database.replicas, tuple[AsyncDatabase, ...])
    assert_type(Database(url, replicas=[sync_other]).replicas, tuple[Database, ...])
    AsyncDatabase(url, replicas=[sync_other])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
