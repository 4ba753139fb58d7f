"""C23: cancelled at any await, once or twice, a unit leaves no connection, no open transaction and a usable pool."""

from __future__ import annotations

import pytest
from conftest import TIMEOUTS, AsyncShop, World
from sqlalchemy.orm import joinedload
from sweep import cancelled_everywhere, only_a_sample

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase
from fastkit.pages import PageQuery

pytestmark = pytest.mark.anyio


async def commit(shop: AsyncShop) -> None:
    async with shop:
        shop.authors.add(Author(id=77, name="Ovid"))
        await shop.session.flush()
        await shop.rollback()


async def begin(shop: AsyncShop) -> None:
    async with shop.begin():
        await shop.authors.all(Author.name == "nobody")


async def read_only(shop: AsyncShop) -> None:
    async with shop.block(read_only=True, timeout=1):
        await shop.books.all()


async def forgotten(shop: AsyncShop) -> None:
    async with shop:
        await shop.books.for_update().all()


async def outside(shop: AsyncShop) -> None:
    await shop.books.get(1)


async def page_outside(shop: AsyncShop) -> None:
    await shop.books.with_options(joinedload(Book.author)).page(PageQuery())


async def nested(shop: AsyncShop) -> None:
    async with shop, shop, shop.begin():
        await shop.books.count()


async def upsert(shop: AsyncShop) -> None:
    row = {"sku": "s", "title": "t", "author_id": 1, "year": 1, "language": "en", "price": 1, "stock": 1}
    async with shop:
        await shop.books.bulk.upsert([row], match="sku")  # on PostgreSQL within a savepoint
        await shop.rollback()


ONCE = [(body, 1) for body in (commit, begin, read_only, forgotten, outside, page_outside, nested, upsert)]
TWICE = [(commit, 2), (forgotten, 2), (page_outside, 2)]


@pytest.mark.parametrize(("body", "cancels"), ONCE + TWICE)
async def test_c23_cancelled_at_every_await(stocked: World, body, cancels: int) -> None:
    """The sweep of SQLAlchemy's own tests finds no leaked connection, lost slot, swallowed cancellation or bad pool."""
    if not stocked.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    if cancels == 1:
        only_a_sample(body in {commit, read_only, page_outside} or stocked.driver.name == "postgresql+asyncpg")
    else:
        only_a_sample(body is commit and stocked.server == "SQLite")
    url = stocked.naked.engine.url

    def make_engine():
        return AsyncDatabase(url, pool_size=2, timeouts=TIMEOUTS).engine

    async def scenario(engine) -> None:
        async with AsyncShop.serving(AsyncDatabase(engine, timeouts=TIMEOUTS)) as shop:
            await body(shop)

    assert await cancelled_everywhere(make_engine, scenario, cancels=cancels) == []
