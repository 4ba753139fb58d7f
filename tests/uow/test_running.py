"""C16: `database.run` runs work in a unit of its own, and again in a new session when it lost against another."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from colours import awaitable
from conftest import World
from deps.apps import answer, app_of, coloured, finished, problem_of, rows
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase

from bookshop.models import Author, Base, Book
from fastkit.database import AsyncDatabase, Database, Retry, Timeouts
from fastkit.errors import (
    BlockMismatchError,
    CommitUnknownError,
    ConnectionLostError,
    DatabaseClosedError,
    DeadlockError,
    DeclarationError,
    LockTimeoutError,
    ReadOnlyError,
    SerializationError,
    TransactionDoomedError,
    UniqueError,
    UnitClosedError,
)
from fastkit.events import EventHandlers, RecordsEvents
from fastkit.service import Service
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

QUICK = Retry(attempts=5, delay=0.001)
LOSE = {
    "PostgreSQL": "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$",
    "MariaDB": "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'lost'",
}


def in_colour(world: World, body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return work in the colour of a world: an async function, or a real plain one."""
    return body if world.driver.is_async else lambda shop: finished(body(awaitable(shop)))


async def run(world: World, body: Callable[[Any], Any], *, unit: Any = None, **options: Any) -> Any:
    """Run one body in either colour."""
    options.setdefault("retry", QUICK)
    return await world.database.run(unit or world.unit, in_colour(world, body), **options)


async def stock(world: World, key: int = 1) -> int:
    """Return what is stored, as another unit sees it."""
    async with world.shop() as shop:
        return int((await shop.books.get_one(key)).stock)


async def sell(shop: Any) -> int:
    emma = await shop.books.get_one(1)
    emma.stock -= 1
    return int(emma.stock)


@dataclass
class Losing:
    """Work that loses the first attempts; counts them."""

    times: int
    error: Callable[[], BaseException] = lambda: SerializationError("lost")
    attempts: int = 0

    async def __call__(self, shop: Any) -> int:
        """Sell a copy, and lose all the same."""
        self.attempts += 1
        left = await sell(shop)
        await shop.session.flush()
        if self.attempts <= self.times:
            raise self.error()
        return left


# -- what it does


async def test_c16_the_work_runs_in_a_block_that_commits(stocked: World) -> None:
    """A clean exit commits; what the work returns is returned, and the connection is back."""
    assert await run(stocked, sell) == 4

    assert stocked.checked_out == 0
    assert await stock(stocked) == 4


async def test_c16_an_error_rolls_back_and_is_not_repeated(stocked: World) -> None:
    """What is no lost race leaves as it is, at once, with nothing stored."""
    error = ValueError("no")
    work = Losing(5, lambda: error)
    with pytest.raises(ValueError, match="no") as caught:
        await run(stocked, work)

    assert caught.value is error
    assert not getattr(error, "__notes__", [])
    assert work.attempts == 1
    assert await stock(stocked) == 5


async def test_c16_an_error_of_the_database_that_repeating_does_not_help(stocked: World) -> None:
    """A constraint refuses the second time too."""
    attempts = []

    async def work(shop: Any) -> None:
        attempts.append(1)
        shop.authors.add(Author(id=9, name="Jane Austen"))

    with pytest.raises(UniqueError):
        await run(stocked, work)

    assert len(attempts) == 1


@pytest.mark.parametrize("kind", [SerializationError, DeadlockError])
async def test_c16_a_lost_race_runs_again(stocked: World, kind: type[Exception]) -> None:
    """Each attempt begins where the first began; only the one that succeeds is stored."""
    work = Losing(3, lambda: kind("lost"))

    assert await run(stocked, work) == 4
    assert work.attempts == 4
    assert stocked.checked_out == 0
    assert await stock(stocked) == 4


async def test_c16_a_lock_timeout_runs_again_only_on_sqlite(stocked: World) -> None:
    """Elsewhere it means that somebody holds a lock for long."""
    work = Losing(1, lambda: LockTimeoutError("busy"))
    if stocked.server == "SQLite":
        assert await run(stocked, work) == 4
        return
    with pytest.raises(LockTimeoutError):
        await run(stocked, work)

    assert work.attempts == 1


