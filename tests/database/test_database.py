"""Database and AsyncDatabase: made from any URL, opened, drained and closed, with a clear word for what is wrong."""

from __future__ import annotations

import asyncio
import builtins
import socket
import sys
import time
from typing import Any

import pytest
from colours import awaitable
from conftest import TIMEOUTS, World
from servers import Driver
from sqlalchemy import create_engine, event, select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from bookshop.models import Author, Base
from fastkit.database import NAMING_CONVENTION, AsyncDatabase, Database, Timeouts
from fastkit.errors import CannotConnectError, DatabaseClosedError, DeclarationError, PoolTimeoutError, UnitClosedError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "url", ["", "shop.db", "postgres", "://", "sqlite:/", "oracle://x/y", "nonsense+driver://host/name", "mssql://a/b"]
)
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_a_wrong_url_is_told_at_once(kind: type[Any], url: str) -> None:
    """What is no URL, or no database that fastkit knows, fails when the object is made, with an example."""
    with pytest.raises(DeclarationError, match=r"looks like postgresql|fastkit knows|cannot use"):
        kind(url)


@pytest.mark.parametrize(
    ("kind", "url", "remedy"),
    [
        (Database, "sqlite+aiosqlite:///shop.db", "sqlite:///"),
        (AsyncDatabase, "sqlite:///shop.db", r"sqlite\+aiosqlite://"),
        (Database, "postgresql+asyncpg://h/d", r"postgresql\+psycopg://"),
        (AsyncDatabase, "mysql+pymysql://h/d", r"mysql\+asyncmy://"),
        (Database, "mariadb+asyncmy://h/d", r"mariadb\+pymysql://"),
    ],
)
def test_a_driver_of_the_other_colour_is_refused(kind: type[Any], url: str, remedy: str) -> None:
    """The message names the driver to write instead."""
    with pytest.raises(DeclarationError, match=remedy.replace(":///", "://")):
        kind(url)


def test_psycopg_serves_both_colours() -> None:
    """Psycopg is one driver for both; a bare postgresql:// means it."""
    for url in ("postgresql://h/d", "postgresql+psycopg://h/d"):
        assert Database(url).engine.dialect.driver == "psycopg"
        assert AsyncDatabase(url).engine.dialect.is_async


@pytest.mark.parametrize(
    ("kind", "url", "module", "extra"),
    [
        (AsyncDatabase, "postgresql+asyncpg://h/d", "asyncpg", "postgres"),
        (Database, "mariadb+pymysql://h/d", "pymysql", "mysql"),
        (AsyncDatabase, "sqlite+aiosqlite:///shop.db", "aiosqlite", "sqlite"),
    ],
)
def test_a_missing_driver_names_the_extra(kind: type[Any], url: str, module: str, extra: str, monkeypatch) -> None:
    """Without its driver installed the message is the command that installs it."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == module:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "fastkit.database._aiosqlite", raising=False)

    with pytest.raises(DeclarationError, match=rf"pip install 'fastkit-blocks\[{extra}\]'"):
        kind(url)


@pytest.mark.parametrize(
    "url",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&cache=shared&uri=true"],
)
@pytest.mark.parametrize("kind", [Database, AsyncDatabase])
def test_an_in_memory_sqlite_is_refused_with_the_remedy(kind: type[Any], url: str) -> None:
    """One connection cannot serve concurrent requests; the message says what can."""
    if kind is AsyncDatabase:
        url = url.replace("sqlite:", "sqlite+aiosqlite:")

    with pytest.raises(DeclarationError, match="vfs=memdb"):
        kind(url)


async def test_the_remedy_for_in_memory_sqlite_works() -> None:
    """The memdb URL of the message serves several connections of one database."""
    database = AsyncDatabase("sqlite+aiosqlite:///file:/remedy?vfs=memdb&uri=true", timeouts=TIMEOUTS)
    await database.create_all(Base.metadata)
    async with database.session() as one, database.session() as two:
        one.add(Author(name="Ovid"))
        await one.commit()

        assert await two.scalar(select(Author.name)) == "Ovid"
    await database.close()


@pytest.mark.parametrize("name", ["connect", "pool", "statement", "lock", "commit", "drain"])
def test_a_timeout_is_above_zero(name: str) -> None:
    """Zero would mean "no limit" to one driver and "at once" to another, so it is refused."""
    with pytest.raises(DeclarationError, match=name):
        Timeouts(**{name: 0})


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(
    "name",
    ["postgresql+psycopg", "postgresql+psycopg_async", "postgresql+asyncpg", "mariadb+pymysql", "mariadb+asyncmy"],
)
async def test_a_database_that_is_down_is_told_at_start(name: str) -> None:
    """Opening fails with CannotConnectError, which shows no password."""
    is_async = name.endswith(("_async", "asyncpg", "asyncmy"))
    url = f"{name.removesuffix('_async')}://shop:s3cr3t@127.0.0.1:{free_port()}/shop"
    database = (AsyncDatabase if is_async else Database)(url, timeouts=TIMEOUTS)
    with pytest.raises(CannotConnectError) as caught:
        async with database.lifespan(None):
            pass

    assert "s3cr3t" not in str(caught.value)
    assert "s3cr3t" not in repr(database)


async def test_a_sqlite_file_in_a_missing_folder_is_told_at_start(tmp_path) -> None:
    """SQLite cannot make folders."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/missing/shop.db")
    with pytest.raises(CannotConnectError):
        await database.open()
    await asyncio.sleep(0.05)  # the thread of aiosqlite says goodbye to the event loop


