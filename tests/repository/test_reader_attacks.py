"""Readers where relations, keys and listeners are unusual: no row twice, none lost, and nothing passed by."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from conftest import World
from pydantic import BaseModel, ConfigDict, Field, model_validator
from repository.scenes import ON_SQLITE, OUTSIDE, PLACES, scene, sync_session
from sqlalchemy import JSON, ForeignKey, Index, String, create_engine, event, func, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from bookshop.models import Book
from fastkit.errors import ConcurrentUseError, RowMismatchError
from fastkit.pages import PageQuery
from fastkit.repository import Repository
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The base of the odd ones."""


class Writer(Base):
    """What is related by something else than one equation."""

    __tablename__ = "odd_writer"
    __table_args__ = (Index("ux_odd", "shelf", text("coalesce(room, 0)"), unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    shelf: Mapped[int]
    room: Mapped[int | None]


class Volume(Base):
    """What relates."""

    __tablename__ = "odd_volume"

    id: Mapped[int] = mapped_column(primary_key=True)
    writer_id: Mapped[int] = mapped_column(ForeignKey("odd_writer.id"))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    writer: Mapped[Writer] = relationship()
    siblings: Mapped[list[Volume]] = relationship(
        primaryjoin="foreign(Volume.writer_id) == remote(Volume.writer_id)",
        viewonly=True,
        uselist=True,
        order_by="Volume.id",
    )
    either: Mapped[Writer] = relationship(
        primaryjoin="or_(foreign(Volume.writer_id) == remote(Writer.id), foreign(Volume.id) == remote(Writer.id))",
        viewonly=True,
        uselist=False,
    )
    earlier: Mapped[Writer] = relationship(
        primaryjoin="foreign(Volume.writer_id) >= remote(Writer.id)", viewonly=True, uselist=False
    )
    beside: Mapped[Writer] = relationship(
        primaryjoin="foreign(Volume.writer_id) == remote(Writer.shelf)", viewonly=True, uselist=False
    )


class Country(Base):
    """A key that some databases compare without regard to case."""

    __tablename__ = "odd_country"

    code: Mapped[str] = mapped_column(String(2, collation="NOCASE"), primary_key=True)
    cities: Mapped[list[City]] = relationship(order_by="City.id")


class City(Base):
    """What has such a key as its foreign key."""

    __tablename__ = "odd_city"

    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(ForeignKey("odd_country.code"))


class WriterOut(Schema):
    """The related row."""

    id: int


@pytest.fixture
def session() -> Any:
    """Return a plain session on a database of odd tables."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([Writer(id=1, shelf=1, room=1), Writer(id=2, shelf=1, room=2), Writer(id=3, shelf=2)])
        session.add_all(Volume(id=key, writer_id=min(key, 3), data={"fontSize": key}) for key in (1, 2, 3, 4))
        session.add_all([Country(code="DE"), City(id=1, code="de"), City(id=2, code="DE")])
        session.commit()
        yield session
    engine.dispose()


@pytest.mark.parametrize("name", ["either", "earlier", "beside", "writer"])
def test_a_relation_to_one_never_multiplies_rows(session: Session, name: str) -> None:
    """Only equal columns that are a whole key can be joined; whatever else says "one" is read on its own."""
    schema = type("Out", (Schema,), {"__annotations__": {"id": int, name: WriterOut | None}})
    volumes = Repository(session, Volume).into(schema)

    assert [each.id for each in volumes.order_by(Volume.id).all()] == [1, 2, 3, 4]
    assert [each.id for each in volumes.page(PageQuery(size=4)).items] == [1, 2, 3, 4]
    assert volumes.one(Volume.id == 2).id == 2


def test_texts_that_the_database_takes_for_equal(session: Session) -> None:
    """A list and the number of its elements agree."""

    class CityOut(Schema):
        id: int

    class CountryOut(Schema):
        cities: list[CityOut]
        count: Annotated[int, From.count("cities")]

    (country,) = Repository(session, Country).into(CountryOut).all()

    assert [each.id for each in country.cities] == [1, 2]
    assert country.count == 2


def test_a_model_in_a_column_has_its_aliases(session: Session) -> None:
    """As when it is made of the object."""

    class Settings(BaseModel):
        font_size: int = Field(alias="fontSize")

    class VolumeOut(Schema):
        settings: Annotated[Settings, From("data")]

    found = Repository(session, Volume).into(VolumeOut).get_one(2)

    assert found.settings.font_size == 2


@pytest.mark.parametrize("base", [BaseModel, Schema])
def test_a_model_in_a_column_that_does_not_fit_is_a_fault(session: Session, base: type[BaseModel]) -> None:
    """Its defaults do not stand for what is there under their aliases."""

    class Settings(base):  # type: ignore[misc, valid-type]
        font_size: str = Field("small", alias="fontSize")
        colour: str = Field("none", alias="hiveColour")

    class VolumeOut(Schema):
        settings: Annotated[Settings | None, From("data")]

    for read in (Repository(session, Volume).into(VolumeOut), Repository(session, Volume).into(VolumeOut).json()):
        with pytest.raises(RowMismatchError) as caught:
            read.all()

        assert caught.value.faults[0] == ("0.settings", "string_type")
        assert len(caught.value.faults) == 4


def test_no_row_changes_what_another_shows(session: Session) -> None:
    """Two rows with the same related rows have lists of their own."""

    class Sibling(BaseModel):
        id: int
        seen: Annotated[int, From(None)] = 0

        @model_validator(mode="before")
        @classmethod
        def count(cls, values: dict[str, Any]) -> dict[str, Any]:
            values["seen"] = values.get("seen", 0) + 1
            return values

    class Of(Schema):
        id: int
        siblings: list[Sibling]

    class VolumeOut(Schema):
        siblings: list[Of]

    found = Repository(session, Volume).into(VolumeOut).all()

    assert {sibling.seen for each in found for of in each.siblings for sibling in of.siblings} == {1}


def test_a_fault_names_rows_and_fields_only(session: Session) -> None:
    """The keys of a row's data are data."""

    class VolumeOut(BaseModel):
        model_config = ConfigDict(strict=True)

        data: dict[str, str]

    with pytest.raises(RowMismatchError) as caught:
        Repository(session, Volume).into(VolumeOut).all()

    assert caught.value.faults[0] == ("0.data", "string_type")
    assert "fontSize" not in str(caught.value)


# -- the session


class BookOut(Schema):
    """Columns alone."""

    id: int


async def test_c20_two_readers_at_once_are_refused(stocked: World) -> None:
    """Outside a block too, where each read has a connection of its own; none is left behind."""
    if not stocked.driver.is_async:
        pytest.skip("needs two tasks")
    async with stocked.serving() as shop:
        reader = shop.books.into(BookOut)
        for _ in range(5):
            found = await asyncio.gather(reader.all(), reader.all(), reader.count(), return_exceptions=True)
            assert any(isinstance(each, ConcurrentUseError) for each in found)
            assert all(isinstance(each, ConcurrentUseError | list | int) for each in found)
        assert stocked.checked_out == 0
        assert len(await reader.all()) == 2


@pytest.mark.parametrize("place", PLACES)
async def test_a_listener_sees_each_connection_that_is_used(stocked: World, place: str) -> None:
    """As for objects: whoever sets something for each transaction, such as the tenant, misses no read."""
    seen: list[str] = []
    async with scene(stocked, place) as at:
        session = sync_session(at.shop)

        def begun(session: Session, transaction: Any, connection: Any) -> None:
            seen.append("begun")

        event.listen(session, "after_begin", begun)
        reader = at.shop.books.into(BookOut)
        for read in (reader.all, reader.count, reader.exists):
            await read()
        event.remove(session, "after_begin", begun)

        assert len(seen) == (3 if place == OUTSIDE else 1)


@ON_SQLITE
async def test_criteria_of_a_listener_hold(stocked: World) -> None:
    """`do_orm_execute` is asked, as for objects."""
    async with scene(stocked, OUTSIDE) as at:
        session = sync_session(at.shop)

        def narrow(state: Any) -> None:
            state.statement = state.statement.where(Book.id == func.abs(2))

        event.listen(session, "do_orm_execute", narrow)
        found = await at.shop.books.into(BookOut).all()
        event.remove(session, "do_orm_execute", narrow)

        assert [each.id for each in found] == [2]
