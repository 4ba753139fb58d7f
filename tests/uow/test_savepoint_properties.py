"""C2, C7, C8, C10, C18, C19: any mixture of savepoints, nested blocks and errors does what a small model says."""

from __future__ import annotations

import asyncio
import types
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from colours import awaitable
from conftest import TIMEOUTS, World, book
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from repository.scenes import ON_SQLITE
from servers import Driver
from sqlalchemy import delete, text
from sqlalchemy.orm import DeclarativeBase

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase, Database
from fastkit.errors import ConstraintError, TransactionDoomedError
from fastkit.events import EventHandlers, RecordsEvents
from fastkit.uow import Status


class MineError(Exception):
    """What the programs raise."""


class DatabaseRefusedError(Exception):
    """What the model raises where the database does."""


class DoomedError(Exception):
    """What the model raises where the unit of work refuses to go on."""


KINDS = {
    MineError: "mine",
    ConstraintError: "database",
    DatabaseRefusedError: "database",
    TransactionDoomedError: "doomed",
    DoomedError: "doomed",
}


@dataclass(frozen=True)
class Step:
    """One thing to do, and whether its error is swallowed where it is done."""

    verb: str
    value: Any = None
    swallow: bool = False


@dataclass(frozen=True)
class Group:
    """A savepoint or a nested block around steps, and whether an error that leaves it is swallowed."""

    kind: str
    steps: tuple[Any, ...]
    swallow: bool


class Model:
    """What a unit of work must do, in plain Python."""

    @dataclass
    class Work:
        """What a savepoint can undo."""

        names: set[str] = field(default_factory=set)
        stock: int = 5
        hooks: list[int] = field(default_factory=list)
        events: list[int] = field(default_factory=list)

    def __init__(self) -> None:
        self.work = Model.Work({"Ovid"})
        self.pending: list[tuple[str, Any]] = []
        self.doom: str | None = None
        self.saved: list[tuple[int, Model.Work]] = []
        self.meant: set[int] = set()
        self.depth = 1

    # -- steps

    def add(self, name: str) -> None:
        """Add an author, whose row is inserted by the next flush."""
        self.check()
        self.pending.append(("add", name))

    def change(self, stock: int) -> None:
        """Change the book, by the next flush."""
        self.look()
        self.pending.append(("change", stock))

    def statement(self, stock: int) -> None:
        """Change the book at once."""
        self.check()
        self.flush()
        self.work.stock = stock

    def look(self, _: Any = None) -> Model.Work:
        """Read everything, which flushes."""
        self.check()
        self.flush()
        return self.work

    def commit(self, _: Any = None) -> None:
        """Flush, as a nested commit does."""
        self.look()

    def rollback(self, _: Any = None) -> None:
        """Give up what encloses this."""
        self.doom_by("savepoint")
        if self.saved and self.saved[-1][0] == self.depth:
            self.meant.add(self.depth)

    def hook(self, number: int) -> None:
        """Register a hook."""
        self.check()
        self.work.hooks.append(number)

    def event(self, number: int) -> None:
        """Record an event."""
        self.work.events.append(number)

    def fail(self, _: Any = None) -> None:
        """Raise an error of the app."""
        raise MineError

    def ruin(self, _: Any = None) -> None:
        """Let the database end the transaction by itself."""
        self.check()
        self.flush()
        self.doom = "block"
        raise DatabaseRefusedError

    # -- what is behind them

    def check(self) -> None:
        """Refuse to go on if something is doomed."""
        if self.doom:
            raise DoomedError

    def doom_by(self, part: str) -> None:
        """Doom a part; the first doom stays."""
        self.doom = self.doom or (part if self.saved else "block")

    def flush(self) -> None:
        """Write what is pending; an error dooms."""
        pending, self.pending = self.pending, []
        for verb, value in pending:
            if (verb == "add" and value in self.work.names) or (verb == "change" and value < 0):
                self.doom_by("savepoint")
                raise DatabaseRefusedError
            if verb == "add":
                self.work.names.add(value)
            else:
                self.work.stock = value

    def run(self, steps: tuple[Any, ...]) -> None:
        """Do the steps, swallowing the errors of those that say so."""
        for step in steps:
            try:
                if isinstance(step, Group):
                    self.group(step)
                else:
                    getattr(self, step.verb)(step.value)
            except tuple(KINDS):
                if not step.swallow:
                    raise

    def group(self, group: Group) -> None:
        """Enter a savepoint or a nested block."""
        self.check()
        if group.kind == "nested":
            self.nested(group.steps)
        else:
            self.flush()
            self.savepoint(group.steps)

    def nested(self, steps: tuple[Any, ...]) -> None:
        """Run steps in a nested block: an error dooms."""
        self.depth += 1
        try:
            self.run(steps)
        except BaseException:
            self.doom_by("savepoint")
            raise
        finally:
            self.depth -= 1

    def savepoint(self, steps: tuple[Any, ...]) -> None:
        """Run steps in a savepoint: an error, or a doom, undoes them."""
        self.depth += 1
        self.saved.append((self.depth, deepcopy(self.work)))
        self.meant.discard(self.depth)
        try:
            self.run(steps)
            if self.doom is None:
                self.flush()
        except BaseException:
            self.undo()
            raise
        else:
            if self.doom is None:
                self.saved.pop()
                self.depth -= 1
                return
            silent = self.depth in self.meant and self.doom == "savepoint"
            self.undo()
            if not silent:
                raise DoomedError

    def undo(self) -> None:
        """Go back to the innermost savepoint."""
        _, self.work = self.saved.pop()
        self.pending = []
        self.depth -= 1
        if self.doom == "savepoint":
            self.doom = None