async def test_c16_the_options_are_those_of_a_block(stocked: World) -> None:
    """Isolation level, read-only mode and timeout reach the database on each attempt."""
    seen = []

    async def work(shop: Any) -> None:
        assert await shop.books.count() == 2
        if stocked.server == "PostgreSQL":
            level = text("SELECT current_setting('transaction_isolation')").execution_options(fastkit_reads=True)
            seen.append(await shop.session.scalar(level))
        if len(seen) == 1:
            raise SerializationError("lost")

    async def write(shop: Any) -> None:
        await sell(shop)
        await shop.session.flush()

    await run(stocked, work, isolation="SERIALIZABLE", timeout=5, durable=True)
    with pytest.raises(ReadOnlyError):
        await run(stocked, write, read_only=True)

    assert seen == (["serializable"] * 2 if stocked.server == "PostgreSQL" else [])
    assert await stock(stocked) == 5


# -- where the error is found


@contextmanager
def written_by_another(world: World) -> Iterator[sqlite3.Connection | None]:
    """Hold the write lock of SQLite from outside; on a server, do nothing."""
    if world.server != "SQLite":
        yield None
        return
    other = sqlite3.connect(world.sync_engine.url.database, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield other
    finally:
        other.close()


async def lose(shop: Any) -> None:
    """Let the database itself refuse: by a race on the servers' side, or because SQLite is busy."""
    kind = shop.session.get_bind().dialect.name
    if kind == "sqlite":
        await shop.books.all()
    else:
        await shop.session.execute(text(LOSE["PostgreSQL" if kind == "postgresql" else "MariaDB"]))


async def plainly(shop: Any) -> None:
    await lose(shop)


async def wrapped(shop: Any) -> None:
    try:
        await lose(shop)
    except Exception as error:
        raise RuntimeError("of the app") from error


async def in_its_handling(shop: Any) -> None:
    try:
        await lose(shop)
    except Exception:
        raise RuntimeError("of the app")  # noqa: B904 - the context is what is tested


async def hidden(shop: Any) -> None:
    try:
        await lose(shop)
    except Exception:
        raise RuntimeError("of the app") from None


async def grouped(shop: Any) -> None:
    try:
        await lose(shop)
    except Exception as error:
        raise ExceptionGroup("several", [ValueError("other"), ExceptionGroup("inner", [error])])  # noqa: B904 - same


async def swallowed(shop: Any) -> None:
    with suppress(Exception):
        await lose(shop)


async def swallowed_and_gone_on(shop: Any) -> None:
    with suppress(Exception):
        await lose(shop)
    await sell(shop)


async def in_a_nested_block(shop: Any) -> None:
    with suppress(Exception):
        async with shop:
            await lose(shop)


async def in_a_savepoint(shop: Any) -> None:
    async with shop.savepoint():
        await lose(shop)


async def past_the_guard(shop: Any) -> None:
    """As code does that was written for plain SQLAlchemy: the error is SQLAlchemy's own."""
    connection = await shop.session.connection()
    kind = connection.dialect.name
    try:
        await connection.execute(text(LOSE["PostgreSQL" if kind == "postgresql" else "MariaDB"]))
    except DBAPIError as error:
        raise error.with_traceback(None) from None


WAYS = [plainly, wrapped, in_its_handling, hidden, grouped, swallowed, swallowed_and_gone_on, in_a_nested_block]


@pytest.fixture
async def impatient(stocked: World) -> World:
    """Return a database that waits for locks only briefly."""
    if stocked.server == "SQLite":
        await stocked.database.close()
        kind = AsyncDatabase if stocked.driver.is_async else Database
        naked = kind(stocked.naked.engine.url, pool_size=4, timeouts=Timeouts(lock=0.02, pool=5))
        stocked.naked, stocked.database = naked, awaitable(naked)
    return stocked


@pytest.mark.parametrize("way", [*WAYS, in_a_savepoint, past_the_guard])
async def test_c16_the_error_of_the_database_is_found_wherever_it_is(impatient: World, way) -> None:
    """Wrapped, hidden, in a group, swallowed, or past the guard: a real refusal is repeated."""
    attempts = []
    if impatient.server == "SQLite" and way in {in_a_savepoint, past_the_guard}:
        pytest.skip("BEGIN IMMEDIATE is what is refused, before there is a savepoint or a connection")
    with written_by_another(impatient) as other:

        async def work(shop: Any) -> int:
            attempts.append(1)
            if len(attempts) <= 2:
                await way(shop)
                return -1
            if other is not None:
                other.rollback()
            return await sell(shop)

        assert await run(impatient, work) == 4

    assert len(attempts) == 3
    assert await stock(impatient) == 4


async def test_c16_what_was_handled_before_does_not_count(stocked: World) -> None:
    """A run in the handler of another lost race does not take that race for its own."""
    work = Losing(9, lambda: ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        try:
            raise SerializationError("an earlier one, elsewhere")
        except SerializationError:
            await run(stocked, work)

    assert work.attempts == 1


async def test_c16_an_error_raised_by_commit_runs_again(stocked: World, monkeypatch) -> None:
    """COMMIT itself may be what loses."""
    dialect, real, refused = stocked.sync_engine.dialect, stocked.sync_engine.dialect.do_commit, []

    def refuse(connection: Any) -> None:
        if len(refused) < 2:
            refused.append(1)
            raise SerializationError("lost at COMMIT")
        real(connection)

    monkeypatch.setattr(dialect, "do_commit", refuse)

    assert await run(stocked, sell) == 4
    assert len(refused) == 2
    monkeypatch.undo()
    assert await stock(stocked) == 4


async def test_c16_a_pivot_is_refused_at_commit_and_runs_again(stocked: World) -> None:
    """PostgreSQL tells a write skew at COMMIT: here by another transaction in the midst of the first attempt."""
    if stocked.server != "PostgreSQL":
        pytest.skip("only PostgreSQL waits with it until COMMIT")
    seen: list[int] = []
    outcomes = []

    async def other(shop: Any) -> None:
        left = (await shop.books.get_one(1)).stock
        (await shop.books.get_one(2)).stock = left + 100

    async def work(shop: Any) -> None:
        seen.append((await shop.books.get_one(2)).stock)
        (await shop.books.get_one(1)).stock = seen[-1] + 1
        await shop.session.flush()
        if len(seen) == 1:
            async with stocked.shop().begin(isolation="SERIALIZABLE") as second:
                await other(second)
        outcomes.append("body ended")

    await run(stocked, work, isolation="SERIALIZABLE")

    assert seen == [5, 105]
    assert len(outcomes) == 2, "it was not COMMIT that refused"
    assert await stock(stocked) == 106


# -- each attempt is a new one


async def test_c16_each_attempt_has_a_new_session(stocked: World) -> None:
    """Nothing of a failed attempt is left in the next: sessions, objects and repositories are new."""
    sessions, books, repositories = [], [], []

    async def work(shop: Any) -> None:
        sessions.append(getattr(shop.session, "naked", shop.session))
        repositories.append(getattr(shop.books, "naked", shop.books))
        books.append(await shop.books.get_one(1))
        books[-1].stock -= 1
        if len(books) < 3:
            raise SerializationError("lost")

    await run(stocked, work)

    assert len({id(each) for each in sessions}) == 3
    assert len({id(each) for each in repositories}) == 3
    assert len({id(each) for each in books}) == 3
    assert await stock(stocked) == 4


async def test_c16_a_repository_kept_from_before_says_why_it_is_closed(stocked: World) -> None:
    """Read it from the unit again: the message says so."""
    kept: list[Any] = []

    async def work(shop: Any) -> int:
        kept.append(shop.books)
        if len(kept) == 1:
            await sell(shop)
            raise SerializationError("lost")
        with pytest.raises(UnitClosedError, match="new attempt"):
            await kept[0].get(1)
        return int((await kept[1].get_one(1)).stock)

    assert await run(stocked, work) == 5


async def test_c16_hooks_and_events_of_failed_attempts_are_dropped(stocked: World) -> None:
    """Those of the attempt that succeeds run once, after the commit, with no connection in use."""

    class Own(DeclarativeBase):
        metadata = Base.metadata

    class Told(RecordsEvents, Own):
        __table__ = Base.metadata.tables["author"]

    @dataclass(frozen=True)
    class Named:
        attempt: int

    handlers, before, after, hooked = EventHandlers(), [], [], []

    class Loud(stocked.unit, events=handlers):  # type: ignore[name-defined,misc]  # the colour of the world
        pass

    handlers.before_commit(Named)(lambda event, shop: before.append(event.attempt))
    handlers.after_commit(Named)(lambda event: after.append((event.attempt, stocked.checked_out)))
    attempts = []

    async def work(shop: Any) -> None:
        attempts.append(1)
        told = Told(id=70, name="Ovid")
        shop.session.add(told)
        told.record(Named(len(attempts)))
        shop.after_commit(lambda number=len(attempts): hooked.append((number, stocked.checked_out)))
        await shop.session.flush()
        if len(attempts) < 3:
            raise SerializationError("lost")

    await run(stocked, work, unit=Loud)

    assert hooked == [(3, 0)]
    assert before == [3]
    assert after == [(3, 0)]
    assert rows(stocked, Author) == 2


async def test_c17_a_hook_that_fails_repeats_nothing(stocked: World) -> None:
    """The work is stored; even a lost race in a hook is none of its own."""
    work, raised = Losing(0), []

    def hook() -> None:
        raised.append(1)
        raise SerializationError("in the hook")

    async def with_hook(shop: Any) -> int:
        shop.after_commit(hook)
        return await work(shop)

    assert await run(stocked, with_hook) == 4
    assert work.attempts == len(raised) == 1
    assert await stock(stocked) == 4


# -- limits


async def test_c16_the_last_error_is_raised_with_a_note(stocked: World) -> None:
    """After so many attempts it is given up; the error of the last says how many there were."""
    errors: list[BaseException] = []

    def new() -> BaseException:
        errors.append(SerializationError(f"lost {len(errors)}"))
        return errors[-1]

    work = Losing(99, new)
    with pytest.raises(SerializationError) as caught:
        await run(stocked, work, retry=Retry(attempts=3, delay=0.001))

    assert work.attempts == 3
    assert caught.value is errors[-1]
    assert any("3 attempt" in note for note in caught.value.__notes__)
    assert stocked.checked_out == 0
    assert await stock(stocked) == 5


async def test_c16_the_deadline_ends_it(stocked: World) -> None:
    """However many attempts are allowed."""
    work, start = Losing(9999), time.monotonic()
    with pytest.raises(SerializationError):
        await run(stocked, work, retry=Retry(attempts=1000, deadline=0.3, delay=0.05, max_delay=0.05))

    assert work.attempts > 1
    assert time.monotonic() - start < 1.5


async def test_c16_no_connection_is_held_in_the_pause(stocked: World, monkeypatch) -> None:
    """Whoever lost lets others have the connection while it waits."""
    seen = []
    monkeypatch.setattr("random.uniform", lambda low, high: seen.append(stocked.checked_out) or 0.0)

    await run(stocked, Losing(2))

    assert seen == [0, 0]


# -- what is never repeated


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "not stored"])
async def test_c13_an_unknown_commit_is_never_repeated(stocked: World, monkeypatch, stored: bool) -> None:
    """It may be stored already: the caller is told, whatever came before."""
    work, dialect, real = Losing(0), stocked.sync_engine.dialect, stocked.sync_engine.dialect.do_commit

    def cut(connection: Any) -> None:
        if stored:
            real(connection)
        try:
            raise SerializationError("lost")
        except SerializationError as error:
            raise ConnectionLostError("gone") from error

    monkeypatch.setattr(dialect, "do_commit", cut)
    with pytest.raises(CommitUnknownError):
        await run(stocked, work)
    monkeypatch.undo()

    assert work.attempts == 1
    assert await stock(stocked) == (4 if stored else 5)


