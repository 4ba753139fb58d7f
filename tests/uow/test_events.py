"""C8, C17 to C19: what entities record is heard once if it was committed, and never if it was not."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from colours import TWINS, awaitable
from conftest import World
from servers import DRIVERS
from sqlalchemy import ForeignKey, Identity, String, event, insert, inspect, select
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    Session,
    make_transient,
    mapped_column,
    relationship,
    selectinload,
)

from fastkit.errors import (
    CommitUnknownError,
    ConnectionLostError,
    DeclarationError,
    EventLoopError,
    OutsideBlockError,
    TransactionDoomedError,
    UncommittedChangesError,
    UniqueError,
)
from fastkit.events import EventHandlers, RecordsEvents, recorded
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncSavepoint, AsyncUnitOfWork, Savepoint, Status, UnitOfWork
from fastkit.uow._announcements import GENERATIONS

pytestmark = pytest.mark.anyio
TWINS.setdefault(Savepoint, AsyncSavepoint)


def on(**wanted: object) -> pytest.MarkDecorator:
    """Run a test on some drivers only: what no other could change."""
    some = [each for each in DRIVERS if all(getattr(each, name) == value for name, value in wanted.items())]
    return pytest.mark.parametrize("driver", some, ids=lambda each: each.id, indirect=True)


on_sqlite = on(server="SQLite")
on_sync_sqlite = on(server="SQLite", is_async=False)
on_async = on(is_async=True)


@dataclass(frozen=True)
class Happened:
    """Something happened."""

    what: str


@dataclass(frozen=True)
class Special(Happened):
    """Something special happened."""


@dataclass(frozen=True)
class Unheard:
    """Nobody handles it."""


class EventBase(DeclarativeBase):
    """The declarative base of what is recorded here."""


class Order(RecordsEvents, EventBase):
    """An entity with children."""

    __tablename__ = "ev_order"

    id: Mapped[int] = mapped_column(Identity(start=1000), primary_key=True)  # below, the tests give keys by hand
    name: Mapped[str] = mapped_column(String(50), unique=True)
    lines: Mapped[list[Line]] = relationship(back_populates="order", lazy="raise", cascade="all, delete-orphan")


class Line(RecordsEvents, EventBase):
    """A child."""

    __tablename__ = "ev_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("ev_order.id"))
    order: Mapped[Order] = relationship(back_populates="lines", lazy="raise")


class Recording(RecordsEvents):
    """A mixin with a column."""

    name: Mapped[str] = mapped_column(String(50))


class Parcel(EventBase, Recording):
    """A base with joined subclasses, and the mixin at the end."""

    __tablename__ = "ev_parcel"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "plain"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(10))


class Express(Parcel):
    """A joined subclass."""

    __tablename__ = "ev_express"
    __mapper_args__ = {"polymorphic_identity": "express"}  # noqa: RUF012

    id: Mapped[int] = mapped_column(ForeignKey("ev_parcel.id"), primary_key=True)
    hours: Mapped[int]


class DataclassBase(MappedAsDataclass, DeclarativeBase):
    """The declarative base of dataclasses."""

    metadata = EventBase.metadata


class Note(RecordsEvents, DataclassBase):
    """An entity that is a dataclass, and cannot be hashed."""

    __tablename__ = "ev_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), default="note")


def sync_unit(handlers: EventHandlers | None) -> Any:
    """Return a sync unit class with these handlers."""

    class Shop(UnitOfWork, events=handlers):
        orders: Repository[Order]
        lines: Repository[Line]
        parcels: Repository[Parcel]
        notes: Repository[Note]

    return Shop


def async_unit(handlers: EventHandlers | None) -> Any:
    """Return an async unit class with these handlers."""

    class Shop(AsyncUnitOfWork, events=handlers):
        orders: AsyncRepository[Order]
        lines: AsyncRepository[Line]
        parcels: AsyncRepository[Parcel]
        notes: AsyncRepository[Note]

    return Shop


class Scene:
    """
    A world whose unit has handlers.

    Attributes:
        world: The world.
        before: What was told before a commit.
        told: What was told after a commit.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.handlers = EventHandlers()
        self.before: list[str] = []
        self.told: list[str] = []
        self.handlers.before_commit(Happened)(lambda event, shop: self.before.append(event.what))
        self.handlers.after_commit(Happened)(lambda event: self.told.append(event.what))
        self.use(self.handlers)

    def use(self, handlers: EventHandlers | None) -> None:
        """Make units with these handlers from now on."""
        self.world.unit = (async_unit if self.world.driver.is_async else sync_unit)(handlers)

    def handling(self, *handlers: Callable[..., Any]) -> EventHandlers:
        """Make units from now on with these functions of (event, unit), async as written, before each commit."""
        made = EventHandlers()
        for handler in handlers:
            made.before_commit(Happened)(self.in_colour(handler))
        made.after_commit(Happened)(lambda event: self.told.append(event.what))
        self.use(made)
        return made

    def in_colour(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return an async function as a unit of this colour takes it: a sync one gets a plain function."""
        if self.world.driver.is_async:
            return function

        def plain(*arguments: Any) -> Any:
            try:
                function(*map(awaitable, arguments)).send(None)
            except StopIteration as end:
                return end.value
            raise AssertionError("a sync body waits for nobody")

        return plain

    def shop(self) -> Any:
        """Return a unit of work made by hand."""
        return self.world.shop()

    def serving(self) -> Any:
        """Return the context of a unit that is owned as if by a request."""
        return self.world.serving()

    async def store(self, *entities: Any) -> None:
        """Store entities in a unit of its own."""
        async with self.shop().begin() as shop:
            shop.session.add_all(entities)

    async def names(self) -> list[str]:
        """Return the names of all stored orders, as another session sees them."""
        async with self.shop() as shop:
            return [order.name for order in await shop.orders.order_by(Order.name).all()]


@pytest.fixture
async def scene(world: World) -> AsyncIterator[Scene]:
    """Return a database with empty tables of the entities of this module, which are dropped at the end."""
    await world.database.create_all(EventBase.metadata)
    yield Scene(world)
    if world.driver.is_async:
        async with world.naked.engine.begin() as connection:
            await connection.run_sync(EventBase.metadata.drop_all)
    else:
        EventBase.metadata.drop_all(world.naked.engine)


# -- never lost


async def added(shop: Any) -> None:
    shop.orders.add(Order(name="a")).record(Happened("it"))


async def recorded_before_add(shop: Any) -> None:
    order = Order(name="a")
    order.record(Happened("it"))
    shop.orders.add(order)


async def recorded_before_and_after_add(shop: Any) -> None:
    order = Order(name="a")
    order.record(Happened("first"))
    shop.orders.add_all([order])
    order.record(Happened("it"))


async def added_and_collected(shop: Any) -> None:
    order = Order(name="a")
    order.record(Happened("first"))
    shop.orders.add(order)
    order.record(Happened("second"))
    await shop.session.flush()
    order.record(Happened("it"))
    gone = weakref.ref(order)
    del order
    gc.collect()
    assert gone() is None


async def loaded_and_collected(shop: Any) -> None:
    (await shop.orders.get_one(1)).record(Happened("it"))
    gc.collect()
    assert len(shop.session.identity_map) == 0


async def changed(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    order.name = "changed"
    order.record(Happened("it"))


async def changed_and_flushed(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    order.name = "changed"
    await shop.session.flush()
    order.record(Happened("it"))


async def deleted(shop: Any) -> None:
    order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
    order.record(Happened("first"))
    await shop.orders.delete(order)
    order.record(Happened("it"))


async def deleted_and_flushed(shop: Any) -> None:
    order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
    await shop.orders.delete(order)
    await shop.session.flush()
    order.record(Happened("it"))


async def deleted_detached(shop: Any) -> None:
    order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
    shop.session.expunge(order)
    order.record(Happened("it"))
    await shop.session.delete(order)


async def loaded_by_a_query(shop: Any) -> None:
    (await shop.session.scalars(select(Order).where(Order.id == 1))).one().record(Happened("it"))


async def loaded_with_its_parent(shop: Any) -> None:
    order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
    order.lines[0].record(Happened("it"))


async def loaded_by_a_returning_insert(shop: Any) -> None:
    found = await shop.session.scalars(insert(Parcel).returning(Parcel), [{"name": "a", "kind": "plain"}])
    found.one().record(Happened("it"))


async def refreshed(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    await shop.session.refresh(order)
    order.record(Happened("it"))


async def expunged(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    order.record(Happened("it"))
    shop.session.expunge(order)


async def expunged_and_added(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    shop.session.expunge(order)
    order.record(Happened("it"))
    shop.session.add(order)


async def made_transient(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    order.record(Happened("first"))
    make_transient(order)
    order.record(Happened("it"))
    order.id, order.name = None, "again"
    shop.orders.add(order)


async def merged_new(shop: Any) -> None:
    order = Order(id=7, name="a")
    order.record(Happened("it"))
    await shop.session.merge(order)


async def merged_result(shop: Any) -> None:
    (await shop.session.merge(Order(id=7, name="a"))).record(Happened("it"))


async def merged_into_stored(shop: Any) -> None:
    order = Order(id=1, name="a")
    order.record(Happened("first"))
    (await shop.session.merge(order)).record(Happened("it"))


async def merged_into_loaded(shop: Any) -> None:
    await shop.orders.get_one(1)
    order = Order(id=1, name="a")
    order.record(Happened("it"))
    await shop.session.merge(order)


async def merged_without_load(shop: Any) -> None:
    order = await shop.orders.get_one(1)
    shop.session.expunge(order)
    order.record(Happened("first"))
    (await shop.session.merge(order, load=False)).record(Happened("it"))


async def merged_with_its_parent(shop: Any) -> None:
    order, line = Order(id=7, name="a"), Line(id=7)
    order.lines.append(line)
    line.record(Happened("it"))
    await shop.session.merge(order)


async def merged_with_others(shop: Any) -> None:
    order = Order(id=7, name="a")
    order.record(Happened("it"))
    await shop.session.merge_all([order])


async def cascaded(shop: Any) -> None:
    order, line = Order(name="a"), Line()
    order.lines.append(line)
    line.record(Happened("first"))
    shop.orders.add(order)
    line.record(Happened("it"))


async def cascaded_later(shop: Any) -> None:
    order, line = Order(name="a"), Line()
    shop.orders.add(order)
    line.record(Happened("first"))
    order.lines.append(line)
    line.record(Happened("it"))


async def cascaded_to_its_parent(shop: Any) -> None:
    order, line = Order(name="a"), Line()
    order.record(Happened("first"))
    line.order = order
    shop.lines.add(line)
    order.record(Happened("it"))


async def orphaned(shop: Any) -> None:
    order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
    line = order.lines.pop()
    await shop.session.flush()
    line.record(Happened("it"))


async def flushed_by_a_nested_commit(shop: Any) -> None:
    async with shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Happened("first"))
        await shop.commit()
    order.record(Happened("it"))


async def kept_in_a_savepoint(shop: Any) -> None:
    async with shop.savepoint():
        order = shop.orders.add(Order(name="a"))
        order.record(Happened("first"))
    order.record(Happened("it"))


async def of_a_subclass(shop: Any) -> None:
    parcel = shop.parcels.add(Express(name="a", hours=1))
    parcel.record(Happened("first"))
    await shop.session.flush()
    shop.session.expunge(parcel)
    (await shop.parcels.get_one(parcel.id)).record(Happened("it"))


async def of_a_dataclass(shop: Any) -> None:
    note = Note(id=1)
    note.record(Happened("first"))
    shop.notes.add(note)
    await shop.session.flush()
    shop.session.expunge(note)
    (await shop.notes.get_one(1)).record(Happened("it"))


WAYS = [
    added,
    recorded_before_add,
    recorded_before_and_after_add,
    added_and_collected,
    loaded_and_collected,
    changed,
    changed_and_flushed,
    deleted,
    deleted_and_flushed,
    deleted_detached,
    loaded_by_a_query,
    loaded_with_its_parent,
    loaded_by_a_returning_insert,
    refreshed,
    expunged,
    expunged_and_added,
    made_transient,
    merged_new,
    merged_result,
    merged_into_stored,
    merged_into_loaded,
    merged_without_load,
    merged_with_its_parent,
    merged_with_others,
    cascaded,
    cascaded_later,
    cascaded_to_its_parent,
    orphaned,
    flushed_by_a_nested_commit,
    kept_in_a_savepoint,
    of_a_subclass,
    of_a_dataclass,
]
SEVERAL = {
    recorded_before_and_after_add: ["first", "it"],
    added_and_collected: ["first", "second", "it"],
    deleted: ["first", "it"],
    made_transient: ["first", "it"],
    merged_into_stored: ["first", "it"],
    merged_without_load: ["first", "it"],
    cascaded: ["first", "it"],
    cascaded_later: ["first", "it"],
    cascaded_to_its_parent: ["first", "it"],
    flushed_by_a_nested_commit: ["first", "it"],
    kept_in_a_savepoint: ["first", "it"],
    of_a_subclass: ["first", "it"],
    of_a_dataclass: ["first", "it"],
}


@pytest.mark.parametrize("way", WAYS)
async def test_c19_no_event_is_lost(scene: Scene, way: Callable[..., Any]) -> None:
    """Whatever way an entity goes, what it recorded is told once, in order, before and after the commit."""
    await scene.store(Order(id=1, name="stored", lines=[Line()]))
    async with scene.shop() as shop:
        await way(shop)
        await shop.commit()

        expected = SEVERAL.get(way, ["it"])
        assert (scene.before, scene.told) == (expected, expected)
    assert (scene.before, scene.told) == (expected, expected)


async def test_c19_begin_tells_too(scene: Scene) -> None:
    """The commit at the exit of begin() tells events as commit() does."""
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))
        assert scene.before == []

    assert (scene.before, scene.told) == (["it"], ["it"])


async def test_c19_what_a_flush_records_is_told(scene: Scene) -> None:
    """An event that a listener records during the flush of the commit is told, also if it is the only one."""

    def stamp(mapper: Any, connection: Any, order: Order) -> None:
        order.record(Happened("inserted"))

    event.listen(Order, "before_insert", stamp)
    try:
        async with scene.shop().begin() as shop:
            shop.orders.add(Order(name="a"))
        async with scene.shop() as shop:
            shop.orders.add(Order(name="b"))
            await shop.commit()
    finally:
        event.remove(Order, "before_insert", stamp)

    assert (scene.before, scene.told) == (["inserted", "inserted"], ["inserted", "inserted"])


async def test_c19_an_object_loaded_outside_a_block_records_inside(scene: Scene) -> None:
    """What is read outside a block records into the next one, and into the one after that."""
    await scene.store(Order(id=1, name="a"))
    async with scene.serving() as shop:
        order = await shop.orders.get_one(1)
        for what in ("first", "second"):
            async with shop.begin():
                order.record(Happened(what))
            assert scene.told[-1] == what

    assert scene.told == ["first", "second"]


@pytest.mark.parametrize("how", ["add", "merge"])
async def test_c19_an_object_of_an_earlier_unit_records_into_the_later_one(scene: Scene, how: str) -> None:
    """A detached object keeps what it records, and the unit that it comes to takes it over."""
    await scene.store(Order(id=1, name="a"))
    async with scene.shop() as first:
        order = await first.orders.get_one(1)
    order.record(Happened("between"))
    assert recorded(order) == (Happened("between"),)

    async with scene.shop().begin() as second:
        here = await second.session.merge(order) if how == "merge" else second.orders.add(order)
        here.record(Happened("second"))

    assert scene.told == ["between", "second"]
    assert recorded(order) == ()


async def test_c19_an_object_that_was_merged_elsewhere_records_where_it_is(scene: Scene) -> None:
    """Merging an object of an open unit into another one does not take it away from the first."""
    await scene.store(Order(id=1, name="a"))
    async with scene.serving() as first:
        order = await first.orders.get_one(1)
        async with scene.shop() as second:
            await second.session.merge(order)
            await second.rollback()
        async with first.begin():
            order.record(Happened("in the first"))

    assert scene.told == ["in the first"]


async def test_c19_an_object_moves_from_one_open_unit_to_another(scene: Scene) -> None:
    """What was recorded in a unit is told by that unit, what is recorded after the move by the next."""
    await scene.store(Order(id=1, name="a"))
    async with scene.shop() as first:
        order = await first.orders.get_one(1)
        order.record(Happened("first"))
        first.session.expunge(order)
        async with scene.shop().begin() as second:
            second.session.add(order)
            order.record(Happened("second"))
        assert scene.told == ["second"]
        await first.commit()

    assert scene.told == ["second", "first"]


async def test_c19_an_object_that_could_not_be_added_keeps_its_events(scene: Scene) -> None:
    """An add that SQLAlchemy refuses takes nothing over: the events of a stranger are not told."""
    await scene.store(Order(id=1, name="a"))
    async with scene.shop() as earlier:
        stranger = await earlier.orders.get_one(1)
    stranger.record(Happened("its own"))
    async with scene.shop() as shop:
        order = await shop.orders.get_one(1)
        with pytest.raises(InvalidRequestError, match="already present"):
            shop.session.add(stranger)
        order.record(Happened("it"))
        await shop.commit()

    assert scene.told == ["it"]
    assert recorded(stranger) == (Happened("its own"),)


@on_sqlite
async def test_c19_a_unit_keeps_no_recording_object_alive(scene: Scene) -> None:
    """Events outlive their entities, and do not hold them."""
    async with scene.shop() as shop:
        for number in range(50):
            order = Order(name=str(number))
            order.record(Happened(f"before {number}"))
            shop.orders.add(order)
            order.record(Happened(f"after {number}"))
        gone = weakref.ref(order)
        del order
        await shop.session.flush()
        gc.collect()

        assert gone() is None
        assert len(shop.session.identity_map) == 0
        await shop.commit()
    assert scene.told == [f"{when} {number}" for number in range(50) for when in ("before", "after")]


@on_sync_sqlite
async def test_c19_ten_thousand_blocks_leave_nothing_behind(scene: Scene) -> None:
    """Blocks with events, hooks, savepoints and rollbacks leave no memory behind, in the unit or in the handlers."""
    await scene.store(Order(id=1, name="a"))
    scene.told = _Forgetful()
    scene.before = _Forgetful()

    def work(blocks: int) -> None:
        with scene.world.unit.serving(scene.world.naked) as shop:
            order = shop.orders.get_one(1)
            for number in range(blocks):
                with shop:
                    order.record(Happened("it"))
                    shop.after_commit(int)
                    brought = Order(name="b")
                    brought.record(Happened("brought"))
                    shop.orders.add(brought)
                    order.record(Happened("too"))
                    shop.session.expunge(brought)
                    (shop.commit if number % 3 else shop.rollback)()
                    if not number % 3:
                        order = shop.orders.get_one(1)

    work(200)
    gc.collect()
    objects = len(gc.get_objects())
    tracemalloc.start()
    work(10)
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    work(10_000)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert after - before < 100_000
    assert len(gc.get_objects()) - objects < 1_000


class _Forgetful(list[str]):
    def append(self, what: str) -> None:
        """Forget it."""


# -- an entity stays what it is


@on_sync_sqlite
async def test_c19_recording_changes_nothing_that_can_be_seen(scene: Scene) -> None:
    """eq, repr and hash of an entity are what they were, with a recorder of its own or of a unit."""
    note, twin = Note(id=1), Note(id=1)
    order = Order(name="a")
    keys, number = {order}, hash(order)
    for each in (note, order):
        each.record(Happened("own"))
    assert (note, repr(note)) == (twin, repr(twin))

    await scene.store(note, order)

    assert (note, repr(note)) == (twin, repr(twin))
    assert order in keys
    assert hash(order) == number
    assert set(inspect(Order).attrs.keys()) == {"id", "name", "lines"}


@on_sync_sqlite
@pytest.mark.parametrize("make", [lambda: Order(id=1, name="a"), lambda: Note(id=1, name="a")], ids=["plain", "dc"])
@pytest.mark.parametrize("stored", [False, True], ids=["own", "units"])
@pytest.mark.parametrize("clone", [lambda it: pickle.loads(pickle.dumps(it)), copy.copy, copy.deepcopy])
async def test_c19_a_copy_does_not_share_the_recorder(scene: Scene, clone, stored: bool, make) -> None:
    """A pickled or copied entity has its values and none of its events; it records for itself."""
    original = make()
    original.record(Happened("original"))
    if stored:
        with scene.world.unit(scene.world.naked).begin() as shop:
            shop.session.add(original)
            other = clone(original)
    else:
        other = clone(original)
    assert (other.id, other.name) == (1, "a")
    assert recorded(other) == ()
    other.record(Happened("copy"))

    assert recorded(other) == (Happened("copy"),)
    assert recorded(original) == (() if stored else (Happened("original"),))
    assert scene.told == (["original"] if stored else [])


@on_sync_sqlite
async def test_c19_a_copy_of_an_object_in_a_unit_does_not_record_into_it(scene: Scene) -> None:
    """An unpickled entity is in no unit: what it records is its own until it is added or merged."""
    await scene.store(Order(id=1, name="a"))
    with scene.world.unit(scene.world.naked) as shop:
        other = pickle.loads(pickle.dumps(shop.orders.get_one(1)))
        other.record(Happened("copy"))
        assert list(shop.session.events) == []
        shop.session.merge(other)
        shop.commit()

    assert scene.told == ["copy"]


def test_recorded_needs_no_unit() -> None:
    """A pure domain is tested without a database, and reading what was recorded takes nothing away."""
    order = Order(name="a")
    assert recorded(order) == ()

    order.record(Happened("first"))
    order.record(Unheard())

    assert recorded(order) == (Happened("first"), Unheard())
    assert recorded(order) == (Happened("first"), Unheard())
    assert recorded(Order(name="b")) == ()


@on_sync_sqlite
async def test_a_plain_session_leaves_the_events_alone(scene: Scene) -> None:
    """A session that no unit watches over takes nothing and tells nothing."""
    with Session(scene.world.naked.engine) as session:
        order = Order(name="a")
        order.record(Unheard())
        session.add(order)
        session.commit()
        order.record(Happened("later"))

        assert recorded(order) == (Unheard(), Happened("later"))
    assert scene.told == []


# -- rolled back


async def fail_in_the_body(shop: Any) -> None:
    raise ValueError("mine")


async def roll_back(shop: Any) -> None:
    await shop.rollback()


async def fail_to_commit(shop: Any) -> None:
    shop.orders.add(Order(name="stored"))
    await shop.commit()


async def fail_to_flush(shop: Any) -> None:
    shop.orders.add(Order(name="stored"))
    await shop.session.flush()


async def flush_and_fail(shop: Any) -> None:
    await shop.session.flush()
    raise ValueError("mine")


ENDS = [fail_in_the_body, roll_back, fail_to_commit, fail_to_flush, flush_and_fail]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("how", ["add", "merge", "cascade"])
async def test_c18_events_of_a_rolled_back_block_are_not_told(scene: Scene, end, how: str) -> None:
    """Nothing is told; what was recorded before the add goes back, and is told once by the next block that commits."""
    await scene.store(Order(id=1, name="stored"))
    order, line = Order(id=7, name="a"), Line(id=7)
    order.lines.append(line)
    order.record(Happened("brought"))
    line.record(Happened("brought by its line"))
    order.record(Happened("brought too"))

    async def work(shop: Any) -> None:
        if how == "merge":
            (await shop.session.merge(order)).record(Happened("inside"))
            return
        shop.session.add(order if how == "add" else line)
        order.record(Happened("inside"))

    failed = scene.shop()
    try:
        async with failed as shop:
            await work(shop)
            await end(shop)
    except (ValueError, UniqueError):
        pass
    assert failed.outcome.status is Status.ROLLED_BACK
    if end is not fail_to_commit:
        assert scene.before == []
    assert scene.told == []
    assert recorded(order) == (Happened("brought"), Happened("brought too"))
    assert recorded(line) == (Happened("brought by its line"),)

    scene.before.clear()
    for _ in range(2):
        async with scene.shop().begin() as shop:
            shop.session.add(order)

        assert sorted(scene.told) == ["brought", "brought by its line", "brought too"]
    assert scene.before == scene.told
    assert scene.told.index("brought") < scene.told.index("brought too")


async def test_c8_events_of_a_rolled_back_savepoint_are_not_told(scene: Scene) -> None:
    """Only what was recorded inside is dropped; what came before and after is told."""
    async with scene.shop() as shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Happened("before"))
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                order.record(Happened("inside"))
                async with shop.savepoint():
                    shop.orders.add(Order(name="b")).record(Happened("kept inside"))
                raise ValueError("mine")
        order.record(Happened("after"))
        await shop.commit()

    assert (scene.before, scene.told) == (["before", "after"], ["before", "after"])


async def test_c8_what_came_with_a_rolled_back_savepoint_goes_back(scene: Scene) -> None:
    """An entity that was added in it has its own events again, and tells them when it is added again, once."""
    order = Order(name="a")
    order.record(Happened("brought"))
    async with scene.shop() as shop:
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                shop.orders.add(order)
                order.record(Happened("inside"))
                raise ValueError("mine")
        assert recorded(order) == (Happened("brought"),)
        shop.orders.add(order)
        assert recorded(order) == ()
        await shop.commit()

    assert scene.told == ["brought"]


async def test_c8_what_came_with_a_savepoint_that_could_not_be_flushed_goes_back(scene: Scene) -> None:
    """The same if the savepoint failed at its flush."""
    await scene.store(Order(id=1, name="stored"))
    order = Order(name="stored")
    order.record(Happened("brought"))
    async with scene.shop() as shop:
        with pytest.raises(UniqueError):
            async with shop.savepoint():
                shop.orders.add(order)
        order.name = "another"
        shop.orders.add(order).record(Happened("again"))
        await shop.commit()

    assert scene.told == ["brought", "again"]
    assert await scene.names() == ["another", "stored"]


async def test_c8_what_a_savepoint_leaves_in_the_unit_goes_on_recording(scene: Scene) -> None:
    """A stored object that was added in a savepoint stays in the unit after its rollback, and so do its events."""
    await scene.store(Order(id=1, name="a"))
    async with scene.shop() as earlier:
        order = await earlier.orders.get_one(1)
    order.record(Happened("brought"))
    async with scene.shop() as shop:
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                shop.session.add(order)
                order.record(Happened("inside"))
                raise ValueError("mine")
        assert inspect(order).persistent
        order.record(Happened("after"))
        await shop.commit()

    assert scene.told == ["brought", "after"]


def lost_after(commit: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a COMMIT whose answer is lost."""

    def lose(connection: Any) -> None:
        commit(connection)
        raise ConnectionLostError("gone")

    return lose


async def test_c13_events_of_an_unknown_commit_are_told_to_nobody(scene: Scene, monkeypatch) -> None:
    """Handlers after the commit do not run and are told as such; nothing goes back, because it may be stored."""
    order = Order(name="a")
    order.record(Happened("it"))
    dialect = scene.world.sync_engine.dialect
    monkeypatch.setattr(dialect, "do_commit", lost_after(dialect.do_commit))
    shop = scene.shop()
    with pytest.raises(CommitUnknownError):
        async with shop.begin():
            shop.orders.add(order)
    monkeypatch.undo()

    assert scene.told == []
    assert len(shop.outcome.hook_errors) == 1
    assert recorded(order) == ()


# -- without a commit, without a block


@on_sqlite
async def test_c2_an_event_without_a_commit_is_told(scene: Scene) -> None:
    """Leaving a block with an event that nobody will hear of raises and names it, also if nothing else was done."""
    await scene.store(Order(id=1, name="a"))
    with pytest.raises(UncommittedChangesError, match="2 x Happened, 1 x Special"):
        async with scene.shop() as shop:
            order = await shop.orders.get_one(1)
            for happened in (Happened("a"), Happened("b"), Special("c")):
                order.record(happened)

    assert (scene.before, scene.told) == ([], [])


@on_sqlite
async def test_c2_an_event_may_be_dropped_on_purpose(scene: Scene) -> None:
    """rollback() says that it is meant."""
    await scene.store(Order(id=1, name="a"))
    async with scene.shop() as shop:
        (await shop.orders.get_one(1)).record(Happened("a"))
        await shop.rollback()

    assert (scene.before, scene.told) == ([], [])


@on_sqlite
async def test_c5_an_event_recorded_outside_a_block_is_told_when_one_opens(scene: Scene) -> None:
    """It cannot slip into the next block."""
    await scene.store(Order(id=1, name="a"))
    with pytest.raises(UncommittedChangesError, match="while no block was open: 1 x Happened"):
        async with scene.serving() as shop:
            (await shop.orders.get_one(1)).record(Happened("a"))
            async with shop:
                pass

    assert (scene.before, scene.told) == ([], [])


@on_sqlite
async def test_c5_an_event_recorded_outside_a_block_is_told_when_the_owner_ends(scene: Scene) -> None:
    """It is not lost in silence when the request ends; an exception goes before."""
    await scene.store(Order(id=1, name="a"))
    with pytest.raises(UncommittedChangesError, match="1 x Happened"):
        async with scene.serving() as shop:
            (await shop.orders.get_one(1)).record(Happened("a"))
    with pytest.raises(ZeroDivisionError):
        async with scene.serving() as shop:
            (await shop.orders.get_one(1)).record(Happened("a"))
            raise ZeroDivisionError

    assert (scene.before, scene.told) == ([], [])


@on_sqlite
@pytest.mark.parametrize("served", [False, True], ids=["by hand", "served"])
async def test_c5_an_event_recorded_after_the_commit_is_told(scene: Scene, served: bool) -> None:
    """Between commit() and the end of the `with` no block is open any more."""
    await scene.store(Order(id=1, name="a"))
    with pytest.raises(UncommittedChangesError, match="1 x Happened"):
        async with scene.serving() if served else scene.shop() as shop:
            async with shop if served else scene.serving():
                order = await shop.orders.get_one(1)
                await shop.commit()
                order.record(Happened("a"))

    assert (scene.before, scene.told) == ([], [])


@on_sqlite
async def test_c5_an_event_recorded_by_a_hook_is_told(scene: Scene) -> None:
    """A hook that lets an entity of the unit record does so outside a block."""
    with pytest.raises(UncommittedChangesError, match="1 x Happened"):
        async with scene.shop() as shop:
            order = shop.orders.add(Order(name="a"))
            shop.after_commit(lambda: order.record(Happened("late")))
            await shop.commit()

    assert (scene.before, scene.told) == ([], [])
    assert await scene.names() == ["a"]


# -- nobody listens


@on_sqlite
async def test_c19_an_event_without_a_handler_is_refused(scene: Scene) -> None:
    """In a unit it is refused where it is recorded; before that, where its entity is added."""
    async with scene.shop() as shop:
        order = shop.orders.add(Order(name="a"))
        with pytest.raises(DeclarationError, match="Nobody handles Unheard"):
            order.record(Unheard())
        stranger = Order(name="b")
        stranger.record(Happened("its own"))
        stranger.record(Unheard())
        with pytest.raises(DeclarationError, match="Nobody handles Unheard"):
            shop.orders.add(stranger)
        assert inspect(stranger).transient
        await shop.commit()

    assert recorded(stranger) == (Happened("its own"), Unheard())
    assert scene.told == []
    assert await scene.names() == ["a"]


@on_sqlite
async def test_c19_a_unit_without_handlers_refuses_events(scene: Scene) -> None:
    """In a unit whose class names no handlers an event is refused too, recorded inside or brought."""
    scene.use(None)
    async with scene.shop() as shop:
        order = shop.orders.add(Order(name="a"))
        with pytest.raises(DeclarationError, match="without handlers"):
            order.record(Happened("a"))
        brought = Order(name="b")
        brought.record(Happened("b"))
        with pytest.raises(DeclarationError, match="without handlers"):
            shop.orders.add(brought)
        with pytest.raises(DeclarationError, match="without handlers"):
            await shop.session.merge(brought)
        await shop.rollback()


@on_sqlite
async def test_c19_a_class_is_no_event(scene: Scene) -> None:
    """Recording the class where its instance was meant is refused."""
    async with scene.shop() as shop:
        with pytest.raises(DeclarationError, match="Nobody handles type"):
            shop.orders.add(Order(name="a")).record(Happened)
        await shop.rollback()


@on_sqlite
async def test_c19_an_ignored_event_is_no_error(scene: Scene) -> None:
    """ignore() says that nothing is to be done, also about subclasses; it still needs a commit."""

    @dataclass(frozen=True)
    class Boring(Unheard): ...

    scene.handlers.ignore(Unheard)
    async with scene.shop().begin() as shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Unheard())
        order.record(Boring())

    with pytest.raises(UncommittedChangesError, match="1 x Unheard"):
        async with scene.shop() as shop:
            (await shop.orders.one()).record(Unheard())


