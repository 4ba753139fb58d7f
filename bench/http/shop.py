"""What all contestants store and answer: books, their authors, notes on them; models, response models and rows."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, ForeignKey, Numeric, String, event, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship

ROWS = 100_000
NOTED = 500
"""So many books have notes, eight each; pages of the nested list are among them."""

NEWEST = 5
T = TypeVar("T")


class Base(DeclarativeBase):
    """The declarative base."""


class Author(Base):
    """The related row."""

    __tablename__ = "shop_author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class Book(Base):
    """The row: nine columns."""

    __tablename__ = "shop_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    language: Mapped[str] = mapped_column(String(3))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock: Mapped[int]
    pages: Mapped[int]
    in_print: Mapped[bool]
    published_at: Mapped[dt.datetime]
    author_id: Mapped[int] = mapped_column(ForeignKey("shop_author.id"))
    author: Mapped[Author] = relationship()
    notes: Mapped[list[Note]] = relationship()
    newest: ClassVar[Any]


class Note(Base):
    """The row of a list."""

    __tablename__ = "shop_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    book_id: Mapped[int] = mapped_column(ForeignKey("shop_book.id"), index=True)
    stars: Mapped[int]
    text: Mapped[str] = mapped_column(String(200))


def newest_of(book: Any, note: Any) -> Any:
    """
    Return a relationship to the newest notes, as SQLAlchemy's docs have it.

    "Row-Limited Relationships with Window Functions", docs.sqlalchemy.org/en/21/orm/join_conditions.html.
    """
    place = func.row_number().over(order_by=note.id.desc(), partition_by=note.book_id).label("place")
    partition = select(note, place).subquery()
    placed = aliased(note, partition)
    condition = (placed.book_id == book.id) & (partition.c.place <= NEWEST)
    return relationship(placed, primaryjoin=condition, order_by=partition.c.place, viewonly=True)


Book.newest = newest_of(Book, Note)


class Out(BaseModel):
    """The base of response models."""

    model_config = ConfigDict(from_attributes=True)


class BookOut(Out):
    """Every column."""

    id: int
    title: str
    language: str
    price: Decimal
    stock: int
    pages: int
    in_print: bool
    published_at: dt.datetime
    author_id: int


class AuthorOut(Out):
    """The related row."""

    id: int
    name: str


class NoteOut(Out):
    """A row of the list."""

    id: int
    stars: int
    text: str


class NestedOut(BookOut):
    """A book, its author and its newest notes."""

    author: AuthorOut
    newest: list[NoteOut]


class BookIn(BaseModel):
    """A new book."""

    title: str
    language: str
    price: Decimal
    stock: int
    pages: int
    in_print: bool
    published_at: dt.datetime
    author_id: int


class BookUpdate(BaseModel):
    """What may be changed."""

    stock: int


class Some(Out, Generic[T]):
    """Some rows, and whether there are more; the same as fastkit's `Slice`."""

    items: list[T]
    has_more: bool
    page: int
    size: int


class Numbered(Out, Generic[T]):
    """Some rows, and the number of all; the same as fastkit's `Page`."""

    items: list[T]
    total: int
    page: int
    size: int


class Part(Out, Generic[T]):
    """Rows that go on behind a cursor."""

    items: list[T]
    next_cursor: str | None


def url() -> str:
    """Return the database that a contestant is to use."""
    return os.environ["FASTKIT_BENCH_URL"]


def make_engine() -> AsyncEngine:
    """Return an engine as fastkit makes it: the same pool, and on SQLite the same settings."""
    engine = create_async_engine(url(), pool_size=10, max_overflow=5)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine.sync_engine, "connect")
        def set_up(connection: Any, _record: Any) -> None:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
                connection.execute(f"PRAGMA {pragma}").close()

    return engine


def fill(engine: Engine) -> None:
    """Make the tables and their rows."""
    Base.metadata.create_all(engine)
    start = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - without a zone, because SQLite has none
    with engine.begin() as connection:
        connection.execute(insert(Author), [{"id": key, "name": f"Writer {key}"} for key in range(1, 501)])
        for first in range(1, ROWS, 10_000):
            connection.execute(insert(Book), list(_books(first, start)))
        connection.execute(
            insert(Note),
            [{"book_id": key % NOTED + 1, "stars": key % 5 + 1, "text": "Great, again."} for key in range(8 * NOTED)],
        )
        if engine.dialect.name == "postgresql":
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('shop_book', 'id'), {ROWS})"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"))


def _books(first: int, start: dt.datetime) -> Iterator[dict[str, Any]]:
    for key in range(first, first + 10_000):
        yield {
            "id": key,
            "title": f"The {key}th voyage of the Beagle",
            "language": ("en", "fr", "de")[key % 3],
            "price": Decimal(key % 5000 + 99) / 100,
            "stock": key % 100,
            "pages": 100 + key % 900,
            "in_print": key % 7 != 0,
            "published_at": start + dt.timedelta(minutes=key),
            "author_id": key % 500 + 1,
        }


@asynccontextmanager
async def disposing(engine: AsyncEngine) -> AsyncIterator[None]:
    """Dispose an engine when its app stops."""
    try:
        yield
    finally:
        await engine.dispose()


async def chunks(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return lines in parts of a thousand, so that sending them costs every contestant the same and little."""
    part: list[bytes] = []
    async for line in lines:
        part.append(line)
        if len(part) == 1000:  # noqa: PLR2004 - as many as one statement or fetch brings
            yield b"\n".join(part) + b"\n"
            part.clear()
    if part:
        yield b"\n".join(part) + b"\n"
