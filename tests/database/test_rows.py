"""Columns are read from the driver's cursor, and nobody can tell: values, errors, listeners, faults."""

from __future__ import annotations

import asyncio
import enum
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from inspect import signature
from typing import Any

import pytest
from conftest import World
from pydantic import BaseModel
from repository.scenes import rival, sync_session
from servers import DRIVERS
from sqlalchemy import (
    DDL,
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Numeric,
    Select,
    String,
    Table,
    Transaction,
    TypeDecorator,
    Uuid,
    bindparam,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.exc import InvalidRequestError, PendingRollbackError, ResourceClosedError

from bookshop.models import Author, Book
from fastkit.database import _rows
from fastkit.database._backend import MODE
from fastkit.database._connection import _leave_autocommit
from fastkit.database._modes import PLAIN, SEVERAL_READS, SINGLE_READ
from fastkit.errors import ConnectionLostError, InvalidValueError, OutsideBlockError, StatementTimeoutError
from fastkit.pages import PageQuery

pytestmark = pytest.mark.anyio
ON_SERVERS = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server != "SQLite"], indirect=True, ids=lambda driver: driver.id
)
ON_POSTGRESQL = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], indirect=True, ids=lambda driver: driver.id
)
ON_SQLITE = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server == "SQLite"], indirect=True, ids=lambda driver: driver.id
)
ASYNC_ON_SERVERS = pytest.mark.parametrize(
    "driver",
    [each for each in DRIVERS if each.server != "SQLite" and each.is_async],
    indirect=True,
    ids=lambda driver: driver.id,
)


class BookOut(BaseModel):
    """One row."""

    id: int
    title: str
    price: Decimal


class AuthorOut(BaseModel):
    """A row, and by a second statement what belongs to it."""

    name: str
    books: list[BookOut]


class Colour(enum.Enum):
    """Some values."""

    RED = "r"
    BLUE = "b"


class Shouted(TypeDecorator[str]):
    """Text that is stored in small letters."""

    impl = String(50)
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> Any:
        """Store small letters."""
        return value and value.lower()

    def process_result_value(self, value: Any, dialect: Any) -> Any:
        """Show large ones."""
        return value and value.upper()


