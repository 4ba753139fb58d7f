"""C23: forked workers never share a connection; shutdown drains before it disposes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from colours import awaitable
from conftest import World
from servers import Driver
from sqlalchemy.util import greenlet_spawn

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.errors import DatabaseClosedError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# A process of its own forks, so that pytest does not; what a child prints is what it saw.
PARENT = """
import asyncio, os, signal, sys, threading, traceback, warnings
from sqlalchemy import text
from conftest import AsyncShop, Shop
from deps.apps import finished
from colours import awaitable
from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database

warnings.filterwarnings("ignore", "(?s).*multi-threaded, use of fork", DeprecationWarning)
os.register_at_fork(after_in_child=lambda: signal.alarm(40))  # no child outlives its test
url, is_async = sys.argv[1], sys.argv[2] == "async"
database = (AsyncDatabase if is_async else Database)(url, pool_size=3)
kind = AsyncShop if is_async else Shop
PID = {"postgresql": "SELECT pg_backend_pid()", "mariadb": "SELECT CONNECTION_ID()", "sqlite": "SELECT 0"}

def question(sql):
    return text(sql).execution_options(fastkit_reads=True)

async def backend():
    async with awaitable(kind(database)) as shop:
        return await shop.session.scalar(question(PID[database.dialect_name]))

async def many(name, times=60):
    "Ask many questions with known answers; a shared connection mixes the answers up."
    seen = set()
    async with awaitable(kind(database)) as shop:
        shop.authors.add(Author(name=name))
        await shop.commit()
    for number in range(times):
        async with awaitable(kind(database)) as shop:
            answer = await shop.session.scalar(question(f"SELECT '{name} {number}'"))
            assert answer == f"{name} {number}", (answer, name, number)
            assert await shop.authors.exists(Author.name == name)
            seen.add(await shop.session.scalar(question(PID[database.dialect_name])))
    return seen

runner = asyncio.Runner()

def run(body):
    return runner.run(body) if is_async else finished(body)

def say(result):
    "Write a line as a whole, because several processes write."
    os.write(1, f"{result}\\n".encode())

def child(work):
    "Fork; the child prints what its work returns and ends at once, as a worker that never comes back."
    pid = os.fork()
    if pid:
        return pid
    try:
        say(asyncio.run(work()) if is_async else finished(work()))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

def wait(*pids):
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

"""


def run(driver: Driver, url: str, body: str) -> list[str]:
    """Run a program that forks, and return the lines that it printed."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), *(str(ROOT / p) for p in PLACES)])
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-W",
            "error",
            "-W",
            "ignore::ResourceWarning",  # psycopg says that the child drops connections without closing them: so it must
            "-c",
            PARENT + body,
            url,
            "async" if driver.is_async else "sync",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


PLACES = ["src", "examples", "tests"]


@needs_fork
def test_c23_a_child_has_connections_of_its_own(driver: Driver, url: str) -> None:
    """The pool of the parent stays with the parent, who goes on with it, before and after the child has ended."""
    lines = run(
        driver,
        url,
        """
before = run(backend())
assert database.pool.checkedin() == 1
for _ in range(2):
    pid = child(backend)
    assert run(backend()) == before
    assert wait(pid) == [0]
    assert run(backend()) == before
    assert database.pool.checkedin() == 1
say(before)
""",
    )

    assert len(lines) == 3
    assert len(set(lines)) == (1 if driver.server == "SQLite" else 3)


@needs_fork
def test_c23_three_children_and_their_parent_mix_nothing_up(driver: Driver, url: str) -> None:
    """All work at once, each with answers of its own, on connections of its own."""
    lines = run(
        driver,
        url,
        """
run(many("before", 1))
children = [child(lambda name=name: many(name)) for name in ("one", "two", "three")]
say(run(many("parent")))
assert wait(*children) == [0, 0, 0]
async def names():
    async with awaitable(kind(database)) as shop:
        return sorted(each.name for each in await shop.authors.all())
assert run(names()) == ["before", "one", "parent", "three", "two"]
""",
    )
    backends = [eval(line) for line in lines]

    assert len(backends) == 4
    if driver.server != "SQLite":
        assert sum(len(each) for each in backends) == len(set().union(*backends))


