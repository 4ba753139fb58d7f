"""Readers of models as people have them; what is in the rows is in `reader_models`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from colours import awaitable
from conftest import World
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
    computed_field,
    model_validator,
)
from pydantic.alias_generators import to_camel
from repository.reader_models import (
    NOON,
    ONE,
    TWO,
    Address,
    Article,
    Base,
    Capital,
    City,
    Colour,
    Company,
    Crate,
    Depot,
    Dot,
    Engineer,
    Gadget,
    Land,
    Listed,
    Machine,
    Moon,
    Node,
    Note,
    OnPostgreSQL,
    Parcel,
    Part,
    Person,
    Planet,
    Playlist,
    Region,
    Tag,
    Town,
    Truck,
    User,
    Vehicle,
    fill,
)
from repository.scenes import OUTSIDE, PLACES, Scene, recorded, rival_engine, scene
from sqlalchemy import MetaData, create_engine, func
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session, joinedload, with_loader_criteria
from typing_extensions import TypeAliasType

from fastkit.errors import DeclarationError, RowMismatchError
from fastkit.pages import PageQuery
from fastkit.repository import AsyncRepository, Repository
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio
T = TypeVar("T")


@pytest.fixture(scope="session")
def filled_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a SQLite file with the rows, to be copied by each test."""
    path = tmp_path_factory.mktemp("shapes") / "filled.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        fill(session)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def filled_servers() -> set[str]:
    """Return the servers that have the rows already: the tests only read them."""
    return set()


@pytest.fixture
def shapes(world: World, filled_sqlite: Path, filled_servers: set[str]) -> World:
    """Return a database with the rows."""
    engine = rival_engine(world)
    if world.server == "SQLite":
        shutil.copy(filled_sqlite, str(engine.url.database))
    elif world.server not in filled_servers:
        filled_servers.add(world.server)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            fill(session)
    engine.dispose()
    return world


class Reading:
    """A scene in which any model can be read."""

    def __init__(self, at: Scene) -> None:
        self.at = at

    def rows(self, model: type[Any]) -> Any:
        """Return the repository of a model, dressed."""
        session = self.at.shop.session
        if self.at.world.driver.is_async:
            return AsyncRepository(session, model)
        return awaitable(Repository(session.naked, model))

    async def all(self, model: type[Any], schema: type[Any]) -> list[Any]:
        """Return every row in the order of the key."""
        keys = model.__mapper__.primary_key
        return list(await self.rows(model).order_by(*keys).into(schema).all())


@asynccontextmanager
async def reading(world: World, place: str = OUTSIDE) -> Any:
    """Make a unit that reads any model."""
    async with scene(world, place) as at:
        yield Reading(at)
        assert at.settled


def refused(model: type[Any], schema: type[BaseModel]) -> str:
    """Return why a schema cannot be read from a model; nothing is sent to find out."""
    with pytest.raises(DeclarationError) as caught:
        Repository(Session(), model).into(schema)
    return str(caught.value)


class Named(Schema):
    """Anything with a name."""

    name: str


class TagOut(Schema):
    """A tag, hashable."""

    model_config = ConfigDict(from_attributes=True, frozen=True)

    name: str


