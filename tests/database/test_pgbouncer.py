"""`pgbouncer=True`, seen from the server: nothing is prepared, and every setting ends with its transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from colours import awaitable
from conftest import TIMEOUTS, World
from deps.apps import finished
from pydantic import BaseModel
from repository.scenes import rival
from servers import DRIVERS, Driver
from sqlalchemy import create_engine, event, text
from sqlalchemy.ext.asyncio import create_async_engine

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.errors import DeclarationError, LockTimeoutError, StatementTimeoutError

pytestmark = pytest.mark.anyio


def _with(drivers: Iterable[Driver]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("driver", list(drivers), ids=lambda driver: driver.id, indirect=True)


on_postgresql = _with(each for each in DRIVERS if each.server == "PostgreSQL")
on_asyncpg = _with(each for each in DRIVERS if each.name == "postgresql+asyncpg")
SETTINGS = "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')"
RIGHT = {
    "asyncpg": {"statement_cache_size": 0, "prepared_statement_cache_size": 0},
    "psycopg": {"prepare_threshold": None},
}


class AuthorOut(BaseModel):
    """What a client sees of an author."""

    name: str


def asked(sql: str) -> Any:
    return text(sql).execution_options(fastkit_reads=True)


def kind_of(driver: Driver) -> type[Any]:
    return AsyncDatabase if driver.is_async else Database


def engine_of(driver: Driver, url: str, **connect_args: Any) -> Any:
    return (create_async_engine if driver.is_async else create_engine)(url, connect_args=connect_args)


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[World]:
    """Return a database with the flag and one connection, which is the server's own."""
    engine_options = {"max_overflow": 0}
    database = kind_of(driver)(
        url, pool_size=1, timeouts=TIMEOUTS, pgbouncer=True, engine_options=engine_options, replicas=[url]
    )
    world = World(driver, database)
    yield world
    await world.database.close()


async def of_the_session(world: World) -> tuple[Any, ...]:
    """Return what the next client of this connection to the server would find."""
    engine = world.naked.engine.execution_options(isolation_level="AUTOCOMMIT")
    if not world.driver.is_async:
        with engine.connect() as connection:
            return tuple(connection.execute(text(SETTINGS)).one())
    async with engine.connect() as connection:
        return tuple((await connection.execute(text(SETTINGS))).one())


@on_postgresql
async def test_nothing_is_prepared(world: World) -> None:
    """A statement that is run again and again leaves no prepared statement on its connection."""
    async with world.shop() as shop:
        for number in range(12):
            shop.authors.add(Author(name=f"Ovid {number}"))
            await shop.session.flush()
            assert await shop.authors.count() == number + 1
        found = await shop.session.scalar(asked("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"))
        await shop.rollback()

    assert found == 0


@on_postgresql
@pytest.mark.parametrize(
    ("options", "statement"), [({}, "10s"), ({"timeout": 7}, "7s"), ({"read_only": True, "primary": True}, "10s")]
)
async def test_limits_end_with_the_block(world: World, options: dict[str, Any], statement: str) -> None:
    """Inside they hold; the connection that is given back has none."""
    async with world.shop().block(**options) as shop:
        assert tuple((await shop.session.execute(asked(SETTINGS))).one()) == (statement, "2s")
        await shop.commit()  # a rollback would take back a setting of the session, too

    assert await of_the_session(world) == ("0", "0")


@on_postgresql
async def test_a_read_outside_a_block_is_limited_too(world: World, url: str) -> None:
    """It has a short transaction of its own, which has limits; they end with it."""
    async with world.serving() as shop:
        assert tuple((await shop.session.execute(asked(SETTINGS))).one()) == ("10s", "2s")
        await shop.authors.all()
        assert await shop.authors.count() == 0
    assert await of_the_session(world) == ("0", "0")

    hasty = World(world.driver, kind_of(world.driver)(url, timeouts=Timeouts(statement=0.05), pgbouncer=True))
    async with hasty.serving() as shop:
        with pytest.raises(StatementTimeoutError):
            await shop.session.scalar(asked("SELECT pg_sleep(5)"))
    await hasty.database.close()


@on_postgresql
async def test_a_read_into_a_response_model_is_limited_too(world: World, url: str) -> None:
    """The short way that such a read takes is not so short that the limits are left out."""
    hasty = World(world.driver, kind_of(world.driver)(url, timeouts=Timeouts(lock=0.05), pgbouncer=True))
    with rival(world) as other:
        other.execute(text("LOCK TABLE author"))
        async with hasty.serving() as shop:
            with pytest.raises(LockTimeoutError):
                await shop.authors.into(AuthorOut).all()
    await hasty.database.close()


