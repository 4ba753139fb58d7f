"""C3, C11, C18, C23: cancelled anywhere, in any way, once or twice, a unit tells the truth and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time
from collections.abc import Callable, Iterator

import pytest
from aftermath import Lookout, check_aftermath, check_told
from cancelling import CANCELLERS, Canceller, Steps
from conftest import AsyncShop, World
from servers import DRIVERS

from bookshop.models import Author
from fastkit.errors import UniqueError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

EVERY = 1 if os.environ.get("FASTKIT_SLOW") else 2
"""Each of so many awaits is tried; which ones depends on the way of cancelling."""

on_async_drivers = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.is_async], ids=lambda driver: driver.id, indirect=True
)
numbers = itertools.count()


class Story:
    """One run of a scenario: what it adds, and what its hooks noted."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = [f"{word} {next(numbers)}" for word in ("Ovid", "Virgil")]
        self.told: list[str] = []


async def commits(story: Story, shop: AsyncShop) -> None:
    async with shop:
        shop.authors.add_all(Author(name=name) for name in story.names)
        await shop.authors.count()
        shop.after_commit(lambda: story.told.append("hook"))
        await shop.commit()


async def nests(story: Story, shop: AsyncShop) -> None:
    async with shop.begin():
        shop.authors.add(Author(name=story.names[0]))
        async with shop:
            await shop.commit()
        try:
            async with shop.savepoint():
                await shop.authors.count()
                raise LookupError
        except LookupError:
            pass
        async with shop.savepoint():
            shop.authors.add(Author(name=story.names[1]))
        shop.after_commit(lambda: story.told.append("hook"))


async def fails(story: Story, shop: AsyncShop) -> None:
    try:
        async with shop.begin():
            shop.authors.add_all(Author(id=4711, name=name) for name in story.names)
            shop.after_commit(lambda: story.told.append("hook"))
    except UniqueError:
        pass


async def reads(story: Story, shop: AsyncShop) -> None:
    await shop.authors.count()
    async with shop.block(read_only=True, timeout=1):
        await shop.authors.all()
    await story.world.naked.gather(AsyncShop, lambda one: one.authors.count(), lambda two: two.books.count())


async def nothing_is_checked_out(world: World) -> None:
    """Wait for the connections that SQLAlchemy and the drivers close in tasks of their own when they are cancelled."""
    end = time.monotonic() + 3
    while world.checked_out:
        assert time.monotonic() < end, "a connection was not given back"
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def no_garbage_collector() -> Iterator[None]:
    """Let nobody give back what the code has lost."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture(autouse=True)
async def driver_noise(anyio_backend: str) -> None:
    """Leave out what asyncpg tells the loop of a connection that is cancelled while it is made."""
    loop = asyncio.get_running_loop()
    told = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict) -> None:
        if "unexpected connection_lost() call" not in str(context.get("exception")) and told is not None:
            told(loop, context)

    loop.set_exception_handler(handle)


@on_async_drivers
@pytest.mark.parametrize("cancels", [1, 2])
@pytest.mark.parametrize("canceller", CANCELLERS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("scenario", [commits, nests, fails, reads], ids=lambda each: each.__name__)
async def test_c23_cancelled_at_each_step(
    world: World, scenario: Callable, canceller: Canceller, cancels: int, url: str
) -> None:
    """At every await of a scenario: the outcome is true, hooks ran only after a commit, nothing is checked out."""
    lookout = Lookout(url)
    step = 1 + CANCELLERS.index(canceller) % EVERY
    async with world.serving() as shop:
        await shop.authors.count()  # SQLAlchemy's own look at a new server does not bear a cancellation
    while True:
        story = Story(world)
        async with AsyncShop.serving(world.naked) as shop:
            steps = Steps(scenario(story, shop), {step, step + 1} if cancels == 2 else {step})
            await canceller(steps)
            status = shop.outcome.status

        await nothing_is_checked_out(world)
        assert status is not Status.UNKNOWN
        if status is not Status.ACTIVE:
            check_told(status, lookout, story.names if scenario is not reads else ["nobody"])
        assert not story.told or status is Status.COMMITTED
        if steps.taken < step:
            break
        step += EVERY
    await check_aftermath(world.naked, lookout, Status.ROLLED_BACK, ["nobody"])
    lookout.close()

    assert scenario in (fails, reads) or status is Status.COMMITTED, "it was never left alone"
