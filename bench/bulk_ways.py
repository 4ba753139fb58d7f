"""The ways to write and read many rows: by hand, by other libraries where they have a verb for it, and by fastkit."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from bench.shop import AsyncShop, Book, values
from pydantic import BaseModel, ConfigDict
from sqlalchemy import insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession

from fastkit.database import AsyncDatabase

ROWS = 10_000
GIVEN = [{"id": number, **values(number)} for number in range(1, ROWS + 1)]
NEWS = [{**each, "stock": each["stock"] + 1} for each in GIVEN]
KEYS = [each["id"] for each in GIVEN]

Way = Callable[[], Awaitable[Any]]
OBJECTS, CORE, BULK, COPY, RAW = "add_all by hand", "Core by hand", "bulk.insert", "bulk.insert, copy=True", "raw COPY"
UPSERT, READ, STREAM = "ON CONFLICT by hand", "IN by hand", "yield_per by hand, 100,000"
ALCHEMY, CRUD = "Advanced Alchemy", "FastCRUD"


class BookIn(BaseModel):
    """A book as FastCRUD takes it."""

    id: int
    title: str
    author: str
    year: int
    language: str
    cents: int
    stock: int
    added: dt.date


MODELS = [BookIn(**each) for each in NEWS]


class BookOut(BaseModel):
    """What is streamed."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str
    year: int
    stock: int


@dataclass(frozen=True)
class Group:
    """Ways to do the same, the first of which is by hand; and what is to be in the table before."""

    ways: dict[str, Way]
    before: str | None = None


def _by_hand(database: AsyncDatabase) -> Callable[[], AsyncSession]:
    return lambda: AsyncSession(database.engine, expire_on_commit=False)


def _inserts(database: AsyncDatabase) -> dict[str, Way]:
    session_of = _by_hand(database)

    async def objects() -> None:
        async with session_of() as session:
            session.add_all([Book(**each) for each in GIVEN])
            await session.commit()

    async def core() -> None:
        async with session_of() as session:
            await session.execute(insert(Book.__table__), GIVEN)  # type: ignore[arg-type]
            await session.commit()

    async def bulk(*, copy: bool = False) -> None:
        async with AsyncShop(database) as shop:
            await shop.books.bulk.insert(GIVEN, copy=copy)
            await shop.commit()

    async def raw() -> None:
        names = list(GIVEN[0])
        async with database.engine.connect() as connection:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            async with driver.transaction():
                rows = map(itemgetter(*names), GIVEN)
                await driver.copy_records_to_table("book", records=rows, columns=names)

    return {OBJECTS: objects, CORE: core, BULK: bulk, COPY: lambda: bulk(copy=True), RAW: raw}


def _upserts(database: AsyncDatabase) -> dict[str, Way]:
    session_of = _by_hand(database)

    async def by_hand() -> None:
        statement = postgresql.insert(Book.__table__)  # type: ignore[arg-type]
        news = {name: statement.excluded[name] for name in GIVEN[0] if name != "id"}
        async with session_of() as session:
            await session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=news), NEWS)
            await session.commit()

    async def upsert() -> None:
        async with AsyncShop(database) as shop:
            await shop.books.bulk.upsert(NEWS, match=Book.id)
            await shop.commit()

    async def with_rows() -> None:
        async with AsyncShop(database) as shop:
            found = await shop.books.into(BookOut).upsert(NEWS, match=Book.id)
            await shop.commit()
        assert [each.id for each in found] == KEYS

    return {UPSERT: by_hand, "bulk.upsert": upsert, "into(...).upsert, with the rows": with_rows}


def _reads(database: AsyncDatabase) -> dict[str, Way]:
    session_of = _by_hand(database)

    async def by_hand() -> Any:
        async with session_of() as session:
            return (await session.scalars(select(Book).where(Book.id.in_(KEYS)))).all()

    async def read() -> Any:
        async with AsyncShop(database) as shop:
            found = await shop.books.get_many(KEYS)
            await shop.rollback()
        return found

    return {READ: by_hand, "get_many": read}


def streams(database: AsyncDatabase) -> dict[str, Way]:
    """Return the ways to stream all rows as response models."""
    session_of = _by_hand(database)

    async def by_hand() -> tuple[int, int]:
        number = total = 0
        async with session_of() as session:
            found = await session.stream_scalars(select(Book).order_by(Book.id).execution_options(yield_per=1000))
            async for part in found.partitions():
                for book in part:
                    number, total = number + 1, total + BookOut.model_validate(book).stock
        return number, total

    async def stream() -> tuple[int, int]:
        number = total = 0
        async with AsyncShop.serving(database) as shop:
            async for book in shop.books.into(BookOut).stream():
                number, total = number + 1, total + book.stock
        return number, total

    return {STREAM: by_hand, "into(...).stream": stream}


def _of_alchemy(database: AsyncDatabase) -> Iterator[Way]:
    """Yield how Advanced Alchemy inserts, upserts and reads; nothing if it is not installed."""
    try:
        from advanced_alchemy.filters import CollectionFilter
        from advanced_alchemy.repository import SQLAlchemyAsyncRepository
    except ImportError:
        return
    session_of = _by_hand(database)

    class Books(SQLAlchemyAsyncRepository[Book]):  # type: ignore[misc, unused-ignore]
        model_type = Book

    async def add() -> None:
        async with session_of() as session:
            await Books(session=session).add_many([Book(**each) for each in GIVEN])
            await session.commit()

    async def upsert() -> None:
        async with session_of() as session:
            await Books(session=session).upsert_many([Book(**each) for each in NEWS])
            await session.commit()

    async def read() -> Any:
        async with session_of() as session:
            return await Books(session=session).list(CollectionFilter("id", KEYS))

    yield from (add, upsert, read)


def _of_crud(database: AsyncDatabase) -> Iterator[Way]:
    """Yield how FastCRUD upserts and reads; nothing if it is not installed. It has no verb to insert many."""
    try:
        from fastcrud import FastCRUD
    except ImportError:
        return
    books, session_of = FastCRUD(Book), _by_hand(database)

    async def upsert() -> None:
        async with AsyncSession(database.engine, expire_on_commit=False) as session:
            await books.upsert_multi(session, MODELS, commit=True)

    async def read() -> Any:
        async with session_of() as session:
            return (await books.get_multi(session, limit=None, return_total_count=False, id__in=KEYS))["data"]

    yield from (upsert, read)


def groups(database: AsyncDatabase) -> list[Group]:
    """Return the ways to insert, to insert or change, and to read by keys."""
    inserts, upserts, reads = _inserts(database), _upserts(database), _reads(database)
    if alchemy := list(_of_alchemy(database)):
        for ways, verb, way in zip(
            (inserts, upserts, reads), ("add_many", "upsert_many", "list"), alchemy, strict=True
        ):
            ways[f"{ALCHEMY}, {verb}"] = way
    if crud := list(_of_crud(database)):
        for ways, verb, way in zip((upserts, reads), ("upsert_multi", "get_multi"), crud, strict=True):
            ways[f"{CRUD}, {verb}"] = way
    return [Group(inserts, "TRUNCATE book"), Group(upserts), Group(reads)]
