"""An app with everything that a client can ask for: each type of column, each filter, windows, streams, bodies."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import JSON, BigInteger, DateTime, ForeignKey, Numeric, String, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from fastkit import AsyncRepository, AsyncUnitOfWork, From, Page, PageQuery
from fastkit.database import AsyncDatabase
from fastkit.deps import UnitFactory, found, install, listed, transaction, unit_factory, unit_of_work, windowed
from fastkit.pages import Slice, Window
from fastkit.repository import Contains, Equals, IsNull, ListQuery, OneOf, Range, Search, Sort, StartsWith, Where
from fastkit.responses import CsvStream, JsonStream, stream_csv, stream_json

KEYS = ["the first key of the tests, of 32 characters and more"]


class Base(DeclarativeBase):
    """The tables of this app."""


class Colour(Enum):
    """Stored by name."""

    RED = "red"
    BLUE = "blue"


class Maker(Base):
    """Somebody who makes gadgets."""

    __tablename__ = "maker"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class Gadget(Base):
    """A column of each type; `secret` is shown nowhere."""

    __tablename__ = "gadget"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))
    code: Mapped[UUID] = mapped_column(Uuid, unique=True)
    how_many: Mapped[int]
    big: Mapped[int | None] = mapped_column(BigInteger)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    ratio: Mapped[float | None]
    made_on: Mapped[date | None]
    seen_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    opens: Mapped[time | None]
    colour: Mapped[Colour] = mapped_column(default=Colour.RED)
    active: Mapped[bool] = mapped_column(default=True)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    secret: Mapped[str] = mapped_column(default="s3cr3t-value")
    maker_id: Mapped[int] = mapped_column(ForeignKey("maker.id"))
    maker: Mapped[Maker] = relationship(lazy="raise")


class Lab(AsyncUnitOfWork):
    """What the app reads and writes."""

    gadgets: AsyncRepository[Gadget]
    makers: AsyncRepository[Maker]


LabDep = Annotated[Lab, unit_of_work(Lab)]


class Camel(BaseModel):
    """Names as JavaScript has them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class GadgetOut(Camel):
    """What is shown."""

    id: int
    name: str
    code: UUID
    how_many: int
    price: Decimal
    colour: Colour
    seen_at: datetime | None
    maker_name: Annotated[str, From("maker.name")]


class GadgetQuery(ListQuery[Gadget]):
    """Each kind of filter, on each type."""

    model_config = ConfigDict(alias_generator=lambda name: "sort" if name == "order" else to_camel(name))

    id: OneOf[int] = None
    name: Contains[str] = None
    first: Annotated[StartsWith[str], From("name")] = None
    q: Annotated[str | None, Search("name", "maker.name")] = None
    code: Equals[UUID] = None
    how_many: Range[int] = None
    exactly: Annotated[Equals[int], From("how_many")] = None
    big: Equals[int] = None
    bigger: Annotated[Range[int], From("big")] = None
    price: Range[Decimal] = None
    costs: Annotated[Equals[Decimal], From("price")] = None
    ratio: Range[float] = None
    made_on: Range[date] = None
    seen_at: Range[datetime] = None
    opens: Equals[time] = None
    colour: OneOf[Colour] = None
    active: Equals[bool] = None
    is_new: Annotated[IsNull, From("seen_at")] = None
    maker: Annotated[Equals[str], From("maker.name")] = None
    makers: Annotated[OneOf[str], From("maker.name")] = None
    many: Annotated[bool | None, Where(lambda yes: Gadget.how_many > 5 if yes else Gadget.how_many <= 5)] = None

    any_of = (("name", "maker"),)
    sort = Sort("name", "price", "seen_at", "big", worth=Gadget.price * Gadget.how_many, default="name")
    max_size = 50


class OtherQuery(ListQuery[Gadget]):
    """Another list of the same rows, with the same order."""

    sort = Sort("name", "price", "seen_at", "big", default="name")


class PartIn(Camel):
    """Nested to any depth."""

    name: str = Field(max_length=50)
    parts: list[PartIn] = Field(default=[], max_length=10)


