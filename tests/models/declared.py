"""Declared models of one table: keys and columns of many kinds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from models.kinds import RANKS, Base, Kind, labelled
from sqlalchemy import JSON, Computed, ForeignKey, ForeignKeyConstraint, Identity, Integer, String, Uuid, case, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column, relationship, selectinload
from sqlalchemy.types import TypeDecorator

from bookshop.models import UtcDateTime
from fastkit.schemas import Schema

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class LabelOut(Schema):
    """What nearly all kinds show."""

    label: str
    rank: int


class KeyedOut(LabelOut):
    """The same with a key."""

    id: int


# -- composite keys


class Berth(Base):
    """A key of two columns, neither with the name of its attribute, and the narrower one last."""

    __tablename__ = "kd_berth"

    number: Mapped[int] = mapped_column("no", primary_key=True, autoincrement=False)
    pier: Mapped[str] = mapped_column("pier_name", String(5), primary_key=True)
    label: Mapped[str] = mapped_column("the_label", String(30), unique=True)
    rank: Mapped[int]
    boats: Mapped[list[Boat]] = relationship(order_by="Boat.name", cascade="all, delete-orphan", passive_deletes=True)


class Boat(Base):
    """What refers to both columns."""

    __tablename__ = "kd_boat"
    __table_args__ = (
        ForeignKeyConstraint(["berth_no", "berth_pier"], ["kd_berth.no", "kd_berth.pier_name"], ondelete="CASCADE"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    berth_no: Mapped[int]
    berth_pier: Mapped[str] = mapped_column(String(5))


class BoatOut(Schema):
    """What lies there."""

    name: str


class BerthOut(LabelOut):
    """Both parts of the key, and a list by both."""

    pier: str
    number: int
    boats: list[BoatOut]


def _berth_key(number: int) -> tuple[int, str]:
    return 3 - number // 2, "ab"[number % 2]


def _berth(number: int) -> dict[str, Any]:
    first, second = _berth_key(number)
    return {"number": first, "pier": second, **labelled(number)}


def _boats(number: int) -> list[dict[str, Any]]:
    return [{"name": f"boat {number}.{place}"} for place in range(number % 3)]


def _berths(numbers: Any) -> list[Any]:
    return [Berth(**_berth(each), boats=[Boat(**boat) for boat in _boats(each)]) for each in numbers]


COMPOSITE = Kind(
    "composite key",
    Berth,
    [Berth.__table__, Boat.__table__],
    row=_berth,
    out=BerthOut,
    shown=lambda number: {**_berth(number), "boats": _boats(number)},
    bare=lambda number: {**_berth(number), "boats": []},
    change=("rank", 40),
    changed={"rank": 40},
    missing=(9, "a"),
    key=_berth_key,
    make=_berths,
    loads=[selectinload(Berth.boats)],
    is_returned_by_insert=False,
)


# -- other keys


class Ticket(Base):
    """A key that only the database gives."""

    __tablename__ = "kd_ticket"

    id: Mapped[int] = mapped_column(Identity(always=True, start=100), primary_key=True)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]


IDENTITY = Kind(
    "identity key",
    Ticket,
    [Ticket.__table__],
    row=labelled,
    out=KeyedOut,
    shown=labelled,
    change=("rank", 40),
    changed={"rank": 40},
    missing=99_999_999,
)


class Device(Base):
    """A key that Python gives."""

    __tablename__ = "kd_device"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True, default=uuid.uuid4)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    owner: Mapped[uuid.UUID | None]


class DeviceOut(LabelOut):
    """A key that JSON has as text."""

    id: uuid.UUID
    owner: uuid.UUID | None


def _device(number: int) -> dict[str, Any]:
    owner = uuid.UUID(int=number) if number % 2 else None
    return {"id": uuid.UUID(int=1000 - number), "owner": owner, **labelled(number)}


UUIDS = Kind(
    "UUID key",
    Device,
    [Device.__table__],
    row=_device,
    out=DeviceOut,
    shown=_device,
    change=("owner", uuid.UUID(int=77)),
    changed={"owner": uuid.UUID(int=77)},
    missing=uuid.UUID(int=5),
    key=lambda number: uuid.UUID(int=1000 - number),
)


# -- columns


class Code(TypeDecorator[int]):
    """A number that the database has as text."""

    impl = String(10)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Return the text."""
        return None if value is None else f"c{value:05}"

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return the number."""
        return None if value is None else int(value[1:])


class Cents(TypeDecorator[Decimal]):
    """A price that the database has as a whole number."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Return the number."""
        return None if value is None else int(value * 100)

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Return the price."""
        return None if value is None else Decimal(value) / 100


class Coin(Base):
    """The key, what is sorted by and more are not stored as Python has them."""

    __tablename__ = "kd_coin"

    id: Mapped[int] = mapped_column(Code, primary_key=True)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[Decimal] = mapped_column(Cents)
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    twin_id: Mapped[int | None] = mapped_column(Code, ForeignKey("kd_coin.id"))


class CoinOut(Schema):
    """As Python has them."""

    id: int
    label: str
    rank: Decimal
    made_at: datetime


def _coin(number: int) -> dict[str, Any]:
    return {"id": number, "label": f"row {number}", "rank": Decimal(RANKS[number]), "made_at": NOON}


DECORATED = Kind(
    "TypeDecorator",
    Coin,
    [Coin.__table__],
    row=_coin,
    out=CoinOut,
    shown=_coin,
    change=("rank", Decimal("40.25")),
    changed={"rank": Decimal("40.25")},
    missing=99,
    key=lambda number: number,
    rank_type=Decimal,
)


class Draft(Base):
    """What the database makes of a row: a text, a moment, and a number that follows another one."""

    __tablename__ = "kd_draft"
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - SQLAlchemy's own

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    state: Mapped[str] = mapped_column(String(10), server_default="new")
    made_at: Mapped[datetime] = mapped_column(server_default=func.current_timestamp())
    doubled: Mapped[int] = mapped_column(Computed("rank_of * 2", persisted=True))
    rank_of: Mapped[int] = mapped_column(default=7)


class DraftOut(KeyedOut):
    """What the database made."""

    state: str
    made_at: datetime
    doubled: int


DEFAULTS = Kind(
    "server defaults",
    Draft,
    [Draft.__table__],
    row=labelled,
    out=DraftOut,
    shown=lambda number: {**labelled(number), "state": "new", "doubled": 14},
    change=("rank_of", 40),
    changed={"doubled": 80},
    missing=99_999_999,
    read_again_on=["MariaDB"],
)


# -- Python


class Box(Base):
    """What is sorted by is made of two columns, and so is a word."""

    __tablename__ = "kd_box"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    width: Mapped[int]
    height: Mapped[int]

    @hybrid_property
    def area(self) -> int:
        """Arithmetic, which is an expression by itself."""
        return self.width * self.height

    @area.inplace.setter
    def _set_area(self, area: int) -> None:
        self.width, self.height = area, 1

    @hybrid_property
    def size(self) -> str:
        """Python, with an expression beside it."""
        return "large" if self.width * self.height > 2 else "small"

    @size.inplace.expression
    @classmethod
    def _size(cls) -> Any:
        return case((cls.width * cls.height > 2, "large"), else_="small")


class BoxOut(Schema):
    """What no column has."""

    id: int
    label: str
    area: int
    size: str


HYBRID = Kind(
    "hybrid properties",
    Box,
    [Box.__table__],
    row=lambda number: {"id": number, "label": f"row {number}", "width": 1, "height": RANKS[number]},
    out=BoxOut,
    shown=lambda number: {
        "id": number,
        "label": f"row {number}",
        "area": RANKS[number],
        "size": "large" if RANKS[number] > 2 else "small",
    },
    change=("height", 40),
    changed={"area": 40, "size": "large"},
    missing=99,
    key=lambda number: number,
    rank="area",
)


class Pet(MappedAsDataclass, Base):
    """A dataclass, whose key is given by the database, and which makes a list itself."""

    __tablename__ = "kd_pet"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int] = mapped_column(default=0)
    tricks: Mapped[list[str]] = mapped_column(JSON, default_factory=lambda: ["sit"])
    age: Mapped[int | None] = mapped_column(default=None, kw_only=True)


class PetOut(KeyedOut):
    """What it made."""

    tricks: list[str]
    age: int | None


DATACLASS = Kind(
    "mapped dataclass",
    Pet,
    [Pet.__table__],
    row=labelled,
    out=PetOut,
    shown=lambda number: {**labelled(number), "tricks": ["sit"], "age": None},
    change=("tricks", ["roll"]),
    changed={"tricks": ["roll"]},
    missing=99_999_999,
)

DECLARED = [COMPOSITE, IDENTITY, UUIDS, DECORATED, DEFAULTS, HYBRID, DATACLASS]
