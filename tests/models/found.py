"""Models whose tables are not declared with them: mapped by hand, by SQLModel, or found in the database."""

# No "from __future__ import annotations": SQLModel takes apart what stands in the brackets of a relationship.

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Optional

from models.kinds import TABLES, Kind, labelled
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import DeclarativeBase, configure_mappers, registry, relationship, selectinload
from sqlmodel import Field, Relationship, SQLModel

from fastkit.schemas import Schema


class MoonOut(Schema):
    """What goes around."""

    name: str


def _moons(number: int) -> list[dict[str, Any]]:
    return [{"name": f"moon {number}.{place}"} for place in range(number % 3)]


def _id(number: int) -> dict[str, Any]:
    return {"id": number, **labelled(number)}


# -- mapped by hand


class Planet:
    """A class that knows nothing of SQLAlchemy."""

    def __init__(self, id: int, label: str, rank: int) -> None:  # noqa: A002 - the name of the attribute
        self.id = id
        self.label = label
        self.rank = rank


class Moon:
    """Another one."""

    def __init__(self, name: str) -> None:
        self.name = name


_planet = Table(
    "kd_planet",
    TABLES,
    Column("planet_no", Integer, primary_key=True, autoincrement=False),
    Column("planet_label", String(30), unique=True, nullable=False),
    Column("planet_rank", Integer, nullable=False),
)
_moon = Table(
    "kd_moon",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", String(30), nullable=False),
    Column("planet_no", ForeignKey("kd_planet.planet_no", ondelete="CASCADE"), nullable=False),
)
_imperative = registry(metadata=TABLES)
_imperative.map_imperatively(Moon, _moon)
_imperative.map_imperatively(
    Planet,
    _planet,
    properties={
        "id": _planet.c.planet_no,
        "label": _planet.c.planet_label,
        "rank": _planet.c.planet_rank,
        "moons": relationship(Moon, order_by=_moon.c.name, cascade="all, delete-orphan", passive_deletes=True),
    },
)


class PlanetOut(Schema):
    """Names that the table does not have, and a list."""

    id: int
    label: str
    rank: int
    moons: list[MoonOut]


def _planets(numbers: Sequence[int]) -> list[Any]:
    made: list[Any] = []
    for number in numbers:
        planet: Any = Planet(**_id(number))
        planet.moons = [Moon(**each) for each in _moons(number)]
        made.append(planet)
    return made


_mapped: Any = Planet
IMPERATIVE = Kind(
    "imperative mapping",
    Planet,
    [_planet, _moon],
    row=_id,
    out=PlanetOut,
    shown=lambda number: {**_id(number), "moons": _moons(number)},
    bare=lambda number: {**_id(number), "moons": []},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99,
    key=lambda number: number,
    make=_planets,
    loads=[selectinload(_mapped.moons)],
    is_returned_by_insert=False,
)


# -- SQLModel


class Base(SQLModel):
    """The base of what SQLModel maps."""

    metadata = TABLES


class Team(Base, table=True):
    """What heroes are in."""

    __tablename__ = "kd_team"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=30)
    heroes: list["Hero"] = Relationship(back_populates="team")


class HeroBase(Base):
    """What a hero has and shows."""

    label: str = Field(max_length=30, unique=True)
    rank: int


class Hero(HeroBase, table=True):
    """A row that is a Pydantic model too."""

    __tablename__ = "kd_hero"

    id: int | None = Field(default=None, primary_key=True)
    team_id: int | None = Field(default=None, foreign_key="kd_team.id")
    team: Optional[Team] = Relationship(back_populates="heroes")  # noqa: UP045 - SQLModel reads it


class TeamOut(SQLModel):
    """A response model of SQLModel."""

    name: str


class HeroOut(HeroBase):
    """One that shares its fields with the table, and has a related row."""

    id: int
    team: TeamOut | None


def _heroes(numbers: Sequence[int]) -> list[Any]:
    team = Team(name="team")
    return [Hero(**labelled(number), team=team if number % 2 else None) for number in numbers]


_hero: Any = Hero
SQLMODEL = Kind(
    "SQLModel table",
    Hero,
    [_hero.metadata.tables["kd_team"], _hero.metadata.tables["kd_hero"]],
    row=labelled,
    out=HeroOut,
    shown=lambda number: {**labelled(number), "team": {"name": "team"} if number % 2 else None},
    bare=lambda number: {**labelled(number), "team": None},
    change=("rank", 40),
    changed={"rank": 40},
    missing=99_999_999,
    make=_heroes,
    loads=[selectinload(_hero.team)],
    is_returned_by_insert=False,
)


# -- found in the database

DEPOT = Table(
    "kd_depot",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("label", String(30), unique=True, nullable=False),
    Column("rank", Integer, nullable=False),
)
CRATE = Table(
    "kd_crate",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", String(30), nullable=False),
    Column("depot_id", ForeignKey("kd_depot.id", ondelete="CASCADE"), nullable=False),
)
WHARF = Table(
    "kd_wharf",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("label", String(30), unique=True, nullable=False),
    Column("rank", Integer, nullable=False),
)
SHIP = Table(
    "kd_ship",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("name", String(30), nullable=False),
    Column("wharf_id", ForeignKey("kd_wharf.id", ondelete="CASCADE"), nullable=False),
)


class DepotOut(Schema):
    """A list beside the columns."""

    id: int
    label: str
    rank: int
    crates: list[MoonOut]


class WharfOut(Schema):
    """A list with the name that automap gives."""

    id: int
    label: str
    rank: int
    kd_ship_collection: list[MoonOut]


@cache
def reflected(engine: Engine) -> Kind:
    """Return a model whose tables are read from the database."""

    class Reflected(DeclarativeBase):
        """The base of what is read."""

        metadata = MetaData()

    class Crate(Reflected):
        """What is in a depot."""

        __table__ = Table("kd_crate", Reflected.metadata, autoload_with=engine)

    class Depot(Reflected):
        """Its table came along with the other one."""

        __table__ = Table("kd_depot", Reflected.metadata, autoload_with=engine)
        crates = relationship(Crate, order_by=Crate.name, cascade="all, delete-orphan", passive_deletes=True)

    made = lambda number: Depot(**labelled(number), crates=[Crate(**each) for each in _moons(number)])
    return _of_list("reflected tables", Depot, (DEPOT, CRATE), DepotOut, "crates", made)


@cache
def automapped(engine: Engine) -> Kind:
    """Return a model that automap makes of a table of the database."""
    metadata = MetaData()
    metadata.reflect(engine, only=["kd_wharf", "kd_ship"])
    found: Any = automap_base(metadata=metadata)
    found.prepare()
    configure_mappers()
    wharf, ship = found.classes.kd_wharf, found.classes.kd_ship
    made = lambda number: wharf(**labelled(number), kd_ship_collection=[ship(**each) for each in _moons(number)])
    return _of_list("automapped tables", wharf, (WHARF, SHIP), WharfOut, "kd_ship_collection", made)


def _of_list(
    name: str, model: Any, tables: Sequence[Table], out: Any, related: str, made: Callable[[int], Any]
) -> Kind:
    return Kind(
        name,
        model,
        tables,
        row=labelled,
        out=out,
        shown=lambda number: {**labelled(number), related: _moons(number)},
        bare=lambda number: {**labelled(number), related: []},
        change=("rank", 40),
        changed={"rank": 40},
        missing=99_999_999,
        make=lambda numbers: [made(number) for number in numbers],
        loads=[selectinload(getattr(model, related))],
        is_returned_by_insert=False,
    )