@on_postgresql
async def test_a_plain_session_is_limited_too(world: World) -> None:
    """Code that wants no unit of work begins transactions as well."""
    if world.driver.is_async:
        async with world.naked.session() as session:
            found = (await session.execute(text(SETTINGS))).one()
    else:
        with world.naked.session() as session:
            found = session.execute(text(SETTINGS)).one()

    assert tuple(found) == ("10s", "2s")
    assert await of_the_session(world) == ("0", "0")


@on_postgresql
async def test_a_replica_gets_the_flag(world: World) -> None:
    """Its URL leads through PgBouncer, too."""
    async with world.shop().block(read_only=True) as shop:
        assert world.naked.replicas[0].checked_out == 0
        await shop.authors.count()
        assert world.naked.replicas[0].checked_out == 1
        assert tuple((await shop.session.execute(asked(SETTINGS))).one()) == ("10s", "2s")


@on_postgresql
async def test_one_transaction_serves_all_branches_of_a_snapshot(driver: Driver, url: str) -> None:
    """It waits for no other, which could wait at PgBouncer for as long as this one holds its connection."""
    database = kind_of(driver)(url, timeouts=TIMEOUTS, pgbouncer=True)
    world, found = World(driver, database), []

    async def read(shop: Any) -> None:
        found.append(
            await awaitable(shop).session.scalar(asked("SELECT pg_current_snapshot() || ' ' || txid_current()"))
        )

    branch = read if driver.is_async else lambda shop: finished(read(shop))
    await world.database.gather(world.unit, branch, branch, branch, snapshot=True)
    await world.database.close()

    assert len(found) == 3
    assert len(set(found)) == 1


# -- what can never work


@on_postgresql
async def test_an_engine_that_prepares_is_refused_at_start(driver: Driver, url: str) -> None:
    """The message says what to pass to create_engine(); nobody gets the connection, which is closed."""
    engine = engine_of(driver, url)
    pool, made = (engine.sync_engine if driver.is_async else engine).pool, []
    database = awaitable(kind_of(driver)(engine, pgbouncer=True))
    note = lambda dbapi, _: made.append(getattr(dbapi, "driver_connection", dbapi))
    event.listen(pool, "connect", note, insert=True)
    for name in RIGHT[engine.dialect.driver.removesuffix("_async")]:
        with pytest.raises(DeclarationError, match=f"'{name}'"):
            await database.open()

    assert pool.checkedin() == pool.checkedout() == 0
    assert [each.is_closed() if hasattr(each, "is_closed") else each.closed for each in made] == [True] * len(made)
    assert made


@on_asyncpg
async def test_an_engine_that_names_statements_is_refused(driver: Driver, url: str) -> None:
    """The name function that SQLAlchemy's documentation proposes fails in reads without a transaction."""
    engine = engine_of(driver, url, **RIGHT["asyncpg"], prepared_statement_name_func=lambda: "shop")
    with pytest.raises(DeclarationError, match="name no function"):
        await AsyncDatabase(engine, pgbouncer=True).open()


@on_postgresql
async def test_an_engine_that_does_not_prepare_is_used(driver: Driver, url: str) -> None:
    """With the arguments of the message it works, and gets the limits."""
    engine = engine_of(driver, url, **RIGHT["asyncpg" if "asyncpg" in driver.name else "psycopg"])
    world = World(driver, kind_of(driver)(engine, timeouts=TIMEOUTS, pgbouncer=True))
    await world.database.open()
    async with world.shop() as shop:
        found = (await shop.session.execute(asked(SETTINGS))).one()
    await world.database.close()
    await engine.dispose() if driver.is_async else engine.dispose()

    assert tuple(found) == ("10s", "2s")


@on_postgresql
async def test_own_options_that_prepare_are_refused_at_start(driver: Driver, url: str) -> None:
    """What the app passes itself wins over fastkit's, but not against the flag."""
    own = {"statement_cache_size": 100} if "asyncpg" in driver.name else {"prepare_threshold": 5}
    database = awaitable(kind_of(driver)(url, pgbouncer=True, engine_options={"connect_args": own}))
    with pytest.raises(DeclarationError, match="pgbouncer=True: this engine prepares statements"):
        await database.open()


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (Database, "sqlite:///shop.db"),
        (AsyncDatabase, "sqlite+aiosqlite:///shop.db"),
        (Database, "mariadb+pymysql://h/d"),
        (AsyncDatabase, "mysql+asyncmy://h/d"),
        (Database, create_engine("sqlite:///shop.db")),
    ],
    ids=str,
)
def test_the_flag_is_for_postgresql(kind: type[Any], url: Any) -> None:
    """PgBouncer serves nothing else."""
    with pytest.raises(DeclarationError, match="PgBouncer serves PostgreSQL, and this is"):
        kind(url, pgbouncer=True)