# -- before the commit


async def test_c19_a_handler_runs_inside_the_transaction(scene: Scene) -> None:
    """Before COMMIT a handler reads what the block wrote, and what it writes is stored with it or not at all."""
    seen = []

    async def note(happened: Happened, shop: Any) -> None:
        seen.append((await shop.orders.count(), scene.world.checked_out, shop.outcome.status))
        shop.notes.add(Note(id=1, name=happened.what))

    scene.handling(note)
    async with scene.shop() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))
        await shop.commit()

    assert seen == [(1, 1, Status.ACTIVE)]
    async with scene.shop() as shop:
        assert (await shop.notes.one()).name == "it"


async def test_c19_further_events_are_told_too(scene: Scene) -> None:
    """What handlers record, on old and on new entities, is dispatched until nothing is left, in order."""

    async def answer(happened: Happened, shop: Any) -> None:
        scene.before.append(happened.what)
        if happened.what == "first":
            (await shop.orders.one()).record(Happened("second"))
            note = Note(id=1)
            note.record(Happened("third"))
            shop.notes.add(note)
        elif happened.what == "third":
            (await shop.notes.one()).record(Happened("fourth"))

    scene.handling(answer)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("first"))

    assert scene.before == scene.told == ["first", "second", "third", "fourth"]


