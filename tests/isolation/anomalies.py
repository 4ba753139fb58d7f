"""
Isolation anomalies: two units of work, step by step, and what each database makes of them.

After Berenson et al., "A Critique of ANSI SQL Isolation Levels" (1995), Adya et al., "Generalized Isolation Level
Definitions" (2000), and the Hermitage test suite (github.com/ept/hermitage).

A scenario is one function. It tells two sides, A and B, what to do next, and returns whether the anomaly happened. Each
side is a unit of work in a thread of its own, with a database object of its own. A step ends when it is done, or when
the database says that it waits for a lock; the steps that follow it on the same side are done after it, whenever that
is. So the order is the same in every run, and nothing depends on how fast a machine is.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import SimpleQueue
from typing import Any, get_args

from colours import awaitable
from conftest import AsyncShop, Shop, book
from servers import DRIVERS, Driver
from sqlalchemy import create_engine, make_url, select, text, update

from bookshop.models import Author, Book, Customer, Order
from fastkit.database import AsyncDatabase, Database, Isolation, Timeouts
from fastkit.errors import ConcurrencyError

LEVELS: tuple[Isolation | None, ...] = (None, *get_args(Isolation))
SHOWN = "**shown**"
PREVENTED = "prevented"

TIMEOUTS = Timeouts(connect=5, pool=5, statement=30, lock=20, commit=20, drain=5)
LONGEST_STEP = 25.0
"""Seconds after which a step that is neither done nor waiting is a fault of this harness."""

WAITING = {
    "PostgreSQL": """
        SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    """,
    "MariaDB": """
        SELECT count(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST
        ON ID = TRX_MYSQL_THREAD_ID WHERE DB = DATABASE() AND TRX_STATE = 'LOCK WAIT'
    """,
}
"""How many transactions wait for a lock; SQLite cannot tell."""

PATIENCE = {"SQLite": 1.5, "PostgreSQL": 0.02, "MariaDB": 0.12}
"""Seconds before the database is asked whether a step waits; InnoDB refreshes its table if unread for 0.1 s."""

VERSION = {
    "SQLite": "SELECT sqlite_version()",
    "PostgreSQL": "SHOW server_version",
    "MariaDB": "SELECT version()",
}


# -- two sides and their referee


@dataclass
class _Job:
    step: Callable[[Side], Awaitable[None]]
    last: bool
    done: Future[None] = field(default_factory=Future)


class Side:
    """
    One of two users of the shop at the same time.

    Attributes:
        number: 1 for A, 2 for B.
        other: The other side.
        shop: The unit of work, while a block is open.
        seen: What the steps have read.
        kept: Objects that the steps hold on to, as an app does.
        waited: Whether a step had to wait for the other side.
        refused: The error that ended the block, or None.
        committed: Whether the block was committed.
    """

    other: Side

    def __init__(self, number: int, referee: Referee) -> None:
        self.number = number
        self.shop: Any = None
        self._is_open = False
        self._referee = referee
        self._blocks: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()

    # -- told by a scenario

    def opens(self, **options: Any) -> None:
        """Open a block with these options; nothing is sent before the first step."""
        self.seen: list[Any] = []
        self.kept: list[Any] = []
        self.waited = self.committed = False
        self.refused: ConcurrencyError | None = None
        self._open: list[_Job] = []
        self._is_open = True
        self._blocks.put(options)

    def does(self, step: Callable[[Side], Awaitable[None]], *, last: bool = False) -> None:
        """Do a step: return when it is done, or when the database says that it waits for the other side."""
        behind = self.is_waiting
        job = _Job(step, last)
        self._is_open = not last
        self._open.append(job)
        self._jobs.put(job)
        if not behind:
            self._watch(job)

    def commits(self) -> None:
        """Commit; the other side, if it waits, can go on."""
        self.does(_commit, last=True)

    def rolls_back(self) -> None:
        """Give up; the other side, if it waits, can go on."""
        self.does(_rollback, last=True)

    # -- watching

    @property
    def is_waiting(self) -> bool:
        """Return whether a step was begun, or is queued behind one, and is not done."""
        return any(not job.done.done() for job in self._open)

    def finishes(self) -> None:
        """Wait for every step that was asked for."""
        left = wait([job.done for job in self._open], timeout=LONGEST_STEP).not_done
        assert not left, f"side {self.number} does not come to an end"
        for job in self._open:
            job.done.result()

    def _watch(self, job: _Job) -> None:
        waiters = 1 + self.other.is_waiting
        deadline = time.monotonic() + LONGEST_STEP
        while not wait([job.done], timeout=self._referee.patience).done:
            if self._referee.waiting() >= waiters:
                self.waited = True
                return
            assert time.monotonic() < deadline, f"side {self.number} is neither done nor waiting"
        job.done.result()
        if job.last or self.refused:
            self.other.finishes()

    # -- in the thread of this side

    async def _live(self) -> None:
        database = self._referee.database()
        while (options := self._blocks.get()) is not None:
            await self._block(self._referee.unit(database), options)
        await awaitable(database).close()

    async def _block(self, unit: Any, options: dict[str, Any]) -> None:
        job: _Job | None = None
        try:
            async with unit.block(**options) as self.shop:
                while not (job := self._jobs.get()).last:
                    await job.step(self)
                    job.done.set_result(None)
                await job.step(self)
        except ConcurrencyError as error:
            self.refused = error
        except BaseException as error:  # a fault of the scenario, or of fastkit: told by finishes()
            job = job or self._jobs.get()
            job.done.set_exception(error)
        self.shop = None
        while job:
            if not job.done.done():
                job.done.set_result(None)
            job = None if job.last else self._jobs.get()  # the steps after an error are skipped

    def leaves(self) -> None:
        """End the thread; a scenario that broke off may have left a block open."""
        if self._is_open:
            self._jobs.put(_Job(_rollback, last=True))
        self._blocks.put(None)

    def is_gone(self) -> bool:
        """Wait for the thread to end, and return whether it did."""
        self._thread.join(timeout=10)
        return not self._thread.is_alive()


async def _commit(me: Side) -> None:
    await me.shop.commit()
    me.committed = True


async def _rollback(me: Side) -> None:
    await me.shop.rollback()


class Referee:
    """A third connection: it lays out the rows before a scenario, and looks at them and at locks from outside."""

    def __init__(self, driver: Driver, url: str, setting: str | None = None) -> None:
        self._driver = driver
        self._url = url
        self._options = {"connect_args": {"init_command": setting}} if setting else {}
        self._engine = create_engine(_outside(driver, url), isolation_level="AUTOCOMMIT")
        self._connection = self._engine.connect()
        self.patience = PATIENCE[driver.server]

    def database(self) -> Any:
        """Return a database object, made by the thread that uses it."""
        kind: Any = AsyncDatabase if self._driver.is_async else Database
        return kind(self._url, pool_size=1, timeouts=TIMEOUTS, engine_options=self._options)

    def unit(self, database: Any) -> Any:
        """Return a unit of work."""
        kind: Any = AsyncShop if self._driver.is_async else Shop
        return awaitable(kind(database))

    def lays_out(self) -> None:
        """Leave two books by one author, 5 copies of each, and a customer without orders."""
        rows = {
            Author: {"id": 1, "name": "Jane Austen"},
            Customer: {"id": 1, "name": "Ada", "email": "ada@example.org", "blocked": False},
        }
        for model in (Order, Book, Author, Customer):
            self._connection.execute(model.__table__.delete())
        for model, row in rows.items():
            self._connection.execute(model.__table__.insert().values(row))
        for key, title in ((1, "Emma"), (2, "Persuasion")):
            entity = book(key, title, author_id=1)
            columns = {column.name: getattr(entity, column.name) for column in Book.__table__.columns}
            self._connection.execute(Book.__table__.insert().values(columns))

    def finds(self, column: Any) -> list[Any]:
        """Return what is stored in a column, in the order of the keys."""
        return list(self._connection.scalars(select(column).order_by(column.class_.id)))

    def waiting(self) -> int:
        """Return how many sides wait for a lock."""
        if self._driver.server == "SQLite":
            return 2  # a step that is not done after so much patience
        return int(self._connection.scalar(text(WAITING[self._driver.server])) or 0)

    def leaves(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._engine.dispose()


def _outside(driver: Driver, url: str) -> str:
    sync = next(each for each in DRIVERS if each.server == driver.server and not each.is_async)
    return make_url(url).set(drivername=sync.name).render_as_string(hide_password=False)


# -- scenarios


@dataclass(frozen=True)
class Anomaly:
    """
    One row of the table.

    Attributes:
        name: As it stands in the table.
        happens: Plays the scenario and returns whether the anomaly happened.
        reads: Whether A only reads, and says so.
    """

    name: str
    happens: Callable[[Side, Side, Referee], bool]
    reads: bool = False


ANOMALIES: list[Anomaly] = []


def anomaly(name: str, *, reads: bool = False) -> Callable[[Any], Any]:
    """Put a scenario into the table."""

    def put(play: Callable[[Side, Side, Referee], bool]) -> Callable[[Side, Side, Referee], bool]:
        ANOMALIES.append(Anomaly(name, play, reads))
        return play

    return put


def sets(key: int, copies: int) -> Callable[[Side], Awaitable[None]]:
    async def step(me: Side) -> None:
        await me.shop.session.execute(update(Book).where(Book.id == key).values(stock=copies))

    return step


def sees(key: int) -> Callable[[Side], Awaitable[None]]:
    async def step(me: Side) -> None:
        me.seen.append(await me.shop.session.scalar(select(Book.stock).where(Book.id == key)))

    return step


async def sees_object(me: Side) -> None:
    me.kept.append(await me.shop.books.one(Book.id == 1))
    me.seen.append(me.kept[-1].stock)


async def sees_locked(me: Side) -> None:
    me.kept.append(await me.shop.books.for_update().get_one(1))


async def moves_a_copy(me: Side) -> None:
    emma, persuasion = await me.shop.books.order_by(Book.id).all()
    emma.stock -= 1
    persuasion.stock += 1
    await me.shop.session.flush()


async def counts_books(me: Side) -> None:
    me.seen.append(await me.shop.books.count(Book.author_id == 1))


async def adds_a_book(me: Side) -> None:
    me.shop.books.add(book(3, "Sanditon", author_id=1))
    await me.shop.session.flush()


async def raises_prices(me: Side) -> None:
    result = await me.shop.session.execute(update(Book).where(Book.author_id == 1).values(price=12))
    me.seen.append(result.rowcount)


async def sells_one(me: Side) -> None:
    """Compute in Python with the object that was read before, and write back."""
    me.kept[-1].stock -= 1
    await me.shop.session.flush()


async def sells_one_atomically(me: Side) -> None:
    await me.shop.session.execute(update(Book).where(Book.id == 1).values(stock=Book.stock - 1))


async def looks_at_the_shelf(me: Side) -> None:
    me.kept = await me.shop.books.order_by(Book.id).all(Book.author_id == 1)


async def locks_the_shelf(me: Side) -> None:
    me.kept = await me.shop.books.for_update().order_by(Book.id).all(Book.author_id == 1)


async def takes_one_if_ten(me: Side) -> None:
    """Nine copies have to stay on the shelf; A takes one of the first book, B one of the second."""
    if sum(each.stock for each in me.kept) == 10:
        me.kept[me.number - 1].stock -= 1
        await me.shop.session.flush()


async def counts_orders(me: Side) -> None:
    me.seen.append(await me.shop.orders.count(Order.customer_id == 1))


async def locks_the_customer(me: Side) -> None:
    me.kept.append(await me.shop.customers.for_update().get_one(1))


async def orders_if_none(me: Side) -> None:
    if me.seen[-1] == 0:
        me.shop.orders.add(Order(id=me.number, customer_id=1, placed_at=datetime(2026, 1, 1, tzinfo=UTC), total=10))
        await me.shop.session.flush()


@anomaly("Dirty write")
def dirty_write(a: Side, b: Side, referee: Referee) -> bool:
    """Both write both rows; one row ends with the value of A and the other with that of B (G0)."""
    a.does(sets(1, 10))
    b.does(sets(1, 20))
    a.does(sets(2, 10))
    b.does(sets(2, 20))
    a.commits()
    b.commits()
    both_end(a, b)
    return len(set(referee.finds(Book.stock))) > 1


@anomaly("Dirty read, rolled back", reads=True)
def aborted_read(a: Side, b: Side, referee: Referee) -> bool:
    """A reads what B wrote and then takes back (G1a)."""
    b.does(sets(1, 99))
    a.does(sees(1))
    b.rolls_back()
    a.commits()
    both_end(a, b)
    return 99 in a.seen


@anomaly("Dirty read, in between", reads=True)
def intermediate_read(a: Side, b: Side, referee: Referee) -> bool:
    """A reads a value that B replaces before it commits (G1b)."""
    b.does(sets(1, 99))
    a.does(sees(1))
    b.does(sets(1, 4))
    b.commits()
    a.commits()
    both_end(a, b)
    return 99 in a.seen


@anomaly("Non-repeatable read", reads=True)
def non_repeatable_read(a: Side, b: Side, referee: Referee) -> bool:
    """A reads one column twice, B changes it in between (P2)."""
    a.does(sees(1))
    b.does(sets(1, 4))
    b.commits()
    a.does(sees(1))
    a.commits()
    both_end(a, b)
    return len(set(a.seen)) > 1


@anomaly("Non-repeatable read of an object", reads=True)
def non_repeatable_read_of_an_object(a: Side, b: Side, referee: Referee) -> bool:
    """A reads one object twice, with a statement each time, B changes it in between."""
    a.does(sees_object)
    b.does(sets(1, 4))
    b.commits()
    a.does(sees_object)
    a.commits()
    both_end(a, b)
    return len(set(a.seen)) > 1


@anomaly("Read skew", reads=True)
def read_skew(a: Side, b: Side, referee: Referee) -> bool:
    """B moves a copy from one book to the other; A sees one book before and one after, 11 copies of 10 (G-single)."""
    a.does(sees(1))
    b.does(moves_a_copy)
    b.commits()
    a.does(sees(2))
    a.commits()
    both_end(a, b)
    return sum(a.seen) != 10


@anomaly("Phantom", reads=True)
def phantom(a: Side, b: Side, referee: Referee) -> bool:
    """A counts the books of an author twice, B adds one in between (PMP)."""
    a.does(counts_books)
    b.does(adds_a_book)
    b.commits()
    a.does(counts_books)
    a.commits()
    both_end(a, b)
    return len(set(a.seen)) > 1


@anomaly("Phantom in an UPDATE")
def phantom_in_an_update(a: Side, b: Side, referee: Referee) -> bool:
    """A counts the books of an author and then updates them: the UPDATE touches one that was not counted (PMP)."""
    a.does(counts_books)
    b.does(adds_a_book)
    b.commits()
    a.does(raises_prices)
    a.commits()
    both_end(a, b)
    return len(set(a.seen)) > 1


@anomaly("Lost update")
def lost_update(a: Side, b: Side, referee: Referee) -> bool:
    """Both read 5 copies, sell one, and write 4 (P4)."""
    return sells_too_much(a, b, referee, sees_object, sells_one)


@anomaly("Lost update, `for_update()`")
def lost_update_for_update(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but both lock the row when they read it."""
    return sells_too_much(a, b, referee, sees_locked, sells_one)


@anomaly("Lost update, `for_update()` after a plain read")
def lost_update_for_update_late(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but both have read the object before they lock it."""
    return sells_too_much(a, b, referee, sees_object, sees_locked, sells_one)


@anomaly("Lost update, atomic UPDATE")
def lost_update_atomic(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but the database computes: SET stock = stock - 1."""
    return sells_too_much(a, b, referee, sells_one_atomically)


@anomaly("Write skew")
def write_skew(a: Side, b: Side, referee: Referee) -> bool:
    """Both see 10 copies, of which 9 have to stay; each takes one, of different books (G2-item)."""
    alternate(a, b, looks_at_the_shelf, takes_one_if_ten)
    return sum(referee.finds(Book.stock)) < 9


@anomaly("Write skew, `for_update()`")
def write_skew_for_update(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but both lock every row that they look at."""
    alternate(a, b, locks_the_shelf, takes_one_if_ten)
    return sum(referee.finds(Book.stock)) < 9


@anomaly("Write skew by new rows")
def predicate_write_skew(a: Side, b: Side, referee: Referee) -> bool:
    """Both count the orders of a customer who may have one; both see none and add one (G2)."""
    alternate(a, b, counts_orders, orders_if_none)
    return len(referee.finds(Order.id)) > 1


@anomaly("Write skew by new rows, `for_update()` on the customer")
def predicate_write_skew_for_update(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but both lock the customer before they count."""
    alternate(a, b, locks_the_customer, counts_orders, orders_if_none)
    return len(referee.finds(Order.id)) > 1


@anomaly("Write skew by new rows, `for_update()` on the customer after another read")
def predicate_write_skew_for_update_late(a: Side, b: Side, referee: Referee) -> bool:
    """The same, but both have read a book before they lock the customer."""
    alternate(a, b, sees_object, locks_the_customer, counts_orders, orders_if_none)
    return len(referee.finds(Order.id)) > 1


def alternate(a: Side, b: Side, *steps: Callable[[Side], Awaitable[None]]) -> None:
    """Let A and B do the same steps in turn, and commit."""
    for step in steps:
        a.does(step)
        b.does(step)
    a.commits()
    b.commits()
    both_end(a, b)


def sells_too_much(a: Side, b: Side, referee: Referee, *steps: Callable[[Side], Awaitable[None]]) -> bool:
    """Return whether more was sold than is missing on the shelf."""
    alternate(a, b, *steps)
    return referee.finds(Book.stock)[0] != 5 - a.committed - b.committed


def both_end(a: Side, b: Side) -> None:
    """Wait until both have done everything."""
    a.finishes()
    b.finishes()


# -- the table


class Arena:
    """Two sides and a referee on one database, for one scenario after the other."""

    def __init__(self, driver: Driver, url: str, setting: str | None = None) -> None:
        self.referee = Referee(driver, url, setting)
        self.a, self.b = (Side(number, self.referee) for number in (1, 2))
        self.a.other, self.b.other = self.b, self.a

    def cell(self, anomaly: Anomaly, isolation: Isolation | None) -> str:
        """Play a scenario and return its cell."""
        self.referee.lays_out()
        self.a.opens(isolation=isolation, read_only=anomaly.reads)
        self.b.opens(isolation=isolation)
        if anomaly.happens(self.a, self.b, self.referee):
            return SHOWN
        sides = (self.a, self.b)
        waits = ["waits"] if any(side.waited for side in sides) else []
        refusals = sorted({type(side.refused).__name__ for side in sides if side.refused})
        return ": ".join(filter(None, [PREVENTED, ", ".join([*waits, *refusals])]))

    def close(self) -> None:
        """End the threads and close the connections."""
        self.a.leaves()
        self.b.leaves()
        gone = [side.is_gone() for side in (self.a, self.b)]
        self.referee.leaves()
        assert all(gone), "a side is still at work"


def measure(
    driver: Driver, urls: Sequence[str], setting: str | None = None, anomalies: Sequence[Anomaly] = tuple(ANOMALIES)
) -> list[str]:
    """
    Return the rows of the table.

    Args:
        driver: How to speak to the database.
        urls: One database for each level. Where they differ, the levels are measured at the same time.
        setting: A statement for each new connection.
        anomalies: Which rows.
    """

    def column(level: Isolation | None, url: str) -> list[str]:
        arena = Arena(driver, url, setting)
        try:
            return [arena.cell(anomaly, level) for anomaly in anomalies]
        finally:
            arena.close()

    with ThreadPoolExecutor(len(set(urls))) as lanes:
        columns = list(lanes.map(column, LEVELS, urls))
    cells = zip(*columns, strict=True)
    return [row(anomaly.name, *each) for anomaly, each in zip(anomalies, cells, strict=True)]


def row(*cells: str) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def about(driver: Driver, url: str, setting: str | None = None) -> str:
    """Return a sentence on what was measured: version, driver, setting and default level."""
    engine = create_engine(_outside(driver, url))
    with engine.connect() as connection:
        version = str(connection.scalar(text(VERSION[driver.server]))).split(" ")[0].split("-")[0]
    engine.dispose()
    more = f", {setting}" if setting else ""
    return (
        f"Measured on {driver.server} {version} with {driver.name.partition('+')[2]}{more}. "
        f"The default level is {engine.dialect.default_isolation_level}."
    )


HEAD = [row("anomaly", "default", *get_args(Isolation)), "|" + "---|" * (1 + len(LEVELS))]