async def test_c16_work_that_has_committed_is_never_repeated(stocked: World) -> None:
    """What it stored would be stored twice."""
    attempts = []

    async def work(shop: Any) -> None:
        attempts.append(1)
        await sell(shop)
        await shop.commit()
        raise SerializationError("after the commit")

    with pytest.raises(SerializationError):
        await run(stocked, work)

    assert len(attempts) == 1
    assert await stock(stocked) == 4


async def test_c16_work_that_has_rolled_back_by_itself_may_run_again(stocked: World) -> None:
    """Nothing was stored, so nothing is stored twice; and on its own it is a clean end."""
    attempts = []

    async def work(shop: Any) -> str:
        attempts.append(1)
        await sell(shop)
        await shop.rollback()
        if len(attempts) == 1:
            raise SerializationError("lost")
        return "ended"

    assert await run(stocked, work) == "ended"
    assert len(attempts) == 2
    assert await stock(stocked) == 5


@pytest.fixture
def cancellable(stocked: World) -> World:
    """Return an async database; a sync one cannot be cancelled."""
    if not stocked.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    return stocked


async def cancelled_at(world: World, reached: asyncio.Event, body: Callable[[Any], Any], retry: Retry = QUICK) -> None:
    """Run *body*, cancel it when it has got so far, and expect nothing but the cancellation."""
    task = asyncio.create_task(run(world, body, retry=retry))
    await asyncio.wait_for(reached.wait(), 5)
    await asyncio.sleep(0.02)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled(), "the cancellation was swallowed"
    assert world.checked_out == 0