@on_sqlite
@pytest.mark.parametrize("ends", ["commit", "begin"])
async def test_c19_handlers_may_not_answer_each_other_for_ever(scene: Scene, ends: str) -> None:
    """As many generations as are allowed are told; one more raises EventLoopError, and everything rolls back."""
    limit = GENERATIONS

    async def answer(happened: Happened, shop: Any) -> None:
        scene.before.append(happened.what)
        if int(happened.what) < limit:
            (await shop.orders.one()).record(Happened(str(int(happened.what) + 1)))

    async def start(shop: Any) -> None:
        shop.orders.add(Order(name=str(limit))).record(Happened("1"))

    async def run() -> None:
        if ends == "begin":
            async with scene.shop().begin() as shop:
                await start(shop)
        else:
            async with scene.shop() as shop:
                await start(shop)
                await shop.commit()

    scene.handling(answer)
    await run()
    assert scene.told == scene.before == [str(number) for number in range(1, limit + 1)]

    limit += 1
    scene.told.clear()
    async with scene.shop() as shop:
        await shop.orders.delete(await shop.orders.with_options(selectinload(Order.lines)).one())
        await shop.commit()
    with pytest.raises(EventLoopError, match="Happened"):
        await run()
    assert scene.told == []
    assert await scene.names() == []


