"""Where the network and the load matter: many requests at once, clients that go, servers that stop or vanish."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

import anyio
import pytest
from colours import awaitable
from conftest import TIMEOUTS, AsyncShop, Shop, World
from deps.apps import (
    Limited,
    answer,
    app_of,
    author,
    client_of,
    coloured,
    problem_of,
    rows,
    served,
    slow_read,
    until,
)
from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from servers import Driver
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.util import await_only

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.deps import install, transaction, unit_factory, unit_of_work, units
from fastkit.errors import LockTimeoutError
from fastkit.repository import Repository
from fastkit.uow import UnitOfWork

pytestmark = pytest.mark.anyio


class Warehouse(UnitOfWork):
    """A second unit of work of the sync colour."""

    authors: Repository[Author]


async def usable(world: World) -> bool:
    """Return whether every connection of the pool comes back and works."""
    if not await until(lambda: world.checked_out == 0):
        return False
    for number in range(6):
        patience = 5 if number == 0 and world.server == "SQLite" else 0  # a statement that was cut off runs on there
        while True:
            try:
                async with world.shop() as shop:
                    await shop.books.count()
                break
            except LockTimeoutError:
                if not patience:
                    return False
                patience -= 1
    return world.checked_out == 0


async def test_c14_a_client_reads_its_own_writes(world: World) -> None:
    """Each GET that is sent when the 201 has come finds the row, however slow the commit is."""
    app = app_of(world)

    async def create(name: str, shop: Annotated[Any, transaction(world.unit)]) -> None:
        shop.authors.add(author(name))

    async def read(name: str, shop: Annotated[Any, unit_of_work(world.unit)]) -> bool:
        return await shop.authors.exists(Author.name == name)

    def commit_slowly(connection: Any) -> None:
        (await_only(asyncio.sleep(0.05)) if world.driver.is_async else time.sleep(0.05))

    app.post("/{name}", status_code=201)(coloured(world, create))
    app.get("/{name}")(coloured(world, read))
    event.listen(world.sync_engine, "commit", commit_slowly)

    found = []
    async with served(app) as (_, client):
        for number in range(10):
            assert (await client.post(f"/{number}")).status_code == 201
            found.append((await client.get(f"/{number}")).json())

    assert found == [True] * 10


# -- clients that go, servers that stop


async def test_c4_a_stream_that_the_client_cuts_gives_its_connection_back(stocked: World) -> None:
    """
    The unit of a factory ends with the body, also when nobody reads it to its end.

    Starlette never closes a generator that is not async: the garbage collector does, sooner or later.
    """
    app = app_of(stocked)

    async def export(new_shop: Callable[[], Any]) -> AsyncIterator[bytes]:
        async with new_shop().block(read_only=True) as shop:
            while await shop.books.all():
                yield b"x" * 1000
                await anyio.sleep(0.01)

    def export_sync(new_shop: Callable[[], Any]) -> Iterator[bytes]:
        with new_shop().block(read_only=True) as shop:
            while shop.books.all():
                yield b"x" * 1000
                time.sleep(0.01)

    async def work(new_shop: Annotated[Any, unit_factory(stocked.unit)]) -> StreamingResponse:
        return StreamingResponse((export if stocked.driver.is_async else export_sync)(new_shop))

    app.get("/")(coloured(stocked, work))

    async with served(app) as (_, client):
        for _ in range(5):
            async with client.stream("GET", "/") as response:
                await anext(response.aiter_bytes())
                assert stocked.checked_out >= 1
        if not stocked.driver.is_async:
            await anyio.sleep(0.1)
            gc.collect()

        assert await usable(stocked)


@pytest.mark.parametrize(("patience", "stored"), [(20, 1), (1, 0)])
async def test_c23_a_shutdown_lets_requests_end(world: World, patience: int, stored: int) -> None:
    """A request in flight is waited for; one that takes too long is cancelled and leaves nothing."""
    if not stored and not world.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    app, begun = FastAPI(lifespan=world.naked.lifespan), []
    install(app, {world.unit: world.naked})

    async def work(shop: Annotated[Any, unit_of_work(world.unit)]) -> None:
        async with shop.begin():
            shop.authors.add(author())
            await shop.session.flush()
            begun.append(world.checked_out)
            await shop.session.execute(slow_read(world))
            if not stored:
                await anyio.sleep(5)

    app.post("/", status_code=201)(coloured(world, work))

    async with served(app, timeout_graceful_shutdown=patience) as (server, client):
        asking = asyncio.create_task(client.post("/"))
        assert await until(lambda: bool(begun))
        server.should_exit = True
        [response] = await asyncio.gather(asking, return_exceptions=True)

    assert begun == [1]
    assert getattr(response, "status_code", 0) == (201 if stored else 500)
    assert (rows(world, Author), world.checked_out) == (stored, 0)


@pytest.mark.parametrize("limit", [anyio.move_on_after, asyncio.timeout])
@pytest.mark.parametrize("ask", [unit_of_work, transaction])
async def test_c23_a_cancelled_request_leaves_nothing(stocked: World, ask: Any, limit: Any) -> None:
    """Requests that run out of time give their connections back and store nothing."""
    app = app_of(stocked)

    async def work(shop: Annotated[Any, ask(stocked.unit)]) -> None:
        async with shop.begin():
            shop.authors.add(author(f"{time.monotonic_ns()}"))
            await shop.session.flush()
            await shop.session.execute(slow_read(stocked))
            await shop.session.execute(slow_read(stocked))
            if stocked.driver.is_async:
                await anyio.sleep(5)
            else:
                raise ValueError

    app.post("/")(coloured(stocked, work))
    limited, before = Limited(app, lambda: limit(0.2)), asyncio.all_tasks()

    with anyio.fail_after(30):
        await asyncio.gather(*(answer(limited, method="POST") for _ in range(3)), return_exceptions=True)
        await until(lambda: stocked.checked_out == 0, 10)

        assert await left_over(before) == set()
        assert await usable(stocked)
    assert rows(stocked, Author) == 1


async def left_over(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Return the tasks that do not end by themselves, and end them: the event loop would wait for them for ever."""
    await until(lambda: asyncio.all_tasks() <= before, 3)
    left = asyncio.all_tasks() - before
    for _ in range(3):
        for task in left:
            task.cancel()
        await asyncio.sleep(0.05)
    return left


