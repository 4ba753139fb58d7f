"""The world of the other tests with a proxy on the line to its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aftermath import PATIENCE, Lookout, check_aftermath
from conftest import World
from proxy import Proxy
from servers import DRIVERS, Driver
from sqlalchemy import make_url

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database, Timeouts

TIMEOUTS = Timeouts(connect=2, pool=2, statement=10, lock=2, commit=3, drain=1)


def _with(drivers: Iterable[Driver]) -> pytest.MarkDecorator:
    wired = [driver for driver in drivers if driver.server != "SQLite"]
    return pytest.mark.parametrize("driver", wired, ids=lambda driver: driver.id, indirect=True)


on_servers = _with(DRIVERS)
"""Run a test with each driver that speaks to a server."""

on_async_servers = _with(driver for driver in DRIVERS if driver.is_async)
"""Same, but only where a task can be cancelled and COMMIT has a deadline."""

on_sync_servers = _with(driver for driver in DRIVERS if not driver.is_async)
"""Same, but only where neither is so."""


class WiredWorld(World):
    """
    A database behind a proxy.

    Attributes:
        proxy: The line to the server.
        lookout: A look at the server that does not go through the proxy.
    """

    def __init__(self, driver: Driver, database: Any, proxy: Proxy, lookout: Lookout) -> None:
        super().__init__(driver, database)
        self.proxy = proxy
        self.lookout = lookout

    def commit_deadline(self, seconds: float) -> None:
        """Give COMMIT so long."""
        object.__setattr__(self.naked.timeouts, "commit", seconds)

    async def mend(self) -> None:
        """End the stalls by cutting what is stalled, and wait for the connections of the pool."""
        self.proxy.disarm()
        self.proxy.cut_all()
        async with asyncio.timeout(PATIENCE):
            while self.checked_out:  # a pool has no event to wait for
                await asyncio.sleep(0.01)

    async def check(self, shop: Any, *names: str) -> bool:
        """Assert that all is well after a fault in the block of *shop*, and return whether its rows are stored."""
        self.proxy.disarm()
        return await check_aftermath(self.naked, self.lookout, shop.outcome.status, names)


@asynccontextmanager
async def wired_world(driver: Driver, url: str, **engine_options: Any) -> AsyncIterator[WiredWorld]:
    """Make the world of one test; further keywords are for `create_engine`."""
    parsed = make_url(url)
    with Proxy((parsed.host, parsed.port), driver.server) as proxy:
        kind = AsyncDatabase if driver.is_async else Database
        # a copy, because tests shorten the deadline
        database = kind(proxy.url(url), pool_size=2, timeouts=replace(TIMEOUTS), engine_options=engine_options)
        world = WiredWorld(driver, database, proxy, Lookout(url))
        try:
            yield world
        finally:
            proxy.disarm()
            await world.database.close()
            world.lookout.close()


def authors(shop: Any, names: Iterable[str]) -> None:
    """Add one author for each name."""
    shop.authors.add_all([Author(name=name) for name in names])
