"""A walk through windows meets every row exactly once, whatever the rows, the sort keys and the sizes."""

from __future__ import annotations

import enum
import os
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from colours import awaitable
from conftest import SECRET, TIMEOUTS, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from servers import Driver
from sqlalchemy import (
    REAL,
    Boolean,
    Date,
    DateTime,
    Double,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Time,
    TypeDecorator,
    Uuid,
    case,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.database import AsyncDatabase, Database
from fastkit.pages import WindowQuery
from fastkit.repository import AsyncRepository, Repository

pytestmark = pytest.mark.anyio

EXAMPLES = int(os.environ.get("FASTKIT_EXAMPLES", "40"))  # on each of seven drivers, for each of two shapes


class Base(DeclarativeBase):
    """The base of both."""

    metadata = MetaData()


class Colour(enum.Enum):
    """Whose order as text is not that of their declaration, and whose names are not their values."""

    RED = "z"
    GREEN = "m"
    BLUE = "a"


class Reversed(TypeDecorator[str]):
    """What Python sees is not what the database compares."""

    impl = String(10)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Return it from the end."""
        return None if value is None else value[::-1]

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        """Return it from the end."""
        return None if value is None else value[::-1].upper()


class Row(Base):
    """A row with a column of each kind, which may all be NULL."""

    __tablename__ = "wd_row"

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(12, 2))
    rough: Mapped[float | None] = mapped_column(Numeric(12, 3, asdecimal=False))
    exact: Mapped[float | None] = mapped_column(Double)
    small: Mapped[float | None] = mapped_column(Float(20))
    real: Mapped[float | None] = mapped_column(REAL)
    title: Mapped[str | None] = mapped_column(String(10))
    hidden: Mapped[str | None] = mapped_column(Reversed)
    day: Mapped[date | None] = mapped_column(Date)
    at: Mapped[datetime | None] = mapped_column(DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"))
    zoned: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    )
    moment: Mapped[time | None] = mapped_column(Time().with_variant(mysql.TIME(fsp=6), "mysql", "mariadb"))
    lasts: Mapped[timedelta | None] = mapped_column(Interval(second_precision=6))
    token: Mapped[uuid.UUID | None] = mapped_column(Uuid)
    colour: Mapped[Colour | None] = mapped_column(Enum(Colour, name="wd_colour"))
    flag: Mapped[bool | None]
    data: Mapped[bytes | None] = mapped_column(LargeBinary(10))


class Pair(Base):
    """A row with a key of two columns, of which the second is compared by its characters."""

    __tablename__ = "wd_pair"

    first: Mapped[int] = mapped_column(primary_key=True)
    second: Mapped[str] = mapped_column(String(5), primary_key=True)
    rank: Mapped[int]
    other: Mapped[int] = mapped_column(Integer)


TENTH = Decimal("0.1")
NOON = datetime(2026, 3, 1, 12, 0, 0, 123456)  # noqa: DTZ001 - a column without a zone
VALUES: dict[str, list[Any]] = {
    "number": [-1, 0, 1, 2**30],
    "price": [TENTH, TENTH * 3, Decimal("-2.50"), Decimal("9999999999.99")],
    "rough": [0.1, 0.3, 1e8],
    "exact": [0.1, 0.1 + 0.2, 0.3, -1e300, 1e-300],
    "small": [0.1, 0.3, 1.1, 16777216.0],
    "real": [0.1, 0.3, -1.1],
    "title": ["", "a", "A", "b", "é", "%_", "a'b", "\\"],
    "hidden": ["ab", "ba", "ca"],
    "day": [date(2026, 3, 1), date(1999, 12, 31)],
    "at": [NOON, NOON + timedelta(microseconds=1), NOON - timedelta(days=9)],
    "zoned": [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC) + timedelta(microseconds=1)],
    "moment": [NOON.time(), time(0, 0), time(23, 59, 59, 999999)],
    "lasts": [timedelta(0), timedelta(days=2, microseconds=1), timedelta(seconds=1)],
    "token": [uuid.UUID(int=1), uuid.UUID(int=2**127), uuid.UUID(int=2**96 + 5)],
    "colour": list(Colour),
    "flag": [False, True],
    "data": [b"", b"\x00", b"\xff\x00"],
}
EXPRESSIONS: dict[str, Callable[[], Any]] = {
    "lower": lambda: func.lower(Row.title),
    "sum": lambda: Row.number + Row.id,
    "half": lambda: Row.price / 3,
    "known": lambda: func.coalesce(Row.number, 0),
    "count": lambda: select(func.count()).select_from(Pair).where(Pair.first < Row.id).scalar_subquery(),
    "label": lambda: func.length(Row.title).label("length"),
    "not": lambda: ~Row.flag,
    "either": lambda: or_(Row.flag, Row.number > 0),
    "raw": lambda: literal_column("number IS NULL OR number > 0", Boolean),
    "abs": lambda: func.abs(Row.real),
    "painted": lambda: func.coalesce(Row.colour, literal(Colour.GREEN, Row.colour.type)),
    "case": lambda: case((Row.title == "a", Row.colour), else_=literal(Colour.RED, Row.colour.type)),
}


class RowOut(BaseModel):
    """What is shown of a row: nothing that it may be sorted by."""

    id: int


class PairOut(BaseModel):
    """What is shown of a pair."""

    first: int
    second: str


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return rows with many equal values and NULLs."""
    one = st.fixed_dictionaries({name: st.none() | st.sampled_from(values) for name, values in VALUES.items()})
    return [{"id": key} | each for key, each in enumerate(draw(st.lists(one, max_size=9)), start=1)]


def sort_keys(names: list[str]) -> st.SearchStrategy[list[tuple[str, bool, bool | None]]]:
    """Return keys to sort by: a name, whether downwards, and where NULL is said to be."""
    one = st.tuples(st.sampled_from(names), st.booleans(), st.none() | st.booleans())
    return st.lists(one, max_size=4)


def ordering(asked: list[tuple[str, bool, bool | None]], model: Any, *, says_nulls: bool) -> list[Any]:
    """Return the keys as SQLAlchemy takes them."""
    found = []
    for name, down, first in asked:
        key = EXPRESSIONS[name]() if name in EXPRESSIONS else getattr(model, name)
        key = key.desc() if down else key
        if says_nulls and first is not None:
            key = key.nulls_first() if first else key.nulls_last()
        found.append(key)
    return found


@pytest.fixture
async def tables(anyio_backend: str, driver: Driver, url: str, tmp_path: Path) -> Any:
    """Return a database with both tables and a key for its cursors."""
    kind: Any = AsyncDatabase if driver.is_async else Database
    naked = kind(url, pool_size=2, timeouts=TIMEOUTS, cursor_keys=[SECRET])
    world = World(driver, naked)
    await world.database.create_all(Base.metadata)
    yield world
    assert world.checked_out == 0
    await world.database.close()


async def ids(page: Any) -> list[Any]:
    """Return what tells the rows of a window from one another."""
    return [tuple(vars(each).get(name) for name in ("id", "first", "second")) for each in page.items]


async def walked(read: Any, size: int, *, back: bool) -> list[Any]:
    """Return all rows, walking to the end, and then if wished back again."""
    found, window = [], await read.window(WindowQuery(size=size))
    assert window.previous_cursor is None
    found += await ids(window)
    while window.next_cursor is not None:
        window = await read.window(WindowQuery(size=size, cursor=window.next_cursor))
        assert window.items, "a window that was promised is empty"
        found += await ids(window)
        assert len(found) <= 100, "the walk does not end"
    if not back:
        return found
    back_again = await ids(window)
    while window.previous_cursor is not None:
        window = await read.window(WindowQuery(size=size, cursor=window.previous_cursor))
        assert window.items, "a window that was promised is empty"
        assert window.next_cursor is not None
        back_again = [*await ids(window), *back_again]
        assert len(back_again) <= 100, "the walk does not end"
    return back_again


async def check(tables: World, model: Any, schema: Any, keys: list[Any], found: list[Any], size: int) -> None:
    """Compare walks in both directions, of objects and of response models, with one statement for all rows."""
    async with tables.shop() as shop:
        session = shop.session
        naked = session if tables.driver.is_async else session.naked
        kind: Any = AsyncRepository if tables.driver.is_async else Repository
        if found:
            await session.execute(insert(model), found)
        books = awaitable(kind(naked, model)).order_by(*keys)
        reader = books.into(schema)
        in_order = reader if keys else reader.order_by(*model.__mapper__.primary_key)  # all() alone has no order
        expected = await ids_of_all(in_order)

        assert await walked(reader, size, back=False) == expected
        assert await walked(reader, size, back=True) == expected
        assert await walked(books, size, back=True) == expected
        assert [each async for each in streamed(tables, reader, size)] == await in_order.all()
        await shop.rollback()


async def streamed(tables: World, reader: Any, size: int) -> AsyncIterator[Any]:
    """Yield what a reader of either colour streams."""
    if tables.driver.is_async:
        async for each in reader.stream(batch=size):
            yield each
    else:
        for each in reader.naked.stream(batch=size):
            yield each


async def ids_of_all(reader: Any) -> list[Any]:
    """Return what tells all rows from one another, in order."""
    return [tuple(vars(each).get(name) for name in ("id", "first", "second")) for each in await reader.all()]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(found=rows(), asked=sort_keys([*VALUES, *EXPRESSIONS]), size=st.integers(1, 4))
async def test_a_walk_meets_every_row_once(tables: World, found: list[Any], asked: list[Any], size: int) -> None:
    """By any keys, with NULLs and equal values, forward and backward, in the order of the database."""
    keys = ordering(asked, Row, says_nulls=tables.server != "MariaDB")
    await check(tables, Row, RowOut, keys, found, size)


SPARSE = [
    {"id": key} | dict.fromkeys(VALUES) | {"number": number, "title": title}
    for key, (number, title) in enumerate(
        [(1, "a"), (None, "a"), (0, None), (None, None), (1, None), (0, "a"), (None, "b"), (1, "a")], start=1
    )
]


async def test_null_stands_where_it_stands(tables: World) -> None:
    """First or last, as said or as the database has it, in each of two keys, in any direction."""
    firsts = [None] if tables.server == "MariaDB" else [None, True, False]
    ways = [(down, first) for down in (False, True) for first in firsts]
    for down, first in ways:
        for other_down, other_first in (ways[0], ways[-1]):
            asked = [("number", down, first), ("title", other_down, other_first)]
            await check(tables, Row, RowOut, ordering(asked, Row, says_nulls=True), SPARSE, 2)


@pytest.mark.parametrize("down", [False, True])
async def test_keys_of_each_kind(tables: World, down: bool) -> None:
    """Alone, with each of their values, and once with none."""
    for name, values in VALUES.items():
        found = [{"id": key} | {name: value} for key, value in enumerate([*values, None], start=1)]
        await check(tables, Row, RowOut, ordering([(name, down, None)], Row, says_nulls=False), found, 1)
    found = [{"id": key} | {name: each[key % len(each)] for name, each in VALUES.items()} for key in range(1, 6)]
    for name in EXPRESSIONS:
        await check(tables, Row, RowOut, ordering([(name, down, None)], Row, says_nulls=False), found, 2)


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    found=st.sets(st.tuples(st.integers(1, 3), st.sampled_from(["a", "b", "c"])), max_size=9),
    ranks=st.lists(st.integers(1, 2), min_size=18, max_size=18),
    asked=sort_keys(["first", "second", "rank", "other"]),
    size=st.integers(1, 4),
)
async def test_a_key_of_two_columns(tables: World, found: Any, ranks: list[int], asked: list[Any], size: int) -> None:
    """Without any NULL, where rows are compared as such."""
    values = [
        {"first": first, "second": second, "rank": rank, "other": other}
        for (first, second), rank, other in zip(sorted(found), ranks[::2], ranks[1::2], strict=False)
    ]
    await check(tables, Pair, PairOut, ordering(asked, Pair, says_nulls=False), values, size)
