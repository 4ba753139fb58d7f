"""Declared models with keys of many kinds."""

from __future__ import annotations

import uuid
from typing import Any

from models.kinds import Base, Kind, labelled
from sqlalchemy import ForeignKeyConstraint, Identity, String, Uuid
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from fastkit.schemas import Schema


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

KEYS = [COMPOSITE, IDENTITY, UUIDS]
