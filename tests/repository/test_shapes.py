"""Repositories of models in every shape that SQLAlchemy maps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import World
from repository.scenes import meanwhile, recorded, rival_engine
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    registry,
    relationship,
    selectinload,
    with_polymorphic,
)

from fastkit.errors import NotFoundError
from fastkit.pages import PageQuery
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The base of the shapes."""

    metadata = MetaData()


class Person(Base):
    """The parent of joined inheritance."""

    __tablename__ = "shape_person"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - SQLAlchemy's own

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))


class Manager(Person):
    """The child of joined inheritance: its row is in two tables."""

    __tablename__ = "shape_manager"
    __mapper_args__ = {"polymorphic_identity": "manager"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(ForeignKey("shape_person.id"), primary_key=True)
    budget: Mapped[int]


class Vehicle(Base):
    """The parent of single-table inheritance."""

    __tablename__ = "shape_vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))


class Truck(Vehicle):
    """The child of single-table inheritance."""

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012 - same

    load: Mapped[int | None]


class Renamed(Base):
    """Attributes whose columns have other names, the key too."""

    __tablename__ = "shape_renamed"

    first: Mapped[int] = mapped_column("a", primary_key=True)
    second: Mapped[int] = mapped_column("b", primary_key=True)
    label: Mapped[str] = mapped_column("first", String(20))


class Category(Base):
    """A tree whose children are loaded eagerly by the model itself."""

    __tablename__ = "shape_category"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("shape_category.id"))

    parent: Mapped[Category | None] = relationship(back_populates="children", remote_side="Category.id", lazy="raise")
    children: Mapped[list[Category]] = relationship(
        back_populates="parent", lazy="selectin", order_by="Category.id", join_depth=2
    )


class Crate(Base):
    """A model that joins its collection by default."""

    __tablename__ = "shape_crate"

    id: Mapped[int] = mapped_column(primary_key=True)
    items: Mapped[list[Item]] = relationship(lazy="joined")


class Item(Base):
    """What is in a crate."""

    __tablename__ = "shape_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    crate_id: Mapped[int] = mapped_column(ForeignKey("shape_crate.id"))


class Point(MappedAsDataclass, Base, eq=True, unsafe_hash=False):
    """A mapped dataclass that compares by value and therefore has no hash."""

    __tablename__ = "shape_point"

    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int]
    marks: Mapped[list[Mark]] = relationship(lazy="joined", default_factory=list)


class Mark(MappedAsDataclass, Base, eq=True, unsafe_hash=False):
    """Part of a point."""

    __tablename__ = "shape_mark"

    id: Mapped[int] = mapped_column(primary_key=True)
    point_id: Mapped[int] = mapped_column(ForeignKey("shape_point.id"))


PLANET = Table(
    "shape_planet", Base.metadata, Column("id", Integer, primary_key=True), Column("name", String(20), nullable=False)
)


class Planet:
    """A class that knows nothing of SQLAlchemy."""

    id: Any
    name: Any

    def __init__(self, id: int, name: str) -> None:  # noqa: A002 - the name of the column
        self.id = id
        self.name = name


registry(metadata=Base.metadata).map_imperatively(Planet, PLANET)


class Shapes(UnitOfWork):
    """All shapes, sync."""

    people: Repository[Person]
    managers: Repository[Manager]
    vehicles: Repository[Vehicle]
    trucks: Repository[Truck]
    renamed: Repository[Renamed]
    categories: Repository[Category]
    crates: Repository[Crate]
    items: Repository[Item]
    points: Repository[Point]
    planets: Repository[Planet]


class AsyncShapes(AsyncUnitOfWork):
    """All shapes, async."""

    people: AsyncRepository[Person]
    managers: AsyncRepository[Manager]
    vehicles: AsyncRepository[Vehicle]
    trucks: AsyncRepository[Truck]
    renamed: AsyncRepository[Renamed]
    categories: AsyncRepository[Category]
    crates: AsyncRepository[Crate]
    items: AsyncRepository[Item]
    points: AsyncRepository[Point]
    planets: AsyncRepository[Planet]