VALUES: dict[str, tuple[Any, Any]] = {
    "whole": (BigInteger, 2**40),
    "price": (Numeric(10, 2), Decimal("1.50")),
    "rounded": (Numeric(10, 2, asdecimal=False), 1.5),
    "ratio": (Float, 0.25),
    "exact": (Float(asdecimal=True), Decimal("0.25")),
    "at": (DateTime(timezone=True), datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
    "day": (Date, date(2024, 2, 29)),
    "key": (Uuid, uuid.UUID(int=7)),
    "key_text": (Uuid(as_uuid=False), uuid.UUID(int=8).hex),
    "colour": (Enum(Colour, name="colour_of_rows"), Colour.BLUE),
    "data": (JSON, {"a": [1, None, "ü"]}),
    "shouted": (Shouted, "LOUD"),
    "raw": (LargeBinary, b"\x00\xff"),
    "flag": (Boolean, True),
    "span": (Interval, timedelta(days=1, seconds=2)),
}
OF_POSTGRESQL: dict[str, tuple[Any, Any]] = {
    "list": (ARRAY(Integer), [1, 2, None]),
    "prices": (ARRAY(Numeric(10, 2)), [Decimal("1.50")]),
    "binary": (JSONB, {"b": 1}),
}


async def on_connection(world: World, work: Callable[[Connection], Any]) -> Any:
    """Do some work on a connection."""
    if not world.driver.is_async:
        with world.naked.engine.connect() as connection:
            return work(connection)
    async with world.naked.engine.connect() as connection:
        return await connection.run_sync(work)


async def in_session(world: World, shop: Any, work: Callable[[Any], Any]) -> Any:
    """Do some work in the session of a unit."""
    return await shop.session.run_sync(work) if world.driver.is_async else work(sync_session(shop))


@pytest.fixture
def long_way(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the queries that are run by SQLAlchemy as a whole."""
    taken: list[Any] = []
    execute = Connection.execute

    def noted(connection: Connection, statement: Any, *more: Any, **options: Any) -> Any:
        if isinstance(statement, Select):
            taken.append(statement)
        return execute(connection, statement, *more, **options)

    monkeypatch.setattr(Connection, "execute", noted)
    return taken


@pytest.fixture(params=[True, False], ids=["short", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Take the short way, and as if a part of SQLAlchemy was not known, the long one."""
    monkeypatch.setattr(_rows, "HAS_KNOWN_PARTS", request.param)
    return request.param


# -- values


async def test_values_of_all_kinds(world: World, long_way: list[Any]) -> None:
    """They have the values and the types that SQLAlchemy gives, and so has NULL, the first time and later on."""
    kinds = VALUES | (OF_POSTGRESQL if world.server == "PostgreSQL" else {})
    if world.server == "MariaDB":
        kinds = {name: kind for name, kind in kinds.items() if name != "at"}
    kept = Table(
        "kept", MetaData(), Column("id", Integer, primary_key=True), *(Column(n, k) for n, (k, _) in kinds.items())
    )
    query = select(kept).where(kept.c.id.in_(bindparam("keys", expanding=True))).order_by(kept.c.id)

    def compare(connection: Connection) -> None:
        kept.create(connection)
        try:
            connection.execute(insert(kept), [{"id": 1} | {name: value for name, (_, value) in kinds.items()}])
            connection.execute(insert(kept), [{"id": 2}])
            for keys in ([1, 2], [2], [1], [], [1, 2]):
                expected = connection.execute(query, {"keys": keys}).all()
                long_way.clear()
                found = _rows.all_rows(connection, query, {"keys": keys})

                assert long_way == []
                assert found == [tuple(row) for row in expected]
                assert [[type(value) for value in row] for row in found] == [[type(v) for v in row] for row in expected]
            assert [list(map(bool, row[1:])) for row in found] == [[True] * len(kinds), [False] * len(kinds)]
        finally:
            kept.drop(connection)
            connection.rollback()

    await on_connection(world, compare)


@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (select(literal("5%"), Book.title).where(Book.title.like("%mm%")), {}),
        (select(Book.title).where(Book.title.like(bindparam("like"))), {"like": "%s%"}),
        (select(Book.title).order_by(Book.id).limit(bindparam("size", type_=Integer)), {"size": 1}),
        (select(Book.title, Author.name).join(Author).where(Book.price > Decimal(3)).order_by(Book.id), {}),
        (select(func.count()).select_from(Book), {}),
        (select(literal_column("1, 2")), {}),
        (select(text("title, price")).select_from(table("book")).order_by(text("title")), {}),
    ],
)
async def test_queries_of_all_kinds(stocked: World, statement: Any, parameters: dict[str, Any]) -> None:
    """Percent signs, limits, values that are part of the statement, joins, and columns that nobody knows."""

    def compare(connection: Connection) -> None:
        expected = [tuple(row) for row in connection.execute(statement, parameters)]
        for _ in range(3):
            assert [tuple(row) for row in _rows.all_rows(connection, statement, parameters)] == expected

    await on_connection(stocked, compare)


async def test_statements_that_differ_in_values(stocked: World) -> None:
    """What was compiled for one statement serves another with that one's own values."""

    def compare(connection: Connection) -> None:
        statements = [select(Book.title).where(Book.id == key) for key in (1, 2, 99)]
        for _ in range(3):
            found = [_rows.all_rows(connection, statement, {}) for statement in statements]
            assert found == [[("Emma",)], [("Persuasion",)], []]

    await on_connection(stocked, compare)


# -- which way is taken


async def test_readers_take_the_short_way(stocked: World, long_way: list[Any]) -> None:
    """One row, a page, children, counts: in a block and outside of one."""

    async def read(shop: Any) -> None:
        assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"
        assert (await shop.books.into(BookOut).page(PageQuery())).total == 2
        assert len((await shop.authors.into(AuthorOut).get_one(1)).books) == 2
        assert await shop.books.into(BookOut).count() == 2

    async with stocked.serving() as shop:
        for _ in range(3):
            await read(shop)
            assert stocked.checked_out == 0
            async with shop:
                await read(shop)

    assert long_way == []


