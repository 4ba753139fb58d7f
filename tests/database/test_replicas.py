"""C22: a block that only reads may be served by a replica, in turn; everything else is served by the primary."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from colours import awaitable
from conftest import World
from deps.apps import finished
from servers import TEST_DATABASE, Driver, send
from sqlalchemy import event, make_url, text

from bookshop.models import Author, Base
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.database import _replicas as replicas_module
from fastkit.errors import (
    BlockMismatchError,
    CannotConnectError,
    ConnectionLostError,
    DatabaseClosedError,
    DeclarationError,
    ReadOnlyError,
    StatementTimeoutError,
)

pytestmark = pytest.mark.anyio

TIMEOUTS = Timeouts(connect=2, pool=2, statement=10, lock=2, commit=5, drain=2)
READS_MARK = {"fastkit_reads": True}


class Cluster:
    """A primary and its replicas, each with one author who says which of them answers; not really replicated."""

    def __init__(self, world: World, urls: list[str]) -> None:
        self.world = world
        self.urls = urls

    def make(self, *urls: Any, **options: Any) -> World:
        """Return a world on the primary with these replicas, or with all."""
        kind = AsyncDatabase if self.world.driver.is_async else Database
        options.setdefault("timeouts", TIMEOUTS)
        options.setdefault("pool_size", 2)
        return World(self.world.driver, kind(self.urls[0], replicas=urls or self.urls[1:], **options))


@pytest.fixture
async def cluster(world: World, driver: Driver, empty_sqlite: Any, tmp_path: Any) -> AsyncIterator[Cluster]:
    """Return a primary and two replicas with different rows; on the servers, three databases."""
    primary = world.naked.engine.url
    names = [f"{TEST_DATABASE}_replica{number}" for number in (1, 2)]
    if driver.server == "SQLite":
        for name in names:
            shutil.copy(empty_sqlite, tmp_path / f"{name}.db")
        urls = [primary, *(primary.set(database=str(tmp_path / f"{name}.db")) for name in names)]
    else:
        force = " WITH (FORCE)" if driver.server == "PostgreSQL" else ""
        send(driver.server, *(f"DROP DATABASE IF EXISTS {name}{force}" for name in names))
        send(driver.server, *(f"CREATE DATABASE {name}" for name in names))
        urls = [primary, *(primary.set(database=name) for name in names)]
    for url, name in zip(urls, ("primary", "one", "two"), strict=True):
        database = (AsyncDatabase if driver.is_async else Database)(url)
        await awaitable(database).create_all(Base.metadata)
        async with awaitable(world.unit(database)) as shop:
            shop.authors.add(Author(id=1, name=name))
            await shop.commit()
        await awaitable(database).close()
    yield Cluster(world, [make_url(url).render_as_string(hide_password=False) for url in urls])
    await asyncio.sleep(0.05)  # the thread of an aiosqlite connection that could not be made still tells its loop
    if driver.server != "SQLite":
        send(driver.server, *(f"DROP DATABASE {name}{force}" for name in names))


@pytest.fixture
async def served(cluster: Cluster) -> AsyncIterator[World]:
    """Return a database with two replicas, and check that no connection is left checked out anywhere."""
    world = cluster.make()
    yield world
    left = [world.checked_out, *(replica.checked_out for replica in world.naked.replicas)]
    await world.database.close()

    assert left == [0, 0, 0]


async def who(shop: Any) -> str:
    return str((await shop.authors.get_one(1)).name)


async def answering(world: World, **options: Any) -> str:
    """Return who serves a block with these options."""
    async with world.shop().block(**options) as shop:
        return await who(shop)


def in_colour(world: World, body: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return body if world.driver.is_async else lambda shop: finished(body(awaitable(shop)))


def nobody(url: str, tmp_path: Any) -> str:
    """Return the URL of a database that cannot be reached."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return parsed.set(database=str(tmp_path / "missing" / "shop.db")).render_as_string(hide_password=False)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    return parsed.set(port=port).render_as_string(hide_password=False)


# -- who answers


async def test_c22_blocks_that_only_read_go_to_the_replicas_in_turn(served: World) -> None:
    """Each block as a whole; every second one to the same."""
    assert [await answering(served, read_only=True) for _ in range(6)] == ["one", "two"] * 3

    async with served.shop().block(read_only=True) as shop:
        names = {await who(shop) for _ in range(4)} | {each.name for each in await shop.authors.all()}
        async with shop:
            names.add(await who(shop))
        async with shop.block(read_only=True):
            names.add(await who(shop))
    assert len(names) == 1