@pytest.mark.parametrize("ends", ["commit", "begin"])
async def test_c19_a_failing_handler_rolls_everything_back(scene: Scene, ends: str) -> None:
    """Its error propagates, no later handler runs, nothing is stored or told, and what was brought goes back."""
    mine, seen, order = ValueError("mine"), [], Order(name="a")
    order.record(Happened("brought"))

    async def write(happened: Happened, shop: Any) -> None:
        shop.notes.add(Note(id=1))
        await shop.session.flush()

    async def fail(happened: Happened, shop: Any) -> None:
        raise mine

    async def never(happened: Happened, shop: Any) -> None:
        seen.append("never")

    scene.handling(write, fail, never)
    unit = scene.shop()
    with pytest.raises(ValueError, match="mine") as caught:
        async with unit.begin() if ends == "begin" else unit as shop:
            shop.orders.add(order)
            shop.after_commit(lambda: seen.append("never"))
            if ends == "commit":
                await shop.commit()

    assert caught.value is mine
    assert (seen, scene.told) == ([], [])
    assert unit.outcome.status is Status.ROLLED_BACK
    assert unit.outcome.hook_errors == ()
    assert scene.world.checked_out == 0
    assert recorded(order) == (Happened("brought"),)
    assert await scene.names() == []
    async with scene.shop() as shop:
        assert await shop.notes.count() == 0