class TestKeys:
    """Composite keys, and relations of every kind."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_composite_keys(self, shapes: World, place: str) -> None:
        """Parent and child find each other by all columns of the key, NULLs and equal halves notwithstanding."""

        class CityOut(Schema):
            number: int
            name: str
            region: Named
            region_name: Annotated[str, From("region.name")]

        class RegionOut(Schema):
            country: str
            cities: list[CityOut]
            names: Annotated[list[str], From("cities.name")]
            last: Annotated[list[CityOut], From("cities", order_by="-number", limit=1)]
            count: Annotated[int, From.count("cities")]
            least: Annotated[str | None, From.min("cities.name")]

        async with reading(shapes, place) as read:
            with recorded(shapes) as sent:
                north, south, west, _ = await read.all(Region, RegionOut)

            assert len(sent) == 4
            assert [(city.name, city.region.name, city.region_name) for city in north.cities] == [
                ("A", "Nord", "Nord"),
                ("B", "Nord", "Nord"),
            ]
            assert (north.names, [city.number for city in north.last]) == (["A", "B"], [2])
            assert ([city.name for city in south.cities], west.cities) == (["C"], [])
            assert [(each.count, each.least) for each in (north, south, west)] == [(2, "A"), (1, "C"), (0, None)]
            assert (await read.rows(Region).into(RegionOut).get_one(("de", 2))) == south
            key = {"country": "de", "code": 1, "number": 2}
            assert (await read.rows(City).into(CityOut).get_one(key)).region_name == "Nord"

    @pytest.mark.parametrize("place", PLACES)
    async def test_many_to_many(self, shapes: World, place: str) -> None:
        """By a table alone: the list, a column of it, both ways, and what is counted."""

        class ArticleOut(Schema):
            title: str
            tags: list[TagOut]
            words: Annotated[list[str], From("tags.name")]
            count: Annotated[int, From.count("tags")]
            weight: Annotated[int | None, From.sum("tags.weight")]
            mean: Annotated[float | None, From.avg("tags.weight")]

        class Word(Schema):
            articles: list[ArticleOut]

        async with reading(shapes, place) as read:
            first, second, third = await read.all(Article, ArticleOut)
            words = await read.all(Tag, Word)

            assert (first.words, second.words, third.words) == (["a", "b", "c", "d"], ["b"], [])
            assert [tag.name for tag in first.tags] == first.words
            assert [(each.count, each.weight, each.mean) for each in (first, second, third)] == [
                (4, 6, 1.5),
                (1, 2, 2.0),
                (0, None, None),
            ]
            assert [word.articles for word in words] == [[first], [first, second], [first], [first]]

    async def test_association_objects(self, shapes: World) -> None:
        """The objects themselves, a path through them, and a relation over their table in their order."""

        class TrackOut(Schema):
            title: str

        class EntryOut(Schema):
            position: int
            track: TrackOut

        class PlaylistOut(Schema):
            entries: list[EntryOut]
            through: Annotated[list[TrackOut], From("entries.track")]
            titles: Annotated[list[str], From("entries.track.title")]
            tracks: list[TrackOut]
            seconds: Annotated[int | None, From.sum("entries.track.seconds")]

        async with reading(shapes) as read:
            with recorded(shapes) as sent:
                loop, once, empty = await read.all(Playlist, PlaylistOut)

            assert len(sent) == 5
            assert [(each.position, each.track.title) for each in loop.entries] == [(1, "y"), (3, "x"), (4, "x")]
            assert loop.titles == [each.title for each in loop.through] == ["y", "x", "x"]
            assert [each.title for each in loop.tracks] == ["y", "x"], "an object is in its collection once"
            assert [each.title for each in once.tracks] == once.titles == ["x", "y"]
            assert (empty.entries, empty.through, empty.tracks, empty.seconds) == ([], [], [], None)
            assert (loop.seconds, once.seconds) == (40, 30)

    async def test_a_pair_that_occurs_twice(self, shapes: World) -> None:
        """A related row is counted and listed once, as it is in the collection, with a limit too."""

        class PlaylistOut(Schema):
            names: Annotated[list[str], From("tracks.title")]
            newest: Annotated[list[str], From("tracks.title", order_by="-title", limit=2)]
            oldest: Annotated[list[str], From("tracks.title", order_by="title", limit=2)]
            count: Annotated[int, From.count("tracks")]
            seconds: Annotated[int | None, From.sum("tracks.seconds")]

        async with reading(shapes) as read:
            loop, once, empty = await read.all(Playlist, PlaylistOut)

            assert (loop.names, loop.newest, loop.oldest) == (["y", "x"], ["y", "x"], ["x", "y"])
            assert (loop.count, loop.seconds) == (once.count, once.seconds) == (2, 30)
            assert (empty.names, empty.newest, empty.count, empty.seconds) == ([], [], 0, None)

    async def test_a_join_between_and_a_unique_index(self, shapes: World) -> None:
        """Through two tables at once, each row once; and joined, because an index says that there is one."""

        class CapitalOut(Schema):
            guides: list[Named]
            last: Annotated[list[Named], From("guides", order_by="-name", limit=1)]
            count: Annotated[int, From.count("guides")]

        class RegionOut(Schema):
            capital: CapitalOut | None
            count: Annotated[int, From.count("capital.guides")]
            sights: Annotated[int, From.count("capital.sights")]

        class IdOnly(Schema):
            key: Annotated[int | None, From("capital.id")]

        class Aliased(Schema):
            sights_of_old: list[IdOnly]

        async with reading(shapes) as read:
            found = await read.all(Region, RegionOut)
            with recorded(shapes) as sent:
                assert [each.key for each in await read.all(Region, IdOnly)] == [None, None, 1, 2]

            assert len(sent) == 1
            assert [
                each.capital and (each.capital.guides, each.capital.last, each.capital.count) for each in found
            ] == [
                None,
                None,
                ([Named(name="Max"), Named(name="Mia")], [Named(name="Mia")], 2),
                ([], [], 0),
            ]
            assert [(each.count, each.sights) for each in found] == [(0, 0), (0, 0), (2, 2), (0, 1)]
        assert "Aliased.sights_of_old: Capital.sights_of_old leads to an alias of a class" in refused(Capital, Aliased)

    async def test_two_relations_on_the_way(self, shapes: World) -> None:
        """An aggregate goes over as many relations as the path names; a list over one, and says so."""

        class CompanyOut(Schema):
            notes: Annotated[int, From.count("staff.notes")]
            watts: Annotated[int | None, From.sum("engineers.machines.watts")]
            last: Annotated[str | None, From.max("staff.notes.text")]

        class Flat(Schema):
            notes: Annotated[list[str], From("staff.notes.text")]

        async with reading(shapes) as read:
            acme, void = await read.all(Company, CompanyOut)

            assert (acme.notes, acme.watts, acme.last) == (3, 12, "quick")
            assert (void.notes, void.watts, void.last) == (0, None, None)
        told = refused(Company, Flat)
        assert "Flat.notes" in told
        assert "Person.notes gives many Note" in told


class TestSelfReferences:
    """Models that contain themselves."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_tree(self, shapes: World, place: str) -> None:
        """As many levels as the depth says, in the order that the field says, and the parent beside them."""

        class Tree(Schema):
            name: str
            children: Annotated[list[Tree], From("children", order_by=["rank", "-name"], depth=2)]

        class Up(Schema):
            name: str
            parent: Annotated[Up | None, From("parent", depth=3)]

        class Both(Schema):
            name: str
            parent: Named | None
            parent_name: Annotated[str | None, From("parent.name")]
            children: list[Named]
            count: Annotated[int, From.count("children")]
            grandchildren: Annotated[int, From.count("children.children")]

        async with reading(shapes, place) as read:
            with recorded(shapes) as sent:
                tree = await read.rows(Node).into(Tree).get_one(1)
            up = await read.rows(Node).into(Up).get_one(4)
            root, a = (await read.all(Node, Both))[:2]

            assert len(sent) == 3
            assert [each.name for each in tree.children] == ["b", "a"]
            assert [each.name for each in tree.children[1].children] == ["ab", "aa", "ac"]
            assert tree.children[1].children[0].children == []
            assert (up.parent.name, up.parent.parent.name, up.parent.parent.parent) == ("a", "root", None)
            assert (root.parent, root.parent_name, root.count, root.grandchildren) == (None, None, 2, 3)
            assert (a.parent, a.parent_name, a.count) == (Named(name="root"), "root", 3)
            assert [each.name for each in a.children] == ["aa", "ab", "ac"]

    async def test_a_graph(self, shapes: World) -> None:
        """Many to many of one table, limited by a sort key with ties."""

        class NodeOut(Schema):
            name: str
            friends: list[Named]
            some: Annotated[list[Named], From("friends", order_by=["-rank", "name"], limit=2)]
            few: Annotated[list[Named], From("children", order_by=Node.rank, limit=2)]
            count: Annotated[int, From.count("friends")]

        async with reading(shapes) as read:
            root, a, b = (await read.all(Node, NodeOut))[:3]

            assert [each.name for each in root.friends] == ["b", "aa", "ab", "ac"]
            assert [each.name for each in root.some] == ["ac", "aa"]
            assert [each.name for each in a.few] == ["aa", "ab"]
            assert (root.count, b.count, b.friends, b.some) == (4, 0, [], [])

    async def test_two_schemas_that_contain_each_other(self, shapes: World) -> None:
        """One depth anywhere in the circle is enough."""

        class Doc(Schema):
            title: str
            tags: Annotated[list[Word], From("tags", depth=1)]

        class Word(Schema):
            name: str
            articles: list[Doc]

        Doc.model_rebuild()
        async with reading(shapes) as read:
            second = (await read.all(Article, Doc))[1]

            (word,) = second.tags
            assert [doc.title for doc in word.articles] == ["first", "second"]
            assert word.articles[1].tags[0].articles[0].tags == []

    def test_a_recursion_without_an_end(self) -> None:
        """The field is told, and what to write."""

        class Tree(Schema):
            children: list[Tree]

        class Doc(Schema):
            tags: list[Word]

        class Word(Schema):
            articles: list[Doc]

        Doc.model_rebuild()
        assert 'Tree.children: Tree contains itself: say how many levels are read, as in Annotated[..., From("ch' in (
            refused(Node, Tree)
        )
        assert "Word.articles: Doc contains itself" in refused(Article, Doc)