@pytest.fixture
async def shapes(world: World) -> AsyncIterator[World]:
    """Return a database with the tables of the shapes, and some rows."""
    engine = rival_engine(world)
    Base.metadata.create_all(engine)
    world.unit = AsyncShapes if world.driver.is_async else Shapes
    async with world.shop() as unit:
        unit.people.add_all([Person(id=1, name="Ada"), Manager(id=2, name="Bea", budget=5)])
        unit.vehicles.add_all([Vehicle(id=1), Truck(id=2, load=9), Truck(id=3, load=9)])
        unit.renamed.add_all(Renamed(first=key, second=10 - key, label="x") for key in (1, 2, 3))
        unit.categories.add(Category(id=1, name="root", children=[Category(id=2, name="a"), Category(id=3, name="b")]))
        unit.crates.add_all([Crate(id=1, items=[Item(id=1), Item(id=2)]), Crate(id=2), Crate(id=3)])
        unit.points.add_all(
            [Point(id=1, x=1, marks=[Mark(id=1, point_id=1), Mark(id=2, point_id=1)]), Point(id=2, x=1)]
        )
        unit.planets.add_all([Planet(1, "Mars"), Planet(2, "Venus")])
        await unit.commit()
    yield world
    await world.database.close()
    Base.metadata.drop_all(engine)
    engine.dispose()


@asynccontextmanager
async def opened(world: World, place: str) -> AsyncIterator[Any]:
    """Give a unit in a block or outside of one."""
    async with world.serving() as unit:
        if place == "outside":
            yield unit
        else:
            async with unit:
                yield unit
                await unit.rollback()


@pytest.mark.parametrize("place", ["inside", "outside"])
class TestShapes:
    """Each verb on each shape."""

    async def test_joined_inheritance(self, shapes: World, place: str) -> None:
        """A repository of the child sees children; one of the parent sees all, each in its class."""
        async with opened(shapes, place) as unit:
            people = await unit.people.all()
            page = await unit.managers.order_by(Manager.budget).page(PageQuery())

            assert sorted(type(person).__name__ for person in people) == ["Manager", "Person"]
            assert ([manager.name for manager in page.items], page.total) == (["Bea"], 1)
            assert (await unit.managers.get_one(2)).budget == 5
            assert await unit.managers.get(1) is None
            assert (await unit.managers.count(), await unit.people.count()) == (1, 2)
            assert await unit.managers.exists(Manager.budget > 4)
            assert not await unit.managers.exists(Person.name == "Ada")
            assert (await unit.managers.first()).id == 2

    async def test_single_table_inheritance(self, shapes: World, place: str) -> None:
        """Every verb of the child leaves out the rows of its parent, `count` and `exists` too."""
        async with opened(shapes, place) as unit:
            trucks = await unit.trucks.all()
            page = await unit.trucks.order_by(Truck.load).page(PageQuery())

            assert sorted(truck.id for truck in trucks) == [2, 3]
            assert ([truck.id for truck in page.items], page.total) == ([2, 3], 2)
            assert await unit.trucks.get(1) is None
            assert await unit.trucks.with_options(*()).get(1) is None
            assert (await unit.trucks.count(), await unit.vehicles.count()) == (2, 3)
            assert not await unit.trucks.exists(Vehicle.id == 1)
            assert (await unit.trucks.first()).id == 2

    async def test_attributes_with_columns_of_other_names(self, shapes: World, place: str) -> None:
        """Identity and order follow the columns of the key, whatever another attribute is called."""
        async with opened(shapes, place) as unit:
            for key in ((2, 8), {"first": 2, "second": 8}):
                assert (await unit.renamed.get_one(key)).second == 8
                assert (await unit.renamed.with_options(selectinload("*")).get_one(key)).second == 8
            ordered = await unit.renamed.order_by(Renamed.label).page(PageQuery(size=2))

            assert [(each.first, each.second) for each in ordered.items] == [(1, 9), (2, 8)]

    async def test_a_tree_loaded_by_the_model(self, shapes: World, place: str) -> None:
        """Children come along where the model says so, on every verb."""
        async with opened(shapes, place) as unit:
            got = await unit.categories.get_one(1)
            roots = await unit.categories.all(Category.parent_id.is_(None))
            page = await unit.categories.page(PageQuery(size=2))

            assert [child.name for child in got.children] == ["a", "b"]
            assert [root.id for root in roots] == [1]
            assert ([each.id for each in page.items], page.total) == ([1, 2], 3)

    async def test_a_collection_joined_by_the_model(self, shapes: World, place: str) -> None:
        """Rows are objects: neither doubled nor lost by a limit."""
        async with opened(shapes, place) as unit:
            everything = await unit.crates.order_by(Crate.id).all()
            page = await unit.crates.page(PageQuery(size=2))
            first = await unit.crates.first()
            one = await unit.crates.one(Crate.id == 1)

            assert [len(crate.items) for crate in everything] == [2, 0, 0]
            assert ([crate.id for crate in page.items], page.total) == ([1, 2], 3)
            assert first is one is await unit.crates.get_one(1)

    async def test_objects_without_a_hash(self, shapes: World, place: str) -> None:
        """Two equal objects are two rows; one row is one object."""
        async with opened(shapes, place) as unit:
            points = await unit.points.order_by(Point.x).all()
            page = await unit.points.page(PageQuery())

            assert [point.id for point in points] == [1, 2]
            assert [len(point.marks) for point in page.items] == [2, 0]
            assert points[0] is await unit.points.get_one(1)

    async def test_imperative_mapping(self, shapes: World, place: str) -> None:
        """A plain class works as a model, its attributes as criteria."""
        async with opened(shapes, place) as unit:
            assert (await unit.planets.get_one(1)).name == "Mars"
            assert (await unit.planets.one(Planet.name == "Venus")).id == 2
            assert [each.id for each in (await unit.planets.order_by(Planet.name.desc()).page(PageQuery())).items] == [
                2,
                1,
            ]
            with pytest.raises(NotFoundError, match="Planet"):
                await unit.planets.get_one(9)


