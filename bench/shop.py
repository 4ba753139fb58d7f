"""What the benchmark stores: one table of eight columns, its unit of work in both colours, and its databases."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, NullPool, String, create_engine, func, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

POSTGRES = os.environ.get("FASTKIT_POSTGRES", "postgres:@127.0.0.1:5432/test")
ROWS = 1000


class Base(DeclarativeBase):
    """The declarative base."""


class Book(Base):
    """A row of ordinary width."""

    __tablename__ = "book"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    author: Mapped[str] = mapped_column(String(100))
    year: Mapped[int]
    language: Mapped[str] = mapped_column(String(3))
    cents: Mapped[int]
    stock: Mapped[int]
    added: Mapped[dt.date]


class Shop(UnitOfWork):
    """The unit of work of `def` code."""

    books: Repository[Book]


class AsyncShop(AsyncUnitOfWork):
    """The unit of work of `async def` code."""

    books: AsyncRepository[Book]


def values(number: int) -> dict[str, Any]:
    """Return the columns of a new book, without its key."""
    return {
        "title": f"The {number}th voyage",
        "author": "Jane Austen",
        "year": 1800 + number % 200,
        "language": "en",
        "cents": 999,
        "stock": 5,
        "added": dt.date(2026, 1, 1),
    }


@dataclass(frozen=True)
class Driver:
    """One way to speak to one kind of database."""

    label: str
    name: str
    is_async: bool

    @property
    def is_server(self) -> bool:
        """Return whether the database is a server, not a file."""
        return not self.name.startswith("sqlite")


DRIVERS = (
    Driver("sqlite3", "sqlite", is_async=False),
    Driver("aiosqlite", "sqlite+aiosqlite", is_async=True),
    Driver("asyncpg", "postgresql+asyncpg", is_async=True),
    Driver("psycopg, async", "postgresql+psycopg", is_async=True),
    Driver("psycopg, sync", "postgresql+psycopg", is_async=False),
)


class Store:
    """A database with a full table, and an observer that shares nothing with the contestants."""

    def __init__(self, url: str, observer: Engine, version: str) -> None:
        self.url = url
        self.version = version
        self.observer = observer

    def totals(self) -> tuple[int, int]:
        """Return how many books are stored, and the sum of their stocks."""
        with self.observer.connect() as connection:
            rows, stock = connection.execute(select(func.count(), func.sum(Book.stock))).one()
        return rows, stock


@contextmanager
def store(driver: Driver, folder: Path) -> Iterator[Store | None]:
    """Make a database for one driver, and drop it at the end; None if its server does not answer."""
    if not driver.is_server:
        path = folder / f"{driver.label}.db"
        yield _filled(f"{driver.name}:///{path}", f"sqlite:///{path}", "SELECT sqlite_version()")
        return
    name = f"fastkit_bench_{os.getpid()}"
    try:
        # Waiting for the disk costs every contestant the same, and would hide what is measured here.
        _send(f"CREATE DATABASE {name}", f"ALTER DATABASE {name} SET synchronous_commit = off")
    except OperationalError:
        yield None
        return
    address = f"{POSTGRES.rpartition('/')[0]}/{name}"
    try:
        yield _filled(f"{driver.name}://{address}", f"postgresql+psycopg://{address}", "SHOW server_version")
    finally:
        _send(f"DROP DATABASE {name} WITH (FORCE)")


def _filled(url: str, observer_url: str, version: str) -> Store:
    observer = create_engine(observer_url, poolclass=NullPool)
    Base.metadata.create_all(observer)
    with observer.begin() as connection:
        connection.execute(insert(Book), [values(number) for number in range(ROWS)])
        connection.execute(text("ANALYZE"))
        return Store(url, observer, str(connection.scalar(text(version))).split()[0])


def _send(*statements: str) -> None:
    engine = create_engine(f"postgresql+psycopg://{POSTGRES}", isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