@needs_fork
def test_c23_a_fork_inside_an_open_block_leaves_the_block_to_the_parent(driver: Driver, url: str) -> None:
    """The child has no part in it: it may open blocks of its own, and fan out; the parent commits."""
    run(
        driver,
        url,
        """
async def inside():
    shop = awaitable(kind(database))
    async with shop:
        shop.authors.add(Author(name="of the parent"))
        if database.dialect_name != "sqlite":  # whose lock is the file's, and would keep the child waiting
            await shop.session.flush()
        else:
            await shop.authors.exists(Author.id == 1)
        pid = os.fork()
        if not pid:
            try:
                if not is_async:  # a child beside a running loop cannot run another one
                    read = lambda s: s.authors.count()
                    database.gather(kind, read, read)
                    assert database.dialect_name == "sqlite" or finished(backend())  # the parent holds SQLite's lock
                assert database.checked_out == 0
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        assert wait(pid) == [0]
        assert not await shop.authors.exists(Author.name == "nobody")
        await shop.commit()

run(inside())
async def count():
    async with awaitable(kind(database)) as shop:
        return await shop.authors.count()
assert run(count()) == 1
""",
    )


@needs_fork
@pytest.mark.parametrize("use", ["read", "commit", "rollback", "error"])
def test_c23_a_unit_that_was_open_at_the_fork_is_refused_in_the_child(driver: Driver, url: str, use: str) -> None:
    """Its connection is the parent's: nothing is sent on it, also not when the child leaves the block."""
    if driver.is_async:
        pytest.skip("a child beside a running loop cannot go on with it")
    run(
        driver,
        url,
        f"""
use = {use!r}
"""
        """
from fastkit.errors import UnitClosedError
shop = kind(database)
with shop:
    shop.authors.add(Author(name="of the parent"))
    shop.session.flush()
    pid = os.fork()
    if not pid:
        try:
            try:
                with shop:
                    if use == "error":
                        raise UnitClosedError
                    shop.authors.count() if use == "read" else None
                {"read": shop.commit, "error": shop.commit, "commit": shop.commit, "rollback": shop.rollback}[use]()
            finally:
                shop.__exit__(*sys.exc_info())
        except UnitClosedError:
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0 if use == "rollback" else 2)
    assert wait(pid) == [0]
    shop.authors.add(Author(name="of the parent too"))
    shop.commit()
with kind(database) as shop:
    assert sorted(each.name for each in shop.authors.all()) == ["of the parent", "of the parent too"]
""",
    )


@needs_fork
def test_c23_a_child_of_a_replicated_database(driver: Driver, url: str) -> None:
    """Replicas start afresh too, and the slots of fan-outs."""
    lines = run(
        driver,
        url,
        """
database = type(database)(url, pool_size=4, replicas=[url])
async def ask():
    async with awaitable(kind(database)).block(read_only=True) as shop:
        backend = await shop.session.scalar(question(PID[database.dialect_name]))
    read = (lambda s: s.authors.count())
    results = database.gather(kind, read, read)
    assert (await results if is_async else results) == (0, 0)
    return backend
before = run(ask())
assert wait(child(ask), child(ask)) == [0, 0]
assert run(ask()) == before
say(before)
""",
    )

    assert len(set(lines)) == (1 if driver.server == "SQLite" else 3)


@needs_fork
def test_c23_a_fork_while_threads_are_at_work(driver: Driver, url: str) -> None:
    """Other threads hold connections and locks at the moment of the fork; the child knows nothing of them."""
    if driver.is_async or driver.server == "SQLite":
        pytest.skip("an event loop, and the locks of SQLite, live in the process and do not survive a fork at work")
    if not os.environ.get("FASTKIT_SLOW"):
        pytest.skip("the C library may hold a lock of its own at that moment; FASTKIT_SLOW=1 tries it")
    lines = run(
        driver,
        url,
        """
stop, failures = threading.Event(), []
def busy(number):
    try:
        while not stop.is_set():
            with kind(database) as shop:
                assert shop.session.scalar(question(f"SELECT {number}")) == number
            read = lambda s: s.authors.count()
            if number == 0:
                database.gather(kind, read, read)
    except BaseException as error:
        failures.append(error)
threads = [threading.Thread(target=busy, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]
for _ in range(5):
    def work():
        read = lambda s: s.authors.count()
        async def body():
            return database.gather(kind, read, read, read), await backend()
        return body()
    assert wait(child(work)) == [0]
stop.set()
[thread.join() for thread in threads]
assert not failures, failures
""",
    )

    assert len(lines) == 5


# -- drain


async def close(world: World) -> None:
    """Close as an app does: on the loop, or in a thread."""
    if world.driver.is_async:
        await world.naked.close()
    else:
        await asyncio.to_thread(world.naked.close)