class GadgetIn(Camel):
    """A new gadget."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=50)
    code: UUID
    how_many: int
    big: int | None = None
    price: Decimal
    ratio: float | None = None
    made_on: date | None = None
    seen_at: datetime | None = None
    opens: time | None = None
    colour: Colour = Colour.RED
    active: bool = True
    data: dict[str, Any] | None = None
    maker_id: int
    parts: list[PartIn] = Field(default=[], max_length=10)


def create_app(database: AsyncDatabase) -> FastAPI:
    """Return the app."""
    app = FastAPI(lifespan=database.lifespan)
    install(app, {Lab: database})
    add_lists(app)
    add_streams(app)
    add_rows(app)
    return app


def add_lists(app: FastAPI) -> None:
    """Add pages, windows and slices."""

    @app.get("/gadgets")
    async def gadgets(lab: LabDep, query: Annotated[GadgetQuery, listed(GadgetQuery)]) -> Page[GadgetOut]:
        return await lab.gadgets.into(GadgetOut).page(query)

    @app.get("/gadgets/feed")
    async def feed(lab: LabDep, query: Annotated[GadgetQuery, windowed(GadgetQuery)]) -> Window[GadgetOut]:
        return await lab.gadgets.into(GadgetOut).window(query)

    @app.get("/gadgets/other")
    async def other(lab: LabDep, query: Annotated[OtherQuery, windowed(OtherQuery)]) -> Window[GadgetOut]:
        return await lab.gadgets.into(GadgetOut).window(query)

    @app.get("/gadgets/slice")
    async def part(lab: LabDep, query: Annotated[PageQuery, Query()]) -> Slice[GadgetOut]:
        return await lab.gadgets.into(GadgetOut).slice(query)


def add_streams(app: FastAPI) -> None:
    """Add exports of the same list."""

    @app.get("/gadgets.json", response_class=JsonStream)
    async def as_json(
        new_lab: Annotated[UnitFactory[Lab], unit_factory(Lab)], query: Annotated[GadgetQuery, listed(GadgetQuery)]
    ) -> JsonStream:
        return stream_json(new_lab, lambda lab: lab.gadgets.into(GadgetOut), query=query)

    @app.get("/gadgets.csv", response_class=CsvStream)
    async def as_csv(
        new_lab: Annotated[UnitFactory[Lab], unit_factory(Lab)], query: Annotated[GadgetQuery, listed(GadgetQuery)]
    ) -> CsvStream:
        return stream_csv(new_lab, lambda lab: lab.gadgets.into(GadgetOut), query=query)


def add_rows(app: FastAPI) -> None:
    """Add what reads and writes single rows."""

    @app.get("/gadgets/by-code/{code}")  # noqa: FAST003 - found() reads it
    async def by_code(gadget: Annotated[GadgetOut, found(Lab.gadgets, GadgetOut, path="code")]) -> GadgetOut:
        return gadget

    @app.get("/gadgets/by-big/{big}")  # noqa: FAST003 - found() reads it
    async def by_big(gadget: Annotated[GadgetOut, found(Lab.gadgets, GadgetOut, path="big")]) -> GadgetOut:
        return gadget

    @app.get("/gadgets/by-name/{name}")  # noqa: FAST003 - found() reads it
    async def by_name(gadget: Annotated[GadgetOut, found(Lab.gadgets, GadgetOut, path="name")]) -> GadgetOut:
        return gadget

    @app.get("/gadgets/{gadget_id}")  # noqa: FAST003 - found() reads it
    async def gadget(gadget: Annotated[GadgetOut, found(Lab.gadgets, GadgetOut)]) -> GadgetOut:
        return gadget

    @app.post("/gadgets", status_code=201)
    async def create(new: GadgetIn, lab: Annotated[Lab, transaction(Lab)]) -> int:
        gadget = await lab.gadgets.into(GadgetId).insert(new.model_dump(exclude={"parts"}))
        return gadget.id

    @app.post("/makers", status_code=201)
    async def upsert(new: list[MakerIn], lab: Annotated[Lab, transaction(Lab)]) -> int:
        return len(await lab.makers.into(MakerIn).upsert(new, match=Maker.id))


class GadgetId(BaseModel):
    """What was made."""

    id: int


class MakerIn(BaseModel):
    """A maker, new or changed."""

    id: int
    name: str


async def fill(lab: Lab) -> None:
    """Store a few rows."""
    async with lab.begin():
        maker = lab.makers.add(Maker(id=1, name="Acme"))
        for key in range(1, 8):
            lab.gadgets.add(
                Gadget(
                    id=key,
                    name=f"gadget {key}",
                    code=UUID(int=key),
                    how_many=key,
                    big=key * 10**12 if key % 2 else None,
                    price=Decimal(key) / 2,
                    seen_at=datetime.fromisoformat(f"2026-01-0{key}T00:00:00+00:00") if key % 3 else None,
                    maker=maker,
                )
            )
