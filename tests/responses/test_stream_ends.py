"""How a stream ends: with its last row, with an error, with its client, with its server; over real connections."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from conftest import World
from deps.apps import served, slow_read, until
from fastapi import FastAPI
from pydantic import BaseModel
from responses.test_streams import Row, app_with
from sqlalchemy import create_engine, event, make_url, text
from starlette.middleware.gzip import GZipMiddleware

from fastkit.responses import CutStreamError, stream_csv, stream_json, stream_ndjson, streams

pytestmark = pytest.mark.anyio

WIDE = 190  # characters of a title


class Wide(BaseModel):
    """A row of some size."""

    id: int
    title: str
    price: int


@pytest.fixture
async def full(stocked: World) -> World:
    """Return a world with 2,000 books: half a megabyte."""
    async with stocked.shop() as shop:
        made = [
            {"id": key, "sku": f"s{key}", "title": f"{key:0{WIDE}}", "author_id": 1, "year": 1, "language": "en"}
            for key in range(10, 2008)
        ]
        await shop.books.bulk.insert([{**each, "price": 1, "stock": 1} for each in made])
        await shop.commit()
    return stocked


def spoilt(world: World, key: int = 1500) -> Any:
    """Return what makes the row with this key one that does not fit its response model."""

    async def spoil() -> None:
        async with world.shop() as shop:
            (await shop.books.get_one(key)).price = "1.5"
            await shop.commit()

    return spoil()


@asynccontextmanager
async def asked(app: FastAPI, path: str = "/") -> AsyncIterator[Any]:
    """Serve an app and send it a request over a plain socket; yield reader and writer."""
    async with served(app) as (server, _):
        port = server.servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
        try:
            yield reader, writer
        finally:
            writer.close()


async def threads_of_aiosqlite() -> None:
    """Let the threads of connections that were thrown away say goodbye to the event loop."""
    gc.collect()
    await anyio.sleep(0.05)


def statements_of(world: World) -> list[str]:
    """Return the list to which each statement about books will be added."""
    statements: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "FROM book" in statement:
            statements.append(statement)

    event.listen(world.sync_engine, "before_cursor_execute", note)
    return statements


def in_transaction(world: World) -> int:
    """Return how many sessions of the server are in a transaction, on the test's database."""
    url = make_url(str(world.sync_engine.url.render_as_string(hide_password=False)))
    engine = create_engine(url.set(drivername="postgresql+psycopg"))
    told = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND (xact_start IS NOT NULL OR state <> 'idle')"
    )
    with engine.connect() as connection:
        found: int = connection.scalar(told)
    engine.dispose()
    return found


async def test_a_whole_stream_ends_as_one(full: World) -> None:
    """Chunked encoding ends with its last chunk, also when a middleware compresses it."""
    app = app_with(full, lambda new: stream_ndjson(new, lambda shop: shop.books.into(Wide), batch=300))
    app.add_middleware(GZipMiddleware)

    async with served(app) as (_, client):
        plain = await client.get("/", headers={"accept-encoding": "identity"})
        compressed = await client.get("/")

    assert plain.headers["transfer-encoding"] == "chunked"
    assert len(plain.text.splitlines()) == 2000
    assert compressed.text == plain.text


@pytest.mark.parametrize("stream", [stream_json, stream_ndjson, stream_csv])
async def test_an_error_after_the_first_byte_cuts_the_connection(full: World, stream: Any, caplog: Any) -> None:
    """No client takes what it got for whole; the log has the reason under a reference, and the client nothing."""
    await spoilt(full)
    app = app_with(full, lambda new: stream(new, lambda shop: shop.books.into(Wide), batch=500))

    with caplog.at_level(logging.ERROR):
        async with asked(app) as (reader, _):
            received = await reader.read(-1)
            left = await until(lambda: full.checked_out == 0)
    record = next(each for each in caplog.records if each.name == streams.__name__)
    raised = [each.exc_info[1] for each in caplog.records if each.exc_info and each.name == "uvicorn.error"]

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"1000" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert b"RowMismatch" not in received
    assert left
    assert "RowMismatchError" in str(record.exc_info)
    assert [type(each) for each in raised] == [CutStreamError]
    assert raised[0].reference in record.getMessage()
    assert raised[0].__cause__ is None