@dataclass(frozen=True)
class Wrote:
    """A poet wrote something."""

    number: int


class Registry(DeclarativeBase):
    """A registry beside the bookshop's."""


class Poet(RecordsEvents, Registry):
    """An author who records events; the same table."""

    __table__ = Author.__table__


class Reality:
    """The same steps, on a unit of work; looks are compared with the model, whose steps run alongside."""

    def __init__(self, shop: Any, poet: Poet, hooks: list[int]) -> None:
        self.shop = shop
        self.poet = poet
        self.hooks = hooks
        self.looks: list[tuple[set[str], int]] = []

    async def add(self, name: str) -> None:
        """Add an author, whose row is inserted by the next flush."""
        self.shop.authors.add(Author(name=name))

    async def change(self, stock: int) -> None:
        """Change the book, by the next flush."""
        await self.look()
        (await self.shop.books.get_one(1)).stock = stock

    async def statement(self, stock: int) -> None:
        """Change the book at once."""
        await self.shop.session.execute(text(f"UPDATE book SET stock = {stock}"))

    async def look(self, _: Any = None) -> None:
        """Read everything, which flushes."""
        names = {author.name for author in await self.shop.authors.all()}
        self.looks.append((names, (await self.shop.books.get_one(1)).stock))

    async def commit(self, _: Any = None) -> None:
        """Flush, as a nested commit does."""
        await self.shop.commit()

    async def rollback(self, _: Any = None) -> None:
        """Give up what encloses this."""
        await self.shop.rollback()

    async def hook(self, number: int) -> None:
        """Register a hook."""
        self.shop.after_commit(lambda: self.hooks.append(number))

    async def event(self, number: int) -> None:
        """Record an event."""
        self.poet.record(Wrote(number))

    async def fail(self, _: Any = None) -> None:
        """Raise an error of the app."""
        raise MineError

    async def ruin(self, _: Any = None) -> None:
        """Let the database end the transaction by itself."""
        await self.shop.session.execute(text("INSERT OR ROLLBACK INTO author (name) VALUES ('Ovid')"))

    async def run(self, steps: tuple[Any, ...]) -> None:
        """Do the steps, swallowing the errors of those that say so."""
        for step in steps:
            try:
                if isinstance(step, Group):
                    async with self.shop if step.kind == "nested" else self.shop.savepoint():
                        await self.run(step.steps)
                else:
                    await getattr(self, step.verb)(step.value)
            except tuple(KINDS):
                if not step.swallow:
                    raise


