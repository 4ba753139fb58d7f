"""C21: `gather` runs independent reads at once, each in a read-only unit of its own, and never starves the pool."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from colours import awaitable
from conftest import TIMEOUTS, AsyncShop, World
from deps.apps import answer, app_of, coloured, finished, until
from sqlalchemy import create_engine, delete, event, literal, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only
from sweep import cancelled_everywhere, only_a_sample

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.database._fan_out import FanOut
from fastkit.deps import transaction
from fastkit.errors import (
    ConcurrentUseError,
    DatabaseClosedError,
    DeclarationError,
    NotFoundError,
    PoolTimeoutError,
    ReadOnlyError,
    UnitOfWorkError,
)
from fastkit.uow import Block
from fastkit.uow.blocks import BlockOptions

pytestmark = pytest.mark.anyio

_SYNC_DRIVERS = {"SQLite": "sqlite", "PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}


def in_colour(world: World, body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a read in the colour of a world: an async function, or a real plain one."""
    return body if world.driver.is_async else lambda shop: finished(body(awaitable(shop)))


async def gather(world: World, *bodies: Any, **options: Any) -> Any:
    """Gather bodies in either colour, the sync one in a thread as a `def` route is."""
    reads = [in_colour(world, body) if callable(body) else body for body in bodies]
    if world.driver.is_async:
        return await world.naked.gather(world.unit, *reads, **options)
    return await asyncio.to_thread(lambda: world.naked.gather(world.unit, *reads, **options))


async def pause(world: World, seconds: float) -> None:
    if world.driver.is_async:
        await asyncio.sleep(seconds)
    else:
        time.sleep(seconds)


@pytest.fixture
async def make(stocked: World) -> AsyncIterator[Callable[..., World]]:
    """Return what makes further databases of the same kind on the same rows; they are closed at the end."""
    made: list[Any] = []

    def another(pool_size: int, **options: Any) -> World:
        options.setdefault("timeouts", Timeouts(pool=20))
        kind = AsyncDatabase if stocked.driver.is_async else Database
        made.append(kind(stocked.naked.engine.url, pool_size=pool_size, **options))
        return World(stocked.driver, made[-1])

    yield another
    left = [database.checked_out for database in made]
    for database in made:
        await awaitable(database).close()

    assert left == [0] * len(made)


@pytest.fixture
def writer(stocked: World) -> Iterator[Callable[[], None]]:
    """Return what adds one to the stock of all books, at once and stored, past every pool."""
    engine = create_engine(stocked.sync_engine.url.set(drivername=_SYNC_DRIVERS[stocked.server]), poolclass=NullPool)

    def write() -> None:
        with engine.begin() as connection:
            connection.execute(update(Book).values(stock=Book.stock + 1))

    yield write
    engine.dispose()


async def titles(shop: Any) -> list[str]:
    return [each.title for each in await shop.books.order_by(Book.id).all()]


async def names(shop: Any) -> list[str]:
    return [each.name for each in await shop.authors.all()]


async def count(shop: Any) -> int:
    return int(await shop.customers.count())


# -- what it returns


async def test_c21_results_come_in_the_order_of_the_reads(stocked: World) -> None:
    """Whichever read ends first; nothing is checked out afterwards."""

    def after(seconds: float, result: str) -> Any:
        async def read(shop: Any) -> str:
            await shop.books.count()
            await pause(stocked, seconds)
            return result

        return read

    assert await gather(stocked, titles, names, count) == (["Emma", "Persuasion"], ["Jane Austen"], 1)
    assert await gather(stocked, after(0.1, "a"), after(0, "b"), after(0.05, "c"), after(0, "d")) == tuple("abcd")
    assert await gather(stocked, count) == (1,)
    assert await gather(stocked, *[after(0, str(number)) for number in range(10)]) == tuple("0123456789")
    assert stocked.checked_out == 0


async def test_c21_reads_run_at_once(stocked: World) -> None:
    """Three reads that wait for each other, after each has a connection, all end."""
    meeting: Any = asyncio.Barrier(3) if stocked.driver.is_async else threading.Barrier(3, timeout=5)

    async def read(shop: Any) -> int:
        await shop.books.count()
        if stocked.driver.is_async:
            await asyncio.wait_for(meeting.wait(), 5)
        else:
            meeting.wait()
        return stocked.checked_out

    assert max(await gather(stocked, read, read, read)) == 3


