"""C23: the server is told to stop while COMMIT is under way, in an app with two databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from conftest import AsyncShop
from deps.apps import author, served, until
from fastapi import FastAPI
from proxy import STALL
from servers import Driver
from wired import TIMEOUTS, WiredWorld, on_async_servers, wired_world

from bookshop.models import Author
from fastkit.database import AsyncDatabase
from fastkit.deps import install, unit_of_work
from fastkit.repository import AsyncRepository
from fastkit.uow import AsyncUnitOfWork

pytestmark = pytest.mark.anyio

OTHERS = {
    "PostgreSQL": (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    ),
    "MariaDB": "SELECT count(*) FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
}
"""The connections that are left on the server."""


class Library(AsyncUnitOfWork):
    """What lives on the second database."""

    authors: AsyncRepository[Author]


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[WiredWorld]:
    """Return one database behind a proxy."""
    async with wired_world(driver, url) as world:
        yield world


@on_async_servers
async def test_c23_both_databases_wait_for_their_commits(world: WiredWorld) -> None:
    """The tasks are cancelled, the commits are not: what was sent is stored, and then every connection closed."""
    shops, libraries = world.naked, AsyncDatabase(world.naked.engine.url, pool_size=2, timeouts=TIMEOUTS)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with shops, libraries:
            yield

    app = FastAPI(lifespan=lifespan)
    install(app, {AsyncShop: shops, Library: libraries})

    @app.post("/shop")
    async def to_shop(shop: Annotated[AsyncShop, unit_of_work(AsyncShop)]) -> None:
        async with shop.begin():
            shop.authors.add(author("Ovid"))

    @app.post("/library")
    async def to_library(library: Annotated[Library, unit_of_work(Library)]) -> None:
        async with library.begin():
            library.authors.add(author("Virgil"))

    faults = [world.proxy.arm(STALL, before="COMMIT") for _ in range(2)]
    async with served(app, timeout_graceful_shutdown=1) as (server, client):
        asking = [asyncio.create_task(client.post(path)) for path in ("/shop", "/library")]
        for fault in faults:
            await asyncio.to_thread(fault.wait)
        assert shops.checked_out == libraries.checked_out == 1
        server.should_exit = True
        assert await until(lambda: libraries._closed)
        assert libraries.checked_out == 1
        for fault in faults:
            fault.release()
        await asyncio.gather(*asking, return_exceptions=True)

    assert shops.checked_out == libraries.checked_out == 0
    assert shops._closed
    assert world.lookout.names() == ["Ovid", "Virgil"]
    assert await until(lambda: world.lookout.rows(OTHERS[world.server]) == [(0,)])
