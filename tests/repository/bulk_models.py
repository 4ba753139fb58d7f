"""What the tests of bulk work store: a column of each kind, odd names, versions, keys of several columns."""

from __future__ import annotations

import enum
import itertools
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from colours import awaitable
from conftest import World
from pydantic import BaseModel
from repository.reader_models import Lower
from repository.scenes import rival_engine, sync_session
from sqlalchemy import (
    JSON,
    Enum,
    ForeignKey,
    Index,
    MetaData,
    Numeric,
    String,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
    event,
    func,
    text,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    deferred,
    mapped_column,
    synonym,
    validates,
)

from bookshop.models import UtcDateTime
from fastkit.repository import AsyncRepository, Repository

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
TICKS = itertools.count(1)


class Kinds(DeclarativeBase):
    """The base of what only these tests store."""

    metadata = MetaData()


class Hue(enum.Enum):
    """Stored by name."""

    RED = "red"
    BLUE = "blue"


def shouted(context: Any) -> str:
    """Return a default that is made of another value of the row."""
    return str(context.get_current_parameters()["the label"]).upper()


class Thing(Kinds):
    """One column of each kind, in a table with an odd name."""

    __tablename__ = 'blk "Thing" here'

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    label: Mapped[str] = mapped_column("the label", String(20), unique=True)
    order: Mapped[str | None] = mapped_column('a "b" 100%', String(20), default=shouted)
    shout: Mapped[str] = mapped_column(Lower, default="Quiet")
    hue: Mapped[Hue] = mapped_column(Enum(Hue, name="blk_hue"), default=Hue.RED)
    data: Mapped[Any] = mapped_column(JSON, default=dict)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: NOON)
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2), server_default="2.50")
    tick: Mapped[int | None] = mapped_column(onupdate=lambda: next(TICKS))
    told: Mapped[str | None] = mapped_column(String(20), onupdate=func.lower("CHANGED"))
    version: Mapped[int] = mapped_column()
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own


class Stock(Kinds):
    """A key of two columns, and what else may be unique."""

    __tablename__ = "blk_stock"
    __table_args__ = (
        UniqueConstraint("code", "shelf", name="blk_code_shelf"),
        Index("blk_label", "label", unique=True),
    )

    place: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    part: Mapped[str] = mapped_column(String(10), primary_key=True)
    code: Mapped[str | None] = mapped_column(String(10))
    shelf: Mapped[int | None]
    label: Mapped[str | None] = mapped_column(String(10))
    pieces: Mapped[int] = mapped_column(default=0)


class Elsewhere(DeclarativeBase):
    """The base of what is in another schema."""

    metadata = MetaData(schema='odd "Schema"')


class Leaf(Elsewhere):
    """A table in a schema with an odd name."""

    __tablename__ = "Leaf"

    id: Mapped[int] = mapped_column("Id", primary_key=True)
    name: Mapped[str | None] = mapped_column("select")


class Partial(DeclarativeBase):
    """The base of what is never stored."""

    metadata = MetaData()


class Seat(Partial):
    """Unique for some of its rows, or not at once."""

    __tablename__ = "blk_seat"
    __table_args__ = (
        Index("blk_taken", "number", unique=True, postgresql_where=text("taken"), sqlite_where=text("taken")),
        Index("blk_lower", func.lower("name"), unique=True),
        UniqueConstraint("name", deferrable=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    name: Mapped[str]
    taken: Mapped[bool]


class Vehicle(Kinds):
    """The base of single-table inheritance."""

    __tablename__ = "blk_vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column("the_kind", String(20))
    name: Mapped[str | None] = mapped_column(String(20))
    title: Mapped[str | None] = synonym("name")


class Truck(Vehicle):
    """The child: some of the rows."""

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012 - same

    load: Mapped[int | None]


class Wheel(Kinds):
    """What belongs to a vehicle."""

    __tablename__ = "blk_wheel"

    id: Mapped[int] = mapped_column(primary_key=True)
    vehicle_id: Mapped[int] = mapped_column(ForeignKey("blk_vehicle.id"))


class Stamped(Kinds):
    """A default that is SQL, and that the database does not have."""

    __tablename__ = "blk_stamped"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20), default=func.lower("X"))


class Loud(TypeDecorator[str]):
    """Text that the database puts into capitals."""

    impl = String(20)
    cache_ok = True

    def bind_expression(self, bindvalue: Any) -> Any:
        """Return the SQL around each value."""
        return func.upper(bindvalue)


class Tag(Kinds):
    """A key that two spellings mean, a version that does not count up, and what is not loaded with the rest."""

    __tablename__ = "blk_tag"

    name: Mapped[str] = mapped_column(Lower, primary_key=True)
    loud: Mapped[str | None] = mapped_column(Loud)
    secret: Mapped[str | None] = deferred(mapped_column(String(20)))
    token: Mapped[str] = mapped_column(String(32))
    __mapper_args__ = {"version_id_col": token, "version_id_generator": lambda old: uuid.uuid4().hex}  # noqa: RUF012 - same


class Tally(Kinds):
    """A version that the database counts, and a change that writes SQL of columns and values."""

    __tablename__ = "blk_tally"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    pieces: Mapped[int] = mapped_column()
    more: Mapped[int | None] = mapped_column(onupdate=pieces + 5)
    version: Mapped[int] = mapped_column(server_default="1")
    __mapper_args__ = {"version_id_col": version, "version_id_generator": False}  # noqa: RUF012 - same


class Pet(MappedAsDataclass, Kinds):
    """A dataclass that makes a value itself."""

    __tablename__ = "blk_pet"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    tricks: Mapped[list[str]] = mapped_column(JSON, default_factory=lambda: ["sit"])
    age: Mapped[int | None] = mapped_column(default=None)


class Checked(Kinds):
    """Wants to see each value."""

    __tablename__ = "blk_checked"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))

    @validates("name")
    def check(self, key: str, value: str) -> str:
        """Return the value."""
        return value


class Heard(Kinds):
    """Wants to see each object that is written."""

    __tablename__ = "blk_heard"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str | None] = mapped_column(String(20))


for _when in ("before", "after"):
    for _what in ("insert", "update", "delete"):
        event.listen(Heard, f"{_when}_{_what}", lambda *ignored: None)


class BookIn(BaseModel):
    """What a client sends."""

    sku: str
    title: str
    author_id: int = 1
    year: int = 1815
    language: str = "en"
    price: Decimal = Decimal(10)
    stock: int = 5


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return a new book as a mapping."""
    return {**BookIn(sku=f"s{number}", title=f"t{number}").model_dump(), **more}


def of(shop: Any, model: type[Any]) -> Any:
    """Return a repository of a model that the unit does not name."""
    if hasattr(shop, "naked"):
        return awaitable(Repository(sync_session(shop), model))
    return AsyncRepository(shop.session, model)


@pytest.fixture
async def kinds(world: World) -> AsyncIterator[World]:
    """Return a database with the tables of these tests."""
    engine = rival_engine(world)
    Kinds.metadata.drop_all(engine)
    Kinds.metadata.create_all(engine)
    yield world
    Kinds.metadata.drop_all(engine)
    engine.dispose()