async def test_c22_everything_else_goes_to_the_primary(served: World) -> None:
    """Blocks that may write, reads outside a block, and blocks that ask for the primary."""
    assert await answering(served) == "primary"
    assert await answering(served, isolation="SERIALIZABLE") == "primary"
    assert await answering(served, read_only=False) == "primary"
    assert await answering(served, read_only=True, primary=True) == "primary"
    async with served.shop().begin() as shop:
        assert await who(shop) == "primary"
    async with served.serving() as shop:
        assert await who(shop) == "primary"
        assert (await shop.authors.all())[0].name == "primary"
        async with shop.block(read_only=True):
            assert await who(shop) in {"one", "two"}


async def test_c22_run_goes_to_the_primary(served: World) -> None:
    """What may run again writes."""

    async def rename(shop: Any) -> str:
        author = await shop.authors.get_one(1)
        before, author.name = author.name, "renamed"
        return str(before)

    assert await served.database.run(served.unit, in_colour(served, rename)) == "primary"
    assert await answering(served) == "renamed"


async def test_c21_gather_goes_to_the_primary(served: World) -> None:
    """Its reads are of what was just written; a replica can be asked by itself."""
    read = in_colour(served, who)
    if served.server == "PostgreSQL":
        assert await served.database.gather(served.unit, read, read, read, snapshot=True) == ("primary",) * 3

    assert await served.database.gather(served.unit, *[read] * 5) == ("primary",) * 5
    assert (
        await served.database.gather(served.unit, read, read, snapshot=True, fallback="sequential") == ("primary",) * 2
    )
    replica = awaitable(served.naked.replicas[1])
    assert await replica.gather(served.unit, read, read) == ("two", "two")


async def test_c22_a_replica_is_read_only(served: World) -> None:
    """By the guard and by the database, as every read-only block."""
    for _ in range(2):
        with pytest.raises(ReadOnlyError):
            async with served.shop().block(read_only=True) as shop:
                await who(shop)
                shop.authors.add(Author(name="Ovid"))
                await shop.session.flush()
        with pytest.raises(ReadOnlyError):
            async with served.shop().block(read_only=True) as shop:
                await shop.session.execute(text("UPDATE author SET name = 'x'").execution_options(**READS_MARK))


async def test_c9_a_nested_block_cannot_move_to_the_primary(served: World) -> None:
    """What a replica serves already is not ignored: it is told."""
    async with served.shop().block(read_only=True) as shop:
        await who(shop)
        with pytest.raises(BlockMismatchError, match="primary"):
            async with shop.block(primary=True):
                pass
        assert await who(shop) in {"one", "two"}

    async with served.shop() as shop, shop.block(primary=True):
        assert await who(shop) == "primary"
    async with served.shop().block(read_only=True, primary=True) as shop, shop.block(read_only=True, primary=True):
        assert await who(shop) == "primary"


async def test_c22_settings_of_a_block_are_gone_at_the_next_check_out(cluster: Cluster) -> None:
    """Read-only mode, isolation level and timeout hold for one block, on the one connection of a replica too."""
    world = cluster.make(cluster.urls[1], pool_size=1)
    replica = World(world.driver, world.naked.replicas[0])

    assert await answering(world, read_only=True, isolation="SERIALIZABLE", timeout=0.5) == "one"
    with pytest.raises(StatementTimeoutError):
        async with world.shop().block(read_only=True, timeout=0.2) as shop:
            await shop.session.execute(text(ENDLESS[world.server]).execution_options(**READS_MARK))
    async with replica.shop() as shop:
        (await shop.authors.get_one(1)).name = "written"
        await shop.commit()
    async with replica.shop() as shop:
        if world.server == "PostgreSQL":
            setting = text("SELECT current_setting('statement_timeout')").execution_options(**READS_MARK)
            assert await shop.session.scalar(setting) == "10s"
        if world.server == "MariaDB":
            setting = text("SELECT @@max_statement_time").execution_options(**READS_MARK)
            assert await shop.session.scalar(setting) == 10

    assert await answering(world, read_only=True) == "written"
    await world.database.close()