async def test_lifespan_opens_and_closes(world: World) -> None:
    """After the lifespan every use raises; a new lifespan opens the same object again."""
    async with world.naked.lifespan(None):
        async with world.shop() as shop:
            assert await shop.authors.count() == 0
    with pytest.raises(DatabaseClosedError):
        async with world.shop() as shop:
            await shop.authors.count()
    async with world.serving() as shop:
        with pytest.raises(DatabaseClosedError):
            await shop.authors.count()

    async with world.naked.lifespan(None):
        async with world.shop() as shop:
            assert await shop.authors.count() == 0


async def test_closing_waits_for_the_connections_in_use(stocked: World) -> None:
    """A commit in flight at shutdown is finished before its connection is closed."""
    if not stocked.driver.is_async:
        pytest.skip("the sync drain is the same loop")
    at_work = asyncio.Event()
    returned: list[str] = []
    event.listen(stocked.sync_engine.pool, "checkin", lambda *_: returned.append("connection"))

    async def work() -> None:
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).stock = 4
            await shop.session.flush()
            returned.clear()
            at_work.set()
            await asyncio.sleep(0.3)
            await shop.commit()

    task = asyncio.create_task(work())
    await at_work.wait()
    await stocked.database.close()

    assert returned == ["connection"]
    await task
    assert stocked.checked_out == 0


async def test_closing_does_not_wait_for_ever(stocked: World, caplog) -> None:
    """A connection that never comes back holds the shutdown up for the drain timeout only."""
    if not stocked.driver.is_async:
        pytest.skip("the sync drain is the same loop")
    database = AsyncDatabase(stocked.naked.engine.url, timeouts=Timeouts(drain=0.2))
    pool = database.engine.sync_engine.pool
    async with stocked.unit(database) as shop:
        await shop.books.all()
        start = time.monotonic()
        await database.close()
        waited = time.monotonic() - start
    await greenlet_spawn(pool.dispose)  # a process that exits needs no such thing

    assert 0.2 <= waited < 1.5
    assert "1 connection(s)" in caplog.text


async def test_a_full_pool_is_unavailable_not_a_hang(stocked: World) -> None:
    """When no connection becomes free in time, the error says so."""
    if not stocked.driver.is_async or stocked.server == "SQLite":
        pytest.skip("on SQLite writers wait for each other before the pool is empty")
    database = AsyncDatabase(stocked.naked.engine.url, pool_size=1, timeouts=Timeouts(pool=0.2))
    assert database.capacity == 1

    async with stocked.unit(database) as first:
        await first.authors.count()
        with pytest.raises(PoolTimeoutError):
            async with stocked.unit(database) as second:
                await second.authors.count()
    await database.close()


def test_capacity_is_what_the_pool_can_give(driver: Driver) -> None:
    """Half as many connections again may be opened under load."""
    if driver.is_async:
        pytest.skip("the same pool")
    name = driver.url if driver.server != "SQLite" else "sqlite:///shop.db"

    assert Database(name, pool_size=4).capacity == 6
    assert Database(name, engine_options={"max_overflow": -1}).capacity is None


async def test_an_engine_that_the_app_already_has_is_used_and_not_disposed(tmp_path) -> None:
    """Fastkit adds its set-up to the engine, and leaves its end to who made it."""
    engine = create_engine(f"sqlite:///{tmp_path}/own.db")
    database = Database(engine)
    database.create_all(Base.metadata)
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
    database.close()

    assert engine.pool.checkedin() == 1
    engine.dispose()

    async_engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/own.db")
    async_database = AsyncDatabase(async_engine)
    await async_database.open()
    await async_database.close()
    assert async_engine.pool.checkedin() == 1  # type: ignore[attr-defined]
    await async_engine.dispose()


