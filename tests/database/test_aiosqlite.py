"""aiosqlite with one trip to its thread a statement: the answers are those by SQLAlchemy's own adapter."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from conftest import TIMEOUTS, AsyncShop
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select, text, update
from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_connection
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from bookshop.models import Author
from fastkit.database import AsyncDatabase, _aiosqlite
from fastkit.database._aiosqlite import _OneTripConnection, adapted

pytestmark = pytest.mark.anyio

METADATA = MetaData()
THING = Table("thing", METADATA, Column("id", Integer, primary_key=True), Column("name", String, unique=True))
SLOW = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT count(*) FROM n"
STATEMENTS: list[tuple[str, Any]] = [
    ("SELECT 1 AS one, 'x' AS two", None),
    ("SELECT id, name FROM thing WHERE id > ?", (99,)),
    ("INSERT INTO thing (name) VALUES (?)", ("a",)),
    ("INSERT INTO thing (name) VALUES (?), (?) RETURNING id, name", ("b", "c")),
    ("UPDATE thing SET name = name || '!' WHERE id < ?", (3,)),
    ("UPDATE thing SET name = 'z' WHERE id = ? RETURNING id", (-1,)),
    ("SELECT id, name FROM thing ORDER BY id", ()),
    ("DELETE FROM thing WHERE id = ?", (1,)),
    ("PRAGMA user_version", None),
    ("PRAGMA user_version = 7", None),
    ("BEGIN", None),
    ("COMMIT", None),
    ("CREATE TABLE other (id INTEGER)", None),
    ("SELECT * FROM other", None),
    ("INSERT INTO thing (id, name) VALUES (5, ?)", (None,)),
    ("SELECT ? AS bytes, ? AS real", (b"\x00\xff", 0.5)),
]
WRONG: list[tuple[str, Any]] = [
    ("SELEC 1", None),
    ("SELECT * FROM nowhere", None),
    ("INSERT INTO thing (id, name) VALUES (1, 'a'), (1, 'b')", None),
    ("SELECT ?", ()),
    ("SELECT 1; SELECT 2", None),
]


@asynccontextmanager
async def engine_of(path: Path, module: Any = None) -> AsyncIterator[AsyncEngine]:
    """Yield an engine with the table."""
    options = {} if module is None else {"module": module}
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", **options)
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    try:
        yield engine
    finally:
        await engine.dispose()


async def told(engine: AsyncEngine, statements: list[tuple[str, Any]]) -> list[Any]:
    """Return what a cursor tells of each of these statements, or which error it raises."""

    def tell(connection: Any) -> list[Any]:
        dbapi, answers = connection.connection.dbapi_connection, []
        dbapi.isolation_level = None
        for statement, parameters in statements:
            cursor = dbapi.cursor()
            try:
                cursor.execute(statement, parameters) if parameters is not None else cursor.execute(statement)
            except Exception as error:
                answers.append((type(error), str(error)))
                continue
            known = [*(cursor.description or ())], cursor.rowcount, cursor.lastrowid, cursor.arraysize
            answers.append((known, cursor.fetchone(), cursor.fetchmany(), cursor.fetchmany(1), cursor.fetchall()))
            cursor.close()
        return answers

    async with engine.connect() as connection:
        return await connection.run_sync(tell)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what was asked of the threads, noted as it happens."""
    asked: list[str] = []
    execute: Any = _aiosqlite._Counted._execute

    async def note(connection: Any, work: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(work.__name__)
        return await execute(connection, work, *arguments, **more)

    monkeypatch.setattr(_aiosqlite._Counted, "_execute", note)
    return asked


async def write_alone(database: AsyncDatabase) -> None:
    """Write, which waits for the lock, and check that nothing else was stored."""
    async with AsyncShop(database) as shop:
        shop.authors.add(Author(name="Jane"))
        await shop.commit()
    async with AsyncShop.serving(database) as shop:
        assert [each.name for each in await shop.authors.all()] == ["Jane"]


@pytest.mark.parametrize("statements", [STATEMENTS, WRONG], ids=["right", "wrong"])
async def test_a_statement_tells_what_it_tells_by_the_adapter_of_sqlalchemy(
    tmp_path: Path, statements: list[tuple[str, Any]]
) -> None:
    """Columns, rows, counts, keys and errors are the same, however the rows are fetched."""
    async with engine_of(tmp_path / "a.db") as theirs, engine_of(tmp_path / "b.db", adapted()) as ours:
        expected, found = await told(theirs, statements), await told(ours, statements)
    assert found == expected
    assert len(found) == len(statements)


async def test_many_rows_are_inserted_and_read_in_parts(tmp_path: Path) -> None:
    """`executemany`, partitions, and a stream with a cursor of its own do what they do by SQLAlchemy's adapter."""
    async with engine_of(tmp_path / "a.db", adapted()) as engine, engine.connect() as connection:
        rows = [{"id": key, "name": str(key)} for key in range(1, 1001)]
        done = await connection.execute(insert(THING), rows)
        assert done.rowcount == 1000
        done = await connection.execute(update(THING).where(THING.c.id > 900).values(name=None))
        assert done.rowcount == 100
        await connection.commit()
        found = await connection.execute(select(THING.c.id).order_by(THING.c.id))
        assert [len(part) for part in found.partitions(300)] == [300, 300, 300, 100]
        streamed = [row.id async for row in await connection.stream(select(THING.c.id).order_by(THING.c.id))]
        assert streamed == [*range(1, 1001)]


async def test_what_was_not_committed_is_rolled_back(tmp_path: Path) -> None:
    """A rollback makes its trip where a transaction was begun, and so does a commit."""
    async with engine_of(tmp_path / "a.db", adapted()) as engine:
        for name, ends in (("kept", "commit"), ("dropped", "rollback")):
            async with engine.connect() as connection:
                await connection.execute(insert(THING), {"name": name})
                await getattr(connection, ends)()
        async with engine.connect() as connection:
            await connection.execute(insert(THING), {"name": "left"})
        async with engine.connect() as connection:
            assert (await connection.execute(select(THING.c.name))).scalars().all() == ["kept"]


async def test_an_error_is_that_of_sqlalchemy(tmp_path: Path) -> None:
    """Errors of the thread arrive as errors of SQLAlchemy, also where the connection has been closed."""
    async with engine_of(tmp_path / "a.db", adapted()) as engine:
        async with engine.connect() as connection:
            with pytest.raises(IntegrityError, match="UNIQUE"):
                await connection.execute(insert(THING), [{"name": "a"}, {"name": "a"}])
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            await raw.driver_connection.close()
            with pytest.raises(OperationalError, match="no active connection"):
                await connection.execute(text("SELECT 1"))


async def test_a_row_that_cannot_be_read_keeps_nothing_open(tmp_path: Path) -> None:
    """The cursor is closed in the thread, though the error, and with it a traceback, is kept."""
    async with engine_of(tmp_path / "a.db", adapted()) as engine, engine.connect() as connection:
        await connection.execute(text("INSERT INTO thing (name) VALUES (CAST(x'ff' AS TEXT)), ('b')"))
        await connection.commit()
        with pytest.raises(OperationalError, match="decode") as told:
            await connection.execute(text("SELECT name FROM thing"))
        await connection.rollback()
        await connection.execute(text("DROP TABLE thing"))
        del told  # which has kept the traceback until here


async def test_a_read_is_one_trip(tmp_path: Path, trips: list[str]) -> None:
    """A read outside a block makes one trip to the thread; a block one a statement, and two for BEGIN and COMMIT."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}")
    async with database:
        await database.create_all(Author.metadata)
        trips.clear()
        async with AsyncShop.serving(database) as shop:
            assert await shop.authors.first() is None
            assert trips == ["_executed"]
            trips.clear()
            async with shop:
                shop.authors.add(Author(name="Mary"))
                await shop.commit()
            assert trips == ["_executed", "_executed", "commit"]


async def test_a_statement_that_was_cut_off_keeps_nothing(tmp_path: Path) -> None:
    """Cancelled, a statement that would run for years ends, and the next one to write gets the lock."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", timeouts=TIMEOUTS)
    async with database:
        await database.create_all(Author.metadata)

        async def long() -> None:
            async with AsyncShop(database) as shop:
                shop.authors.add(Author(name="Mary"))
                await shop.session.flush()
                await shop.session.execute(text(SLOW.format(10**15)), execution_options={"fastkit_reads": True})

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(long(), 0.05)
        await write_alone(database)
        assert database.checked_out == 0


