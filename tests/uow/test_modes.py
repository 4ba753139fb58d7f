"""C22: isolation level, read-only mode and statement timeout hold for one block, in the database itself."""

from __future__ import annotations

import asyncio

import pytest
from conftest import World
from sqlalchemy import insert, text, update

from bookshop.models import Author, Book
from fastkit.database import READS
from fastkit.errors import ReadOnlyError, StatementTimeoutError

pytestmark = pytest.mark.anyio

ISOLATION = {
    "PostgreSQL": "SELECT upper(current_setting('transaction_isolation'))",
    "MariaDB": (
        "SELECT TRX_ISOLATION_LEVEL FROM information_schema.INNODB_TRX WHERE TRX_MYSQL_THREAD_ID = CONNECTION_ID()"
    ),
}
ENDLESS = {
    "PostgreSQL": "SELECT pg_sleep(20)",
    "MariaDB": "SELECT SLEEP(20) FROM author",
    "SQLite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
}


def reads(sql: str):
    return text(sql).execution_options(**{READS: True})


@pytest.mark.parametrize("level", ["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
async def test_c22_the_isolation_level_holds_for_one_block(stocked: World, level: str) -> None:
    """The database itself reports the level that was asked for, and its default in the next block."""
    if stocked.server == "SQLite":
        async with stocked.shop().block(isolation=level) as shop:
            assert await shop.authors.count() == 1
        return
    question = reads(ISOLATION[stocked.server])
    weakest_of_postgresql = stocked.server == "PostgreSQL" and level == "READ UNCOMMITTED"
    default = "REPEATABLE READ" if stocked.server == "MariaDB" else "READ COMMITTED"
    asked = "READ COMMITTED" if weakest_of_postgresql else level
    seen = []
    for options, expected in (({}, default), ({"isolation": level}, asked), ({}, default)):
        async with stocked.shop().block(**options) as shop:
            await shop.authors.all()
            for _ in range(20):  # InnoDB refreshes its table of transactions when nobody has read it for 0.1 s
                answer = await shop.session.scalar(question)
                if answer == expected:
                    break
                await asyncio.sleep(0.15)
            seen.append(answer)

    assert seen == [default, asked, default]


async def orm_add(shop) -> None:
    shop.authors.add(Author(name="Ovid"))


async def orm_change(shop) -> None:
    (await shop.books.get_one(1)).stock = 0
    await shop.session.flush()


async def orm_delete(shop) -> None:
    await shop.books.delete(await shop.books.get_one(1))


async def orm_update(shop) -> None:
    await shop.session.execute(update(Book).values(stock=0))


async def core_insert(shop) -> None:
    await shop.session.execute(insert(Author.__table__).values(name="Ovid"))


async def textual(shop) -> None:
    await shop.session.execute(text("UPDATE book SET stock = 0"))


async def textual_marked_as_a_read(shop) -> None:
    await shop.session.execute(reads("UPDATE book SET stock = 0"))


@pytest.mark.parametrize(
    "write", [orm_add, orm_change, orm_delete, orm_update, core_insert, textual, textual_marked_as_a_read]
)
async def test_c22_a_read_only_block_refuses_every_write(stocked: World, write) -> None:
    """By the guard or by the database, on every database alike, and it is gone in the next block."""
    with pytest.raises(ReadOnlyError):
        async with stocked.shop().block(read_only=True) as shop:
            await shop.authors.count()
            await write(shop)

    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        assert emma.stock == 5
        emma.stock = 4
        await shop.commit()


async def test_c22_a_text_in_a_read_only_block_needs_no_mark(stocked: World) -> None:
    """It cannot have changed anything, so nothing is forgotten where nobody commits."""
    async with stocked.shop().block(read_only=True) as shop:
        assert await shop.session.scalar(text("SELECT stock FROM book WHERE id = 1")) == 5


async def test_c22_the_statement_timeout_stops_a_statement(stocked: World) -> None:
    """A statement that runs too long is stopped and told as such; the next block has the usual limit."""
    with pytest.raises(StatementTimeoutError):
        async with stocked.shop().block(timeout=0.2) as shop:
            await shop.session.execute(reads(ENDLESS[stocked.server]))

    async with stocked.shop() as shop:
        assert await shop.authors.count() == 1
        if stocked.server == "PostgreSQL":
            assert await shop.session.scalar(reads("SELECT current_setting('statement_timeout')")) == "10s"
        if stocked.server == "MariaDB":
            assert await shop.session.scalar(reads("SELECT @@max_statement_time")) == 10


async def test_c22_the_timeout_is_for_each_statement(stocked: World) -> None:
    """Many short statements may together take longer than one may."""
    import time

    start = time.monotonic()
    async with stocked.shop().block(timeout=0.3) as shop:
        while time.monotonic() - start < 0.5:
            assert await shop.authors.count() == 1


async def test_c22_a_reader_on_sqlite_waits_for_no_writer(stocked: World) -> None:
    """A read-only block runs beside a block that writes."""
    async with stocked.shop() as writer:
        (await writer.books.get_one(1)).stock = 0
        await writer.session.flush()
        async with stocked.shop().block(read_only=True) as reader:
            assert (await reader.books.get_one(1)).stock == 5
        await writer.rollback()