@pytest.mark.parametrize("name", ["before_execute", "after_execute", "before_cursor_execute", "after_cursor_execute"])
async def test_others_who_listen_are_told(stocked: World, name: str, long_way: list[Any]) -> None:
    """As long as they listen, to all of the database or to one kind of read."""
    for engine in (stocked.sync_engine, stocked.naked.engine_for(SINGLE_READ)):
        told: list[Any] = []
        listener = lambda *arguments, told=told: told.append(arguments)
        async with stocked.serving() as shop:
            await shop.books.into(BookOut).get(1)
            event.listen(engine, name, listener)
            await shop.books.into(BookOut).get(1)
            event.remove(engine, name, listener)
            await shop.books.into(BookOut).get(1)

        assert (len(told), len(long_way)) == (1, 1)
        long_way.clear()


@pytest.mark.parametrize("name", ["begin", "rollback"])
async def test_others_who_follow_transactions_are_told(stocked: World, name: str) -> None:
    """Also of that of a read which would not need one."""
    told: list[Any] = []
    listener = lambda *arguments: told.append(arguments)
    async with stocked.serving() as shop:
        event.listen(stocked.sync_engine, name, listener)
        await shop.books.into(BookOut).get(1)
        event.remove(stocked.sync_engine, name, listener)

    assert len(told) == 1


async def test_who_sends_the_statement_himself_is_asked(stocked: World, long_way: list[Any]) -> None:
    """A listener to `do_execute` is told of it."""
    told: list[str] = []
    listener = lambda cursor, statement, *more: told.append(statement)
    event.listen(stocked.sync_engine, "do_execute", listener)
    try:
        async with stocked.serving() as shop:
            await shop.books.into(BookOut).get(1)
    finally:
        event.remove(stocked.sync_engine, "do_execute", listener)

    assert (len(told), len(long_way)) == (1, 1)