async def test_c10_a_swallowed_failure_of_a_handler_cannot_be_committed(scene: Scene) -> None:
    """Who catches the error of commit() and commits again is told what was swallowed."""

    async def fail(happened: Happened, shop: Any) -> None:
        raise ValueError("mine")

    scene.handling(fail)
    with pytest.raises(UncommittedChangesError) as caught:
        async with scene.shop() as shop:
            shop.orders.add(Order(name="a")).record(Happened("it"))
            with pytest.raises(ValueError, match="mine"):
                await shop.commit()
            with pytest.raises(TransactionDoomedError, match="ValueError"):
                await shop.commit()

    assert "mine" in str(caught.value.__cause__)
    assert await scene.names() == []


async def test_c10_a_handler_cannot_swallow_an_error_of_the_database(scene: Scene) -> None:
    """A constraint error that a handler catches outside a savepoint dooms the commit; inside one it does not."""
    await scene.store(Order(id=1, name="stored"))

    async def careful(happened: Happened, shop: Any) -> None:
        with pytest.raises(UniqueError):
            async with shop.savepoint():
                shop.orders.add(Order(name="stored"))

    async def careless(happened: Happened, shop: Any) -> None:
        shop.orders.add(Order(name="stored"))
        with pytest.raises(UniqueError):
            await shop.session.flush()

    scene.handling(careful)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))
    scene.handling(careless)
    with pytest.raises(TransactionDoomedError, match="UniqueError"):
        async with scene.shop().begin() as shop:
            shop.orders.add(Order(name="b")).record(Happened("it"))

    assert scene.told == ["it"]
    assert await scene.names() == ["a", "stored"]


