"""`lock()`: one block at a time, whatever the process, until the block ends, however it ends."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from cancels import by_scope, by_task_cancel, by_task_cancel_twice, by_timeout
from children import Child
from conftest import TIMEOUTS, AsyncShop, Shop, World, book
from repository.scenes import ON_SQLITE, rival, sync_session
from sqlalchemy import Connection, text
from sweep import cancelled_everywhere, only_a_sample

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.errors import (
    ConnectionLostError,
    DeadlockError,
    DeclarationError,
    FastkitError,
    LockTimeoutError,
    OutsideBlockError,
    ReadOnlyError,
    TransactionDoomedError,
    UnavailableError,
    UnitClosedError,
)
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

NAME = "invoice-numbers"
ODD_NAMES = ["ä" * 10_000, "x'; DROP TABLE book; --", '"', "%s %(name)s :name ?", "\0", "🔒\n", " a ", "\\"]


async def is_free(world: World, name: str = NAME) -> bool:
    """Return whether another block is given the lock at once."""
    async with world.shop() as other:
        try:
            await other.lock(name, timeout=0)
        except LockTimeoutError:
            return False
        await other.rollback()
    return True


def held(world: World) -> int:
    """Return how many named locks are held or waited for on the server, as it says itself."""
    asked = {
        "PostgreSQL": "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE locktype = 'advisory' AND datname = current_database()",
        "MariaDB": "SELECT count(*) FROM information_schema.PROCESSLIST"
        " WHERE DB = DATABASE() AND IS_USED_LOCK(:name) = ID",
    }
    with rival(world) as other:
        name = {"name": _name_on_mariadb(world)} if world.server == "MariaDB" else {}
        return int(other.execute(text(asked[world.server]), name).scalar_one())


def _name_on_mariadb(world: World) -> str:
    """Return what the lock is called there; every version of an app must mean the same."""
    whole = f"{world.naked.engine.url.database}\0{NAME}"
    return "fastkit." + hashlib.blake2b(whole.encode(), digest_size=16).hexdigest()


def number_of(connection: Connection) -> int:
    """Return by what number the server knows a connection."""
    ask = "pg_backend_pid()" if connection.dialect.name == "postgresql" else "CONNECTION_ID()"
    return int(connection.execute(text(f"SELECT {ask}")).scalar_one())


class TestExclusion:
    """One at a time."""

    async def test_nobody_else_gets_the_lock_until_the_block_ends(self, world: World) -> None:
        """It is refused at once to who does not wait, and given after the block."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            during = await is_free(world)
            await shop.rollback()

        assert during is False
        assert await is_free(world)

    async def test_another_name_is_another_lock(self, world: World) -> None:
        """Except on SQLite, where a block that may write is alone."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            other = await is_free(world, "other")

        assert other is (world.server != "SQLite")

    async def test_it_keeps_out_other_processes(self, world: World) -> None:
        """A child that holds it keeps this process out until it is killed."""
        with Child("holder.py", sync_url(world), NAME) as child:
            child.wait_for("holds")
            during = await is_free(world)
            child.kill()

            assert during is False
            assert await _becomes_free(world)

    async def test_whoever_waits_gets_it_when_the_block_ends(self, world: World) -> None:
        """Waiting ends with the block of the other, and sees what it stored."""
        patient = Timeouts(connect=5, pool=5, statement=60, lock=60, commit=5, drain=2)
        database = Database(sync_url(world), pool_size=2, timeouts=patient)
        seen: list[int] = []
        reached = threading.Event()

        def wait() -> None:
            with Shop(database) as other:
                reached.set()
                other.lock(NAME)
                seen.append(other.authors.count())

        async with world.shop() as shop:
            await shop.lock(NAME)
            shop.authors.add(Author(id=1, name="Ovid"))
            await shop.session.flush()
            thread = threading.Thread(target=wait)
            thread.start()
            await asyncio.to_thread(reached.wait)
            before = list(seen)
            await shop.commit()
        await asyncio.to_thread(thread.join)
        database.close()

        assert (before, seen) == ([], [1])

    async def test_a_counter_without_gaps(self, world: World) -> None:
        """Eight workers take the next number five times each: there are forty, and none twice."""
        patient = Timeouts(connect=10, pool=30, statement=60, lock=60, commit=60, drain=5)
        kind: Any = AsyncDatabase if world.driver.is_async else Database
        database = kind(world.naked.engine.url, pool_size=8, timeouts=patient)
        if world.driver.is_async:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(_five_numbers_async(database))
            await database.close()
        else:
            with ThreadPoolExecutor(8) as pool:
                await asyncio.gather(
                    *(asyncio.get_running_loop().run_in_executor(pool, _five_numbers, database) for _ in range(8))
                )
            database.close()

        async with world.shop() as shop:
            numbers = sorted(int(author.name) for author in await shop.authors.all())
        assert numbers == list(range(40))

    async def test_two_that_wait_for_each_other_do_not_hang(self, world: World) -> None:
        """One is told of a deadlock, or that it waited too long; the other goes on."""
        if world.server == "SQLite":
            pytest.skip("has one lock")
        database = Database(sync_url(world), pool_size=2, timeouts=TIMEOUTS)
        both = threading.Barrier(2)
        ended: list[type[FastkitError] | None] = []

        def cross(first: str, second: str) -> None:
            try:
                with Shop(database) as shop:
                    shop.lock(first)
                    both.wait()
                    shop.lock(second, timeout=60)
            except FastkitError as error:
                ended.append(type(error))
            else:
                ended.append(None)

        threads = [threading.Thread(target=cross, args=names) for names in (("a", "b"), ("b", "a"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        database.close()

        assert sorted(ended, key=str) == [DeadlockError, None]


def _five_numbers(database: Database) -> None:
    for _ in range(5):
        with Shop(database) as shop:
            shop.lock(NAME)
            shop.authors.add(Author(name=str(shop.authors.count())))
            shop.commit()


async def _five_numbers_async(database: AsyncDatabase) -> None:
    for _ in range(5):
        async with AsyncShop(database) as shop:
            await shop.lock(NAME)
            shop.authors.add(Author(name=str(await shop.authors.count())))
            await shop.commit()


async def _becomes_free(world: World, seconds: float = 30) -> bool:
    """Wait until the lock is free; a server takes a moment to see that a client is gone."""
    deadline = time.monotonic() + seconds
    while not await is_free(world):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True


def sync_url(world: World) -> str:
    """Return the URL of the same database for a sync driver."""
    name = {"SQLite": "sqlite", "PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}[world.server]
    return world.naked.engine.url.set(drivername=name).render_as_string(hide_password=False)


class TestEnd:
    """The lock ends with its block."""

    @pytest.mark.parametrize("end", ["commit", "rollback", "error", "constraint", "left", "begin"])
    async def test_it_is_free_after_every_end(self, world: World, end: str) -> None:
        """Nothing is held by the connection that went back into the pool, says the server itself."""
        during = 0
        with suppress(ZeroDivisionError, FastkitError):
            async with world.shop() if end != "begin" else world.shop().begin() as shop:
                await shop.lock(NAME)
                during = held(world) if world.server != "SQLite" else 1
                if end in {"commit", "rollback"}:
                    await getattr(shop, end)()
                elif end == "error":
                    raise ZeroDivisionError
                elif end == "constraint":
                    shop.books.add_all([book(1, "Emma"), book(2, "Emma")])
                    await shop.commit()

        assert (during, world.checked_out) == (1, 0)
        if world.server != "SQLite":
            assert held(world) == 0
        assert await is_free(world)

    async def test_commit_ends_it_inside_the_with(self, world: World) -> None:
        """When commit() returns, the next one may go on."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            before = await is_free(world)
            await shop.commit()

            assert (before, await is_free(world)) == (False, True)

    async def test_a_lock_of_a_nested_block_is_held_by_the_outermost(self, world: World) -> None:
        """There is one transaction, and the lock ends with it."""
        async with world.shop() as shop:
            async with shop:
                await shop.lock(NAME)
                await shop.commit()

            assert await is_free(world) is False
            await shop.rollback()

    async def test_the_next_user_of_the_connection_holds_nothing(self, world: World) -> None:
        """Of a pool with a single connection, too."""
        kind: Any = AsyncDatabase if world.driver.is_async else Database
        single = World(world.driver, kind(world.naked.engine.url, pool_size=1, timeouts=TIMEOUTS))
        async with single.shop() as shop:
            await shop.lock(NAME)
            await shop.commit()
        async with single.shop().block(read_only=True) as shop:
            await shop.authors.count()

            assert await is_free(world)
        await single.database.close()

    @pytest.mark.parametrize("cancel", [by_task_cancel, by_task_cancel_twice, by_timeout, by_scope])
    async def test_cancelled_while_it_holds_it(self, world: World, cancel: Any) -> None:
        """A cancellation ends the block, and the lock with it."""
        if not world.driver.is_async:
            pytest.skip("a thread cannot be cancelled")
        reached = asyncio.Event()

        async def work() -> None:
            async with world.shop() as shop:
                await shop.lock(NAME)
                reached.set()
                await asyncio.Event().wait()

        with suppress(asyncio.CancelledError, TimeoutError):
            await cancel(work(), reached)

        assert world.checked_out == 0
        assert await _becomes_free(world)
        assert world.server == "SQLite" or held(world) == 0

    async def test_cancelled_while_it_waits_for_it(self, world: World) -> None:
        """Whoever gave up waiting holds nothing later on."""
        if not world.driver.is_async or world.server == "SQLite":
            pytest.skip("a thread cannot be cancelled, nor can SQLite while it waits")
        async with world.shop() as shop:
            await shop.lock(NAME)

            async def wait() -> None:
                async with world.shop() as other:
                    await other.lock(NAME, timeout=60)

            waiting = asyncio.create_task(wait())
            while not _waiting(world):
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await shop.commit()

        assert await _becomes_free(world)
        assert held(world) == 0

    async def test_c23_cancelled_at_every_await(self, world: World) -> None:
        """The sweep of SQLAlchemy's own tests finds no leaked connection, no lost slot and no bad pool."""
        if not world.driver.is_async:
            pytest.skip("a thread cannot be cancelled")
        only_a_sample(world.server != "SQLite")
        url = world.naked.engine.url

        def make_engine() -> Any:
            return AsyncDatabase(url, pool_size=2, timeouts=TIMEOUTS).engine

        async def scenario(engine: Any) -> None:
            async with AsyncShop(AsyncDatabase(engine, timeouts=TIMEOUTS)) as shop:
                await shop.lock(NAME, timeout=1)
                await shop.authors.count()

        assert await cancelled_everywhere(make_engine, scenario, cancels=1) == []
        assert await _becomes_free(world)

    async def test_a_killed_connection_holds_nothing(self, world: World) -> None:
        """Its block can store nothing any more, and the lock is free."""
        if world.server == "SQLite":
            pytest.skip("has no connections to be killed")
        with pytest.raises(ConnectionLostError):
            async with world.shop() as shop:
                await shop.lock(NAME)
                number = number_of(sync_session(shop).connection()) if not world.driver.is_async else None
                if number is None:
                    number = await shop.session.run_sync(lambda session: number_of(session.connection()))
                kill(world, number)
                await _becomes_free(world)
                shop.authors.add(Author(name="Ovid"))
                await shop.commit()

        assert await is_free(world)
        assert held(world) == 0