class TestInheritance:
    """Rows in two tables, and tables of two classes."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_joined(self, shapes: World, place: str) -> None:
        """The child with columns of both tables and relations of both classes; the base with all rows."""

        class MachineOut(Schema):
            watts: int
            engineer: Named | None
            skill: Annotated[str | None, From("engineer.skill")]
            boss: Annotated[str | None, From("engineer.company.name")]

        class EngineerOut(Schema):
            id: int
            name: str
            skill: str
            company: Named | None
            notes: Annotated[list[str], From("notes.text")]
            machines: list[MachineOut]
            note_count: Annotated[int, From.count("notes")]
            watts: Annotated[int | None, From.sum("machines.watts")]
            label: Annotated[str, From(Engineer.name + Engineer.skill)]
            best: Annotated[list[MachineOut], From("machines", order_by="-watts", limit=1)]
            tags: list[TagOut]
            word: Annotated[list[str], From("tags.name", limit=1)]
            both: Annotated[list[str], From("tags.name", order_by="name", limit=2)]
            tag_count: Annotated[int, From.count("tags")]
            weight: Annotated[int | None, From.sum("tags.weight")]

        class PersonOut(Schema):
            name: str
            note_count: Annotated[int, From.count("notes")]

        async with reading(shapes, place) as read:
            ada, eve = await read.all(Engineer, EngineerOut)
            people = await read.all(Person, PersonOut)
            machines = await read.all(Machine, MachineOut)

            assert (ada.id, ada.name, ada.skill, ada.company) == (2, "Ada", "looms", Named(name="Acme"))
            assert (ada.notes, ada.note_count, ada.watts, ada.label) == (["kind", "quick"], 2, 12, "Adalooms")
            assert ([each.watts for each in ada.machines], [each.watts for each in ada.best]) == ([5, 7], [7])
            assert ([each.name for each in ada.tags], ada.word, ada.both, eve.word) == (
                ["b", "a"],
                ["b"],
                ["a", "b"],
                ["d"],
            )
            assert [(each.tag_count, each.weight, len(each.tags)) for each in (ada, eve)] == [(2, 3, 2), (1, 1, 1)]
            assert (eve.notes, eve.note_count, eve.machines, eve.watts) == ([], 0, [], None)
            assert [(each.name, each.note_count) for each in people] == [("Bob", 1), ("Ada", 2), ("Eve", 0)]
            assert [(each.engineer, each.skill, each.boss) for each in machines] == [
                (Named(name="Ada"), "looms", "Acme"),
                (Named(name="Ada"), "looms", "Acme"),
                (None, None, None),
            ]
            assert await read.rows(Engineer).into(EngineerOut).get(1) is None
            assert (await read.rows(Engineer).into(EngineerOut).get_one(2)) == ada

    async def test_relations_to_joined_classes(self, shapes: World) -> None:
        """To the base: everybody; to the child: those alone, with columns of both tables."""

        class EngineerOut(Schema):
            name: str
            skill: str
            watts: Annotated[int | None, From.sum("machines.watts")]
            label: Annotated[str, From(Engineer.name + Engineer.skill)]

        class CompanyOut(Schema):
            staff: list[Named]
            engineers: list[EngineerOut]
            count: Annotated[int, From.count("engineers")]
            skill: Annotated[str | None, From.max("engineers.skill")]
            last: Annotated[list[Named], From("engineers", order_by="-name", limit=1)]
            tags: Annotated[int, From.count("staff.tags")]
            weight: Annotated[int | None, From.sum("engineers.tags.weight")]

        class NoteOut(Schema):
            person: Named
            company: Annotated[str | None, From("person.company.name")]

        async with reading(shapes) as read:
            acme, void = await read.all(Company, CompanyOut)
            notes = await read.all(Note, NoteOut)

            assert [each.name for each in acme.staff] == ["Bob", "Ada", "Eve"]
            assert [tuple(each.model_dump().values()) for each in acme.engineers] == [
                ("Ada", "looms", 12, "Adalooms"),
                ("Eve", "radio", None, "Everadio"),
            ]
            assert (acme.count, acme.skill, acme.last) == (2, "radio", [Named(name="Eve")])
            assert (acme.tags, acme.weight, void.tags, void.weight) == (3, 4, 0, None)
            assert (void.staff, void.engineers, void.count, void.skill, void.last) == ([], [], 0, None, [])
            assert [(each.person.name, each.company) for each in notes] == [("Ada", "Acme")] * 2 + [("Bob", "Acme")]

    def test_a_column_of_a_child_in_its_base(self) -> None:
        """Not every row has it."""

        class PersonOut(Schema):
            skill: str

        assert "PersonOut.skill: Person has no attribute 'skill'" in refused(Person, PersonOut)

    @pytest.mark.parametrize("place", PLACES)
    async def test_single(self, shapes: World, place: str) -> None:
        """Rows of the child alone: as the root, in a list, with a limit, and counted."""

        class VehicleOut(Schema):
            id: int

        class TruckOut(VehicleOut):
            load: int | None
            depot_id: Annotated[int | None, From("depot.id")]

        class DepotOut(Schema):
            vehicles: list[VehicleOut]
            trucks: list[TruckOut]
            lightest: Annotated[list[TruckOut], From("trucks", order_by="load", limit=1)]
            count: Annotated[int, From.count("trucks")]
            load: Annotated[int | None, From.sum("trucks.load")]

        async with reading(shapes, place) as read:
            trucks = await read.all(Truck, TruckOut)
            full, bare = await read.all(Depot, DepotOut)

            assert [(each.id, each.load, each.depot_id) for each in trucks] == [(2, 9, 1), (3, 5, 1)]
            assert [each.id for each in await read.all(Vehicle, VehicleOut)] == [1, 2, 3, 4]
            assert ([each.id for each in full.vehicles], full.trucks) == ([1, 2, 3], trucks)
            assert ([each.id for each in full.lightest], full.count, full.load) == ([3], 2, 14)
            assert ([each.id for each in bare.vehicles], bare.trucks, bare.count, bare.load) == ([4], [], 0, None)
            page = await read.rows(Truck).into(TruckOut).page(PageQuery(size=1))
            assert ([each.id for each in page.items], page.total) == ([2], 2)


class TestToOne:
    """Related rows that are one or none."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_missing_and_deep(self, shapes: World, place: str) -> None:
        """Two relations to one table, three deep, and None wherever the way ends."""

        class LandOut(Schema):
            name: str
            towns: list[Named]

        class TownOut(Schema):
            name: str
            land: LandOut

        class AddressOut(Schema):
            street: str
            town: TownOut | None

        class ParcelOut(Schema):
            sender: AddressOut
            receiver: AddressOut | None
            land: Annotated[str | None, From("sender.town.land.name")]
            there: Annotated[str | None, From("receiver.town.land.name")]
            town: Annotated[TownOut | None, From("receiver.town")]
            towns: Annotated[list[str], From("sender.town.land.towns.name")]
            others: Annotated[list[str], From("receiver.town.land.towns.name")]

        async with reading(shapes, place) as read:
            with recorded(shapes) as sent:
                first, second = await read.all(Parcel, ParcelOut)

            towns = ["larger", "large", "small"]
            assert len(sent) == 3, "nothing is asked about the lands of nobody"
            land = LandOut(name="Oz", towns=[Named(name=name) for name in towns])
            assert first.sender == AddressOut(street="near", town=TownOut(name="small", land=land)) == second.sender
            assert (first.receiver, second.receiver) == (AddressOut(street="far", town=None), None)
            assert (first.land, first.there, first.town) == ("Oz", None, None)
            assert (second.there, second.town) == (None, None)
            assert (first.towns, first.others, second.others) == (towns, [], [])

    async def test_what_must_not_be_missing(self, shapes: World) -> None:
        """A related model that is required and not there is told by its row and field."""

        class AddressOut(Schema):
            street: str

        class ParcelOut(Schema):
            receiver: AddressOut

        async with reading(shapes) as read:
            with pytest.raises(RowMismatchError) as caught:
                await read.all(Parcel, ParcelOut)
            assert caught.value.faults == (("1.receiver", "model_attributes_type"),)

    async def test_one_to_one_without_the_key(self, shapes: World) -> None:
        """Joined if the table says that there is one; otherwise read apart, and the first in order is it."""

        class BadgeOut(Schema):
            label: str
            marks: Annotated[list[int], From("marks.id")]

        class ProfileOut(Schema):
            bio: str

        class Unique(Schema):
            id: int
            profile: ProfileOut | None
            bio: Annotated[str | None, From("profile.bio")]

        class Several(Schema):
            id: int
            badge: BadgeOut | None
            label: Annotated[str | None, From("badge.label")]
            marks: Annotated[list[int], From("badge.marks.id", order_by="-id")]

        async with reading(shapes) as read:
            with recorded(shapes) as sent:
                one, two = await read.all(User, Unique)
            several = await read.all(User, Several)

            assert len(sent) == 1
            assert (one.profile, one.bio, two.profile, two.bio) == (ProfileOut(bio="hello"), "hello", None, None)
            assert [each.id for each in several] == [1, 2]
            assert (several[0].badge, several[0].label, several[0].marks) == (None, None, [])
            assert several[1].badge == BadgeOut(label="new", marks=[1, 2])
            assert (several[1].label, several[1].marks) == ("new", [2, 1])

    async def test_a_column_that_is_not_unique(self, shapes: World) -> None:
        """A relation to one row by a column that several rows share gives no row twice."""

        class TownOut(Schema):
            name: str
            degrees: Annotated[int | None, From("weather.degrees")]

        async with reading(shapes) as read:
            found = await read.all(Town, TownOut)

            assert [(each.name, each.degrees) for each in found] == [("small", 20), ("large", None), ("larger", 20)]

    async def test_conditions_and_orders_of_relations(self, shapes: World) -> None:
        """A primaryjoin of its own, viewonly, and the relation's own order."""

        class LandOut(Schema):
            towns: list[Named]
            large: list[Named]
            first: Annotated[list[Named], From("towns", limit=1)]
            top: Annotated[list[Named], From("large", order_by="-size", limit=1)]
            count: Annotated[int, From.count("large")]
            size: Annotated[int | None, From.min("large.size")]

        async with reading(shapes) as read:
            (land,) = await read.all(Land, LandOut)

            assert [each.name for each in land.towns] == ["larger", "large", "small"]
            assert [each.name for each in land.large] == ["large", "larger"]
            assert (land.first, land.top) == ([Named(name="larger")], [Named(name="larger")])
            assert (land.count, land.size) == (2, 500)