@pytest.mark.parametrize("handling", [False, True], ids=["in the body", "while a lost race is handled"])
async def test_c16_a_cancellation_is_not_repeated(cancellable: World, handling: bool) -> None:
    """Whoever cancels wants no further attempt, also while the work looks at a race that it lost."""
    reached, attempts = asyncio.Event(), []

    async def work(shop: Any) -> None:
        attempts.append(1)
        await sell(shop)
        try:
            if handling:
                raise SerializationError("lost")
        finally:
            reached.set()
            await asyncio.sleep(3 if len(attempts) == 1 else 0)
        reached.set()

    await cancelled_at(cancellable, reached, work)

    assert len(attempts) == 1
    assert await stock(cancellable) == 5


async def test_c16_a_cancellation_during_the_rollback_is_not_repeated(cancellable: World, monkeypatch) -> None:
    """The rollback of a lost attempt ends, then the cancellation arrives, and nothing runs again."""
    from sqlalchemy.util import await_only

    dialect, real, reached = cancellable.sync_engine.dialect, cancellable.sync_engine.dialect.do_rollback, []
    event, work = asyncio.Event(), Losing(1)

    def slow(connection: Any) -> None:
        if work.attempts == 1 and not reached:
            reached.append(1)
            event.set()
            await_only(asyncio.sleep(0.3))
        real(connection)

    monkeypatch.setattr(dialect, "do_rollback", slow)
    await cancelled_at(cancellable, event, work)
    monkeypatch.undo()

    assert work.attempts == 1
    assert await stock(cancellable) == 5