async def test_c23_closing_waits_for_open_blocks(stocked: World) -> None:
    """A block with a connection may finish and commit; new ones are refused meanwhile."""
    entered = asyncio.Event()

    async def work() -> Any:
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).stock = 4
            await shop.session.flush()
            entered.set()
            await asyncio.sleep(0.3)
            assert await shop.books.count() == 2
            (await shop.books.get_one(2)).stock = 3
            await shop.commit()
            return shop.outcome.status

    task = asyncio.create_task(work())
    await entered.wait()
    closing = asyncio.create_task(close(stocked))
    await asyncio.sleep(0.1)
    for options in ({}, {"read_only": True}):
        with pytest.raises(DatabaseClosedError):
            async with stocked.shop().block(**options) as shop:
                await shop.books.count()
    async with stocked.serving() as shop:
        with pytest.raises(DatabaseClosedError):
            await shop.books.count()
    assert not closing.done()
    await closing

    assert await task is Status.COMMITTED
    assert stocked.checked_out == 0
    await stocked.database.open()
    async with stocked.shop() as shop:
        assert [book.stock for book in await shop.books.order_by(Book.id).all()] == [4, 3]


async def test_c23_closing_gives_up_after_the_drain_timeout(stocked: World, caplog) -> None:
    """A block that never ends does not hold the shutdown up; what it does later is refused, in both colours."""
    kind = AsyncDatabase if stocked.driver.is_async else Database
    world = World(stocked.driver, kind(stocked.naked.engine.url, timeouts=Timeouts(drain=0.2)))
    with pytest.raises(DatabaseClosedError):
        async with world.shop() as shop:
            await shop.books.all()
            start = time.monotonic()
            pool = world.naked.pool
            await close(world)
            waited = time.monotonic() - start
            await shop.books.all()

    assert 0.2 <= waited < 1.5
    assert "1 connection(s)" in caplog.text
    assert shop.outcome.status is Status.ROLLED_BACK
    await greenlet_spawn(pool.dispose)  # the connection came back late; a process that exits needs no such thing


@pytest.mark.parametrize("verb", ["read", "write", "commit", "savepoint"])
async def test_c23_a_block_that_is_used_only_after_the_end_leaks_nothing(stocked: World, verb: str) -> None:
    """It held no connection, so nobody waited for it; it gets none any more."""
    async with stocked.shop() as shop:
        await close(stocked)
        pool = stocked.naked.pool
        with pytest.raises(DatabaseClosedError):
            if verb == "read":
                await shop.books.all()
            elif verb == "savepoint":
                async with shop.savepoint():
                    await shop.books.get(1)
            else:
                shop.authors.add(Author(name="Ovid"))
                await (shop.commit() if verb == "commit" else shop.session.flush())
        if shop.outcome.status is Status.ACTIVE:
            await shop.rollback()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert pool.checkedout() == pool.checkedin() == 0


async def test_c23_closed_and_opened_again_it_works(stocked: World) -> None:
    """As often as wanted; a second close() is a no-op, and so is closing what was never opened."""
    for _ in range(3):
        await close(stocked)
        await close(stocked)
        with pytest.raises(DatabaseClosedError):
            async with stocked.shop() as shop:
                await shop.books.count()
        await stocked.database.open()
        async with stocked.shop() as shop:
            assert await shop.books.count() == 2
            assert stocked.checked_out == 1

    kind = AsyncDatabase if stocked.driver.is_async else Database
    never_opened = kind(stocked.naked.engine.url)
    await awaitable(never_opened).close()


async def test_c23_a_second_close_while_draining(stocked: World) -> None:
    """Two shutdowns at once, as of a signal and a lifespan, both end and break nothing."""
    entered = asyncio.Event()

    async def work() -> None:
        async with stocked.shop() as shop:
            await shop.books.count()
            entered.set()
            await asyncio.sleep(0.2)
            assert await shop.books.count() == 2

    task = asyncio.create_task(work())
    await entered.wait()
    await asyncio.gather(close(stocked), close(stocked))
    await task

    assert stocked.checked_out == 0


@needs_fork
@pytest.mark.parametrize("leaving", ["pass", "raise KeyError"])
def test_c23_a_savepoint_of_the_parent_is_not_ended_by_the_child(driver: Driver, url: str, leaving: str) -> None:
    """Nothing is sent on the parent's connection, whichever way the child leaves."""
    if driver.is_async or driver.server == "SQLite":
        pytest.skip("a child beside a running loop cannot run another one; a file has no connection to share")
    run(
        driver,
        url,
        f"""
import logging
from fastkit.errors import UnitClosedError

logging.disable()

with kind(database) as shop:
    pid = None
    try:
        with shop.savepoint():
            shop.authors.add(Author(name="of the parent"))
            shop.session.flush()
            pid = os.fork()
            if not pid:
                {leaving}
            else:
                assert wait(pid) == [0]
    except (UnitClosedError, KeyError):
        os._exit(0 if pid == 0 else 1)
    if pid == 0:
        os._exit(2)
    shop.commit()
with kind(database) as shop:
    assert shop.authors.count() == 1
""",
    )