ENDLESS = {
    "PostgreSQL": "SELECT pg_sleep(20)",
    "MariaDB": "SELECT SLEEP(20) FROM author",
    "SQLite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
}


async def test_c22_without_replicas_the_primary_answers(world: World) -> None:
    """The same code runs where there are none."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="primary"))
        await shop.commit()

    assert await answering(world, read_only=True) == "primary"
    assert world.naked.replicas == ()


# -- a replica that is away


async def test_c22_an_unreachable_replica_is_left_alone(cluster: Cluster, tmp_path, caplog) -> None:
    """The block that meets it fails; the next ones go to another one, and the log says why."""
    world = cluster.make(nobody(cluster.urls[1], tmp_path), cluster.urls[2])

    with pytest.raises((CannotConnectError, ConnectionLostError)):
        await answering(world, read_only=True)

    assert [await answering(world, read_only=True) for _ in range(4)] == ["two"] * 4
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING and "replica" in each.message]
    assert len(warnings) == 1
    assert all(replica.checked_out == 0 for replica in world.naked.replicas)
    await world.database.close()


async def test_c22_without_any_replica_that_answers_the_primary_does(cluster: Cluster, tmp_path, monkeypatch) -> None:
    """Until a replica has been left alone for long enough; then it is tried again."""
    monkeypatch.setattr(replicas_module, "PENALTY", 2)
    away = [nobody(cluster.urls[number], tmp_path) for number in (1, 2)]
    world = cluster.make(*away)
    for _ in range(2):
        with pytest.raises((CannotConnectError, ConnectionLostError)):
            await answering(world, read_only=True)

    assert [await answering(world, read_only=True) for _ in range(3)] == ["primary"] * 3
    await asyncio.sleep(2.1)
    with pytest.raises((CannotConnectError, ConnectionLostError)):
        await answering(world, read_only=True)

    await world.database.close()


async def test_c22_opening_does_not_need_the_replicas(cluster: Cluster, tmp_path, caplog) -> None:
    """The app starts, says which replica it cannot reach, without its password, and does not ask it first."""
    away = make_url(nobody(cluster.urls[1], tmp_path))
    if away.get_backend_name() != "sqlite":
        away = away.set(password="s3cr3t")
    world = cluster.make(away.render_as_string(hide_password=False), cluster.urls[2])
    await world.database.open()

    assert [await answering(world, read_only=True) for _ in range(3)] == ["two"] * 3
    assert "cannot be reached" in caplog.text
    assert "s3cr3t" not in caplog.text
    await world.database.close()


async def test_c22_opening_needs_the_primary(cluster: Cluster, tmp_path) -> None:
    """Replicas that answer are no substitute."""
    kind = AsyncDatabase if cluster.world.driver.is_async else Database
    database = kind(nobody(cluster.urls[0], tmp_path), replicas=cluster.urls[1:], timeouts=TIMEOUTS)
    with pytest.raises(CannotConnectError):
        await awaitable(database).open()

    await awaitable(database).close()


async def test_c22_a_connection_lost_in_a_block_is_told_and_avoided(cluster: Cluster) -> None:
    """A replica that goes away in the midst of a block fails this one; the next goes elsewhere."""
    if cluster.world.server == "SQLite":
        pytest.skip("SQLite has no server that could go away")
    world = cluster.make(cluster.urls[1])
    kill = {"PostgreSQL": "SELECT pg_terminate_backend({})", "MariaDB": "KILL {}"}[world.server]
    own_id = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT CONNECTION_ID()"}[world.server]

    with pytest.raises((CannotConnectError, ConnectionLostError)):
        async with world.shop().block(read_only=True) as shop:
            number = await shop.session.scalar(text(own_id).execution_options(**READS_MARK))
            send(world.server, kill.format(number))
            await who(shop)

    assert await answering(world, read_only=True) == "primary"
    assert world.naked.replicas[0].checked_out == 0
    await world.database.close()


async def test_c22_an_error_of_the_app_is_not_the_fault_of_the_replica(served: World) -> None:
    """What the work raises, and what the database says about it, sends nobody elsewhere."""
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            async with served.shop().block(read_only=True) as shop:
                await who(shop)
                raise ValueError("no")
        with pytest.raises(Exception, match="no_such_table"):
            async with served.shop().block(read_only=True) as shop:
                await shop.session.execute(text("SELECT * FROM no_such_table").execution_options(**READS_MARK))

    assert {await answering(served, read_only=True) for _ in range(4)} == {"one", "two"}


async def test_c22_a_primary_that_is_away_is_nobody_elses_fault(cluster: Cluster, tmp_path, caplog) -> None:
    """A write that finds no primary fails, and the replicas go on."""
    kind = AsyncDatabase if cluster.world.driver.is_async else Database
    database = kind(nobody(cluster.urls[0], tmp_path), replicas=cluster.urls[1:], timeouts=TIMEOUTS)
    world = World(cluster.world.driver, database)
    with pytest.raises(CannotConnectError):
        await answering(world)

    assert {await answering(world, read_only=True) for _ in range(4)} == {"one", "two"}
    assert "replica" not in caplog.text
    await world.database.close()


# -- their life


async def test_c22_replicas_open_and_close_with_their_primary(served: World) -> None:
    """None is asked any more after the end, and their connections are closed; opened again, they serve again."""
    await served.database.open()
    closed: list[int] = []
    for replica in served.naked.replicas:
        engine = World(served.driver, replica).sync_engine
        event.listen(engine, "close", lambda *_: closed.append(1))
    await answering(served, read_only=True)
    await served.database.close()

    assert len(closed) == 2
    for options in ({}, {"read_only": True}):
        with pytest.raises(DatabaseClosedError):
            await answering(served, **options)
    for replica in served.naked.replicas:
        with pytest.raises(DatabaseClosedError):
            await answering(World(served.driver, replica))
    await served.database.open()

    assert {await answering(served, read_only=True) for _ in range(2)} == {"one", "two"}


async def test_c23_closing_waits_for_blocks_on_replicas(cluster: Cluster) -> None:
    """A block that a replica serves may finish, as those of the primary may; new ones are refused."""
    world = cluster.make(cluster.urls[1])
    entered, refused, ended = asyncio.Event(), [], []

    async def read() -> None:
        async with world.shop().block(read_only=True) as shop:
            await who(shop)
            entered.set()
            for _ in range(4):
                await asyncio.sleep(0.1)
                ended.append(await who(shop))

    async def try_another() -> None:
        await asyncio.sleep(0.15)
        with pytest.raises(DatabaseClosedError):
            await answering(world, read_only=True)
        refused.append(1)

    reading = asyncio.create_task(read())
    await entered.wait()
    start = time.monotonic()
    if world.driver.is_async:
        await asyncio.gather(world.database.close(), try_another())
    else:
        await asyncio.gather(asyncio.to_thread(world.naked.close), try_another())
    waited = time.monotonic() - start
    await reading

    assert ended == ["one"] * 4
    assert refused == [1]
    assert waited >= 0.3
    assert world.naked.replicas[0].checked_out == 0


async def test_c22_a_replica_may_be_a_database_that_is_there_already(cluster: Cluster) -> None:
    """With options of its own; a URL gets those of the primary."""
    kind = AsyncDatabase if cluster.world.driver.is_async else Database
    own = kind(cluster.urls[1], pool_size=7, timeouts=Timeouts(statement=3))
    world = cluster.make(own, cluster.urls[2], pool_size=4)

    assert world.naked.replicas[0] is own
    assert own.timeouts.statement == 3
    assert world.naked.replicas[1].capacity == world.naked.capacity
    assert world.naked.replicas[1].timeouts == TIMEOUTS
    assert [await answering(world, read_only=True) for _ in range(2)] == ["one", "two"]
    await world.database.close()


@pytest.mark.parametrize("wrong", ["shop.db", "oracle://x/y", "other colour"])
def test_c22_a_wrong_replica_is_told_at_once(driver: Driver, tmp_path, wrong: str) -> None:
    """As a wrong URL of the primary is."""
    kind = AsyncDatabase if driver.is_async else Database
    url = f"sqlite{'+aiosqlite' if driver.is_async else ''}:///{tmp_path}/a.db"
    if wrong == "other colour":
        wrong = f"sqlite{'' if driver.is_async else '+aiosqlite'}:///{tmp_path}/b.db"
    with pytest.raises(DeclarationError):
        kind(url, replicas=[wrong])
