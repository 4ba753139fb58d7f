"""Small apps for the tests of `deps`: one endpoint body for both colours, and a second look into the database."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import uvicorn
from colours import awaitable
from conftest import World
from fastapi import FastAPI
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.pool import NullPool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bookshop.models import Author, Payment
from fastkit.deps import install

PROBLEM = "application/problem+json"
_SYNC_DRIVERS = {"SQLite": "sqlite", "PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}
_SLOW = {
    "SQLite": (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT max(i) FROM n"
    ),
    "PostgreSQL": "SELECT pg_sleep(0.5)",
    "MariaDB": "SELECT sleep(0.5)",
}


def coloured(world: World, work: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """Return an endpoint, or a dependency, in the colour of a world: `async def`, or a real `def`."""
    if world.driver.is_async:
        return work

    def endpoint(**arguments: Any) -> Any:
        return finished(work(**{name: awaitable(value) for name, value in arguments.items()}))

    endpoint.__signature__ = inspect.signature(work)  # type: ignore[attr-defined]  # FastAPI reads it
    endpoint.__qualname__ = work.__qualname__
    return endpoint


def finished(body: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a body that is async only in its looks: nothing in it waits."""
    try:
        body.send(None)
    except StopIteration as stop:
        return stop.value
    body.close()
    raise AssertionError("a body of the sync colour waited for something")


def app_of(*worlds: World, **options: Any) -> FastAPI:
    """Return an app on these databases."""
    app = FastAPI(**options)
    install(app, {world.unit: world.naked for world in worlds})
    return app


def client_of(app: ASGIApp) -> httpx2.AsyncClient:
    """Return a client that meets errors as a real one does: as responses."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url="http://shop", timeout=60)


async def answer(app: ASGIApp, path: str = "/", method: str = "GET", **options: Any) -> httpx2.Response:
    """Return the answer of an app to one request."""
    async with client_of(app) as client:
        return await client.request(method, path, **options)


def rows(world: World, model: type[Any]) -> int:
    """Return how many rows are stored, as a connection sees it that has nothing to do with the app."""
    url = world.sync_engine.url.set(drivername=_SYNC_DRIVERS[world.server])
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(model)) or 0


_keys = count(100)


def author(name: str = "George Eliot") -> Author:
    """Return a new author; its key is given, because the servers do not count the keys that a fixture gave."""
    return Author(id=next(_keys), name=name)


def refused_payment() -> Payment:
    """Return a payment for no order: its COMMIT fails (on MariaDB its INSERT)."""
    return Payment(id=next(_keys), order_id=999, reference="wire-1", amount=10)


class Watched:
    """
    An app with an observer that looks when the first byte is about to leave.

    Attributes:
        seen: What the observer saw, once a response.
    """

    def __init__(self, app: ASGIApp, look: Callable[[], Any]) -> None:
        self.app = app
        self.look = look
        self.seen: list[Any] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on, and look at each start of a response."""

        async def watching(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.seen.append(self.look())
            await send(message)

        await self.app(scope, receive, watching)


class Limited:
    """An app that gives up on a request after some time, as timeout middleware does."""

    def __init__(self, app: ASGIApp, limit: Callable[[], Any]) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on until the time is up."""
        limit = self.limit()
        try:
            if isinstance(limit, AbstractAsyncContextManager):
                async with limit:
                    await self.app(scope, receive, send)
            else:
                with limit:
                    await self.app(scope, receive, send)
        except TimeoutError:
            pass
        await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def started(app: FastAPI) -> AsyncIterator[None]:
    """Run the app's lifespan, as a server does."""
    async with app.router.lifespan_context(app):
        yield


@asynccontextmanager
async def served(app: FastAPI, **options: Any) -> AsyncIterator[tuple[uvicorn.Server, httpx2.AsyncClient]]:
    """Serve an app on a real port, in this event loop."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on", **options)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    assert await until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            yield server, client
    finally:
        server.should_exit = True
        await running


def problem_of(response: httpx2.Response) -> Mapping[str, Any]:
    """Return the problem document of a response, and check that it is one."""
    assert response.headers["content-type"] == PROBLEM, response.text
    document: Mapping[str, Any] = response.json()
    assert document["status"] == response.status_code
    return document


async def conversation(app: ASGIApp, texts: list[str], path: str = "/") -> list[Message]:
    """Return what an app sends on a WebSocket to a client that says these texts and goes."""
    said: list[Message] = [{"type": "websocket.receive", "text": text} for text in texts]
    incoming = iter([{"type": "websocket.connect"}, *said, {"type": "websocket.disconnect", "code": 1000}])
    sent: list[Message] = []

    async def receive() -> Message:
        await anyio.lowlevel.checkpoint()
        return next(incoming)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "query_string": b"", "headers": [], "subprotocols": []}
    await app(scope, receive, send)
    return sent


async def until(true: Callable[[], bool], seconds: float = 5) -> bool:
    """Wait until something is true; return whether it became so in time."""
    with anyio.move_on_after(seconds):
        while not true():
            await anyio.sleep(0.01)
    return true()


def slow_read(world: World) -> Any:
    """Return a statement that only reads, and takes about half a second."""
    return text(_SLOW[world.server]).execution_options(fastkit_reads=True)
