"""What type checkers know of services; read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from bookshop.models import Book
from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, Database, Repository, Service, UnitOfWork, rules
from fastkit.service import Rules


class Shop(AsyncUnitOfWork):
    """An async unit of work."""

    books: AsyncRepository[Book]


class SyncShop(UnitOfWork):
    """A sync unit of work."""

    books: Repository[Book]


class Restock(Service[Shop]):
    """A service knows its unit, and inside the block its repositories."""

    async def __call__(self, idents: list[int], copies: int) -> Sequence[Book]:
        """Put more copies on the shelf."""
        assert_type(self.uow, Shop)
        async with self.uow as shop:
            assert_type(shop, Shop)
            books = await shop.books.for_update().all(Book.id.in_(idents))
            assert_type(books, Sequence[Book])
            with rules() as rule:
                assert_type(rule, Rules)
                assert_type(rule(copies > 0, "must be positive", at="copies"), bool)
                rule(copies > 0, "must be positive", "copies")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
            await shop.commit()
            return books


class SyncRestock(Service[SyncShop]):
    """The same in the other colour."""

    def __call__(self, ident: int) -> Book:
        """Put one more copy on the shelf."""
        with self.uow as shop:
            assert_type(shop.books.get_one(ident), Book)
            shop.commit()
            return shop.books.get_one(ident)


class Nothing(Service[int]):  # type: ignore[type-var]  # pyright: ignore[reportInvalidTypeArguments]
    """A service holds a unit of work and nothing else."""


async def use(database: AsyncDatabase, sync_database: Database) -> None:
    """In a script, by hand."""
    async with Shop(database) as shop:
        assert_type(Restock(shop), Restock)
        assert_type(await Restock(shop)([1], 2), Sequence[Book])
    with SyncShop(sync_database) as sync_shop:
        assert_type(SyncRestock(sync_shop)(1), Book)
    Restock(sync_shop)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