async def test_a_statement_beside_a_stream_is_not_interrupted(tmp_path: Path) -> None:
    """SQLite would interrupt the ROLLBACK too, and the lock would stay."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'shop.db'}", timeouts=TIMEOUTS)
    async with database:
        await database.create_all(Author.metadata)

        async def long() -> None:
            async with AsyncShop(database) as shop:
                shop.authors.add_all(Author(name=str(number)) for number in range(200))
                await shop.session.flush()
                connection = await shop.session.connection()
                streamed = await connection.stream(select(Author.id))  # a traceback keeps what has a name
                async for _ in streamed:
                    reads = {"fastkit_reads": True}
                    await shop.session.execute(text(SLOW.format(3_000_000)), execution_options=reads)

        with pytest.raises(TimeoutError) as told:
            await asyncio.wait_for(long(), 0.2)
        await write_alone(database)
        del told  # which has kept the traceback until here


async def test_what_the_driver_itself_was_asked_for_is_rolled_back(tmp_path: Path) -> None:
    """A BEGIN that the app left to the driver and did not wait for keeps no lock in the pool."""
    path = tmp_path / "shop.db"
    async with AsyncDatabase(f"sqlite+aiosqlite:///{path}", timeouts=TIMEOUTS) as database:
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")

            async def begin() -> None:
                async with database.engine.connect() as connection:
                    raw: Any = await connection.get_raw_connection()
                    await raw.driver_connection.execute("BEGIN IMMEDIATE")  # waits for the other one

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(begin(), 0.1)
            other.execute("ROLLBACK")
            await asyncio.sleep(0.5)
            other.execute("PRAGMA busy_timeout=100")
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        assert database.checked_out == 0


async def test_a_connection_that_may_still_begin_is_rolled_back(tmp_path: Path) -> None:
    """Where a statement was left to the thread, a rollback asks the thread, whatever is true at this moment."""
    async with engine_of(tmp_path / "a.db", adapted()) as engine, engine.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        dbapi: _OneTripConnection = raw.dbapi_connection
        assert not dbapi._is_in_transaction
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(_cut_off(connection, dbapi), 10)
        assert dbapi._is_in_transaction
        await connection.invalidate()


async def _cut_off(connection: Any, dbapi: Any) -> None:
    asyncio.get_running_loop().call_later(0.02, asyncio.current_task().cancel)  # type: ignore[union-attr]
    await connection.run_sync(lambda _: dbapi.cursor().execute(SLOW.format(200_000)))


@pytest.mark.parametrize(("owner", "name"), [(aiosqlite.Connection, "_conn"), (_aiosqlite, "_PARTS")])
async def test_what_is_not_as_expected_is_left_to_sqlalchemy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """With another aiosqlite, or another SQLAlchemy, the driver is adapted as ever."""
    monkeypatch.delattr(owner, name) if owner is aiosqlite.Connection else monkeypatch.setattr(owner, name, ())
    module = adapted()
    monkeypatch.undo()
    async with engine_of(tmp_path / "a.db", module) as engine, engine.connect() as connection:
        raw: Any = await connection.get_raw_connection()
        assert type(raw.dbapi_connection) is AsyncAdapt_aiosqlite_connection
        assert (await connection.execute(text("SELECT 1"))).scalar() == 1
