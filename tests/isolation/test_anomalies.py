"""C16: SERIALIZABLE, with the whole block repeated when it is refused, keeps the rules that weaker levels break."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from colours import awaitable
from conftest import World, book
from isolation.anomalies import Arena, write_skew
from servers import DRIVERS, Driver

from bookshop.models import Order
from fastkit.database import Isolation, Retry

pytestmark = pytest.mark.anyio

BUYERS = (1, 2, 3, 4)
PATIENTLY = Retry(50, deadline=30)
PATIENCE = {"SQLite": 0.1, "PostgreSQL": 2.0, "MariaDB": 2.0}
"""Seconds that a buyer waits for the others; on SQLite a buyer is alone, so that nobody comes."""

ON_POSTGRESQL = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], indirect=True, ids=lambda driver: driver.id
)


class Meeting:
    """Where all buyers wait for each other once, after they have read and before they write."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._here: set[int] = set()

    async def wait(self, buyer: int) -> None:
        """Come, and stay until the last one is here or time is up."""
        self._here.add(buyer)
        while len(self._here) < len(BUYERS) and time.monotonic() < self._end:
            await asyncio.sleep(0.002)


async def sell_one(shop: Any, buyer: int, meeting: Meeting) -> None:
    """Lost update: each buyer takes one of 5 copies, computed in Python; 1 of 5 is left."""
    emma = await shop.books.get_one(1)
    await meeting.wait(buyer)
    emma.stock -= 1


async def one_is_left(shop: Any) -> bool:
    return (await shop.books.get_one(1)).stock == 1


async def take_one_if_twenty(shop: Any, buyer: int, meeting: Meeting) -> None:
    """Write skew: each buyer takes a copy of another book, if 20 are on the shelf; 19 have to stay."""
    books = {each.id: each for each in await shop.books.all()}
    await meeting.wait(buyer)
    if sum(each.stock for each in books.values()) == 20:
        books[buyer].stock -= 1


async def nineteen_are_left(shop: Any) -> bool:
    return sum(each.stock for each in await shop.books.all()) == 19


async def order_if_none(shop: Any, buyer: int, meeting: Meeting) -> None:
    """Write skew by new rows: a customer may have one order, and orders if there is none."""
    count = await shop.orders.count(Order.customer_id == 1)
    await meeting.wait(buyer)
    if not count:
        shop.orders.add(Order(id=buyer, customer_id=1, placed_at=datetime(2026, 1, 1, tzinfo=UTC), total=10))


async def one_order(shop: Any) -> bool:
    return await shop.orders.count() == 1


async def all_buy(world: World, work: Any, holds: Any, isolation: Isolation | None) -> bool:
    """Let all buyers do the same at once, in tasks or threads, and return whether the rule holds after that."""
    async with world.shop().begin() as shop:
        shop.books.add_all([book(key, title, author_id=1) for key, title in ((3, "Sanditon"), (4, "Lady Susan"))])
    meeting = Meeting(PATIENCE[world.server])

    async def buy(buyer: int) -> None:
        await world.naked.run(world.unit, lambda shop: work(shop, buyer, meeting), retry=PATIENTLY, isolation=isolation)

    def buy_in_a_thread(buyer: int) -> None:
        def work_here(shop: Any) -> None:
            asyncio.run(work(awaitable(shop), buyer, meeting))

        world.naked.run(world.unit, work_here, retry=PATIENTLY, isolation=isolation)

    if world.driver.is_async:
        await asyncio.gather(*map(buy, BUYERS))
    else:
        await asyncio.gather(*(asyncio.to_thread(buy_in_a_thread, buyer) for buyer in BUYERS))
    async with world.serving() as shop:
        return await holds(shop)


@pytest.mark.parametrize(
    ("work", "holds"),
    [(sell_one, one_is_left), (take_one_if_twenty, nineteen_are_left), (order_if_none, one_order)],
    ids=["lost update", "write skew", "write skew by new rows"],
)
class TestConcurrentBuyers:
    """Four buyers at once, each of whom has read before the first one writes."""

    async def test_c16_serializable_and_repetition_keep_the_rule(self, stocked: World, work: Any, holds: Any) -> None:
        """Whoever is refused does it again and sees what the others did."""
        assert await all_buy(stocked, work, holds, "SERIALIZABLE")

    @ON_POSTGRESQL
    async def test_c16_the_default_level_breaks_the_rule(self, stocked: World, work: Any, holds: Any) -> None:
        """Nobody is refused, so repetition does not help: all of them write what they computed from old rows."""
        assert not await all_buy(stocked, work, holds, None)


@ON_POSTGRESQL
@pytest.mark.parametrize("level", [None, "REPEATABLE READ"])
def test_c22_serializable_on_one_side_is_not_enough(driver: Driver, url: str, level: Isolation | None) -> None:
    """PostgreSQL watches over serializable transactions only: each block that the rule is about has to be one."""
    arena = Arena(driver, url)
    try:
        arena.referee.lays_out()
        arena.a.opens(isolation="SERIALIZABLE")
        arena.b.opens(isolation=level)

        assert write_skew(arena.a, arena.b, arena.referee)
    finally:
        arena.close()
