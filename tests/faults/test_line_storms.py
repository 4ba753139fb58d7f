"""C11, C12, C23, C24 on a line that breaks again and again, or is silent: everything that is told is true."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from aftermath import check_pool
from many import Outcomes, keep_writing, write
from proxy import CUT, RESET, Call
from servers import Driver
from wired import WiredWorld, on_async_servers, on_servers, wired_world

from fastkit.errors import CannotConnectError, CommitUnknownError, ConnectionLostError, UnavailableError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[WiredWorld]:
    """Return one database behind a proxy, with a connection in its pool that was used before."""
    async with wired_world(driver, url) as world:
        async with world.shop() as shop:
            await shop.authors.count()
        yield world


@on_servers
async def test_c11_in_a_storm_of_cuts_every_outcome_is_true(world: WiredWorld) -> None:
    """Three writers on lines that are cut at any statement, before or after it, twenty times: no lie, no remains."""
    chance = random.Random(world.driver.id)
    for number in range(20):
        side = "before" if number % 2 else "after"
        world.proxy.arm(RESET if number % 4 < 2 else CUT, **{side: lambda _: chance.random() < 0.02})
    outcomes = Outcomes()

    async with asyncio.TaskGroup() as group:
        for who in ("Ovid", "Virgil", "Horace"):
            writing = keep_writing(world.naked, outcomes, who, until=lambda: world.proxy.armed == 0)
            group.create_task(writing)

    assert world.checked_out == 0
    world.lookout.wait_until_nothing_is_open()
    outcomes.check(world.lookout)
    assert {type(error) for error in outcomes.errors} <= {ConnectionLostError, CannotConnectError, CommitUnknownError}
    await check_pool(world.naked)


@on_async_servers
async def test_c23_a_line_that_falls_silent_during_commit_ends_at_the_deadline(world: WiredWorld) -> None:
    """Nothing is answered any more, not even a new connection that would cancel: the end comes all the same."""
    world.commit_deadline(0.3)
    fault = world.proxy.arm(Call(world.proxy.silence), before="COMMIT")
    start = time.monotonic()
    told, error = await write(world.naked, "Ovid")
    took = time.monotonic() - start

    assert fault.happened
    assert isinstance(error, CommitUnknownError)
    assert told is Status.UNKNOWN
    assert took < 3.5
    await world.mend()
    world.commit_deadline(3)
    world.lookout.wait_until_nothing_is_open()
    assert world.lookout.names() == []
    await check_pool(world.naked)


@on_servers
async def test_c24_a_server_that_is_silent_holds_nobody_longer_than_the_limit(world: WiredWorld) -> None:
    """A server that accepts connections and says nothing is given up after the limit for connecting."""
    if world.server == "MariaDB":
        pytest.skip("its drivers apply the limit to the TCP connection alone, not to the greeting that follows")
    world.proxy.cut_all()
    world.proxy.silence()
    start = time.monotonic()
    told, error = await write(world.naked, "Ovid")
    took = time.monotonic() - start

    assert isinstance(error, UnavailableError)
    assert told is Status.ROLLED_BACK
    assert took < 3.5, f"{type(error).__name__} after {took:.1f} s"
    assert world.checked_out == 0
    world.proxy.disarm()
    assert await write(world.naked, "Virgil") == (Status.COMMITTED, None)
    await check_pool(world.naked)
