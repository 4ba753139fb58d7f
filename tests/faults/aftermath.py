"""What must be true after any fault: nothing is checked out, nothing is open on the server, nobody was told a lie."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack, ExitStack, closing
from typing import Any

from sqlalchemy import create_engine, make_url, text

from fastkit.uow import Status

PATIENCE = 8.0
"""Seconds that a server gets to notice that its client has gone."""

OPEN_TRANSACTIONS = {
    "postgresql": (
        "SELECT pid, state, query FROM pg_stat_activity WHERE datname = current_database() "
        "AND backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()"
    ),
    "mariadb": (
        "SELECT p.id, p.command, t.trx_state FROM information_schema.innodb_trx t "
        "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
        "WHERE p.db = database() AND p.id <> connection_id()"
    ),
}


class Lookout:
    """
    A look at the database from outside: on a connection of its own, around any proxy and any pool.

    Args:
        url: The real database, with a driver of either colour.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.url = url
        self.kind = parsed.get_backend_name()
        self.path = parsed.database or ""
        driver = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[self.kind]
        self._engine = create_engine(parsed.set(drivername=driver), isolation_level="AUTOCOMMIT")

    def close(self) -> None:
        """Let go of the connection."""
        self._engine.dispose()

    def rows(self, sql: str, **values: Any) -> list[Any]:
        """Run one statement, complete in itself, and return its rows."""
        with self._engine.connect() as connection:
            result = connection.execute(text(sql), values)
            return list(result) if result.returns_rows else []

    def names(self) -> list[str]:
        """Return the names of all stored authors."""
        return [name for (name,) in self.rows("SELECT name FROM author ORDER BY name")]

    def open_transactions(self) -> list[Any]:
        """Return the transactions of others in this database; for SQLite, whether somebody holds the write lock."""
        if self.kind != "sqlite":
            return self.rows(OPEN_TRANSACTIONS[self.kind])
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return [str(error)]
            connection.execute("ROLLBACK")
        return []

    def wait_until_nothing_is_open(self) -> None:
        """Wait, because a server notices a cut line when it next looks at it; what is open for longer is a fault."""
        end = time.monotonic() + PATIENCE
        while found := self.open_transactions():
            assert time.monotonic() < end, f"a transaction is still open: {found}"
            self._pause()

    def wait_until_something_is_open(self) -> None:
        """Wait, because what a server tells of its transactions may be of the moment before."""
        end = time.monotonic() + PATIENCE
        while not self.open_transactions():
            assert time.monotonic() < end, "no transaction is open"
            self._pause()

    def _pause(self) -> None:
        # InnoDB refreshes its table of transactions only when nobody has read it for 0.1 s.
        time.sleep(random.uniform(0.12, 0.3) if self.kind == "mariadb" else 0.02)


async def check_pool(database: Any) -> None:
    """Assert that no connection is checked out, and that as many as the pool promises can be taken and used."""
    assert database.checked_out == 0, "a connection was not given back"
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")  # SQLite has one write lock for all
    if database.is_async:
        async with asyncio.timeout(PATIENCE), AsyncExitStack() as stack:
            for _ in range(database.capacity):
                connection = await stack.enter_async_context(engine.connect())
                assert await connection.scalar(text("SELECT 1")) == 1
    else:
        with ExitStack() as stack:
            for _ in range(database.capacity):
                connection = stack.enter_context(engine.connect())
                assert connection.scalar(text("SELECT 1")) == 1
    assert database.checked_out == 0


def check_told(told: Status, lookout: Lookout, names: Iterable[str]) -> bool:
    """Assert that what was told about the authors of one block is what is stored, all or none; return which."""
    wanted = set(names)
    found = wanted & set(lookout.names())
    assert found in (set(), wanted), f"half of a transaction is stored: {sorted(found)}"
    assert told in {Status.COMMITTED, Status.ROLLED_BACK, Status.UNKNOWN}, f"nothing was told: {told}"
    if told is not Status.UNKNOWN:
        assert bool(found) == (told is Status.COMMITTED), f"told {told.name}, found {sorted(found)}"
    return bool(found)


async def check_aftermath(database: Any, lookout: Lookout, told: Status, names: Iterable[str]) -> bool:
    """
    Assert everything that must be true after a fault, and return whether the rows are stored.

    Args:
        database: The `Database` or `AsyncDatabase` that went through it; its way to the server is open again.
        lookout: A look at its server from outside.
        told: What the unit of work says about the block.
        names: The names of all authors that the block added; at least one.
    """
    assert database.checked_out == 0, "a connection was not given back"
    await asyncio.to_thread(lookout.wait_until_nothing_is_open)
    stored = check_told(told, lookout, names)
    await check_pool(database)
    await asyncio.to_thread(lookout.wait_until_nothing_is_open)
    return stored
