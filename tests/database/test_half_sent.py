"""A value that the driver refuses leaves nothing to the next user of its connection."""

from __future__ import annotations

import pytest
from conftest import World
from pydantic import BaseModel
from servers import DRIVERS

from fastkit.errors import InvalidValueError, NotFoundError

pytestmark = pytest.mark.anyio
TOO_LARGE = 2**31
ON_SERVERS = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], indirect=True, ids=lambda driver: driver.id
)


class AuthorOut(BaseModel):
    """One statement."""

    name: str


class BookOut(BaseModel):
    """Two statements of one moment."""

    title: str
    reviews: list[ReviewOut]


class ReviewOut(BaseModel):
    """A row of the list."""

    stars: int


@ON_SERVERS
async def test_a_number_that_is_too_large(stocked: World) -> None:
    """On the same connection, over and over, read without a transaction and in one, the others are still served."""
    async with stocked.serving() as shop:
        for _ in range(5):
            for schema in (AuthorOut, BookOut, AuthorOut):
                reader = (shop.authors if schema is AuthorOut else shop.books).into(schema)
                with pytest.raises((InvalidValueError, NotFoundError)):
                    await reader.get_one(TOO_LARGE)
            assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"
            async with shop.block(isolation="SERIALIZABLE"):
                assert await shop.books.count() == 2


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.name == "postgresql+asyncpg"], indirect=True)
async def test_a_stale_transaction_of_asyncpg_is_forgotten(stocked: World) -> None:
    """Or it takes every later transaction of the connection for a savepoint."""
    async with stocked.naked.engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await driver.execute("BEGIN")
        await driver.execute("SELECT 1")
        stale = driver.transaction(isolation="serializable")
        driver._top_xact = stale
        await driver.execute("ROLLBACK")
    for _ in range(4):
        async with stocked.shop().block(isolation="SERIALIZABLE") as shop:
            assert await shop.books.count() == 2