async def test_c16_a_cancellation_in_the_pause_ends_it(cancellable: World, monkeypatch) -> None:
    """Between two attempts nothing is held, and nothing more begins."""
    monkeypatch.setattr("random.uniform", lambda low, high: 3.0)
    event, attempts = asyncio.Event(), []

    async def work(shop: Any) -> None:
        attempts.append(1)
        event.set()
        raise SerializationError("lost")

    await cancelled_at(cancellable, event, work, Retry(attempts=5))

    assert len(attempts) == 1


async def test_c16_a_timeout_around_it_holds(cancellable: World) -> None:
    """asyncio.timeout ends all attempts together, although the cancellation meets a lost race."""

    async def work(shop: Any) -> str:
        await sell(shop)
        try:
            raise SerializationError("lost")
        except SerializationError:
            await asyncio.sleep(5)
            raise

    start = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await run(cancellable, work, retry=Retry(attempts=5, delay=0.001))

    assert time.monotonic() - start < 2
    assert cancellable.checked_out == 0


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
async def test_c16_an_interrupt_is_not_repeated(stocked: World, leaving: type[BaseException]) -> None:
    """Ctrl-C while a lost race is handled ends the program, not the attempt."""
    if stocked.driver.is_async:
        pytest.skip("asyncio ends its loop with such an error; the decision is the same")
    attempts = []

    def work(shop: Any) -> None:
        attempts.append(1)
        shop.books.all()
        try:
            raise SerializationError("lost")
        except SerializationError:
            raise leaving from None

    with pytest.raises(leaving):
        stocked.naked.run(stocked.unit, work, retry=QUICK)

    assert len(attempts) == 1


