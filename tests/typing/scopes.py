"""What type checkers know of scopes: the value that a unit is told is of the type that the scope says."""

from __future__ import annotations

from typing import assert_type
from uuid import UUID

from bookshop.models import Book
from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork
from fastkit.models import Scope, soft_delete

tenant: Scope[UUID] = Scope("tenant", "tenant_id")
owner = Scope[int]("owner", "owner_id", where=lambda model, user_id: model.owner_id == user_id + 1)


class Shop(AsyncUnitOfWork, scopes=[tenant, owner]):
    """A unit with scopes."""

    books: AsyncRepository[Book]


async def read(database: AsyncDatabase, tenant_id: UUID) -> None:
    """Set values, and lift."""
    shop = Shop(database).scoped(tenant, tenant_id).scoped(owner, 7)
    assert_type(shop, Shop)
    async with shop:
        with shop.unscoped(tenant, soft_delete, reason="report"):
            assert_type(await shop.books.count(), int)
    shop.scoped(tenant, 7)  # type: ignore[misc]  # pyright: ignore[reportArgumentType]
    shop.scoped("tenant", tenant_id)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.unscoped(tenant)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