class TestSpecial:
    """What only some shapes have."""

    @pytest.mark.parametrize(
        "repository", ["people", "managers", "trucks", "renamed", "categories", "crates", "points"]
    )
    async def test_every_shape_can_be_locked(self, shapes: World, repository: str) -> None:
        """Objects without a hash and rows in two tables, too; nothing changed means nothing refused."""
        async with shapes.shop() as unit:
            entity = await getattr(unit, repository).first()
            found = await getattr(unit, repository).for_update().all()

        assert any(each is entity for each in found)

    async def test_a_changed_object_without_a_hash_can_be_written_and_deleted(self, shapes: World) -> None:
        """The notes of a transaction are about objects, not about values."""
        async with shapes.serving() as unit:
            async with unit:
                (await unit.points.get_one(2)).x = 5
                await unit.commit()
            point = await unit.points.get_one(2)
            async with unit:
                await unit.points.delete(await unit.points.get_one(2))
                await unit.commit()

            assert point.x == 5
            assert await unit.points.count() == 1

    async def test_a_joined_child_is_written_to_both_tables(self, shapes: World) -> None:
        """Change and delete, as with any other object."""
        async with shapes.shop() as unit:
            manager = await unit.managers.get_one(2)
            manager.name, manager.budget = "Bea B.", 6
            await unit.commit()
        async with shapes.shop() as unit:
            stored = await unit.managers.get_one(2)
            assert (stored.name, stored.budget) == ("Bea B.", 6)
            await unit.people.delete(stored)
            await unit.commit()
        async with shapes.shop() as unit:
            assert [person.id for person in await unit.people.all()] == [1]

    async def test_a_polymorphic_statement_goes_on_from_select(self, shapes: World) -> None:
        """SQLAlchemy's own words for inheritance can be used on the session."""
        everyone = with_polymorphic(Person, [Manager])
        async with shapes.shop() as unit:
            with recorded(shapes) as sent:
                statement = select(everyone).order_by(everyone.id)
                budgets = [getattr(each, "budget", None) for each in (await unit.session.scalars(statement)).all()]

        assert budgets == [None, 5]
        assert len(sent) == 1

    async def test_c5_get_of_an_eager_model_is_of_one_moment(self, shapes: World) -> None:
        """Outside a block a read of several statements is one read-only transaction, `get` too."""
        table: Any = Category.__table__

        def rename(other: Any) -> None:
            other.execute(table.update().values(name="changed"))

        with meanwhile(shapes, "FROM shape_category", rename) as done:
            async with shapes.serving() as unit:
                root = await unit.categories.get_one(1)

        assert done
        assert {each.name for each in (root, *root.children)} == {"root", "a", "b"}

    async def test_c5_a_list_of_an_eager_model_is_of_one_moment(self, shapes: World) -> None:
        """The same for `all`."""
        table: Any = Category.__table__

        def rename(other: Any) -> None:
            other.execute(table.update().values(name="changed"))

        with meanwhile(shapes, "FROM shape_category", rename) as done:
            async with shapes.serving() as unit:
                roots = await unit.categories.all(Category.parent_id.is_(None))

        assert done
        assert {each.name for each in (roots[0], *roots[0].children)} == {"root", "a", "b"}