async def test_a_closed_database_runs_nothing(stocked: World) -> None:
    """Told at once, not after ten attempts."""
    await stocked.database.close()
    with pytest.raises(DatabaseClosedError):
        await run(stocked, sell)
    await stocked.database.open()

    assert await run(stocked, sell) == 4


# -- real races


RACES = [
    ("PostgreSQL", "SERIALIZABLE"),
    ("PostgreSQL", "REPEATABLE READ"),
    ("MariaDB", "SERIALIZABLE"),
    ("SQLite", "SERIALIZABLE"),
]
RUNNERS, SALES = 6, 4


async def pause(world: World, seconds: float) -> None:
    if world.driver.is_async:
        await asyncio.sleep(seconds)
    else:
        time.sleep(seconds)


@pytest.mark.parametrize(("server", "isolation"), RACES, ids=[f"{server} {level}" for server, level in RACES])
async def test_c16_concurrent_changes_are_counted_exactly(impatient: World, server: str, isolation: str) -> None:
    """24 increments that all run into each other, by 6 tasks or threads, give exactly 24."""
    if impatient.server != server:
        pytest.skip(f"a race of {server}")
    attempts, retry = [], Retry(attempts=200, deadline=60, delay=0.01, max_delay=0.2)

    async def increment(shop: Any) -> None:
        attempts.append(1)
        emma = await shop.books.get_one(1)
        await pause(impatient, 0.005)
        emma.stock += 1

    work = in_colour(impatient, increment)

    async def several() -> None:
        for _ in range(SALES):
            await impatient.naked.run(impatient.unit, work, retry=retry, isolation=isolation)

    def several_sync() -> None:
        for _ in range(SALES):
            impatient.naked.run(impatient.unit, work, retry=retry, isolation=isolation)

    if impatient.driver.is_async:
        await asyncio.gather(*(several() for _ in range(RUNNERS)))
    else:
        with ThreadPoolExecutor(RUNNERS) as threads:
            for each in [threads.submit(several_sync) for _ in range(RUNNERS)]:
                each.result()

    assert await stock(impatient) == 5 + RUNNERS * SALES
    assert len(attempts) > RUNNERS * SALES, "nobody ran into anybody: the test shows nothing"
    assert impatient.checked_out == 0


async def test_c16_busy_sqlite_is_waited_for(impatient: World) -> None:
    """Another process that writes for longer than the lock timeout is waited for by trying again."""
    if impatient.server != "SQLite":
        pytest.skip("SQLite")
    with written_by_another(impatient) as other:
        assert other is not None
        freeing = asyncio.get_running_loop().run_in_executor(None, lambda: (time.sleep(0.4), other.rollback()))

        assert await run(impatient, sell, retry=Retry(attempts=100, delay=0.02)) == 4
        await freeing


async def test_c16_busy_sqlite_is_given_up_in_the_end(impatient: World) -> None:
    """If it stays busy, the error says so, and how often it was tried."""
    if impatient.server != "SQLite":
        pytest.skip("SQLite")
    with written_by_another(impatient):
        with pytest.raises(LockTimeoutError) as caught:
            await run(impatient, sell, retry=Retry(attempts=3, delay=0.001))

    assert any("3 attempt" in note for note in caught.value.__notes__)


# -- in an app