async def test_c21_each_read_has_a_unit_of_its_own(stocked: World) -> None:
    """Also where one task or thread runs several of them; after its read a unit has ended."""
    units, sessions = [], []

    async def read(shop: Any) -> Book:
        units.append(getattr(shop, "naked", shop))
        sessions.append(getattr(shop.session, "naked", shop.session))
        return await shop.books.get_one(1)

    books = await gather(stocked, *[read] * 8)

    assert len({id(each) for each in units}) == len({id(each) for each in sessions}) == 8
    assert len({id(book) for book in books}) == 8
    assert [book.title for book in books] == ["Emma"] * 8
    assert all("closed" in repr(unit) for unit in units)


async def add(shop: Any) -> None:
    shop.authors.add(Author(name="Ovid"))


async def change(shop: Any) -> None:
    (await shop.books.get_one(1)).stock = 0
    await shop.session.flush()


async def change_and_forget(shop: Any) -> None:
    (await shop.books.get_one(1)).stock = 0


async def remove(shop: Any) -> None:
    await shop.session.execute(delete(Book))


async def textual(shop: Any) -> None:
    await shop.session.execute(text("UPDATE book SET stock = 0"))


async def commit(shop: Any) -> None:
    (await shop.books.get_one(1)).stock = 0
    await shop.commit()


@pytest.mark.parametrize("write", [add, change, change_and_forget, remove, textual, commit])
async def test_c22_a_read_cannot_write(stocked: World, write) -> None:
    """Each branch is read-only, for the guard and for the database."""
    with pytest.raises(ReadOnlyError):
        await gather(stocked, count, write)
    if stocked.server == "PostgreSQL":
        with pytest.raises(ReadOnlyError):
            await gather(stocked, count, write, snapshot=True)

    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 5
        assert await shop.authors.count() == 1


async def test_c22_a_leader_cannot_write_either(stocked: World) -> None:
    """Nor can the one transaction of the fallback."""
    with pytest.raises(ReadOnlyError):
        await gather(stocked, textual, count, snapshot=True, fallback="sequential")


# -- errors


async def fail(shop: Any) -> None:
    await shop.books.get_one(404)


async def test_c21_the_first_error_is_raised_plain(stocked: World) -> None:
    """As the read raised it: no group around it, with the place where it was raised; the pool is usable."""
    with pytest.raises(NotFoundError) as caught:
        await gather(stocked, count, fail, titles)

    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "fail" in frames
    assert stocked.checked_out == 0
    assert await gather(stocked, count, count) == (1, 1)