@pytest.mark.parametrize("snapshot", [False, True])
async def test_a_client_that_goes_ends_the_stream(full: World, snapshot: bool) -> None:
    """Its unit ends at once, not with the garbage collector: no connection, no transaction, no further statement."""
    statements = statements_of(full)
    make = lambda new: stream_ndjson(new, lambda shop: shop.books.into(Wide), batch=20, snapshot=snapshot)

    async with asked(app_with(full, make)) as (reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        assert await until(lambda: len(statements) > 1)
        writer.transport.abort()
        before = len(statements)
        await anyio.sleep(0.1)

        assert full.checked_out == 0
        assert len(statements) <= before + 10  # of 101
        if full.server == "PostgreSQL":
            assert in_transaction(full) == 0


async def test_a_client_that_goes_cancels_the_statement(full: World) -> None:
    """A statement under way is cancelled where the driver can; a thread ends first. Then the connection is back."""
    begun: list[int] = []

    def rows(shop: Any) -> Any:
        begun.append(1)
        return shop.books.into(Wide)

    @event.listens_for(full.sync_engine, "before_cursor_execute")
    def slowly(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "FROM book" in statement:
            cursor.execute(str(slow_read(full)))

    async with asked(app_with(full, lambda new: stream_json(new, rows, snapshot=True))) as (_, writer):
        assert await until(lambda: bool(begun) and full.checked_out == 1)
        writer.transport.abort()

        assert await until(lambda: full.checked_out == 0)
        if full.server == "PostgreSQL":
            assert await until(lambda: in_transaction(full) == 0)
    async with full.serving() as shop:
        assert await shop.authors.count() == 1
    await threads_of_aiosqlite()


async def test_a_slow_client_is_not_read_ahead_of(full: World) -> None:
    """Nothing is read that the network does not take, but for one batch; and no connection is held meanwhile."""
    statements = statements_of(full)
    make = lambda new: stream_ndjson(new, lambda shop: shop.books.into(Wide), batch=20)

    paused = Paused(app_with(full, make))
    await paused.until_full()
    await anyio.sleep(0.05)

    assert len(statements) == paused.taken + 1 == 11
    assert full.checked_out == 0
    await paused.go_on()
    assert paused.lines == 2000
    assert len(statements) == 101


class Paused:
    """A client of an app that takes ten chunks, and then none until it is told to."""

    def __init__(self, app: FastAPI) -> None:
        self.app, self.taken, self.lines = app, 0, 0
        self.full, self.ready = anyio.Event(), anyio.Event()

    async def send(self, message: Any) -> None:
        """Take a part of the response."""
        if self.taken == 10:
            self.full.set()
            await self.ready.wait()
        if body := message.get("body"):
            self.lines += body.count(b"\n")
            self.taken += 1

    async def receive(self) -> Any:
        """Never go away."""
        await anyio.sleep_forever()

    async def until_full(self) -> None:
        """Ask, and take ten chunks."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [],
            "asgi": {"version": "3.0"},
        }
        self.asking = asyncio.create_task(self.app(scope, self.receive, self.send))
        with anyio.fail_after(5):
            await self.full.wait()

    async def go_on(self) -> None:
        """Take the rest."""
        self.ready.set()
        await self.asking


async def test_a_client_that_is_too_slow_loses_its_snapshot(full: World, monkeypatch: Any) -> None:
    """A snapshot keeps a connection, so there is a limit to how long a client may take for a chunk."""
    monkeypatch.setattr(streams, "PATIENCE", 0.1)
    make = lambda new: stream_ndjson(new, lambda shop: shop.books.into(Wide), batch=20, snapshot=True)
    paused = Paused(app_with(full, make))

    await paused.until_full()
    with pytest.raises(CutStreamError):
        await paused.asking

    assert full.checked_out == 0
    if full.server == "PostgreSQL":
        assert in_transaction(full) == 0


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("snapshot", [False, True])
async def test_a_cancelled_stream_leaves_nothing(full: World, snapshot: bool, times: int) -> None:
    """A server that stops cancels its tasks, and may do it twice; no two threads meet in a session."""
    statements = statements_of(full)
    make = lambda new: stream_json(new, lambda shop: shop.books.into(Wide), batch=2, snapshot=snapshot)

    for turns in range(1, 12):
        paused = Paused(app_with(full, make))
        paused.taken = -(10**6)
        asking = asyncio.create_task(paused.until_full())
        statements.clear()
        while len(statements) < turns:
            await anyio.sleep(0)
        for _ in range(times):
            paused.asking.cancel()
            await anyio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await paused.asking
        asking.cancel()
        await asyncio.wait({asking})
        assert await until(lambda: full.checked_out == 0)
    async with full.serving() as shop:
        assert await shop.books.count() == 2000
    await threads_of_aiosqlite()


async def test_a_server_that_says_so_by_an_error_ends_the_stream(full: World) -> None:
    """Newer servers raise OSError from `send` when the client has gone: no failure, and nothing is left open."""

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError

    make = lambda new: stream_csv(new, lambda shop: shop.books.into(Row), batch=2, snapshot=True)
    paused = Paused(app_with(full, make))
    paused.send = send  # type: ignore[method-assign]

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    await paused.app(scope, paused.receive, send)

    assert full.checked_out == 0