async def test_a_plain_session_is_a_plain_session(stocked: World) -> None:
    """For code that wants no unit of work, session() is SQLAlchemy's own."""
    if not stocked.driver.is_async:
        with stocked.naked.session() as session:
            session.add(Author(id=7, name="Ovid"))
            session.commit()
        return
    async with stocked.naked.session() as session:
        session.add(Author(id=7, name="Ovid"))
        await session.commit()


def test_the_naming_convention_names_everything() -> None:
    """Every constraint of a table gets a name that tells table and columns."""
    from sqlalchemy import CheckConstraint, Column, ForeignKey, Integer, MetaData, Table

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    Table("author", metadata, Column("id", Integer, primary_key=True))
    book = Table(
        "book",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("isbn", Integer, unique=True),
        Column("author_id", ForeignKey("author.id"), index=True),
        CheckConstraint("isbn > 0", name="isbn"),
    )

    names = {str(constraint.name) for constraint in book.constraints} | {str(index.name) for index in book.indexes}
    assert names == {"pk_book", "uq_book_isbn", "fk_book_author_id_author", "ck_book_isbn", "ix_book_author_id"}


def test_a_closed_unit_and_a_closed_database_are_different_things() -> None:
    """One is a bug of the caller, the other the end of the app."""
    assert UnitClosedError.status == 500
    assert DatabaseClosedError.status == 503


# -- what the app sets itself


_SETTINGS = [
    {"engine_options": {"connect_args": {"server_settings": {"application_name": "shop"}}}},
    {"engine_options": {"connect_args": {"options": "-c application_name=shop"}}},
    {"query": {"options": "-c application_name=shop"}},
    {"environment": "-c application_name=shop"},
]


@pytest.mark.parametrize("own", _SETTINGS, ids=["settings", "options", "url", "environment"])
async def test_settings_of_the_app_and_limits_go_together(
    world: World, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits stay, and nothing that the app says is lost."""
    of_asyncpg = "server_settings" in str(own)
    if world.server != "PostgreSQL" or of_asyncpg is not (world.driver.name == "postgresql+asyncpg"):
        pytest.skip("another driver")
    monkeypatch.setenv("PGOPTIONS", own.get("environment", ""))
    kind = AsyncDatabase if world.driver.is_async else Database
    url = world.naked.engine.url.update_query_dict(own.get("query", {}))
    database = awaitable(kind(url, timeouts=TIMEOUTS, engine_options=own.get("engine_options")))

    async with awaitable(world.unit(getattr(database, "naked", database))) as shop:
        names = ("statement_timeout", "lock_timeout", "application_name")
        query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in names)
        found = (await shop.session.execute(text(query).execution_options(fastkit_reads=True))).one()
    await database.close()

    assert tuple(found) == ("10s", "2s", "shop")


async def test_a_pool_that_keeps_nothing_is_drained_too(world: World) -> None:
    """close() waits for the blocks that are open, whatever the pool."""
    if not world.driver.is_async:
        pytest.skip("needs two tasks")
    database = AsyncDatabase(world.naked.engine.url, timeouts=TIMEOUTS, engine_options={"poolclass": NullPool})
    shop = world.unit(database)

    async def work() -> None:
        async with shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            await asyncio.sleep(0.3)
            await shop.commit()

    task = asyncio.create_task(work())
    while not database.checked_out:
        await asyncio.sleep(0.01)
    await database.close()
    await task

    assert shop.outcome.status is Status.COMMITTED
    assert database.checked_out == 0


def test_a_password_in_the_query_is_not_shown() -> None:
    """Some drivers take it there."""
    assert "s3cret" not in repr(Database("postgresql+psycopg://u@h/db?password=s3cret"))


def test_an_endless_timeout_is_refused() -> None:
    """The server could not be told."""
    with pytest.raises(DeclarationError, match="finite"):
        Timeouts(statement=float("inf"))


@pytest.mark.parametrize("replicas", ["sqlite:///b.db", ["postgresql+psycopg://h/b"]])
def test_replicas_are_a_list_of_the_same_kind(replicas: Any) -> None:
    """One URL is no list, and PostgreSQL does not follow SQLite."""
    with pytest.raises(DeclarationError, match="replica"):
        Database("sqlite:///a.db", replicas=replicas)
