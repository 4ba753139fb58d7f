"""SQLite behaves: real transactions, foreign keys, writers that wait, and nothing left behind in the pool."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TIMEOUTS, AsyncShop, Shop, World
from sqlalchemy import event, text

from bookshop.models import Author, Book
from fastkit.database import READS, AsyncDatabase, Database
from fastkit.errors import ForeignKeyError, LockTimeoutError, ReadOnlyError

pytestmark = pytest.mark.anyio


@pytest.fixture
def sqlite(stocked: World) -> World:
    """Return a SQLite database."""
    if stocked.server != "SQLite":
        pytest.skip("about SQLite")
    return stocked


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("foreign_keys", 1), ("busy_timeout", 2000), ("synchronous", 1)]
)
async def test_the_set_up(sqlite: World, pragma: str, value: object) -> None:
    """Each connection has WAL, foreign keys, a busy timeout and synchronous=NORMAL."""
    async with sqlite.shop() as shop:
        question = text(f"PRAGMA {pragma}").execution_options(**{READS: True})

        assert await shop.session.scalar(question) == value


async def test_foreign_keys_are_checked(sqlite: World) -> None:
    """A row that points nowhere is refused."""
    with pytest.raises(ForeignKeyError):
        async with sqlite.shop() as shop:
            shop.books.add(Book(title="x", sku="x", year=1, language="en", price=1, stock=1, author_id=404))
            await shop.commit()


async def test_ddl_is_part_of_the_transaction(sqlite: World) -> None:
    """A rolled-back CREATE TABLE leaves no table, unlike in the driver's own mode."""
    async with sqlite.shop() as shop:
        await shop.session.execute(text("CREATE TABLE t (x)"))
        await shop.rollback()

    async with sqlite.shop() as shop:
        names = text("SELECT count(*) FROM sqlite_master WHERE name = 't'").execution_options(**{READS: True})
        assert await shop.session.scalar(names) == 0


async def test_blocks_that_write_begin_immediately(sqlite: World) -> None:
    """A block takes the write lock with its first statement, a read-only block and a single read never do."""
    sent: list[str] = []
    event.listen(sqlite.sync_engine, "before_cursor_execute", lambda c, cur, statement, *_: sent.append(statement))
    async with sqlite.serving() as shop:
        await shop.books.get(1)
        outside = [s for s in sent if s.startswith(("BEGIN", "PRAGMA"))]
        async with shop.block(read_only=True):
            await shop.books.count()
        async with shop:
            await shop.books.count()

    assert outside == []
    assert [s for s in sent if s.startswith("BEGIN")] == ["BEGIN", "BEGIN IMMEDIATE"]


async def test_no_increment_is_lost(sqlite: World) -> None:
    """Eight workers, twenty increments each, without a lock in the code: all 160 are there."""
    if sqlite.driver.is_async:

        async def work() -> None:
            for _ in range(20):
                async with sqlite.shop() as shop:
                    (await shop.books.get_one(1)).stock += 1
                    await shop.commit()

        await asyncio.gather(*(work() for _ in range(8)))
    else:

        def count_up() -> None:
            for _ in range(20):
                with sqlite.unit(database) as shop:
                    shop.books.get_one(1).stock += 1
                    shop.commit()

        database = Database(sqlite.naked.engine.url, pool_size=8)
        threads = [threading.Thread(target=count_up) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        database.close()

    async with sqlite.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 165


async def test_a_writer_that_waits_too_long_is_told(sqlite: World) -> None:
    """A second writer gets LockTimeoutError after the lock timeout, which may be retried."""
    if not sqlite.driver.is_async:
        pytest.skip("one thread would wait for itself")
    async with sqlite.shop() as first:
        first.authors.add(Author(name="Ovid"))
        await first.session.flush()
        with pytest.raises(LockTimeoutError) as caught:
            async with sqlite.shop() as second:
                second.authors.add(Author(name="Horace"))
                await second.commit()
        await first.rollback()

    assert caught.value.retryable


async def test_read_only_is_gone_with_its_block_although_it_failed(sqlite: World) -> None:
    """query_only does not stick to the pooled connection, whatever ended the block."""
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with sqlite.shop().block(read_only=True, timeout=1) as shop:
                await shop.books.all()
                raise ZeroDivisionError
        async with sqlite.shop() as shop:
            (await shop.books.get_one(1)).stock += 1
            await shop.commit()


async def test_a_file_that_may_only_be_read(tmp_path: Path) -> None:
    """It is read, in both colours, and stays as it is; a write is refused."""
    file = tmp_path / "there.db"
    with closing(sqlite3.connect(file)) as maker:
        maker.executescript(
            "CREATE TABLE author (id INTEGER PRIMARY KEY, name TEXT); INSERT INTO author VALUES (1, 'Ovid')"
        )
    before = file.read_bytes()
    sync_database = Database(f"sqlite:///file:{file}?mode=ro&uri=true", timeouts=TIMEOUTS)
    async_database = AsyncDatabase(f"sqlite+aiosqlite:///file:{file}?mode=ro&uri=true", timeouts=TIMEOUTS)

    with Shop.serving(sync_database) as shop:
        assert shop.authors.count() == 1
        with pytest.raises(ReadOnlyError), shop:
            shop.authors.add(Author(name="Sappho"))
            shop.commit()
    async with AsyncShop.serving(async_database) as async_shop:
        assert await async_shop.authors.count() == 1
        async with async_shop.block(read_only=True):
            assert await async_shop.authors.exists(Author.name == "Ovid")
    sync_database.close()
    await async_database.close()
    assert file.read_bytes() == before


async def test_both_colours_share_a_file(tmp_path) -> None:
    """A sync script and an async app may use one database file at the same time."""
    from bookshop.models import Base

    sync_database = Database(f"sqlite:///{tmp_path}/shared.db", timeouts=TIMEOUTS)
    async_database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/shared.db", timeouts=TIMEOUTS)
    sync_database.create_all(Base.metadata)
    with Shop(sync_database) as shop:
        shop.authors.add(Author(name="Ovid"))
        shop.commit()
    async with AsyncShop(async_database) as async_shop:
        assert await async_shop.authors.count() == 1
    sync_database.close()
    await async_database.close()