async def test_c21_a_snapshot_that_ends_early_hides_no_error(stocked: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL ends a shared snapshot with the first error of its owner; those who come later say less."""
    if stocked.server != "PostgreSQL":
        pytest.skip("only PostgreSQL shares snapshots")
    failed = asyncio.Event() if stocked.driver.is_async else threading.Event()
    begin = FanOut._import

    def begin_late(self: FanOut, session: Any, number: str) -> bool:
        await_only(failed.wait()) if isinstance(failed, asyncio.Event) else failed.wait(5)
        return begin(self, session, number)

    async def divide(shop: Any) -> None:
        try:
            await shop.session.execute(select(1 / literal(0)))
        finally:
            failed.set()
            await pause(stocked, 0.3)

    monkeypatch.setattr(FanOut, "_import", begin_late)

    with pytest.raises(DBAPIError, match="division by zero"):
        await gather(stocked, divide, divide, snapshot=True)
    assert stocked.checked_out == 0


async def test_c21_a_group_that_a_read_raises_stays_one(stocked: World) -> None:
    """It is unpacked only of what `gather` itself put around it."""
    group = ExceptionGroup("of the read", [ValueError("1"), ValueError("2")])

    async def read(shop: Any) -> None:
        raise group

    for reads in ((read, count), (count, count, read), (count,) * 5 + (read,)):
        with pytest.raises(ExceptionGroup) as caught:
            await gather(stocked, *reads)
        assert caught.value is group


async def test_c21_an_error_stops_the_others(stocked: World) -> None:
    """What runs is cancelled (a thread cannot be), what has not begun never does."""
    begun, cancelled = [], []

    async def linger(shop: Any) -> None:
        begun.append(1)
        await shop.books.count()
        try:
            await pause(stocked, 5 if stocked.driver.is_async else 0.3)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def fail_soon(shop: Any) -> None:
        await shop.books.count()
        await pause(stocked, 0.1)
        raise ValueError("no")

    start = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        await gather(stocked, linger, fail_soon, linger, *[linger] * 20)

    assert time.monotonic() - start < 2
    assert len(begun) == 2
    assert len(cancelled) == (2 if stocked.driver.is_async else 0)
    assert stocked.checked_out == 0


async def test_c21_the_error_that_came_first_is_raised(stocked: World) -> None:
    """Not what a branch raised on its way out, nor the error of whoever happens to run in the caller."""
    is_async, caller = stocked.driver.is_async, []

    def here() -> object:
        return asyncio.current_task() if is_async else threading.current_thread()

    async def read(shop: Any) -> None:
        if is_async:
            if here() is caller[0]:
                await asyncio.sleep(0.05)
                raise ValueError("first")
            try:
                await asyncio.sleep(5)
            finally:
                raise KeyError("on the way out")
        time.sleep(0.3 if here() is caller[0] else 0.05)
        raise (KeyError if here() is caller[0] else ValueError)("first")

    if is_async:
        caller.append(here())
        with pytest.raises(ValueError, match="first"):
            await gather(stocked, read, read)
    else:

        def call() -> None:
            caller.append(here())
            stocked.naked.gather(stocked.unit, in_colour(stocked, read), in_colour(stocked, read))

        with pytest.raises(ValueError, match="first"):
            await asyncio.to_thread(call)


async def test_a_closed_database_gathers_nothing(stocked: World) -> None:
    """The error is the one that everybody gets."""
    await stocked.database.close()
    with pytest.raises(DatabaseClosedError):
        await gather(stocked, count, count)


# -- cancellation


@pytest.fixture
def cancellable(stocked: World) -> World:
    """Return an async database; a sync one cannot be cancelled."""
    if not stocked.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    return stocked


async def test_c23_cancelling_the_caller_cancels_all(cancellable: World) -> None:
    """Every branch hears of it, and all connections are back."""
    lingering, heard = [], []

    async def linger(shop: Any) -> None:
        await shop.books.count()
        lingering.append(1)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            heard.append(1)
            raise

    task = asyncio.create_task(gather(cancellable, *[linger] * 5))
    assert await until(lambda: len(lingering) == 3)
    await asyncio.sleep(0.05)
    busy = cancellable.checked_out
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert busy == len(heard) == 3
    assert cancellable.checked_out == 0
    assert cancellable.naked.ledger.slots._loops[asyncio.get_running_loop()].borrowed_tokens == 0
    assert await gather(cancellable, count, count, count) == (1, 1, 1)


async def test_c23_cancelled_at_every_turn_it_gives_all_slots_back(cancellable: World) -> None:
    """Whenever the cancellation comes, also while it waits for a slot; nothing is sent, so no driver is disturbed."""

    async def idle(shop: Any) -> None:
        await asyncio.sleep(0)

    async def one(turns: int) -> None:
        task = asyncio.create_task(gather(cancellable, *[idle] * 5))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(outcome, asyncio.CancelledError | tuple), repr(outcome)

    for turns in range(0, 40, 2):
        await asyncio.gather(*(one(turns + more) for more in range(5)))

    assert cancellable.naked.ledger.slots._loops[asyncio.get_running_loop()].borrowed_tokens == 0
    assert cancellable.checked_out == 0


async def test_c23_cancelled_at_every_await(cancellable: World) -> None:
    """The sweep of SQLAlchemy's own tests finds no leaked connection, swallowed cancellation or bad pool."""
    only_a_sample(cancellable.driver.name in {"postgresql+asyncpg", "mariadb+asyncmy"})
    url = cancellable.naked.engine.url

    def make_engine() -> Any:
        return AsyncDatabase(url, pool_size=4, timeouts=TIMEOUTS).engine

    async def scenario(engine: Any) -> None:
        database = AsyncDatabase(engine, timeouts=TIMEOUTS)
        await database.gather(AsyncShop, count, names)

    assert await cancelled_everywhere(make_engine, scenario, cancels=1) == []


async def test_c21_a_read_that_was_cancelled_by_somebody_else_is_no_result(cancellable: World) -> None:
    """The caller hears of it; there is no None where the type says a list."""

    async def given_up(shop: Any) -> list[str]:
        cancelled: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        return await cancelled

    for reads in ((given_up, count, count), (count, given_up, count)):
        with pytest.raises(asyncio.CancelledError):
            await gather(cancellable, *reads)


# -- where it may be called


async def test_c20_inside_an_open_block_it_is_refused(stocked: World) -> None:
    """Its branches would wait for connections while the caller holds one."""
    if stocked.driver.is_async:
        for options in ({}, {"read_only": True}):
            async with stocked.shop().block(**options) as shop:
                await shop.books.count()
                with pytest.raises(ConcurrentUseError, match="inside an open block"):
                    await gather(stocked, count, count)
    else:

        def work() -> None:
            with stocked.unit(stocked.naked) as shop, shop:
                with pytest.raises(ConcurrentUseError, match="inside an open block"):
                    stocked.naked.gather(stocked.unit, in_colour(stocked, count), in_colour(stocked, count))

        await asyncio.to_thread(work)

    assert await gather(stocked, count, count) == (1, 1)


async def test_c20_also_where_a_sync_database_is_used_in_an_event_loop(stocked: World) -> None:
    """A test, a notebook or a careless route calls `def` code on the loop: the block is its thread's."""
    if stocked.driver.is_async:
        pytest.skip("the sync colour")
    with stocked.unit(stocked.naked) as shop:
        shop.books.count()
        with pytest.raises(ConcurrentUseError):
            stocked.naked.gather(stocked.unit, in_colour(stocked, count), in_colour(stocked, count))


@pytest.mark.parametrize("reads", [1, 2, 6])
async def test_c20_inside_a_read_it_is_refused(stocked: World, reads: int) -> None:
    """A branch that fans out again would wait for slots while it holds one, in the caller or beside it."""

    async def nested(shop: Any) -> Any:
        if stocked.driver.is_async:
            return await stocked.naked.gather(stocked.unit, count, count)
        return stocked.naked.gather(stocked.unit, in_colour(stocked, count), in_colour(stocked, count))

    for options in ({}, {"snapshot": True, "fallback": "sequential"}):
        with pytest.raises(ConcurrentUseError, match="inside an open block"):
            await gather(stocked, *[count] * (reads - 1), nested, **options)


async def test_c21_the_block_of_another_task_does_not_matter(stocked: World) -> None:
    """Only who would wait for himself is refused; before and after a block it is fine."""
    if not stocked.driver.is_async:
        with stocked.unit(stocked.naked) as shop:
            shop.books.count()
            assert await gather(stocked, count, count) == (1, 1)
        return
    async with stocked.serving() as shop:
        assert await gather(stocked, count, count) == (1, 1)
        async with shop:
            await shop.books.count()
            assert await asyncio.create_task(gather(stocked, count, count)) == (1, 1)
        assert await gather(stocked, count, count) == (1, 1)


async def test_c20_a_block_that_its_thread_has_left_behind_does_not_matter(stocked: World) -> None:
    """A `transaction(Shop)` is opened in a worker thread that serves other requests meanwhile."""
    if stocked.driver.is_async:
        pytest.skip("tasks serve one request")
    with ThreadPoolExecutor(1) as worker, stocked.unit.serving(stocked.naked) as served:
        block = Block(served, BlockOptions(commits=True, bound=False))
        worker.submit(block.__enter__).result()
        read = in_colour(stocked, count)

        assert worker.submit(stocked.naked.gather, stocked.unit, read, read).result() == (1, 1)
        worker.submit(block.__exit__, None, None, None).result()


async def test_c20_a_unit_that_ended_with_its_block_open_is_forgotten(stocked: World) -> None:
    """What an owner has rolled back holds no connection, so its thread may fan out again."""
    with stocked.unit.serving(stocked.naked) if not stocked.driver.is_async else pytest.skip("threads") as shop:
        block = shop.begin()
        block.__enter__()
        shop.books.count()
    read = in_colour(stocked, count)

    assert await asyncio.to_thread(stocked.naked.gather, stocked.unit, read, read) == (1, 1)
    assert not stocked.naked.ledger._holders


# -- what cannot work


async def test_c21_what_cannot_be_gathered_is_told(stocked: World) -> None:
    """No reads, a read that was called already, a fallback that is none."""
    for wrong in ((), (count, None), ("count",)):
        with pytest.raises(DeclarationError, match="functions of a unit"):
            await gather(stocked, *wrong)
    with pytest.raises(DeclarationError, match="parallel"):
        await gather(stocked, count, fallback="parallel")

    assert stocked.checked_out == 0


async def test_c21_a_read_that_was_called_already_is_told(stocked: World) -> None:
    """As is the custom with asyncio.gather; Python has nothing to add about it."""
    coroutine = count(None)
    try:
        with pytest.raises(DeclarationError, match="uncalled"):
            await gather(stocked, coroutine)
    finally:
        coroutine.close()


async def test_c21_a_pool_of_one_cannot_fan_out(make) -> None:
    """Half of one connection is none."""
    with pytest.raises(DeclarationError, match="at least 2"):
        await gather(make(1), count, count)


@pytest.mark.parametrize("size", [2, 3])
async def test_c21_a_small_pool_runs_one_after_the_other(make, size: int) -> None:
    """One slot is enough for any number of reads."""
    small, seen = make(size, engine_options={"max_overflow": 0}), []

    async def read(shop: Any) -> int:
        await shop.books.count()
        await pause(small, 0.005)
        seen.append(small.checked_out)
        return len(seen)

    assert await gather(small, *[read] * 5) == (1, 2, 3, 4, 5)
    assert seen == [1] * 5


async def test_c21_a_pool_without_limit_fans_out(make) -> None:
    """Where the pool has no limit, the fan-out has one of its own."""
    world = make(5, engine_options={"poolclass": NullPool})
    running, most = [], []

    async def read(shop: Any) -> None:
        await shop.books.count()
        running.append(1)
        most.append(len(running))
        await pause(world, 0.1)
        running.pop()

    await gather(world, *[read] * 24)

    assert 2 <= max(most) <= 16


async def test_c21_waiting_for_a_slot_has_a_limit(make) -> None:
    """If no slot becomes free in time, the error is that of a pool that is full."""
    world = make(2, timeouts=Timeouts(pool=0.2))
    lingering = []

    async def linger(shop: Any) -> None:
        lingering.append(1)
        await pause(world, 2)

    task = asyncio.create_task(gather(world, linger))
    assert await until(lambda: bool(lingering))
    start = time.monotonic()
    with pytest.raises(PoolTimeoutError):
        await gather(world, count)

    assert time.monotonic() - start < 1.5
    await task
    assert await gather(world, count) == (1,)


# -- one moment


def readings(world: World, writer: Callable[[], None]) -> Any:
    """Return a read of the stock, after which a writer commits before anything else happens."""
    lock, writes = threading.Lock(), []

    async def read(shop: Any) -> int:
        with lock:
            stock = int((await shop.books.get_one(1)).stock) if not world.driver.is_async else 0
        if world.driver.is_async:
            stock = int((await shop.books.get_one(1)).stock)
        with lock:
            writes.append(1)
            writer()
        again = {int(book.stock) for book in await shop.books.all()}
        assert again == {stock}, "one read saw two moments"
        return stock

    return read


@pytest.mark.parametrize("reads", [2, 3, 9])
async def test_c21_all_branches_see_the_same_moment(stocked: World, writer, reads: int) -> None:
    """Though somebody commits between them, and with more branches than connections."""
    if stocked.server != "PostgreSQL":
        pytest.skip("PostgreSQL shares snapshots")
    read = readings(stocked, writer)

    assert await gather(stocked, *[read] * reads, snapshot=True) == (5,) * reads
    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 5 + reads


async def test_c21_without_a_snapshot_each_branch_has_a_moment_of_its_own(stocked: World, writer) -> None:
    """What the tests beside this one would show if nothing was shared."""

    async def read(shop: Any) -> int:
        stock = int((await shop.books.get_one(1)).stock)
        writer()
        return stock

    assert len(set(await gather(stocked, *[read] * 9))) > 1


async def test_c21_only_postgresql_shares_a_snapshot(stocked: World) -> None:
    """Elsewhere it is refused, with the reason and the way out."""
    if stocked.server == "PostgreSQL":
        pytest.skip("PostgreSQL shares snapshots")
    with pytest.raises(DeclarationError, match=r'PostgreSQL.*fallback="sequential"'):
        await gather(stocked, count, count, snapshot=True)


@pytest.mark.parametrize("reads", [1, 2, 9])
async def test_c21_the_fallback_sees_one_moment(stocked: World, writer, reads: int) -> None:
    """One transaction after the other read; on PostgreSQL nothing falls back, and the result is the same."""
    results = await gather(stocked, *[readings(stocked, writer)] * reads, snapshot=True, fallback="sequential")

    assert results == (5,) * reads


async def test_c21_a_read_that_ends_the_block_takes_no_moment_from_the_others(stocked: World, writer) -> None:
    """A read may say rollback(); the next one sees the same moment all the same, or is refused."""

    async def ends(shop: Any) -> int:
        stock = int((await shop.books.get_one(1)).stock)
        await shop.rollback()
        writer()
        return stock

    async def read(shop: Any) -> int:
        return int((await shop.books.get_one(1)).stock)

    try:
        results = await gather(stocked, ends, read, read, read, read, snapshot=True, fallback="sequential")
    except UnitOfWorkError:
        return
    assert set(results) == {5}


# -- the proof


FAN_OUTS, ORDINARY = 200, 60


@pytest.mark.parametrize("options", [{}, {"snapshot": True}], ids=["plain", "snapshot"])
async def test_c21_two_hundred_fan_outs_on_five_connections(make, stocked: World, options) -> None:
    """200 requests that fan out 4 ways, and ordinary ones among them: all succeed, and half of the pool stays free."""
    if options and stocked.server != "PostgreSQL":
        pytest.skip("PostgreSQL shares snapshots")
    world = make(5, engine_options={"max_overflow": 0}, timeouts=Timeouts())
    most, waits = [0], []
    lock, in_branches = threading.Lock(), [0]

    async def read(shop: Any) -> int:
        with lock:
            in_branches[0] += 1
            most[0] = max(most[0], in_branches[0])
        try:
            return int(await shop.books.count())
        finally:
            with lock:
                in_branches[0] -= 1

    def ordinary() -> None:
        start = time.monotonic()
        with world.unit(world.naked) as shop:
            shop.authors.add(Author(name=f"author {time.monotonic_ns()} {threading.get_ident()}"))
            shop.session.flush()
            shop.rollback()
        waits.append(time.monotonic() - start)

    async def ordinary_async(number: int) -> None:
        await asyncio.sleep(number * 0.02)
        start = time.monotonic()
        async with world.unit(world.naked) as shop:
            shop.authors.add(Author(name=f"author {number}"))
            await shop.session.flush()
            await shop.rollback()
        waits.append(time.monotonic() - start)

    if world.driver.is_async:
        fan_outs = [world.naked.gather(world.unit, *[read] * 4, **options) for _ in range(FAN_OUTS)]
        results = await asyncio.gather(*fan_outs, *(ordinary_async(number) for number in range(ORDINARY)))
    else:
        reads = [in_colour(world, read)] * 4
        with ThreadPoolExecutor(FAN_OUTS) as fans, ThreadPoolExecutor(3) as others:
            ends = [fans.submit(world.naked.gather, world.unit, *reads, **options) for _ in range(FAN_OUTS)]
            ordinaries = [others.submit(ordinary) for _ in range(ORDINARY)]
            results = [end.result() for end in (*ends, *ordinaries)]

    assert results[:FAN_OUTS] == [(2, 2, 2, 2)] * FAN_OUTS
    assert most[0] <= 2, "more branches than half of the pool"
    assert len(waits) == ORDINARY
    assert max(waits) < 5
    assert world.checked_out == 0


async def test_c21_branches_take_at_most_half_of_the_pool(make) -> None:
    """Counted where connections leave the pool, over many fan-outs at once."""
    world = make(6, engine_options={"max_overflow": 0})
    lock, out, most = threading.Lock(), [0], [0]

    def taken(*_: Any) -> None:
        with lock:
            out[0] += 1
            most[0] = max(most[0], out[0])

    def given(*_: Any) -> None:
        with lock:
            out[0] -= 1

    event.listen(world.sync_engine, "checkout", taken)
    event.listen(world.sync_engine, "checkin", given)
    await asyncio.gather(*(gather(world, titles, names, count, titles, count) for _ in range(12)))

    assert 1 <= most[0] <= 3


# -- in an app


async def test_c21_gathers_in_a_route(stocked: World) -> None:
    """A route fans out, in either colour."""
    app = app_of(stocked)

    async def route() -> list[Any]:
        if stocked.driver.is_async:
            return list(await stocked.naked.gather(stocked.unit, titles, names))
        return list(stocked.naked.gather(stocked.unit, in_colour(stocked, titles), in_colour(stocked, names)))

    app.get("/")(coloured(stocked, route))

    response = await answer(app)

    assert response.json() == [["Emma", "Persuasion"], ["Jane Austen"]]


async def test_c20_inside_the_transaction_of_a_request_it_is_refused(stocked: World) -> None:
    """`transaction(Shop)` is an open block as any other."""
    app, raised = app_of(stocked), []

    async def route(shop: Any = transaction(stocked.unit)) -> None:
        with pytest.raises(ConcurrentUseError) as caught:
            await stocked.database.gather(stocked.unit, in_colour(stocked, count), in_colour(stocked, count))
        raised.append(caught.value)

    app.post("/")(route)

    await answer(app, method="POST")

    assert len(raised) == 1


@pytest.mark.parametrize("way", ["in a hook", "after commit()", "after rollback()"])
async def test_c1_a_block_that_was_ended_is_not_in_the_way(stocked: World, way: str) -> None:
    """commit() and rollback() end the block, whose `with` goes on; hooks run with none open."""
    found: list[Any] = []

    async def fan_out() -> None:
        reads = [in_colour(stocked, count)] * 2
        found.append(await stocked.database.gather(stocked.unit, *reads))

    async with stocked.shop() as shop:
        (await shop.books.get_one(1)).stock += 1
        if way == "in a hook":
            shop.after_commit(fan_out if stocked.driver.is_async else lambda: finished(fan_out()))
        await (shop.rollback() if way == "after rollback()" else shop.commit())
        if way != "in a hook":
            await fan_out()

    assert shop.outcome.hook_errors == ()
    assert found == [(1, 1)]


class Frame:
    """What compares as an array does: element by element, into something that is neither true nor false."""

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise ValueError("the truth value is ambiguous")


async def test_c21_a_read_may_return_anything(stocked: World) -> None:
    """Results are handed over, not compared."""

    async def frame(shop: Any) -> Frame:
        await shop.books.count()
        return Frame()

    number, found = await gather(stocked, count, frame)

    assert number == 1
    assert isinstance(found, Frame)


async def test_c21_a_failure_leaves_no_cancellation_behind(stocked: World) -> None:
    """The task that asked was not cancelled, so it does not count as cancelled afterwards."""
    if not stocked.driver.is_async:
        pytest.skip("threads are not cancelled")

    async def fail_late(shop: Any) -> None:
        await asyncio.sleep(0.05)
        raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        await gather(stocked, count, count, fail_late)

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_c21_reads_are_of_the_colour_of_the_unit(stocked: World) -> None:
    """A plain function for a sync unit, an async one for an async unit; and a class of units comes first."""
    wrong = (lambda shop: 1) if stocked.driver.is_async else count
    with pytest.raises(DeclarationError, match="A read of gather returned"):
        await stocked.database.gather(stocked.unit, wrong, wrong)
    with pytest.raises(DeclarationError, match="takes the class of a unit of work first"):
        await stocked.database.gather(Author, wrong, wrong)
    assert stocked.checked_out == 0