async def test_the_log_has_the_statement(stocked: World, long_way: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """As ever."""
    with caplog.at_level(logging.INFO, logger="sqlalchemy.engine"):
        async with stocked.serving() as shop:
            await shop.books.into(BookOut).get(1)

    assert len(long_way) == 1
    assert any("FROM book" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    "options",
    [{"logging_token": "x"}, {"compiled_cache": None}, {"yield_per": 5}, {"schema_translate_map": {"a": "b"}}],
)
@pytest.mark.parametrize("place", ["connection", "statement"])
async def test_options_take_the_long_way(
    stocked: World, options: dict[str, Any], place: str, long_way: list[Any]
) -> None:
    """Whatever SQLAlchemy would do with them, it does."""
    query = select(Book.title).where(Book.id == 1)
    if place == "statement" and "compiled_cache" in options:
        return  # SQLAlchemy refuses it

    def read(connection: Connection) -> Any:
        if place == "statement":
            return _rows.all_rows(connection, query.execution_options(**options), {})
        return _rows.all_rows(connection.execution_options(**options), query, {})

    assert [tuple(row) for row in await on_connection(stocked, read)] == [("Emma",)]
    assert len(long_way) == 1


async def test_a_listener_of_one_connection(stocked: World, long_way: list[Any]) -> None:
    """It is told, too."""
    told: list[str] = []

    def read(connection: Connection) -> Any:
        event.listen(connection, "before_cursor_execute", lambda *arguments: told.append(arguments[2]))
        return _rows.all_rows(connection, select(Book.title), {})

    await on_connection(stocked, read)

    assert "FROM book" in told[-1]
    assert len(long_way) == 1


def ended(transaction: Transaction) -> None:
    """Make a transaction what it is after its end has failed."""
    transaction.is_active = False


STATES: dict[str, tuple[Callable[[Connection], Any], type[Exception] | None]] = {
    "closed": (lambda connection: connection.close(), ResourceClosedError),
    "without a connection": (lambda connection: connection.invalidate(), None),
    "lost in a transaction": (lambda connection: (connection.begin(), connection.invalidate()), PendingRollbackError),
    "in a transaction that has ended": (lambda connection: ended(connection.begin()), PendingRollbackError),
    "in a savepoint": (lambda connection: (connection.begin(), connection.begin_nested()), None),
    "in a savepoint that has ended": (
        lambda connection: (connection.begin(), ended(connection.begin_nested())),
        PendingRollbackError,
    ),
    "in a block whose transaction has ended": (
        lambda connection: connection.begin().__enter__().rollback(),
        InvalidRequestError,
    ),
}


@pytest.mark.parametrize("state", STATES)
def test_an_unusual_connection_takes_the_long_way(state: str, long_way: list[Any]) -> None:
    """It connects again, or says why it does not."""
    engine, query = create_engine("sqlite://"), select(literal(1))
    prepare, error = STATES[state]
    with engine.connect() as connection:
        assert _rows.all_rows(connection, query, {}) == [(1,)]
        connection.rollback()
        prepare(connection)
        with nullcontext() if error is None else pytest.raises(error):
            assert _rows.all_rows(connection, query, {}) == [(1,)]

    assert len(long_way) == 1
    engine.dispose()


def test_an_engine_that_remembers_nothing_takes_the_long_way(long_way: list[Any]) -> None:
    """There is no place to look for what was compiled."""
    engine = create_engine("sqlite://", query_cache_size=0)
    with engine.connect() as connection:
        assert _rows.all_rows(connection, select(literal(1)), {}) == [(1,)]

    assert len(long_way) == 1
    engine.dispose()


def test_what_a_dialect_does_around_a_statement_is_done(long_way: list[Any]) -> None:
    """Before it is sent, and after it was answered, as on the long way."""
    engine, done = create_engine("sqlite://"), list[str]()

    class Context(engine.dialect.execution_ctx_cls):  # type: ignore[misc, name-defined]
        def pre_exec(self) -> None:
            done.append("before")

        def post_exec(self) -> None:
            done.append("after")
            assert self.cursor.description is not None  # type: ignore[union-attr]

    engine.dialect.execution_ctx_cls = Context
    with engine.connect() as connection:
        assert _rows.all_rows(connection, select(literal(1)), {}) == [(1,)]

    assert done == ["before", "after"]
    assert long_way == []
    engine.dispose()


@pytest.mark.parametrize(("mode", "begins"), [(SINGLE_READ, False), (SEVERAL_READS, True), (PLAIN, True), (None, True)])
def test_only_a_read_that_is_complete_begins_no_transaction(mode: Any, begins: bool, long_way: list[Any]) -> None:
    """Of any other SQLAlchemy knows, and ends it."""
    engine = create_engine("sqlite://")
    with engine.connect().execution_options(**{} if mode is None else {MODE: mode}) as connection:
        assert _rows.all_rows(connection, select(literal(1)), {}) == [(1,)]
        assert connection.in_transaction() is begins

    assert long_way == []
    engine.dispose()


def test_no_cursor_is_left_open(monkeypatch: pytest.MonkeyPatch, long_way: list[Any]) -> None:
    """Though nobody has a result that could be closed."""
    monkeypatch.setattr(_rows, "_OWN", {*_rows._OWN})
    engine, cursors = create_engine("sqlite://"), []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> Any:
        cursors.append(cursor)
        return statement, parameters

    _rows.listen_as_own(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        _rows.all_rows(connection, select(literal(1)), {})
    with pytest.raises(sqlite3.ProgrammingError, match="closed cursor"):
        cursors[0].fetchall()

    assert long_way == []
    engine.dispose()


async def test_a_part_of_sqlalchemy_that_is_not_known(
    stocked: World, long_way: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is read the long way."""
    made = DefaultExecutionContext._init_compiled

    def other(cls: Any, dialect: Any, connection: Any, something_new: Any, *more: Any) -> Any:
        return made(dialect, connection, *more)

    assert _rows._has_known_parts(), signature(made)
    with monkeypatch.context() as changed:
        changed.setattr(DefaultExecutionContext, "_init_compiled", classmethod(other))
        assert not _rows._has_known_parts()
    monkeypatch.setattr(_rows, "HAS_KNOWN_PARTS", False)
    async with stocked.serving() as shop:
        assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"

    assert len(long_way) == 1


# -- errors


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(
    ("statement", "parameters"),
    [
        (select(literal_column("no_such_column")).select_from(Book), {}),
        (select(Book.title).where(Book.id == bindparam("key")), {"key": object()}),
        (select(Book.title).where(Book.id == bindparam("key")), {}),
        (select(Book.title).where(Book.price == bindparam("key")), {"key": "x"}),
    ],
)
async def test_errors_are_the_same(
    stocked: World, statement: Any, parameters: dict[str, Any], inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same class, with the same words and the same cause, and the transaction is as lost."""
    said = []
    for known in (True, False):
        monkeypatch.setattr(_rows, "HAS_KNOWN_PARTS", known)
        async with stocked.serving() as shop:
            with suppress(_LeavesError):
                async with shop.block() if inside else nullcontext():
                    said.append(await _error_of(in_session(stocked, shop, lambda s: s.fetch(statement, parameters))))
                    said.append(await _error_of(shop.books.into(BookOut).get_one(1)))
                    raise _LeavesError
            assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"

    assert said[:2] == said[2:]


@ON_SERVERS
async def test_a_connection_that_was_killed(stocked: World, way: bool) -> None:
    """It is told so, and the next read has another one."""
    number = func.pg_backend_pid() if stocked.server == "PostgreSQL" else func.connection_id()
    async with stocked.serving() as shop:
        backend = (await in_session(stocked, shop, lambda session: session.fetch(select(number))))[0][0]
        with rival(stocked) as other:
            other.execute(
                text(f"SELECT pg_terminate_backend({backend})" if stocked.server == "PostgreSQL" else f"KILL {backend}")
            )
            await asyncio.sleep(0.1)
        with pytest.raises(ConnectionLostError):
            await shop.books.into(BookOut).get_one(1)
        assert stocked.checked_out == 0
        assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"


@ASYNC_ON_SERVERS
@pytest.mark.parametrize("inside", [True, False])
async def test_a_read_that_is_cancelled(stocked: World, way: bool, inside: bool) -> None:
    """Its connection is not left behind, and the next read works."""
    nap = func.pg_sleep(5) if stocked.server == "PostgreSQL" else func.sleep(5)
    async with stocked.serving() as shop:

        async def sleep() -> None:
            async with shop.block() if inside else nullcontext():
                await in_session(stocked, shop, lambda session: session.fetch(select(nap)))

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleep(), 0.2)
        assert stocked.checked_out == 0
        assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.name == "postgresql+asyncpg"], indirect=True)