# -- the database goes


def kill(world: World, connection_id: int) -> None:
    """Break a connection from the server's side, as a failover does."""
    name, statement = {
        "PostgreSQL": ("postgresql+psycopg", f"SELECT pg_terminate_backend({connection_id})"),
        "MariaDB": ("mariadb+pymysql", f"KILL {connection_id}"),
    }[world.server]
    engine = create_engine(world.sync_engine.url.set(drivername=name), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.mark.parametrize("then", ["read", "write", "commit"])
async def test_c14_a_connection_that_breaks_is_a_503(stocked: World, then: str) -> None:
    """A backend killed between two statements is not the client's fault, and nothing is stored."""
    if stocked.server == "SQLite":
        pytest.skip("SQLite has no server")
    app = app_of(stocked)
    whoami = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT connection_id()"}[stocked.server]

    async def work(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        async with shop:
            shop.authors.add(author())
            await shop.session.flush()
            kill(stocked, await shop.session.scalar(text(whoami).execution_options(fastkit_reads=True)))
            if then == "read":
                await shop.books.all()
            if then == "write":
                shop.authors.add(author("Another"))
                await shop.session.flush()
            await shop.commit()

    app.post("/")(coloured(stocked, work))

    response = await answer(app, method="POST")

    problem = problem_of(response)
    assert problem["status"] == 503
    assert problem["type"].split(":")[-1] == ("commit-unknown" if then == "commit" else "connection-lost")
    assert ("retry-after" in response.headers) == (then != "commit")
    assert rows(stocked, Author) == 1
    assert await usable(stocked)


class Proxy:
    """A way to a server that can be closed and opened again."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.target = (parsed.host, parsed.port)
        self.writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Break all connections and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in self.writers:
            writer.transport.abort()
        self.writers.clear()
        await asyncio.sleep(0.05)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, answers = await asyncio.open_connection(*self.target)
        self.writers += [writer, answers]
        await asyncio.gather(self._pass(reader, answers), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        writer.close()


async def test_c24_a_database_that_goes_and_comes_back(driver: Driver, url: str, rested: None) -> None:
    """While it is away each request is a 503 with Retry-After; afterwards all is well again."""
    if driver.server == "SQLite":
        pytest.skip("SQLite has no server")
    proxy = Proxy(url)
    await proxy.open()
    kind, unit = (AsyncDatabase, AsyncShop) if driver.is_async else (Database, Shop)
    database: Any = kind(make_url(url).set(host="127.0.0.1", port=proxy.port), timeouts=TIMEOUTS)
    world = World(driver, database)
    app = app_of(world)

    async def count(shop: Annotated[Any, unit_of_work(unit)]) -> int:
        return await shop.books.count()

    app.get("/")(coloured(world, count))

    responses = [await answer(app)]
    await proxy.close()
    responses += [await answer(app), await answer(app)]
    await proxy.open()
    responses += [await answer(app)]
    await proxy.close()
    await awaitable(database).close()

    assert [each.status_code for each in responses] == [200, 503, 503, 200]
    assert {problem_of(each)["type"] for each in responses[1:3]} == {"urn:fastkit:problem:cannot-connect"}
    assert all(int(each.headers["retry-after"]) > 0 for each in responses[1:3])


# -- many requests at once, in the sync colour


@pytest.fixture
def small(driver: Driver, url: str) -> Iterator[Database]:
    """Return a sync database with five connections, for which one waits longer than any busy machine takes."""
    yield from five_connections(driver, url, replace(TIMEOUTS, pool=25))


@pytest.fixture
def impatient(driver: Driver, url: str) -> Iterator[Database]:
    """Return the same with a short limit, for what is to run into it."""
    yield from five_connections(driver, url, TIMEOUTS)


def five_connections(driver: Driver, url: str, timeouts: Timeouts) -> Iterator[Database]:
    """Yield a sync database with five connections."""
    if driver.is_async:
        pytest.skip("the async colour holds no threads")
    database = Database(url, pool_size=5, timeouts=timeouts, engine_options={"max_overflow": 0})
    yield database
    database.close()


async def rush(app: FastAPI, paths: list[str]) -> dict[int, int]:
    """Return how often each status was answered to requests that come all at once."""
    async with client_of(app) as client:
        with anyio.fail_after(30):
            responses = await asyncio.gather(*map(client.get, paths))
    statuses = [each.status_code for each in responses]
    return {status: statuses.count(status) for status in set(statuses)}


def busy_app(database: Database) -> FastAPI:
    """Return an app whose requests hold a connection from a `def` dependency into a `def` endpoint."""
    app = FastAPI()
    install(app, {Shop: database, Warehouse: database})

    def user(shop: Annotated[Shop, transaction(Shop)]) -> int:
        time.sleep(0.005)
        return shop.authors.count()

    @app.get("/")
    def read(
        who: Annotated[int, Depends(user)],
        shop: Annotated[Shop, unit_of_work(Shop)],
        warehouse: Annotated[Warehouse, unit_of_work(Warehouse)],
    ) -> int:
        time.sleep(0.005)
        return shop.authors.count()

    return app


async def test_c4_many_sync_requests_do_not_starve_each_other(small: Database) -> None:
    """120 requests at once on five connections are all answered: they wait where they hold nothing."""
    assert await rush(busy_app(small), ["/"] * 120) == {200: 120}
    assert small.checked_out == 0


async def test_c4_without_admission_they_would_starve(impatient: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same requests run into the pool's time limit if all are let in at once: the test above can fail."""

    @asynccontextmanager
    async def everybody(*_: Any) -> AsyncIterator[None]:
        yield

    monkeypatch.setattr(units, "_admitted", everybody)

    statuses = await rush(busy_app(impatient), ["/"] * 120)

    assert statuses.get(503, 0) > 0


async def test_c15_two_units_on_one_database_do_not_starve_each_other(small: Database) -> None:
    """Requests that hold two connections each are all answered, although they are more than the pool has."""
    app = FastAPI()
    install(app, {Shop: small, Warehouse: small})

    @app.get("/")
    def read(
        shop: Annotated[Shop, unit_of_work(Shop)], warehouse: Annotated[Warehouse, unit_of_work(Warehouse)]
    ) -> int:
        with shop.block(read_only=True), warehouse.block(read_only=True):
            count = shop.authors.count()
            time.sleep(0.02)
            return count + warehouse.authors.count()

    assert await rush(app, ["/"] * 40) == {200: 40}


async def test_c4_waiting_for_a_turn_has_a_limit(impatient: Database) -> None:
    """A request that finds all connections taken for longer than the pool's limit is a 503, as in the async colour."""
    app = FastAPI()
    install(app, {Shop: impatient})

    @app.get("/")
    def hold(shop: Annotated[Shop, unit_of_work(Shop)]) -> int:
        with shop.block(read_only=True):
            count = shop.authors.count()
            time.sleep(TIMEOUTS.pool + 1)
        return count

    statuses = await rush(app, ["/"] * 7)

    assert statuses == {200: 5, 503: 2}


async def test_c15_two_databases_in_any_order_do_not_wait_for_each_other(small: Database, tmp_path: Any) -> None:
    """Requests that need two databases, some in one order and some in the other, are all answered."""
    other = Database(f"sqlite:///{tmp_path}/warehouse.db", pool_size=2, timeouts=TIMEOUTS)
    app = FastAPI()
    install(app, {Shop: small, Warehouse: other})
    shop, warehouse = Annotated[Shop, unit_of_work(Shop)], Annotated[Warehouse, unit_of_work(Warehouse)]

    @app.get("/one")
    def one(first: shop, second: warehouse) -> int:  # type: ignore[valid-type]  # a short name
        return first.authors.count()  # type: ignore[attr-defined,no-any-return]  # same

    @app.get("/two")
    def two(first: warehouse, second: shop) -> int:  # type: ignore[valid-type]  # same
        return second.authors.count()  # type: ignore[attr-defined,no-any-return]  # same

    try:
        assert await rush(app, ["/one", "/two"] * 20) == {200: 40}
    finally:
        other.close()


async def test_c4_open_sockets_do_not_keep_requests_out(small: Database) -> None:
    """A WebSocket that took a sync unit and waits for its client does not use up a place."""
    app, closing = busy_app(small), asyncio.Event()

    @app.websocket("/talk")
    async def talk(socket: WebSocket, shop: Annotated[Shop, unit_of_work(Shop)]) -> None:
        await closing.wait()

    async def never() -> Any:
        await closing.wait()

    scope = {"type": "websocket", "path": "/talk", "query_string": b"", "headers": [], "subprotocols": []}
    sockets = [asyncio.create_task(app(dict(scope), never, never)) for _ in range(5)]  # type: ignore[arg-type]
    await asyncio.sleep(0.1)

    try:
        with anyio.fail_after(5):
            assert (await answer(app)).status_code == 200
    finally:
        closing.set()
        await asyncio.gather(*sockets, return_exceptions=True)