class Volts(BaseModel):
    """What is in a JSON column."""

    volts: int
    ports: list[int]


class TestColumns:
    """Attributes of every kind."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_each_kind(self, shapes: World, place: str) -> None:
        """Each comes as the attribute of a loaded object does, as a root and one join further."""

        class SizeOut(Schema):
            width: int
            height: int

        class GadgetOut(Schema):
            id: UUID
            label: str
            title: str
            order: int
            select: int
            class_: str
            secret: str
            shout: str
            native: Colour
            plain: Colour
            data: dict[str, Any]
            volts: Annotated[Volts, From("data")]
            absent: dict[str, Any] | None
            price: Decimal
            made_at: datetime
            raw: bytes
            stock: int
            doubled: int
            worth: Decimal
            size_name: Annotated[bool, From("size_name")]
            part_count: int
            size: SizeOut
            summed: Annotated[Decimal | None, From.sum("parts.weight")]

        class PartOut(Schema):
            gadget: GadgetOut
            worth: Annotated[Decimal, From("gadget.worth")]

        class Both(GadgetOut):
            parts: Annotated[list[PartOut], From("parts", order_by="-id")]
            last: Annotated[list[PartOut], From("parts", order_by="-id", limit=1)]

        async with reading(shapes, place) as read:
            one, two = await read.all(Gadget, Both)
            part = await read.rows(Part).into(PartOut).get_one(2)

            values = one.model_dump(exclude={"parts", "last"})
            assert values == {
                "id": ONE,
                "label": "lamp",
                "title": "lamp",
                "order": 1,
                "select": 2,
                "class_": "A",
                "secret": "s",
                "shout": "HEY",
                "native": Colour.RED,
                "plain": Colour.BLUE,
                "data": {"volts": 5, "ports": [1, 2]},
                "volts": {"volts": 5, "ports": [1, 2]},
                "absent": None,
                "price": Decimal("2.50"),
                "made_at": NOON,
                "raw": b"\x00\xff",
                "stock": 7,
                "doubled": 14,
                "worth": Decimal("17.50"),
                "size_name": True,
                "part_count": 2,
                "size": {"width": 2, "height": 3},
                "summed": Decimal(4),
            }
            assert one.made_at.tzinfo is not None
            assert (two.id, two.doubled, two.size_name, two.part_count, two.summed) == (TWO, 2, False, 0, None)
            assert part.gadget.model_dump() == values
            assert one.last == one.parts[:1]
            assert (one.parts[:1], two.parts, part.worth) == ([part], [], Decimal("17.50"))

    async def test_keys_that_are_not_numbers(self, shapes: World) -> None:
        """A UUID groups related rows as well, and identifies one."""

        class GadgetOut(Schema):
            parts: Annotated[list[Decimal], From("parts.weight", order_by=[Part.weight.desc()])]

        async with reading(shapes) as read:
            assert (await read.rows(Gadget).into(GadgetOut).get_one(ONE)).parts == [Decimal("2.5"), Decimal("1.5")]
            assert (await read.rows(Gadget).into(GadgetOut).get_one(TWO)).parts == []

    async def test_the_same_column_several_times(self, shapes: World) -> None:
        """Under three names, with a limit, too, where the columns are those of a subquery."""

        class PartOut(Schema):
            id: int
            key: Annotated[int, From("id")]
            again: Annotated[int, From(Part.id)]
            gadget_id: UUID
            labels: Annotated[str, From("gadget.label")]
            title: Annotated[str, From("gadget.title")]
            after: Annotated[Decimal, From("weight")]

        class GadgetOut(Schema):
            parts: Annotated[list[PartOut], From("parts", limit=5)]

        async with reading(shapes) as read:
            part = (await read.rows(Gadget).into(GadgetOut).get_one(ONE)).parts[1]

            assert (part.id, part.key, part.again, part.gadget_id) == (2, 2, 2, ONE)
            assert (part.labels, part.title, part.after) == ("lamp", "lamp", Decimal("2.5"))

    @pytest.mark.parametrize(
        ("annotation", "told"),
        [
            (Annotated[str, From("shouted")], r"Out\.x: Gadget\.shouted gives no SQL expression; a hybrid"),
            (Annotated[bool, From("is_known")], r"Out\.x: Gadget\.is_known gives no SQL expression; a hybrid"),
            (Annotated[list[Volts], From("pieces")], r"Out\.x: Gadget\.pieces is a synonym of a relationship: name"),
            (Annotated[int, From("parts.weight")], r"Out\.x: Gadget\.parts gives many Part: .* as in list\[...\]"),
            (Annotated[list, From("parts.weight")], r"Out\.x: Gadget\.parts gives many Part: .* as in list\[...\]"),
            (Annotated[list[int], From("parts")], r"Out\.x: Gadget\.parts gives many Part: annotate it with a resp"),
            (Annotated[Volts | TagOut, From("parts")], r"Out\.x: Gadget\.parts gives many Part: annotate it with a"),
            (Annotated[list[Volts | TagOut], From("parts")], r"Out\.x: Gadget\.parts gives many Part: .*not a union"),
            (Annotated[int, From("stock", limit=1)], r"Out\.x: order_by and limit are for a list"),
            (Annotated[int, From.sum("parts.gadget")], r"Out\.x: Part\.gadget is a relationship: name a column of it"),
            (Annotated[dict[str, Volts], From("parts")], r"Out\.x: Gadget\.parts gives many Part: annotate it"),
        ],
    )
    def test_what_no_statement_can_ask_for(self, annotation: object, told: str) -> None:
        """Model and field, and what to write instead."""
        schema = type("Out", (Schema,), {"__annotations__": {"x": annotation}})

        with pytest.raises(DeclarationError, match=told):
            Repository(Session(), Gadget).into(schema)

    def test_a_limit_of_rows_that_repeat(self) -> None:
        """The order of the table between cannot say which row comes first if it is there twice."""

        class PlaylistOut(Schema):
            tracks: Annotated[list[TagOut], From("tracks.title", limit=1)]

        assert "Playlist.tracks may give a row several times: a limit needs an order_by" in refused(
            Playlist, PlaylistOut
        )

    def test_an_association_proxy(self) -> None:
        """It is a path, so it is written as one."""

        class PlaylistOut(Schema):
            titles: list[str]

        told = refused(Playlist, PlaylistOut)
        assert told.startswith("PlaylistOut.titles: Playlist.titles is an association proxy")
        assert 'From("tracks.title")' in told

    @pytest.mark.parametrize("place", PLACES)
    async def test_lists_in_columns(self, shapes: World, place: str) -> None:
        """An ARRAY is a column like any other."""
        if shapes.server != "PostgreSQL":
            pytest.skip("there are no arrays")
        engine = rival_engine(shapes)
        OnPostgreSQL.metadata.drop_all(engine)
        OnPostgreSQL.metadata.create_all(engine)
        with Session(engine) as session, session.begin():
            session.add(Listed(id=1, words=["a", "b"]))
        engine.dispose()

        class Out(Schema):
            words: list[str]
            tuple: Annotated[tuple[str, ...], From("words")]
            upper: Annotated[set[str], From("words")]

        async with reading(shapes, place) as read:
            (found,) = await read.all(Listed, Out)

            assert (found.words, found.tuple, found.upper) == (["a", "b"], ("a", "b"), {"a", "b"})


class TestMappings:
    """Classes, however they were mapped."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_dataclasses_and_plain_classes(self, shapes: World, place: str) -> None:
        """A mapped dataclass, and classes that know nothing of SQLAlchemy."""

        class DotOut(Schema):
            x: int

        class MoonOut(Schema):
            id: int
            planet: Named

        class PlanetOut(Named):
            moons: list[MoonOut]

        async with reading(shapes, place) as read:
            assert await read.all(Dot, DotOut) == [DotOut(x=0)]
            moons = await read.all(Moon, MoonOut)
            assert await read.all(Planet, PlanetOut) == [PlanetOut(name="Mars", moons=moons)]
            assert [each.id for each in moons] == [1, 2]

    async def test_reflected_tables(self, shapes: World) -> None:
        """Classes that the tables were asked for."""
        engine = rival_engine(shapes)
        metadata = MetaData()
        metadata.reflect(engine, only=["rs_land", "rs_town", "rs_article", "rs_tag", "rs_article_tag"])
        engine.dispose()
        base = automap_base(metadata=metadata)
        base.prepare()

        class TownOut(Named):
            rs_land: Named

        class LandOut(Named):
            towns: Annotated[list[TownOut], From("rs_town_collection", order_by="-id")]
            count: Annotated[int, From.count("rs_town_collection")]

        class ArticleOut(Schema):
            names: Annotated[list[str], From("rs_tag_collection.name")]

        async with reading(shapes) as read:
            (land,) = await read.all(base.classes.rs_land, LandOut)
            articles = await read.all(base.classes.rs_article, ArticleOut)

            oz = Named(name="Oz")
            names = ["larger", "large", "small"]
            assert land == LandOut(name="Oz", towns=[TownOut(name=name, rs_land=oz) for name in names], count=3)
            assert [each.names for each in articles] == [["a", "b", "c", "d"], ["b"], []]

    @pytest.mark.parametrize("place", PLACES)
    async def test_ways_of_loading(self, shapes: World, place: str) -> None:
        """What the model would load by itself is neither loaded nor joined; what it cannot load is read."""

        class CrateOut(Schema):
            id: int

        class ItemOut(Schema):
            id: int
            crate: CrateOut

        class Full(CrateOut):
            joined: list[ItemOut]
            selected: list[ItemOut]
            dynamic: list[ItemOut]
            written: list[ItemOut]
            count: Annotated[int, From.count("written")]
            last: Annotated[int | None, From.max("dynamic.id")]

        async with reading(shapes, place) as read:
            with recorded(shapes) as sent:
                assert [each.id for each in await read.all(Crate, CrateOut)] == [1, 2]
            assert len(sent) == 1
            assert "JOIN" not in sent[0]
            with recorded(shapes) as sent:
                one, two = await read.all(Crate, Full)
            assert len(sent) == 5
            assert [each.id for each in one.joined] == [1, 2]
            assert one.joined == one.selected == one.dynamic == one.written
            assert (one.count, one.last, two.written, two.count, two.last) == (2, 2, [], 0, None)
            session = read.at.shop.session
            assert len(list(session.identity_map)) == 0