async def test_c6_a_commit_in_a_handler_only_flushes(scene: Scene) -> None:
    """commit(), a nested block and a nested begin() in a handler give keys, and store and tell nothing yet."""
    seen = []

    async def write(happened: Happened, shop: Any) -> None:
        order = shop.orders.add(Order(name="by hand"))
        await shop.commit()
        seen.append((order.id is not None, shop.outcome.status))
        async with shop.begin():
            shop.orders.add(Order(name="nested"))
        seen.append(shop.outcome.status)

    async def fail(happened: Happened, shop: Any) -> None:
        if happened.what == "fail":
            raise ValueError("mine")

    scene.handling(write, fail)
    with pytest.raises(ValueError, match="mine"):
        async with scene.shop().begin() as shop:
            shop.orders.add(Order(name="a")).record(Happened("fail"))
    assert seen == [(True, Status.ACTIVE), Status.ACTIVE]
    assert await scene.names() == []

    async with scene.shop() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))
        await shop.commit()
    assert await scene.names() == ["a", "by hand", "nested"]


@pytest.mark.parametrize("ends", ["commit", "begin"])
async def test_c7_a_rollback_in_a_handler_dooms(scene: Scene, ends: str) -> None:
    """A handler that calls rollback() makes the commit impossible, which says who did it."""

    async def undo(happened: Happened, shop: Any) -> None:
        await shop.rollback()

    scene.handling(undo)
    unit = scene.shop()
    with pytest.raises(TransactionDoomedError, match=r"rollback\(\)"):
        async with unit.begin() if ends == "begin" else unit as shop:
            shop.orders.add(Order(name="a")).record(Happened("it"))
            if ends == "commit":
                await shop.commit()

    assert unit.outcome.status is Status.ROLLED_BACK
    assert scene.told == []
    assert await scene.names() == []