@pytest.mark.parametrize("inside", [True, False])
async def test_a_table_that_is_altered(stocked: World, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a connection had prepared is prepared again, as soon as it is the long way."""
    failures = []
    for known in (True, False):
        monkeypatch.setattr(_rows, "HAS_KNOWN_PARTS", known)
        failures.append([])
        async with stocked.serving() as shop:

            async def read(shop: Any = shop) -> Any:
                async with shop.block() if inside else nullcontext():
                    return await shop.books.into(BookOut).get_one(1)

            for length in (210, 220, 200):
                await read()
                with rival(stocked) as other:
                    other.execute(text(f"ALTER TABLE book ALTER COLUMN title TYPE varchar({length})"))
                    other.commit()
                failures[-1] += [await _error_of(read()) for _ in range(2)]
            assert (await read()).title == "Emma"

    assert failures[0] == failures[1]
    assert failures[0][1::2] == [None] * 3


@pytest.mark.parametrize("driver", [each for each in DRIVERS if each.name == "postgresql+asyncpg"], indirect=True)
async def test_a_table_that_is_altered_through_the_same_engine(stocked: World, way: bool) -> None:
    """Then SQLAlchemy knows that what was prepared is out of date, and no read fails."""
    async with stocked.serving() as shop:
        for length in (210, 220, 200):
            async with shop.block():
                await shop.books.into(BookOut).get_one(1)
            async with stocked.naked.engine.begin() as connection:
                await connection.execute(DDL(f"ALTER TABLE book ALTER COLUMN title TYPE varchar({length})"))
            async with shop.block():
                assert (await shop.books.into(BookOut).get_one(1)).title == "Emma"


# -- fastkit's own listeners


@ON_SQLITE
async def test_each_read_has_the_time_of_one_statement(stocked: World, way: bool) -> None:
    """The clock starts with each statement, and stops the one that takes too long."""
    numbers = select(literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.n + 1).where(numbers.c.n < bindparam("most")))
    query = select(func.max(numbers.c.n))
    async with stocked.serving() as shop:
        with pytest.raises(StatementTimeoutError):
            async with shop.block(timeout=0.5):
                for _ in range(2):
                    await in_session(stocked, shop, lambda session: session.fetch(query, {"most": 20_000}))
                    time.sleep(0.6)
                await in_session(stocked, shop, lambda session: session.fetch(query, {"most": 20_000}))
                await in_session(stocked, shop, lambda session: session.fetch(query, {"most": 50_000_000}))


@ON_POSTGRESQL
async def test_a_query_that_writes(stocked: World, way: bool) -> None:
    """Hidden in a common table expression, it is refused outside a block."""
    written = insert(Author).values(name="Anne").returning(Author.id).cte("written")
    async with stocked.serving() as shop:
        for _ in range(2):
            with pytest.raises(OutsideBlockError):
                await in_session(stocked, shop, lambda session: session.fetch(select(written.c.id)))
        assert await shop.authors.count() == 1


class _LeavesError(Exception):
    """Leaves a block."""


async def _error_of(read: Any) -> Any:
    """Return the class, the words and the cause of what is raised, or None."""
    try:
        await read
    except Exception as error:
        return type(error), str(error), type(error.__cause__)
    return None


async def test_c5_a_read_outside_a_block_is_in_autocommit(stocked: World) -> None:
    """On PostgreSQL, so that it needs no BEGIN; its connection goes back as it came, also after an error."""
    if stocked.server != "PostgreSQL":
        pytest.skip("about PostgreSQL")
    during, before = [], []
    engine = stocked.sync_engine

    def note(connection: Connection, *_: Any) -> None:
        during.append(bool(connection.connection.dbapi_connection.autocommit))  # type: ignore[union-attr]

    def note_before(dbapi: Any, *_: Any) -> None:
        before.append(bool(dbapi.autocommit))

    event.listen(engine, "checkout", note_before)
    event.listen(engine, "before_cursor_execute", note)
    try:
        async with stocked.serving() as shop:
            await shop.books.into(Shown).get(1)
            with pytest.raises(InvalidValueError):
                await shop.books.into(Shown).get(2**70)
            await shop.books.get(1)
            async with shop:
                await shop.books.into(Shown).get(1)
                await shop.rollback()
    finally:
        event.remove(engine, "checkout", note_before)
        event.remove(engine, "before_cursor_execute", note)
    assert during == [True, True, True, False]
    assert before == [False] * 4


async def test_a_text_that_begins_a_transaction_leaves_none(stocked: World) -> None:
    """Though it was marked as one that only reads: its connection is given back, and is as good as any other."""
    if stocked.server != "PostgreSQL":
        pytest.skip("about PostgreSQL")
    async with stocked.serving() as shop:
        for _ in range(30):  # more than the pool has
            with suppress(Exception):
                await shop.session.execute(text("BEGIN"), execution_options={"fastkit_reads": True})
        assert stocked.checked_out == 0
        assert len(await shop.books.into(Shown).all()) == 2
        async with shop:
            await shop.session.execute(delete(Book).where(Book.id == 1))
            await shop.rollback()
        assert len(await shop.books.into(Shown).all()) == 2


async def test_a_connection_that_stays_in_autocommit_is_thrown_away(stocked: World) -> None:
    """Rather than that the pool loses its place, or a block begins on it."""
    record, dbapi = Thrown(), Stubborn()
    _leave_autocommit(record, dbapi)
    assert isinstance(record.error, ValueError)


class Thrown:
    """A record of the pool."""

    error: Exception | None = None

    def invalidate(self, error: Exception) -> None:
        """Note why."""
        self.error = error


class Stubborn:
    """A connection that cannot leave autocommit."""

    @property
    def autocommit(self) -> bool:
        """Return that it is in it."""
        return True

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        raise ValueError(value)


class Shown(BaseModel):
    """A book."""

    id: int