class Envelope(Schema, Generic[T]):
    """A generic model."""

    name: str
    children: Annotated[list[T], From("children", order_by="id")]


class Later(Schema):
    """A model that names another before it exists."""

    name: str
    children: list[Afterwards]


class Afterwards(Schema):
    """The other one."""

    name: str


Names = TypeAliasType("Names", list[Named])
Many = TypeAliasType("Many", list[T], type_params=(T,))
ParentName = TypeAliasType("ParentName", Annotated[str | None, From("parent.name")])


class TestFields:
    """Annotations, and what Pydantic does with values."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_lists_of_every_kind(self, shapes: World, place: str) -> None:
        """As whatever the field says, of models and of values."""

        class Out(Schema):
            as_list: Annotated[list[TagOut], From("tags")]
            as_tuple: Annotated[tuple[TagOut, ...], From("tags")]
            as_set: Annotated[set[TagOut], From("tags")]
            as_frozenset: Annotated[frozenset[str], From("tags.name")]
            as_sequence: Annotated[Sequence[TagOut], From("tags")]
            perhaps: Annotated[list[TagOut] | None, From("tags")]
            inside: Annotated[list[Annotated[TagOut, Field(description="a tag")]] | None, From("tags")]

        async with reading(shapes, place) as read:
            first, _, third = await read.all(Article, Out)

            tags = [TagOut(name=name) for name in "abcd"]
            assert (first.as_list, first.as_tuple, first.as_set) == (tags, tuple(tags), set(tags))
            assert (first.as_frozenset, first.as_sequence) == (frozenset("abcd"), tags)
            assert first.perhaps == first.inside == tags
            assert tuple(third.model_dump().values()) == ([], (), set(), frozenset(), [], [], [])

    async def test_names_of_types(self, shapes: World) -> None:
        """Aliases, generic ones too, and what stands in them; a source inside of "or None" counts as well."""

        class Out(Schema):
            children: Names
            more: Annotated[Many[Named], From("children")]
            parent_name: ParentName
            same: Annotated[str, From("parent.name")] | None

        async with reading(shapes) as read:
            root, a = (await read.all(Node, Out))[:2]

            assert [each.name for each in root.children] == ["a", "b"]
            assert root.more == root.children
            assert (root.parent_name, root.same, a.parent_name, a.same) == (None, None, "root", "root")

    async def test_generic_inherited_and_forward(self, shapes: World) -> None:
        """Models are read as they are in the end."""

        class Out(Envelope[Named]):
            rank: int

        class Narrowed(Out):
            children: Annotated[list[TagOut], From("children", order_by="-id")]

        async with reading(shapes) as read:
            nodes = read.rows(Node)
            names = [Named(name="a"), Named(name="b")]
            assert await nodes.into(Envelope[Named]).get_one(1) == Envelope[Named](name="root", children=names)
            assert await nodes.into(Out).get_one(1) == Out(name="root", children=names, rank=0)
            narrowed = await nodes.into(Narrowed).get_one(1)
            assert narrowed.children == [TagOut(name="b"), TagOut(name="a")]
            later = await nodes.into(Later).get_one(1)
            assert later.children == [Afterwards(name="a"), Afterwards(name="b")]

    def test_a_name_that_is_never_defined(self) -> None:
        """Told as what it is."""

        class Out(Schema):
            children: list[Nowhere]  # noqa: F821 - that is the point

        assert refused(Node, Out) == "Out: name 'Nowhere' is not defined. Define it before the response model is read."

    async def test_validators_and_aliases(self, shapes: World) -> None:
        """Names that only the outside knows, and validators before and after, see the names of the fields."""

        class Child(BaseModel):
            model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

            parent_id: int | None
            full_name: Annotated[str, From("name"), AfterValidator(str.upper)]

        class Out(BaseModel):
            model_config = ConfigDict(alias_generator=to_camel, validate_by_name=False, strict=True, frozen=True)

            node_name: Annotated[str, From("name"), BeforeValidator(lambda value: f"<{value}>")]
            node_rank: int = Field(validation_alias="rank?", alias="r", default=5)
            child_nodes: Annotated[list[Child], From("children")]
            parent: Child | None
            seen: Annotated[list[str], From(None)] = []

            @model_validator(mode="before")
            @classmethod
            def _before(cls, data: dict[str, Any]) -> dict[str, Any]:
                return {**data, "seen": sorted(data)}

            @model_validator(mode="after")
            def _after(self) -> Out:
                assert self.child_nodes
                return self

            @computed_field
            def size(self) -> int:
                return len(self.child_nodes)

        assert "Out.node_rank: Node has no attribute 'node_rank'" in refused(Node, Out)
        Out.model_fields["node_rank"].metadata.append(From("rank"))

        async with reading(shapes) as read:
            found = await read.rows(Node).into(Out).get_one(1)

            assert found.model_dump(by_alias=True) == {
                "nodeName": "<root>",
                "r": 0,
                "childNodes": [{"parentId": 1, "fullName": "A"}, {"parentId": 1, "fullName": "B"}],
                "parent": None,
                "seen": ["child_nodes", "node_name", "node_rank", "parent"],
                "size": 2,
            }
            with pytest.raises(RowMismatchError):
                await read.rows(Node).into(Out).get_one(3)

    async def test_constants_and_roots(self, shapes: World) -> None:
        """A Literal of one value needs no column but takes it if there is one; a RootModel can be a value."""

        class Volted(RootModel[dict[str, Any]]):
            pass

        class Out(Schema):
            type: Literal["gadget"] = "gadget"
            label: Literal["lamp"] = "lamp"
            data: Volted

        class Other(Schema):
            label: Literal["other"] = "other"

        class Parts(RootModel[list[TagOut]]):
            pass

        class Wrapped(Schema):
            parts: Parts

        async with reading(shapes) as read:
            found = (await read.all(Gadget, Out))[0]
            assert (found.type, found.label, found.data.root["volts"]) == ("gadget", "lamp", 5)
            with pytest.raises(RowMismatchError, match=r"0\.label \(literal_error\)"):
                await read.all(Gadget, Other)
        assert "Wrapped.parts: Gadget.parts gives many Part: annotate it with a resp" in refused(Gadget, Wrapped)
        assert refused(Gadget, Parts).startswith("Parts.root: a RootModel is one value, and has no fields")

    def test_a_union_of_models(self) -> None:
        """No row says which of them it is."""

        class Cat(Schema):
            kind: Literal["cat"]

        class Dog(Schema):
            kind: Literal["dog"]

        class Out(Schema):
            staff: list[Annotated[Cat | Dog, Field(discriminator="kind")]]

        class One(Schema):
            company: Cat | Dog | None

        told = refused(Company, Out)
        assert told.startswith("Out.staff: Company.staff gives many Person: annotate it with a response model")
        assert "as in list[...], not a union" in told
        assert "One.company: Person.company gives one Company: annotate it with a resp" in refused(Person, One)

    async def test_strict_models(self, shapes: World) -> None:
        """What a strict model takes from Python it takes here: a list is a list, and no tuple."""

        class Strict(Schema):
            model_config = ConfigDict(strict=True)

            id: UUID
            price: Decimal
            made_at: datetime
            native: Colour
            raw: bytes
            parts: Annotated[list[Decimal], From("parts.weight")]
            count: Annotated[int, From.count("parts")]

        class Tuple(Schema):
            model_config = ConfigDict(strict=True)

            parts: Annotated[tuple[Decimal, ...], From("parts.weight")]

        async with reading(shapes) as read:
            found = await read.rows(Gadget).into(Strict).get_one(ONE)
            assert (found.native, found.made_at.astimezone(UTC), found.count) == (Colour.RED, NOON, 2)
            with pytest.raises(RowMismatchError, match=r"parts \(tuple_type\)"):
                await read.rows(Gadget).into(Tuple).get_one(ONE)


class TestOrderAndLimit:
    """The elements of a list, and which of them."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_many_to_many(self, shapes: World, place: str) -> None:
        """Several keys, descending ones, expressions, and ties, which the primary key decides."""

        class Out(Schema):
            ties: Annotated[list[str], From("tags.name", order_by="weight", limit=3)]
            down: Annotated[list[str], From("tags.name", order_by="-weight", limit=3)]
            keys: Annotated[list[str], From("tags.name", order_by=["-weight", "-name"])]
            sql: Annotated[list[str], From("tags.name", order_by=(Tag.weight.desc(), Tag.name.desc()), limit=3)]
            computed: Annotated[list[TagOut], From("tags", order_by=func.abs(Tag.weight - 2), limit=2)]
            one: Annotated[list[TagOut], From("tags", limit=1)]

        async with reading(shapes, place) as read:
            first, second, third = await read.all(Article, Out)

            assert (first.ties, first.down) == (["a", "d", "b"], ["b", "c", "a"])
            assert (first.keys, first.sql) == (["c", "b", "d", "a"], ["c", "b", "d"])
            assert [each.name for each in first.computed] == ["b", "c"]
            assert (first.one, second.one, third.one) == ([TagOut(name="a")], [TagOut(name="b")], [])
            assert (second.ties, third.ties) == (["b"], [])

    async def test_limits_within_limits(self, shapes: World) -> None:
        """For each parent as many, at each level."""

        class Tree(Schema):
            name: str
            children: Annotated[list[Tree], From("children", order_by="-name", limit=2, depth=2)]

        async with reading(shapes) as read:
            root = await read.rows(Node).into(Tree).get_one(1)

            assert [each.name for each in root.children] == ["b", "a"]
            assert [each.name for each in root.children[1].children] == ["ac", "ab"]


