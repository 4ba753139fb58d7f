"""Values that a database would keep and nobody could read again are refused before they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from conftest import World
from sqlalchemy import JSON, DateTime, Numeric, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.database import AsyncDatabase, Database
from fastkit.errors import InvalidValueError
from fastkit.repository import AsyncRepository, Repository
from fastkit.schemas import Schema
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The metadata of this model."""


class Sample(Base):
    """One value of each kind."""

    __tablename__ = "dv_sample"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    price: Mapped[Decimal | None] = mapped_column(Numeric(10, 2))
    at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    data: Mapped[Any] = mapped_column(JSON, nullable=True)
    ratio: Mapped[float | None]


class SampleOut(Schema):
    """The same."""

    id: int
    price: Decimal | None
    at: datetime | None
    data: Any
    ratio: float | None


class Lab(UnitOfWork):
    """Sync."""

    samples: Repository[Sample]


class AsyncLab(AsyncUnitOfWork):
    """Async."""

    samples: AsyncRepository[Sample]


@pytest.fixture
async def lab(world: World) -> AsyncIterator[World]:
    """Return a database with an empty table."""
    world.unit = AsyncLab if world.driver.is_async else Lab
    await world.database.create_all(Base.metadata)
    yield world
    async with world.shop() as shop:
        await shop.samples.bulk.delete(Sample.id > 0)
        await shop.commit()


def moment(offset: timedelta, *parts: int) -> datetime:
    """Return a moment in the time zone at this offset."""
    return datetime(*parts, tzinfo=timezone(offset))  # type: ignore[misc,arg-type]


ALMOST_A_DAY = timedelta(hours=23, minutes=59)
BEYOND = {
    "huge decimal": {"price": Decimal("1e999")},
    "huge negative decimal": {"price": Decimal("-1e999999")},
    "half a pair": {"data": {"a": ["\ud800"]}},
    "half a pair as a key": {"data": {"\udfff": 1}},
}
BEFORE_YEAR_1 = moment(ALMOST_A_DAY, 1, 1, 1)
AFTER_YEAR_9999 = moment(-ALMOST_A_DAY, 9999, 12, 31, 23, 59)


@pytest.mark.parametrize("values", BEYOND.values(), ids=BEYOND.keys())
@pytest.mark.parametrize("way", ["object", "bulk", "copy"])
async def test_what_could_not_be_read_is_not_stored(lab: World, values: dict[str, Any], way: str) -> None:
    """A 422 in an app, and the table is as it was: one such row would spoil each list that it is in."""
    if way == "copy" and lab.server != "PostgreSQL":
        pytest.skip("has no COPY")
    with pytest.raises(InvalidValueError) as caught:
        async with lab.shop() as shop:
            if way == "object":
                shop.samples.add(Sample(id=1, **values))
            else:
                await shop.samples.bulk.insert([{"id": 1, **values}], copy=way == "copy")
            await shop.commit()

    assert not any(each in str(caught.value) for each in ("999", "\ud800", "\udfff"))
    async with lab.shop() as shop:
        assert await shop.samples.into(SampleOut).all() == []


@pytest.mark.parametrize("at", [BEFORE_YEAR_1, AFTER_YEAR_9999], ids=["before", "after"])
async def test_no_moment_outside_of_the_years_that_python_has(lab: World, at: datetime) -> None:
    """Where the database keeps the moment and not the digits, it would be in year 0 or 10,000 in UTC."""
    if lab.server != "PostgreSQL":
        pytest.skip("keeps the digits, and no offset")
    with pytest.raises(InvalidValueError):
        async with lab.shop() as shop:
            shop.samples.add(Sample(id=1, at=at))
            await shop.commit()
    with pytest.raises(InvalidValueError):
        async with lab.shop() as shop:
            await shop.samples.all(Sample.at == at)
    async with lab.shop() as shop:
        assert await shop.samples.into(SampleOut).all() == []


async def test_what_is_only_unusual_is_stored(lab: World) -> None:
    """The last moment of all, tiny numbers, halves that make a pair, a text that only looks like an escape."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    first = moment(ALMOST_A_DAY, 1, 1, 2) if lab.server == "PostgreSQL" else datetime(1, 1, 1, tzinfo=UTC)
    data = {"pair": "\U0001f600", "looks": "\\ud800", "ü": [None, 1.5, "\x00" if lab.server == "SQLite" else ""]}
    async with lab.shop() as shop:
        shop.samples.add(Sample(id=1, price=Decimal("1e-999"), at=last, data=data, ratio=0.5))
        shop.samples.add(Sample(id=2, price=Decimal("12.50"), at=first))
        await shop.commit()
    async with lab.shop() as shop:
        odd, plain = [await shop.samples.into(SampleOut).get_one(key) for key in (1, 2)]

    assert (odd.price, odd.data, odd.ratio, plain.price) == (0, data, 0.5, Decimal("12.50"))
    assert odd.at.replace(tzinfo=UTC) == last
    assert plain.at.replace(tzinfo=plain.at.tzinfo or UTC) == first


async def test_a_float_may_be_infinite(lab: World) -> None:
    """Where the column is one of floats, and the database has infinity."""
    if lab.server == "MariaDB":
        pytest.skip("has no infinity")
    async with lab.shop() as shop:
        shop.samples.add(Sample(id=1, ratio=float("inf")))
        await shop.commit()
    async with lab.shop() as shop:
        assert (await shop.samples.get_one(1)).ratio == float("inf")


def test_an_engine_of_the_app_is_looked_after_too(tmp_path: Any) -> None:
    """Its decimals are bounded as well, though it made tables and read before."""
    engine = create_engine(f"sqlite:///{tmp_path}/own.db")
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        assert connection.execute(select(Sample.id).where(Sample.price == Decimal(1))).all() == []
    with Database(engine) as database:
        with pytest.raises(InvalidValueError), Lab(database) as shop:
            shop.samples.add(Sample(id=1, price=Decimal("1e999")))
            shop.commit()
    engine.dispose()


async def test_an_engine_of_several_databases_is_looked_after_once(world: World) -> None:
    """An app that gives one engine a thousand times has no tower of types."""
    types = world.sync_engine.dialect.colspecs.get(DateTime)
    kind: Any = AsyncDatabase if world.driver.is_async else Database
    kind(world.naked.engine)

    assert world.sync_engine.dialect.colspecs.get(DateTime) is types


def test_the_app_may_write_json_in_its_own_way(tmp_path: Any) -> None:
    """What it gives to the engine wins."""
    options = {"json_serializer": lambda value: '"mine"'}
    with Database(f"sqlite:///{tmp_path}/own.db", engine_options=options) as database:
        database.create_all(Base.metadata)
        with Lab(database) as shop:
            shop.samples.add(Sample(id=1, data={"a": 1}))
            shop.commit()
        with Lab(database) as shop:
            assert shop.samples.get_one(1).data == "mine"
