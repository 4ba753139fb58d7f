"""
fastkit through a real PgBouncer in transaction mode that has two connections to the server, and many clients.

`make faults` runs it; alone: `pytest tests/faults/pgbouncer.py`. It needs the executable: `apt install pgbouncer`, or
FASTKIT_PGBOUNCER=/path/to/it. Its name does not begin with test_, so that `make test` neither needs it nor skips it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aftermath import Lookout
from bouncer import PgBouncer, left_behind
from colours import awaitable
from conftest import AsyncShop, Shop, World, book
from deps.apps import finished
from servers import DRIVERS, Driver
from sqlalchemy import select, text, update

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase, Database, Retry, Timeouts
from fastkit.errors import ReadOnlyError, StatementTimeoutError, UnavailableError

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], ids=lambda driver: driver.id, indirect=True
    ),
]

CLIENTS, ROUNDS = 12, 60
TIMEOUTS = Timeouts(connect=5, pool=60, statement=20, lock=15, commit=20, drain=5)
SETTINGS = (
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('transaction_isolation'), current_setting('transaction_read_only')"
)
USUAL = ("20s", "15s", "read committed", "off")


class ConfirmingShop(Shop, confirm_commit=True):
    """The bookshop, sync, that asks what became of a lost commit."""


class AsyncConfirmingShop(AsyncShop, confirm_commit=True):
    """The same, async."""


@pytest.fixture
def bouncer(url: str, tmp_path: Path) -> Iterator[PgBouncer]:
    """Return a PgBouncer in front of the test's server."""
    with PgBouncer(tmp_path, url) as bouncer:
        yield bouncer


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str, bouncer: PgBouncer) -> AsyncIterator[World]:
    """Return the database behind it, with many more connections than it has."""
    kind: Any = AsyncDatabase if driver.is_async else Database
    database = kind(bouncer.url(url), pool_size=CLIENTS * 2, timeouts=TIMEOUTS, pgbouncer=True)
    world = World(driver, database)
    world.unit = AsyncConfirmingShop if driver.is_async else ConfirmingShop
    yield world
    assert world.checked_out == 0
    await world.database.close()


def asked(sql: str) -> Any:
    return text(sql).execution_options(fastkit_reads=True)


async def everywhere(world: World, work: Any) -> list[Any]:
    """Run a body many times at once: in tasks, or in threads."""
    if world.driver.is_async:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work(number)) for number in range(CLIENTS)]
    else:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(lambda n=n: finished(work(n)))) for n in range(CLIENTS)]
    return [task.result() for task in tasks]


# -- the storm