class TestCriteria:
    """Criteria in the options hold for every row that is read, as they do for objects."""

    async def test_related_rows(self, shapes: World) -> None:
        """Root, lists, joined rows, limits and aggregates; also where the criterion is a lambda or an expression."""

        class Out(Schema):
            name: str
            parent: Named | None
            children: list[Named]
            few: Annotated[list[Named], From("children", limit=2)]
            friends: Annotated[list[str], From("friends.name")]
            count: Annotated[int, From.count("friends")]
            below: Annotated[int, From.count("children.children")]

        for criterion in (lambda cls: cls.rank > 0, Node.rank > 0):
            async with reading(shapes) as read:
                some = read.rows(Node).with_options(with_loader_criteria(Node, criterion)).order_by(Node.id)
                found = await some.into(Out).all()
                assert [each.name for each in found] == ["a", "b", "aa", "ab", "ac"]
                assert [each.parent for each in found][:3] == [None, None, Named(name="a")]
        async with reading(shapes) as read:
            ones = with_loader_criteria(Node, lambda cls: cls.rank < 2)
            root, a = (await read.rows(Node).with_options(ones).order_by(Node.id).into(Out).all())[:2]

            assert [each.name for each in a.children] == [each.name for each in a.few] == ["aa", "ab"]
            assert (root.friends, root.count, root.below) == (["b", "aa", "ab"], 3, 2)

    async def test_objects_agree(self, shapes: World) -> None:
        """A joined row that a criterion hides is hidden in the model and in the object."""

        class Out(Schema):
            id: int
            town: Named | None
            land: Annotated[str | None, From("town.land.name")]

        hidden = with_loader_criteria(Town, Town.size > 100)
        async with reading(shapes) as read:
            rows = read.rows(Address).with_options(hidden).order_by(Address.id)
            entities = await rows.with_options(joinedload(Address.town)).all()
            found = await rows.into(Out).all()

            assert [each.town for each in found] == [each.town for each in entities] == [None, None]
            assert [each.land for each in found] == [None, None]
