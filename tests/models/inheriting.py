"""Declared models of several classes, whose rows are in several tables or share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.keys import KeyedOut
from models.kinds import Base, Kind, keyed, labelled
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship, selectinload

from fastkit.schemas import Schema

# -- joined inheritance


class Person(Base):
    """The base of joined inheritance."""

    __tablename__ = "kd_person"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - SQLAlchemy's own

    id: Mapped[int] = mapped_column("person_id", primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column("the_kind", String(20))
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]
    notes: Mapped[list[Note]] = relationship(order_by="Note.text", cascade="all, delete-orphan", passive_deletes=True)


class Engineer(Person):
    """A child with a table of its own, whose key has another name."""

    __tablename__ = "kd_engineer"
    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(
        "engineer_id", ForeignKey("kd_person.person_id", ondelete="CASCADE"), primary_key=True
    )
    skill: Mapped[str] = mapped_column(String(20))
    machines: Mapped[list[Machine]] = relationship(
        order_by="Machine.name", cascade="all, delete-orphan", passive_deletes=True
    )


class Clerk(Person):
    """Another child."""

    __tablename__ = "kd_clerk"
    __mapper_args__ = {"polymorphic_identity": "clerk"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(ForeignKey("kd_person.person_id", ondelete="CASCADE"), primary_key=True)
    desk: Mapped[int]


class Note(Base):
    """What belongs to anybody."""

    __tablename__ = "kd_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(30))
    person_id: Mapped[int] = mapped_column(ForeignKey("kd_person.person_id", ondelete="CASCADE"))


class Machine(Base):
    """What belongs to a child."""

    __tablename__ = "kd_machine"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(30))
    engineer_id: Mapped[int] = mapped_column(ForeignKey("kd_engineer.engineer_id", ondelete="CASCADE"))


class NoteOut(Schema):
    """What is noted."""

    text: str


class MachineOut(Schema):
    """What is owned."""

    name: str


class PersonOut(KeyedOut):
    """What all of them have."""

    kind: str
    notes: list[NoteOut]


class EngineerOut(PersonOut):
    """What some of them have."""

    skill: str
    machines: list[MachineOut]


def _notes(number: int) -> list[dict[str, Any]]:
    return [{"text": f"note {number}.{place}"} for place in range(number % 3)]


def _machines(number: int) -> list[dict[str, Any]]:
    return [{"name": f"machine {number}.{place}"} for place in range(number % 2)]


def _skilled(number: int) -> dict[str, Any]:
    return {**keyed(number), "skill": f"skill {number}"}


def _engineer(number: int) -> Engineer:
    return Engineer(
        **_skilled(number),
        notes=[Note(**each) for each in _notes(number)],
        machines=[Machine(**each) for each in _machines(number)],
    )


def _people(numbers: Sequence[int]) -> list[Any]:
    notes = lambda number: [Note(**each) for each in _notes(number)]
    return [_engineer(each) if each % 2 else Person(**keyed(each), notes=notes(each)) for each in numbers]


def _shown_person(number: int) -> dict[str, Any]:
    return {**keyed(number), "kind": "engineer" if number % 2 else "person", "notes": _notes(number)}


_PEOPLE = [Person.__table__, Engineer.__table__, Clerk.__table__, Note.__table__, Machine.__table__]
_SEVERAL_TABLES = r"^The rows of Engineer are not those of one table; use add\(\), change its objects"
_SHARED = "shares its table with other classes"

JOINED_CHILD = Kind(
    "joined child",
    Engineer,
    _PEOPLE,
    row=_skilled,
    out=EngineerOut,
    shown=lambda number: {
        **_skilled(number),
        "kind": "engineer",
        "notes": _notes(number),
        "machines": _machines(number),
    },
    change=("skill", "radio"),
    changed={"skill": "radio"},
    missing=99,
    key=lambda number: number,
    make=lambda numbers: [_engineer(number) for number in numbers],
    loads=[selectinload(Person.notes), selectinload(Engineer.machines)],
    beside=lambda: [Person(id=90, label="nobody", rank=2), Clerk(id=91, label="clerk", rank=2, desk=1)],
    refused=dict.fromkeys(("insert", "bulk.insert", "bulk.update", "bulk.delete", "bulk.upsert"), _SEVERAL_TABLES),
    written=2,
)
JOINED_BASE = Kind(
    "joined base",
    Person,
    _PEOPLE,
    row=keyed,
    out=PersonOut,
    shown=_shown_person,
    bare=lambda number: {**keyed(number), "kind": "person", "notes": []},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99,
    key=lambda number: number,
    make=_people,
    loads=[selectinload(Person.notes)],
    refused={"bulk.upsert": _SHARED},
    is_returned_by_insert=False,
)


class Beast(Base):
    """The base of joined inheritance, of which a child is loaded with it, by a statement of its own."""

    __tablename__ = "kd_beast"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "beast"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(20))
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]


class Wolf(Beast):
    """The child."""

    __tablename__ = "kd_wolf"
    __mapper_args__ = {"polymorphic_identity": "wolf", "polymorphic_load": "selectin"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(ForeignKey("kd_beast.id", ondelete="CASCADE"), primary_key=True)
    howl: Mapped[str] = mapped_column(String(20))


class BeastOut(KeyedOut):
    """What all of them have."""

    kind: str


JOINED_WITH_CHILDREN = Kind(
    "joined base with children",
    Beast,
    [Beast.__table__, Wolf.__table__],
    row=keyed,
    out=BeastOut,
    shown=lambda number: {**keyed(number), "kind": "wolf" if number % 2 else "beast"},
    bare=lambda number: {**keyed(number), "kind": "beast"},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99,
    key=lambda number: number,
    make=lambda numbers: [Wolf(**keyed(n), howl=f"howl {n}") if n % 2 else Beast(**keyed(n)) for n in numbers],
    refused={"bulk.upsert": _SHARED},
    is_read_at_once=False,
)


# -- single-table inheritance


class Vehicle(Base):
    """The base of single-table inheritance."""

    __tablename__ = "kd_vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column("the_kind", String(20))
    label: Mapped[str] = mapped_column(String(30), unique=True)
    rank: Mapped[int]


class Truck(Vehicle):
    """A child: some of the rows."""

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012 - same

    load: Mapped[int | None]


class Van(Vehicle):
    """Another child."""

    __mapper_args__ = {"polymorphic_identity": "van"}  # noqa: RUF012 - same


class VehicleOut(KeyedOut):
    """What all of them have."""

    kind: str


class TruckOut(VehicleOut):
    """What some of them have."""

    load: int | None


def _vehicles(numbers: Sequence[int]) -> list[Any]:
    return [(Truck if number % 2 else Vehicle)(**labelled(number)) for number in numbers]


def _loaded(number: int) -> dict[str, Any]:
    return {**labelled(number), "load": 10 * number}


SINGLE_CHILD = Kind(
    "single-table child",
    Truck,
    [Vehicle.__table__],
    row=_loaded,
    out=TruckOut,
    shown=lambda number: {**_loaded(number), "kind": "truck"},
    change=("load", 41),
    changed={"load": 41},
    missing=99_999_999,
    beside=lambda: [Vehicle(label="nothing", rank=2), Van(label="van", rank=2)],
    refused={"bulk.upsert": _SHARED},
)
SINGLE_BASE = Kind(
    "single-table base",
    Vehicle,
    [Vehicle.__table__],
    row=labelled,
    out=VehicleOut,
    shown=lambda number: {**labelled(number), "kind": "truck" if number % 2 else "vehicle"},
    bare=lambda number: {**labelled(number), "kind": "vehicle"},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99_999_999,
    make=_vehicles,
    refused={"bulk.upsert": _SHARED},
)

INHERITING = [JOINED_CHILD, JOINED_BASE, JOINED_WITH_CHILDREN, SINGLE_CHILD, SINGLE_BASE]