class Storm:
    """What clients do at once; each step asserts that it got its own answer."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.written: list[str] = []
        self.bought = 0
        self._inside = threading.Lock()
        self._count = threading.Lock()

    async def client(self, number: int) -> None:
        """Do each kind of work again and again, in an order of its own."""
        chance = random.Random(number)
        steps = [
            self.write,
            self.read_outside,
            self.read_model,
            self.read_unknown_type,
            self.own_limit,
            self.read_only,
            self.buy,
            self.lock,
            self.copy,
            self.insert_many,
            self.usual,
            self.snapshot,
            self.run_out_of_time,
            self.roll_back,
        ]
        for turn in range(ROUNDS):
            await chance.choice(steps)(f"{number}-{turn}")

    async def write(self, name: str) -> None:
        """Store a row, and find it."""
        async with self.world.shop() as shop:
            shop.authors.add(Author(name=name))
            await shop.commit()
        self.written.append(name)
        async with self.world.serving() as shop:
            assert await shop.authors.exists(Author.name == name)

    async def read_outside(self, name: str) -> None:
        """Read without a block, under the usual limit."""
        async with self.world.serving() as shop:
            found = (await shop.session.execute(asked(f"SELECT '{name}', current_setting('statement_timeout')"))).one()
        assert tuple(found) == (name, "20s")

    async def read_model(self, name: str) -> None:
        """Read objects without a block."""
        async with self.world.serving() as shop:
            assert (await shop.books.get_one(1)).title == "Emma"
            assert await shop.books.count(Book.id < 3) == 2

    async def read_unknown_type(self, name: str) -> None:
        """Read what asyncpg has to look up first."""
        async with self.world.serving() as shop:  # asyncpg sets `jit` off for as long as it asks about the type
            assert await shop.session.scalar(asked("SELECT author FROM author LIMIT 1")) is not None

    async def own_limit(self, name: str) -> None:
        """Open a block with a limit of its own."""
        async with self.world.shop().block(timeout=7) as shop:
            found = (await shop.session.execute(asked(SETTINGS))).one()
        assert tuple(found) == ("7s", *USUAL[1:])

    async def read_only(self, name: str) -> None:
        """Open a block that may not write, and write."""
        with pytest.raises(ReadOnlyError):
            async with self.world.shop().block(read_only=True, isolation="REPEATABLE READ") as shop:
                found = (await shop.session.execute(asked(SETTINGS))).one()
                assert tuple(found) == (*USUAL[:2], "repeatable read", "on")
                await shop.session.execute(text(f"INSERT INTO author (name) VALUES ('never {name}')"))

    async def buy(self, name: str) -> None:
        """Take one from the stock, which others do at the same time."""

        async def one(shop: Any) -> None:
            shop = awaitable(shop)
            stock = await shop.session.scalar(select(Book.stock).where(Book.id == 2))
            await shop.session.execute(update(Book).where(Book.id == 2).values(stock=stock - 1))

        work = one if self.world.driver.is_async else lambda shop: finished(one(shop))
        retry = Retry(200, deadline=60)
        await self.world.database.run(self.world.unit, work, retry=retry, isolation="SERIALIZABLE")
        with self._count:
            self.bought += 1

    async def lock(self, name: str) -> None:
        """Be alone in a block with a lock on a name."""
        async with self.world.shop() as shop:
            await shop.lock("the only one")
            assert self._inside.acquire(blocking=False), "two blocks hold one lock"
            await shop.authors.count()
            self._inside.release()

    async def copy(self, name: str) -> None:
        """Store many rows by COPY."""
        names = [f"{name}-copied-{number}" for number in range(30)]
        async with self.world.shop() as shop:
            await shop.authors.bulk.insert([{"name": each} for each in names], copy=True)
            await shop.commit()
        self.written += names

    async def insert_many(self, name: str) -> None:
        """Store many rows by INSERT."""
        names = [f"{name}-inserted-{number}" for number in range(30)]
        async with self.world.shop() as shop:
            await shop.authors.bulk.insert([{"name": each} for each in names])
            await shop.commit()
        self.written += names

    async def usual(self, name: str) -> None:
        """Open a block as it is by default."""
        async with self.world.shop() as shop:
            found = (await shop.session.execute(asked(SETTINGS))).one()
        assert tuple(found) == USUAL

    async def snapshot(self, name: str) -> None:
        """Count the same rows three times at the same moment."""

        async def count(shop: Any) -> int:
            return int(await awaitable(shop).authors.count())

        read = count if self.world.driver.is_async else lambda shop: finished(count(shop))
        counts = await self.world.database.gather(self.world.unit, read, read, read, snapshot=True)
        assert len(set(counts)) == 1

    async def run_out_of_time(self, name: str) -> None:
        """Run a statement that takes longer than its limit."""
        with pytest.raises(StatementTimeoutError):
            async with self.world.shop().block(timeout=0.01) as shop:
                await shop.session.execute(asked("SELECT pg_sleep(5)"))

    async def roll_back(self, name: str) -> None:
        """Write, and think better of it."""
        async with self.world.shop() as shop:
            shop.authors.add(Author(name=f"never {name}"))
            await shop.session.flush()
            await shop.rollback()


@pytest.mark.timeout(300)
async def test_a_storm_of_everything(world: World, bouncer: PgBouncer, url: str) -> None:
    """No error, no wrong answer, and on both connections to the server nothing is left for the next client."""
    async with world.shop() as shop:
        austen = Author(name="Jane Austen")
        shop.books.add_all([book(1, "Emma", author=austen), book(2, "Persuasion", author=austen, stock=100_000)])
        await shop.commit()
    untouched = left_behind(bouncer, url)
    storm = Storm(world)
    await everywhere(world, storm.client)

    lookout = Lookout(url)
    assert sorted(lookout.names()) == sorted([*storm.written, "Jane Austen"])
    assert lookout.rows("SELECT stock FROM book WHERE id = 2") == [(100_000 - storm.bought,)]
    lookout.close()
    found = left_behind(bouncer, url)
    assert len(found) == 2
    assert set(found.values()) == set(untouched.values()) == {("0", "0", "read committed", "off", "on", "", 0, 0)}


async def test_waiting_for_pgbouncer_has_an_end(driver: Driver, url: str, tmp_path: Path) -> None:
    """Whoever gets no connection to the server within `query_wait_timeout` is told so, and nobody after that."""
    kind: Any = AsyncDatabase if driver.is_async else Database
    with PgBouncer(tmp_path, url, patience=1) as bouncer:
        world = World(driver, kind(bouncer.url(url), timeouts=TIMEOUTS, pgbouncer=True))
        async with world.shop() as one, world.shop() as two:
            assert await one.authors.count() == await two.authors.count() == 0
            with pytest.raises(UnavailableError):
                async with world.shop() as three:
                    await three.authors.count()
        async with world.shop() as shop:
            assert await shop.authors.count() == 0
        await world.database.close()

    assert world.checked_out == 0