async def test_c8_a_handler_may_open_a_savepoint(scene: Scene) -> None:
    """What a handler records and registers in a savepoint that it rolls back is dropped; the rest goes on."""
    seen = []

    async def attempt(happened: Happened, shop: Any) -> None:
        scene.before.append(happened.what)
        if happened.what != "first":
            return
        order = await shop.orders.one()
        order.record(Happened("second"))
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                order.record(Happened("dropped"))
                shop.after_commit(lambda: seen.append("dropped"))
                raise ValueError("mine")
        order.record(Happened("third"))
        shop.after_commit(lambda: seen.append("kept"))

    scene.handling(attempt)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("first"))

    assert scene.before == scene.told == ["first", "second", "third"]
    assert seen == ["kept"]


async def test_c6_only_the_outermost_commit_tells(scene: Scene) -> None:
    """A nested commit(), a nested begin() and a savepoint tell nothing."""
    async with scene.shop() as shop:
        order = shop.orders.add(Order(name="a"))
        async with shop:
            order.record(Happened("nested"))
            await shop.commit()
        async with shop.begin():
            order.record(Happened("begun"))
        async with shop.savepoint():
            order.record(Happened("saved"))
            await shop.commit()
        assert (scene.before, scene.told) == ([], [])
        await shop.commit()

    assert scene.before == scene.told == ["nested", "begun", "saved"]


@on_sqlite
async def test_c19_handlers_of_a_base_get_subclasses_too(scene: Scene) -> None:
    """An event is told to the handlers of its class and of its bases, each once; a base's event to its own only."""
    seen = []
    scene.handlers.before_commit(Special)(lambda happened, shop: seen.append(f"special {happened.what}"))
    async with scene.shop().begin() as shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Special("a"))
        order.record(Happened("b"))

    assert seen == ["special a"]
    assert scene.before == scene.told == ["a", "b"]


