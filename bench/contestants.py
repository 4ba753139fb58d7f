"""Who competes: fastkit, and hand-written SQLAlchemy that does the same, in both colours side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.shop import ROWS, AsyncShop, Book, Shop, values
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import Session, sessionmaker

from fastkit.database import AsyncDatabase, Database

HAND = "hand-written"
FASTKIT = "fastkit"
BEGIN = "sessionmaker.begin()"
AUTOCOMMIT = "autocommit"
CONTROL = "hand-written again"

OPERATIONS = (
    "insert, commit",
    "get by key, in a block",
    "get by key, outside a block",
    "list 100",
    "get, change, commit",
)
LIST = 100

Operation = Callable[[int], Any]
"""Something to be done once; it gets a running number. The async ones return an awaitable."""


@dataclass(frozen=True)
class Contestant:
    """One way to do each of the operations; None where it has no way of its own."""

    name: str
    operations: tuple[Operation | None, ...]


def key(number: int) -> int:
    """Return the key that the operation with this running number works on."""
    return 1 + number % ROWS


def fastkit_sync(database: Database) -> Contestant:
    """Return fastkit, without async."""

    def add(number: int) -> Book:
        with Shop(database) as shop:
            book = shop.books.add(Book(**values(number)))
            shop.commit()
        return book

    def get(number: int) -> Book | None:
        with Shop(database) as shop:
            return shop.books.get(key(number))

    def get_outside(number: int) -> Book | None:
        with Shop.serving(database) as shop:
            return shop.books.get(key(number))

    def some(number: int) -> Any:
        with Shop(database) as shop:
            return shop.books.all(Book.id <= LIST)

    def change(number: int) -> Book:
        with Shop(database) as shop:
            book = shop.books.get_one(key(number))
            book.stock += 1
            shop.commit()
        return book

    return Contestant(FASTKIT, (add, get, get_outside, some, change))


def hand_sync(database: Database, name: str = HAND) -> Contestant:
    """Return what a developer writes by hand, without async."""
    engine = database.engine

    def add(number: int) -> Book:
        with Session(engine, expire_on_commit=False) as session:
            book = Book(**values(number))
            session.add(book)
            session.commit()
        return book

    def get(number: int) -> Book | None:
        with Session(engine, expire_on_commit=False) as session:
            return session.get(Book, key(number))

    def some(number: int) -> Any:
        with Session(engine, expire_on_commit=False) as session:
            return session.scalars(select(Book).where(Book.id <= LIST)).all()

    def change(number: int) -> Book:
        with Session(engine, expire_on_commit=False) as session:
            book = session.get_one(Book, key(number))
            book.stock += 1
            session.commit()
        return book

    return Contestant(name, (add, get, get, some, change))


def begin_sync(database: Database) -> Contestant:
    """Return the same by hand with `sessionmaker.begin()`, which commits on the way out."""
    maker = sessionmaker(database.engine, expire_on_commit=False)

    def add(number: int) -> Book:
        with maker.begin() as session:
            book = Book(**values(number))
            session.add(book)
        return book

    def get(number: int) -> Book | None:
        with maker.begin() as session:
            return session.get(Book, key(number))

    def some(number: int) -> Any:
        with maker.begin() as session:
            return session.scalars(select(Book).where(Book.id <= LIST)).all()

    def change(number: int) -> Book:
        with maker.begin() as session:
            book = session.get_one(Book, key(number))
            book.stock += 1
        return book

    return Contestant(BEGIN, (add, get, None, some, change))


def autocommit_sync(database: Database) -> Contestant:
    """Return a read by hand on an engine whose statements are complete in themselves, as fastkit's are there."""
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")

    def get(number: int) -> Book | None:
        with Session(engine, expire_on_commit=False) as session:
            return session.get(Book, key(number))

    return Contestant(AUTOCOMMIT, (None, None, get, None, None))


def fastkit_async(database: AsyncDatabase) -> Contestant:
    """Return fastkit, async."""

    async def add(number: int) -> Book:
        async with AsyncShop(database) as shop:
            book = shop.books.add(Book(**values(number)))
            await shop.commit()
        return book

    async def get(number: int) -> Book | None:
        async with AsyncShop(database) as shop:
            return await shop.books.get(key(number))

    async def get_outside(number: int) -> Book | None:
        async with AsyncShop.serving(database) as shop:
            return await shop.books.get(key(number))

    async def some(number: int) -> Any:
        async with AsyncShop(database) as shop:
            return await shop.books.all(Book.id <= LIST)

    async def change(number: int) -> Book:
        async with AsyncShop(database) as shop:
            book = await shop.books.get_one(key(number))
            book.stock += 1
            await shop.commit()
        return book

    return Contestant(FASTKIT, (add, get, get_outside, some, change))


def hand_async(database: AsyncDatabase, name: str = HAND) -> Contestant:
    """Return what a developer writes by hand, async."""
    engine = database.engine

    async def add(number: int) -> Book:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            book = Book(**values(number))
            session.add(book)
            await session.commit()
        return book

    async def get(number: int) -> Book | None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            return await session.get(Book, key(number))

    async def some(number: int) -> Any:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            return (await session.scalars(select(Book).where(Book.id <= LIST))).all()

    async def change(number: int) -> Book:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            book = await session.get_one(Book, key(number))
            book.stock += 1
            await session.commit()
        return book

    return Contestant(name, (add, get, get, some, change))


def begin_async(database: AsyncDatabase) -> Contestant:
    """Return the same by hand with `async_sessionmaker.begin()`, which shields its way out as fastkit does."""
    maker = async_sessionmaker(database.engine, expire_on_commit=False)

    async def add(number: int) -> Book:
        async with maker.begin() as session:
            book = Book(**values(number))
            session.add(book)
        return book

    async def get(number: int) -> Book | None:
        async with maker.begin() as session:
            return await session.get(Book, key(number))

    async def some(number: int) -> Any:
        async with maker.begin() as session:
            return (await session.scalars(select(Book).where(Book.id <= LIST))).all()

    async def change(number: int) -> Book:
        async with maker.begin() as session:
            book = await session.get_one(Book, key(number))
            book.stock += 1
        return book

    return Contestant(BEGIN, (add, get, None, some, change))


def autocommit_async(database: AsyncDatabase) -> Contestant:
    """Return the async twin of `autocommit_sync`."""
    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")

    async def get(number: int) -> Book | None:
        async with AsyncSession(engine, expire_on_commit=False) as session:
            return await session.get(Book, key(number))

    return Contestant(AUTOCOMMIT, (None, None, get, None, None))


def contestants(ours: Any, theirs: Any, spare: Any) -> list[Contestant]:
    """
    Return all contestants.

    Args:
        ours: A database for fastkit.
        theirs: A second one, made the same way, whose engine everybody else uses.
        spare: A third one, so that the control has a connection of its own, as fastkit has.
    """
    if isinstance(ours, AsyncDatabase):
        return [
            hand_async(theirs),
            fastkit_async(ours),
            begin_async(theirs),
            autocommit_async(theirs),
            hand_async(spare, CONTROL),
        ]
    return [
        hand_sync(theirs),
        fastkit_sync(ours),
        begin_sync(theirs),
        autocommit_sync(theirs),
        hand_sync(spare, CONTROL),
    ]