class Watched(Model):
    """A model that notes what its looks see."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[set[str], int]] = []

    def look(self, _: Any = None) -> Model.Work:
        """Read everything, which flushes."""
        super().look()
        self.looks.append((set(self.work.names), self.work.stock))
        return self.work

    def commit(self, _: Any = None) -> None:
        """Flush, as a nested commit does."""
        super().look()


VALUES = {
    "add": st.sampled_from(["a", "b", "c", "d", "Ovid"]),
    "change": st.sampled_from([-1, 1, 2, 3]),
    "statement": st.sampled_from([11, 12]),
    "hook": st.integers(0, 99),
    "event": st.integers(0, 99),
}
ANYWHERE = ["add", "add", "change", "statement", "look", "hook", "event", "fail", "ruin"]
NESTED_ONLY = ["commit", "rollback"]


def steps_of(verbs: list[str]) -> st.SearchStrategy[Step]:
    """Return single steps; most errors are not swallowed where they arise."""
    return st.sampled_from(verbs).flatmap(
        lambda verb: st.builds(Step, st.just(verb), VALUES.get(verb, st.none()), st.sampled_from([False, False, True]))
    )


def groups_of(steps: st.SearchStrategy[Any]) -> st.SearchStrategy[Group]:
    """Return savepoints and nested blocks around steps."""
    kinds = st.sampled_from(["savepoint", "savepoint", "nested"])
    return st.builds(Group, kinds, st.lists(steps, max_size=5).map(tuple), st.booleans())


INNER = st.recursive(steps_of(ANYWHERE + NESTED_ONLY), groups_of, max_leaves=12)
PROGRAMS = st.lists(steps_of(ANYWHERE) | groups_of(INNER) | groups_of(INNER), max_size=6).map(tuple)

IN_DOUBT = [
    (Group("savepoint", (Step("add", "a"), Group("nested", (Step("fail"),), True)), True), Step("add", "b")),
    (Group("savepoint", (Step("add", "a"), Step("commit"), Step("rollback")), False), Step("hook", 1)),
    (Group("savepoint", (Step("add", "Ovid"), Step("look", None, True), Step("event", 1)), True), Step("event", 2)),
    (Group("savepoint", (Step("add", "a"), Step("look"), Step("ruin")), True), Step("add", "b", True)),
    (Step("add", "a"), Group("savepoint", (Step("change", 2), Group("savepoint", (Step("ruin"),), True)), True)),
]


async def compare(world: World, program: tuple[Any, ...], commits: bool) -> None:
    """Run a program on a database and on the model, and compare all that can be seen of it."""
    model, expected = Watched(), None
    try:
        model.run(program)
        model.check()
        model.flush()
    except tuple(KINDS) as error:
        expected = KINDS[type(error)]
    kept = model.work if expected is None else Model.Work({"Ovid"})

    await start_afresh(world)
    hooks: list[int] = []
    told: list[int] = []
    handlers = EventHandlers()
    handlers.after_commit(Wrote)(lambda event: told.append(event.number))
    shop = awaitable(types.new_class("Told", (world.unit,), {"events": handlers})(world.naked))
    reality, raised = None, None
    try:
        async with shop.begin() if commits else shop:
            reality = Reality(shop, await shop.session.get(Poet, 1), hooks)
            await reality.run(program)
            if not commits:
                await shop.commit()
    except tuple(KINDS) as error:
        raised = next(name for each, name in KINDS.items() if isinstance(error, each))
    assert world.checked_out == 0
    async with world.shop() as afterwards:
        names = {author.name for author in await afterwards.authors.all()}
        stock = (await afterwards.books.get_one(1)).stock

    assert reality is not None
    assert reality.looks == model.looks
    assert raised == expected
    assert (names, stock, hooks, told) == (kept.names, kept.stock, kept.hooks, kept.events)
    assert shop.outcome.status is (Status.COMMITTED if expected is None else Status.ROLLED_BACK)
    assert shop.outcome.hook_errors == ()


async def start_afresh(world: World) -> None:
    """Leave one author and one book."""
    async with world.shop().begin() as shop:
        await shop.session.execute(delete(Book))
        await shop.session.execute(delete(Author))
        shop.authors.add(Author(id=1, name="Ovid"))
        await shop.session.flush()
        shop.books.add(book(1, "Tristia", author_id=1))


@ON_SQLITE
def test_c8_any_mixture_does_what_the_model_says(driver: Driver, url: str) -> None:
    """Rows, values read on the way, hooks run, events told, the error and the outcome are those of the model."""
    with asyncio.Runner() as runner:
        database = (AsyncDatabase if driver.is_async else Database)(url, pool_size=2, timeouts=TIMEOUTS)
        world = World(driver, database)

        @settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(PROGRAMS, st.booleans())
        def check(program: tuple[Any, ...], commits: bool) -> None:
            runner.run(compare(world, program, commits))

        for program in IN_DOUBT:
            check = example(program, True)(check)
        try:
            check()
        finally:
            runner.run(world.database.close())
