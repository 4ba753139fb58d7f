"""Declared models whose columns are made or converted, by Python or by the database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from models.keys import KeyedOut
from models.kinds import RANKS, Base, Kind, labelled
from sqlalchemy import JSON, Computed, ForeignKey, Integer, String, case, func
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeDecorator

from bookshop.models import UtcDateTime
from fastkit.schemas import Schema

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


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

COLUMNS = [DECORATED, DEFAULTS, HYBRID, DATACLASS]