def seller_of(world: World) -> Any:
    """Return a service that sells a copy, in the colour of a world."""

    class Seller(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        async def sell(self, key: int) -> int:
            shop = awaitable(self.uow)
            book = await shop.books.get_one(key)
            book.stock -= 1
            return int(book.stock)

    return Seller


async def test_c16_runs_in_a_route_with_a_service(stocked: World) -> None:
    """A route gives a service to `run`; a lost race is repeated, and giving up is a problem document."""
    app, seller, lost = app_of(stocked), seller_of(stocked), []

    async def route(losses: int) -> int:
        async def work(shop: Any) -> int:
            left = int(await seller(shop).sell(1))
            if len(lost) < losses:
                lost.append(1)
                raise SerializationError("lost")
            return left

        return int(await stocked.database.run(stocked.unit, in_colour(stocked, work), retry=QUICK))

    app.post("/{losses}")(coloured(stocked, route))

    good = await answer(app, "/2", method="POST")
    lost.clear()
    bad = await answer(app, "/99", method="POST")

    assert good.json() == 4
    assert problem_of(bad)["status"] == 409
    assert len(lost) == 5
    assert await stock(stocked) == 4


async def test_c16_the_unit_of_run_is_not_the_one_of_others(stocked: World) -> None:
    """It is made for the run, refuses use after it, and says that it was stored."""
    kept: list[Any] = []

    async def work(shop: Any) -> None:
        kept.append(shop)
        await sell(shop)

    await run(stocked, work)

    assert kept[0].outcome.status is Status.COMMITTED
    with pytest.raises(UnitClosedError):
        await kept[0].books.get(1)


async def test_c16_a_nested_run_of_the_same_unit_is_refused(stocked: World) -> None:
    """A part of a transaction cannot run again: `@transactional(retry=...)` inside a run says so."""
    from fastkit.uow import transactional

    if stocked.driver.is_async:

        @transactional(retry=QUICK)
        async def inner(shop: Any) -> None: ...
    else:

        @transactional(retry=QUICK)
        def inner(shop: Any) -> None: ...

    async def work(shop: Any) -> None:
        answer = inner(getattr(shop, "naked", shop))
        if answer is not None:
            await answer

    with pytest.raises(BlockMismatchError, match="retry inside an open block"):
        await run(stocked, work)


async def test_c7_a_swallowed_error_that_is_no_lost_race_is_not_repeated(stocked: World) -> None:
    """The doom is told once, with its cause."""
    attempts = []

    async def work(shop: Any) -> None:
        attempts.append(1)
        with suppress(UniqueError):
            shop.authors.add(Author(id=9, name="Jane Austen"))
            await shop.session.flush()

    with pytest.raises(TransactionDoomedError):
        await run(stocked, work)

    assert len(attempts) == 1
    async with stocked.shop() as shop:
        assert await shop.authors.count() == 1
        assert await shop.books.count(Book.stock == 5) == 2


@pytest.mark.parametrize("started", [False, True])
async def test_c16_work_inside_another_block_is_refused(stocked: World, started: bool) -> None:
    """It would wait for what that block has locked, and need a second connection; after commit() it may run."""

    async def rename(shop: Any) -> None:
        (await shop.books.get_one(1)).title = "renamed"

    async with stocked.shop() as shop:
        if started:
            (await shop.books.get_one(1)).stock = 1
            await shop.session.flush()
        with pytest.raises(BlockMismatchError, match="Another block is open here"):
            await run(stocked, rename)
        await shop.commit()
        await run(stocked, rename)

    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).title == "renamed"


@pytest.mark.parametrize("retry", [3, None, "often"])
async def test_c16_what_is_no_retry_is_told_at_once(stocked: World, retry: Any) -> None:
    """Not only when a race is lost; nothing is run."""

    async def work(shop: Any) -> None:
        raise AssertionError("it was run")

    with pytest.raises(DeclarationError, match=r"write Retry\(attempts="):
        await run(stocked, work, retry=retry)


async def test_c16_work_of_the_other_colour_is_told(stocked: World) -> None:
    """A coroutine that nobody awaits must not pass for work that was done; nothing is stored."""

    async def add(shop: Any) -> None:
        """Do nothing."""

    def add_sync(shop: Any) -> None:
        shop.authors.add(Author(name="never"))

    with pytest.raises(DeclarationError, match="What is to be run returned"):
        await stocked.database.run(stocked.unit, add_sync if stocked.driver.is_async else add)
    with pytest.raises(DeclarationError, match="takes the class of a unit of work first"):
        await stocked.database.run(Author, add)
    async with stocked.shop() as shop:
        assert not await shop.authors.exists(Author.name == "never")


async def test_c16_each_new_attempt_is_logged(stocked: World, caplog: pytest.LogCaptureFixture) -> None:
    """With the kind of race that was lost, and no values."""
    tries = []

    async def work(shop: Any) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise SerializationError("lost")

    with caplog.at_level("INFO", logger="fastkit.database"):
        await run(stocked, work)

    told = [each.getMessage() for each in caplog.records if each.name == "fastkit.database"]
    assert [each.split(" begins")[0] for each in told] == [
        f"A race was lost (SerializationError): attempt {number}" for number in (2, 3)
    ]
