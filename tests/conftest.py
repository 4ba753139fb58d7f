"""Databases for the tests, and a last word about the servers that were not found."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pymysql
import pytest
from colours import awaitable
from servers import DRIVERS, REQUIRED, TEST_DATABASE, Driver, in_test_database, missing, send
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from bookshop.models import Author, Base, Book, Customer, Order, OrderLine, Payment, Review
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

pymysql.connections.SSL_ENABLED = False  # else it reads all certificates of the machine for each connection: 35 ms
SECRET = "a secret of which the tests make no secret"
TIMEOUTS = Timeouts(connect=5, pool=2, statement=10, lock=2, commit=5, drain=2)


class Shop(UnitOfWork):
    """The bookshop, sync."""

    authors: Repository[Author]
    books: Repository[Book]
    customers: Repository[Customer]
    orders: Repository[Order]
    lines: Repository[OrderLine]
    reviews: Repository[Review]
    payments: Repository[Payment]


class AsyncShop(AsyncUnitOfWork):
    """The bookshop, async."""

    authors: AsyncRepository[Author]
    books: AsyncRepository[Book]
    customers: AsyncRepository[Customer]
    orders: AsyncRepository[Order]
    lines: AsyncRepository[OrderLine]
    reviews: AsyncRepository[Review]
    payments: AsyncRepository[Payment]


class World:
    """
    One database with empty tables, whatever its driver and colour.

    A sync database is dressed as an async one, so that one body serves both: `async with world.shop() as shop:`.
    """

    def __init__(self, driver: Driver, database: Any) -> None:
        self.driver = driver
        self.naked = database
        self.database = awaitable(database)
        self.unit: Any = AsyncShop if driver.is_async else Shop

    def shop(self) -> Any:
        """Return a unit of work made by hand."""
        return awaitable(self.unit(self.naked))

    def serving(self) -> Any:
        """Return the context of a unit that is owned as if by a request."""
        context = self.unit.serving(self.naked)
        return context if self.driver.is_async else Entered(context)

    @property
    def checked_out(self) -> int:
        """Return how many connections are in use."""
        return self.naked.checked_out

    @property
    def server(self) -> str:
        """Return the kind of database."""
        return self.driver.server

    @property
    def sync_engine(self) -> Any:
        """Return the engine whose events can be listened to."""
        return self.naked.engine.sync_engine if self.driver.is_async else self.naked.engine


class Entered:
    """A sync context manager dressed as an async one."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> Any:
        return awaitable(self._context.__enter__())

    async def __aexit__(self, *error: object) -> Any:
        return self._context.__exit__(*error)


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: the tests wait half of their time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True, scope="module")
def little_to_collect() -> None:
    """Take what is there out of the garbage collector's way, thousands of tests: it would look at them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio: SQLAlchemy knows no other loop."""
    return "asyncio"


@pytest.fixture(autouse=True)
def logs_are_left_on() -> Iterator[None]:
    """See that no test leaves logging disabled: the tests after it would read nothing."""
    yield
    assert logging.root.manager.disable == logging.NOTSET


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a SQLite file with the tables, to be copied by each test."""
    path = tmp_path_factory.mktemp("sqlite") / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.create_all(Base.metadata)
    database.close()
    return path


@pytest.fixture(scope="session")
def server_databases() -> Iterator[set[str]]:
    """Make a database with the tables on each server that answers, and drop it at the end."""
    found = {driver.server for driver in DRIVERS if driver.server != "SQLite" and missing(driver.server) is None}
    for server in found:
        send(server, f"CREATE DATABASE {TEST_DATABASE}")
    for driver in DRIVERS:
        if driver.server in found and not driver.is_async:
            engine = create_engine(in_test_database(driver.url))
            Base.metadata.create_all(engine)
            if driver.server == "PostgreSQL":
                with engine.begin() as connection:  # below 1000 the tests give keys by hand
                    for table in Base.metadata.sorted_tables:
                        if "id" in table.c:
                            connection.execute(text(f"ALTER SEQUENCE {table.name}_id_seq RESTART WITH 1000"))
            engine.dispose()
    yield found
    for server in found:
        force = " WITH (FORCE)" if server == "PostgreSQL" else ""
        send(server, f"DROP DATABASE {TEST_DATABASE}{force}")


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.id)
def driver(request: pytest.FixtureRequest) -> Driver:
    """Return each driver in turn; without its server, skip, or fail where servers are required."""
    driver: Driver = request.param
    if why := missing(driver.server):
        (pytest.fail if REQUIRED else pytest.skip)(f"not found: {why}")
    return driver


@pytest.fixture
def url(driver: Driver, empty_sqlite: Path, server_databases: set[str], tmp_path: Path) -> str:
    """Return the URL of a database with empty tables."""
    if driver.server == "SQLite":
        shutil.copy(empty_sqlite, tmp_path / "shop.db")
        return f"{driver.name}:///{tmp_path / 'shop.db'}"
    with sweeper(driver.server).begin() as connection:
        for statement in EMPTY_TABLES[driver.server]:
            connection.exec_driver_sql(statement)
    return in_test_database(driver.url)


DELETES = [f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables)]
EMPTY_TABLES = {"PostgreSQL": [";".join(DELETES)], "MariaDB": DELETES}


@cache
def sweeper(server: str) -> Engine:
    """Return an engine of a server that leaves no connection open: tests count those that are."""
    sync = next(driver.url for driver in DRIVERS if driver.server == server and not driver.is_async)
    return create_engine(in_test_database(sync), poolclass=NullPool)


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[World]:
    """Return one database with empty tables, and check that no connection is left checked out."""
    known = set(threading.enumerate())
    kind: Any = AsyncDatabase if driver.is_async else Database
    database = kind(url, pool_size=4, timeouts=TIMEOUTS, cursor_keys=[SECRET])
    world = World(driver, database)
    yield world
    left = world.checked_out
    await world.database.close()
    await no_statement_runs_on(known)

    assert left == 0, "a connection was not given back"


async def no_statement_runs_on(known: set[threading.Thread]) -> None:
    """Wait for cut-off statements of SQLite: they run on in aiosqlite's threads, which then speak to the event loop."""
    end = time.monotonic() + 10
    while any("_connection_worker_thread" in each.name for each in set(threading.enumerate()) - known):
        assert time.monotonic() < end, "a thread of aiosqlite is left"
        await asyncio.sleep(0.01)


@pytest.fixture
def rested(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every pooled connection for one that has rested, so that it is asked whether it is alive."""
    monkeypatch.setattr("fastkit.database._liveness.RESTED", -1)


@pytest.fixture
async def stocked(world: World) -> World:
    """Return the same with one author, two books and a customer, whose keys are 1, 1 and 2, and 1."""
    async with world.shop() as shop:
        austen = Author(id=1, name="Jane Austen")
        shop.authors.add(austen)
        shop.books.add_all([book(1, "Emma", author=austen), book(2, "Persuasion", author=austen)])
        shop.customers.add(Customer(id=1, name="Ada", email="ada@example.org"))
        await shop.commit()
    return world


def book(key: int | None, title: str, **more: Any) -> Book:
    """Return a new book with sensible values."""
    values: dict[str, Any] = {
        "year": 1815,
        "language": "en",
        "price": 10,
        "stock": 5,
        "sku": f"sku-{title}"[:20],
    }
    return Book(**{"id": key, "title": title, **values, **more})


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name the servers that were not found."""
    for why in filter(None, (missing(server) for server in ("PostgreSQL", "MariaDB"))):
        terminalreporter.write_line(f"not tested, because it was not found: {why}")
