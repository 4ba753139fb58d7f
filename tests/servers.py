"""Which databases the tests run on: SQLite always, servers where they answer or are required."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from sqlalchemy import create_engine, make_url, text

POSTGRES = os.environ.get("FASTKIT_POSTGRES", "postgres:@127.0.0.1:5432/test")
MARIADB = os.environ.get("FASTKIT_MARIADB", "root:@127.0.0.1:3306/test")
REQUIRED = os.environ.get("FASTKIT_REQUIRE_SERVERS") == "1"
TEST_DATABASE = f"fastkit_test_{os.getpid()}"


@dataclass(frozen=True)
class Driver:
    """One way to speak to one kind of database."""

    name: str
    url: str
    is_async: bool
    server: str

    @property
    def id(self) -> str:
        """Return the name that a parametrised test shows."""
        return self.name.replace("+", "-")


def _driver(name: str, server: str, address: str, *, is_async: bool) -> Driver:
    return Driver(name, f"{name}://{address}", is_async, server)


DRIVERS = [
    _driver("sqlite", "SQLite", "", is_async=False),
    _driver("sqlite+aiosqlite", "SQLite", "", is_async=True),
    Driver("postgresql+psycopg", f"postgresql+psycopg://{POSTGRES}", is_async=False, server="PostgreSQL"),
    Driver("postgresql+psycopg_async", f"postgresql+psycopg://{POSTGRES}", is_async=True, server="PostgreSQL"),
    _driver("postgresql+asyncpg", "PostgreSQL", POSTGRES, is_async=True),
    _driver("mariadb+pymysql", "MariaDB", MARIADB, is_async=False),
    _driver("mariadb+asyncmy", "MariaDB", MARIADB, is_async=True),
]
_SYNC = {"PostgreSQL": f"postgresql+psycopg://{POSTGRES}", "MariaDB": f"mariadb+pymysql://{MARIADB}"}


@cache
def missing(server: str) -> str | None:
    """Return why a server cannot be used, or None if it answers."""
    if server == "SQLite":
        return None
    engine = create_engine(_SYNC[server], isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except Exception as error:
        return f"{server} at {engine.url.render_as_string(hide_password=True)}: {type(error).__name__}"
    finally:
        engine.dispose()
    return None


def send(server: str, *statements: str) -> None:
    """Send statements to a server, outside the database of the tests."""
    engine = create_engine(_SYNC[server], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def in_test_database(url: str) -> str:
    """Return the URL with the database of this test run, which is dropped at its end."""
    return make_url(url).set(database=TEST_DATABASE).render_as_string(hide_password=False)