def _waiting(world: World) -> int:
    """Return how many wait for a lock on a name."""
    asked = {
        "PostgreSQL": "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
        " WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()",
        "MariaDB": "SELECT count(*) FROM information_schema.PROCESSLIST WHERE DB = DATABASE() AND STATE = 'User lock'",
    }
    with rival(world) as other:
        return int(other.execute(text(asked[world.server])).scalar_one())


def kill(world: World, number: int) -> None:
    """Let the server end a connection."""
    word = "SELECT pg_terminate_backend(:n)" if world.server == "PostgreSQL" else "KILL :n"
    with rival(world) as other:
        other.execute(text(word), {"n": number})


class TestWaiting:
    """Every wait has a limit."""

    @pytest.mark.parametrize("seconds", [0, 0.05])
    async def test_it_is_told_by_its_name(self, world: World, seconds: float) -> None:
        """What happened, where, and what to do."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            with pytest.raises(LockTimeoutError, match=r"lock\('invoice-numbers'\) was not given.*timeout="):
                async with world.shop() as other:
                    await other.lock(NAME, timeout=seconds)
            await shop.rollback()

    async def test_without_a_timeout_the_limit_is_that_of_the_database(self, world: World) -> None:
        """`Timeouts.lock`."""
        kind: Any = AsyncDatabase if world.driver.is_async else Database
        hasty = World(world.driver, kind(world.naked.engine.url, timeouts=Timeouts(lock=0.05)))
        async with world.shop() as shop:
            await shop.lock(NAME)
            with pytest.raises(LockTimeoutError, match=r"within 0\.05 s"):
                async with hasty.shop() as other:
                    await other.lock(NAME)
            await shop.rollback()
        await hasty.database.close()

    async def test_the_wait_may_be_longer_than_a_statement(self, world: World) -> None:
        """The limit for statements does not cut it off, and is in force again after it."""
        if world.server == "SQLite":
            pytest.skip("limits only what it computes")
        async with world.shop() as shop:
            await shop.lock(NAME)
            with pytest.raises(LockTimeoutError, match="was not given"):
                async with world.shop().block(timeout=0.05) as other:
                    await other.lock(NAME, timeout=0.5)
            await shop.rollback()

    async def test_the_limits_are_the_same_after_a_wait(self, world: World) -> None:
        """A block that had to wait has its own limits afterwards."""
        if world.server != "PostgreSQL":
            pytest.skip("sets them for the wait")
        asked = text("SELECT current_setting('lock_timeout') || ' ' || current_setting('statement_timeout')")
        asked = asked.execution_options(fastkit_reads=True)
        with Child("holder.py", sync_url(world), NAME) as child:
            child.wait_for("holds")
            async with world.shop().block(timeout=7) as shop:
                before = await shop.session.scalar(asked)
                child.tell("end when somebody waits")
                await shop.lock(NAME, timeout=60)
                after = await shop.session.scalar(asked)

        assert (before, after) == ("2s 7s", "2s 7s")

    @pytest.mark.parametrize("seconds", [0, 0.05])
    async def test_the_block_is_doomed_on_every_database(self, world: World, seconds: float) -> None:
        """Whoever swallows the error works without the lock, so nothing of it is stored."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            with pytest.raises(TransactionDoomedError, match="LockTimeoutError was raised") as caught:
                async with world.shop() as other:
                    with pytest.raises(LockTimeoutError) as refused:
                        await other.lock(NAME, timeout=seconds)
                    await other.authors.count()
            await shop.rollback()

        assert caught.value.__cause__ is refused.value  # which names the lock, whatever the server said

    async def test_a_wait_that_the_server_ends(self, world: World) -> None:
        """It is no wait that took too long: MariaDB answers neither yes nor no."""
        if world.server != "MariaDB":
            pytest.skip("others have an error for it")
        database = Database(sync_url(world), pool_size=1, timeouts=TIMEOUTS)
        ended: list[FastkitError] = []
        numbers: list[int] = []

        def wait() -> None:
            try:
                with Shop(database) as other:
                    numbers.append(number_of(other.session.connection()))
                    other.lock(NAME, timeout=60)
            except FastkitError as error:
                ended.append(error)

        async with world.shop() as shop:
            await shop.lock(NAME)
            thread = threading.Thread(target=wait)
            thread.start()
            while not _waiting(world):
                await asyncio.sleep(0.01)
            with rival(world) as other:
                other.execute(text("KILL QUERY :n"), {"n": numbers[0]})
            await asyncio.to_thread(thread.join)
            await shop.rollback()
        database.close()

        assert [type(error) for error in ended] == [UnavailableError]

    async def test_in_a_savepoint_the_block_goes_on(self, world: World) -> None:
        """A refused lock is an error like any other: a savepoint takes it back."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            async with world.shop() as other:
                with suppress(LockTimeoutError):
                    async with other.savepoint():
                        await other.lock(NAME, timeout=0)
                if world.server != "SQLite":
                    assert await other.authors.count() == 0
            await shop.rollback()

    @ON_SQLITE
    async def test_on_sqlite_the_wait_for_writers_is_the_same_afterwards(self, world: World) -> None:
        """A lock that did not wait leaves a connection that waits."""
        asked = text("PRAGMA busy_timeout").execution_options(fastkit_reads=True)
        async with world.shop() as shop:
            await shop.lock(NAME, timeout=0)

            assert await shop.session.scalar(asked) == TIMEOUTS.lock_ms
            assert await is_free(world) is False


class TestUse:
    """When it may be called, and with what."""

    async def test_twice_is_once(self, world: World) -> None:
        """In a nested block too; one end frees it."""
        async with world.shop() as shop:
            await shop.lock(NAME)
            async with shop:
                await shop.lock(NAME, timeout=0)
            await shop.lock(NAME)
            await shop.commit()

        assert await is_free(world)

    async def test_several_at_once(self, world: World) -> None:
        """All are held, and all end."""
        async with world.shop() as shop:
            await shop.lock("a")
            await shop.lock("b")
            during = [await is_free(world, name) for name in "ab"]
            await shop.rollback()

        assert during == [False, False]
        assert [await is_free(world, name) for name in "ab"] == [True, True]

    async def test_after_a_rolled_back_savepoint_it_can_be_taken_again(self, world: World) -> None:
        """PostgreSQL frees it with the savepoint; to ask again makes it sure on every database."""
        async with world.shop() as shop:
            with suppress(ZeroDivisionError):
                async with shop.savepoint():
                    await shop.lock(NAME)
                    raise ZeroDivisionError
            between = await is_free(world)
            await shop.lock(NAME)
            after = await is_free(world)
            await shop.rollback()

        assert between is (world.server == "PostgreSQL")
        assert after is False

    async def test_outside_a_block_it_raises(self, world: World) -> None:
        """A lock that no block holds keeps nobody out."""
        async with world.serving() as shop:
            with pytest.raises(OutsideBlockError, match=r"lock\(\) needs an open block"):
                await shop.lock(NAME)

            assert world.checked_out == 0

    @ON_SQLITE
    async def test_after_the_end_it_raises(self, world: World) -> None:
        """After commit() there is no block, after the `with` no unit."""
        async with world.shop() as shop:
            await shop.commit()
            with pytest.raises(OutsideBlockError, match="already ended"):
                await shop.lock(NAME)
        with pytest.raises(UnitClosedError):
            await shop.lock(NAME)

    async def test_in_a_read_only_block_it_raises(self, world: World) -> None:
        """A replica may serve it; every database says the same."""
        async with world.shop().block(read_only=True) as shop:
            with pytest.raises(ReadOnlyError, match="this block is read-only"):
                await shop.lock(NAME)

    @ON_SQLITE
    @pytest.mark.parametrize("name", ["", "  ", None, 7, b"name", "\ud800"])
    async def test_what_is_no_name_is_refused(self, world: World, name: Any) -> None:
        """An empty name is a variable that was not set."""
        async with world.shop() as shop:
            with pytest.raises(DeclarationError, match=r"lock\("):
                await shop.lock(name)

    @ON_SQLITE
    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 86_401, "1", True])
    async def test_what_is_no_time_is_refused(self, world: World, seconds: Any) -> None:
        """Every wait has an end."""
        async with world.shop() as shop:
            with pytest.raises(DeclarationError, match="0 to 86400 seconds"):
                await shop.lock(NAME, timeout=seconds)

    async def test_odd_names(self, world: World) -> None:
        """Long ones, quotes, and what means something to a driver: each is a lock of its own."""
        async with world.shop() as shop:
            for name in ODD_NAMES:
                await shop.lock(name)
            free = [await is_free(world, name) for name in ODD_NAMES]
            await shop.rollback()

        assert not any(free)
        assert all([await is_free(world, name) for name in ODD_NAMES])

    async def test_names_that_differ_in_case_or_in_their_ends_are_different(self, world: World) -> None:
        """No collation has a say."""
        if world.server == "SQLite":
            pytest.skip("has one lock")
        async with world.shop() as shop:
            await shop.lock("a" * 100)
            free = [await is_free(world, name) for name in ("A" * 100, "a" * 99, "a" * 100 + " ", "ä" * 100)]

        assert free == [True] * 4

    async def test_what_was_read_before_is_read_again(self, stocked: World) -> None:
        """Whoever held the lock may have changed it."""
        if stocked.server != "PostgreSQL":
            pytest.skip("a snapshot, or a lock, keeps others' changes out of the block")
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            with rival(stocked) as other:
                other.execute(text("UPDATE book SET stock = 77 WHERE id = 1"))
                other.commit()
            await shop.lock(NAME)
            again = await shop.books.get_one(1)

            assert (again is emma, emma.stock) == (True, 77)

    async def test_to_lock_is_not_to_write(self, world: World) -> None:
        """A block that only locked loses nothing when it ends without commit()."""
        async with world.serving() as shop:
            async with shop:
                await shop.lock(NAME)

            assert shop.outcome.status is Status.ROLLED_BACK

    async def test_databases_of_one_server_share_no_names(self, world: World) -> None:
        """On MariaDB all of them have the same user locks, so the database is a part of the name."""
        if world.server == "SQLite":
            pytest.skip("has no server")
        elsewhere = Database(world.naked.engine.url.set(drivername=_SYNC[world.server], database="test"))
        async with world.shop() as shop:
            await shop.lock(NAME)
            with Shop(elsewhere) as other:
                other.lock(NAME, timeout=0)
        elsewhere.close()


_SYNC = {"PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}


def test_the_key_of_a_name_stays_the_same() -> None:
    """Two versions of an app that run at the same time must mean the same lock."""
    from fastkit.database._postgresql import lock_key

    keys = {lock_key(f"name-{number}") for number in range(10_000)}

    assert lock_key(NAME) == 653283531703050405
    assert len(keys) == 10_000
    assert all(-(2**63) <= key < 2**63 for key in keys)