@on_async
async def test_c19_an_async_unit_takes_handlers_of_both_colours(scene: Scene) -> None:
    """Async handlers are awaited one after the other, before and after the commit; plain ones are called."""
    handlers, seen = EventHandlers(), []

    @handlers.before_commit(Happened)
    async def slow(happened: Happened, shop: Any) -> None:
        await asyncio.sleep(0.01)
        seen.append("slow before")

    @handlers.before_commit(Happened)
    def plain(happened: Happened, shop: Any) -> None:
        seen.append("plain before")

    @handlers.after_commit(Happened)
    async def slow_after(happened: Happened) -> None:
        await asyncio.sleep(0.01)
        seen.append("slow after")

    @handlers.after_commit(Happened)
    def plain_after(happened: Happened) -> None:
        seen.append("plain after")

    scene.use(handlers)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))

    assert seen == ["slow before", "plain before", "slow after", "plain after"]


@on_async
async def test_c23_a_cancellation_in_a_handler_rolls_back(scene: Scene) -> None:
    """Cancelled while a handler waits: nothing is stored, nothing told, and no connection is left out."""

    async def hang(happened: Happened, shop: Any) -> None:
        await shop.orders.count()
        await asyncio.sleep(60)

    async def work(unit: Any) -> None:
        async with unit.begin() as shop:
            shop.orders.add(Order(name="a")).record(Happened("it"))

    scene.handling(hang)
    unit = scene.shop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await work(unit)

    assert unit.outcome.status is Status.ROLLED_BACK
    assert scene.world.checked_out == 0
    assert scene.told == []
    assert await scene.names() == []


@on_sync_sqlite
async def test_c19_an_awaitable_that_nobody_awaits_is_no_handler(scene: Scene) -> None:
    """A plain function that turns out to be async fails in a sync unit, and everything rolls back."""

    async def write(happened: Happened, shop: Any) -> None:
        """Do nothing."""

    handlers = EventHandlers()
    handlers.before_commit(Happened)(lambda happened, shop: write(happened, shop))  # noqa: PLW0108 - hides it
    scene.use(handlers)
    with pytest.raises(DeclarationError, match="awaitable"):
        async with scene.shop().begin() as shop:
            shop.orders.add(Order(name="a")).record(Happened("it"))

    assert await scene.names() == []


@on_sqlite
async def test_c22_a_read_only_block_tells_events(scene: Scene) -> None:
    """Events need no write; a handler that writes is refused."""

    async def write(happened: Happened, shop: Any) -> None:
        if happened.what == "write":
            (await shop.orders.one()).name = "b"

    await scene.store(Order(id=1, name="a"))
    scene.handling(write)
    async with scene.shop().begin(read_only=True) as shop:
        (await shop.orders.one()).record(Happened("it"))
    assert scene.told == ["it"]
    with pytest.raises(Exception, match="read-only"):
        async with scene.shop().begin(read_only=True) as shop:
            (await shop.orders.one()).record(Happened("write"))

    assert scene.told == ["it"]
    assert await scene.names() == ["a"]


# -- after the commit


async def test_c17_handlers_after_the_commit_are_hooks(scene: Scene) -> None:
    """They run after the hooks that were registered before, when the rows are stored and no connection is out."""
    handlers, seen = EventHandlers(), []

    async def after(happened: Happened) -> None:
        seen.append((happened.what, await scene.names(), scene.world.checked_out))

    handlers.after_commit(Happened)(scene.in_colour(after))
    scene.use(handlers)
    async with scene.shop() as shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Happened("first"))
        shop.after_commit(lambda: seen.append("explicit"))
        order.record(Happened("second"))
        await shop.commit()

    assert seen == ["explicit", ("first", ["a"], 0), ("second", ["a"], 0)]
    assert shop.outcome.hook_errors == ()


@on_sqlite
async def test_c17_a_failing_handler_after_the_commit_changes_nothing(scene: Scene) -> None:
    """It is collected under its name; the others run, and the commit stands."""
    handlers = EventHandlers()

    @handlers.after_commit(Happened)
    def fail(happened: Happened) -> None:
        raise ValueError(happened.what)

    handlers.after_commit(Happened)(lambda happened: scene.told.append(happened.what))
    scene.use(handlers)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))

    assert scene.told == ["it"]
    (error,) = shop.outcome.hook_errors
    assert error.hook.endswith("fail of Happened")
    assert str(error.__cause__) == "it"
    assert shop.outcome.status is Status.COMMITTED


@on(server="SQLite", is_async=True)
async def test_c17_a_handler_after_the_commit_has_its_own_timeout(scene: Scene) -> None:
    """It is cut off after its own seconds."""
    handlers = EventHandlers()

    @handlers.after_commit(Happened, timeout=0.05)
    async def hang(happened: Happened) -> None:
        await asyncio.sleep(60)

    scene.use(handlers)
    async with scene.shop().begin() as shop:
        shop.orders.add(Order(name="a")).record(Happened("it"))

    (error,) = shop.outcome.hook_errors
    assert "did not end in 0.05 s" in str(error)


@on_sqlite
async def test_c17_a_handler_before_the_commit_may_register_hooks(scene: Scene) -> None:
    """after_commit() in a handler is taken, and runs in its place among the others; in a hook it is refused."""
    seen = []

    async def register(happened: Happened, shop: Any) -> None:
        shop.after_commit(lambda: seen.append(f"hook of {happened.what}"))

    handlers = scene.handling(register)
    handlers.after_commit(Happened)(lambda happened: seen.append(f"after {happened.what}"))
    async with scene.shop().begin() as shop:
        order = shop.orders.add(Order(name="a"))
        order.record(Happened("1"))
        order.record(Happened("2"))

    assert seen == ["hook of 1", "after 1", "hook of 2", "after 2"]
    with pytest.raises(OutsideBlockError):
        async with scene.serving() as shop:
            shop.after_commit(print)
