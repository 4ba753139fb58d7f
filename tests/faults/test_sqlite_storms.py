"""C1, C11, C23, C24 with other processes: locks that come and go, and writers that are killed in the middle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator

import pytest
from aftermath import Lookout, check_pool
from children import Child
from conftest import AsyncShop, Shop
from many import Outcomes, keep_writing, write
from servers import DRIVERS, Driver
from sqlalchemy import make_url

from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.errors import LockTimeoutError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

PATIENCE = 0.1
"""Seconds that a block waits for the write lock here."""

on_sqlite = pytest.mark.parametrize(
    "driver", [driver for driver in DRIVERS if driver.server == "SQLite"], ids=lambda driver: driver.id, indirect=True
)


@pytest.fixture
def lookout(url: str) -> Iterator[Lookout]:
    """Return a look at the database from outside."""
    lookout = Lookout(url)
    yield lookout
    lookout.close()


# -- the write lock


@pytest.fixture
def locker(url: str, driver: Driver) -> Iterator[Child]:
    """Return a process that can hold the write lock."""
    with Child("locker.py", str(make_url(url).database), driver.id) as locker:
        yield locker


@pytest.fixture
async def impatient(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[Database | AsyncDatabase]:
    """Return a database that does not wait long for the write lock."""
    kind = AsyncDatabase if driver.is_async else Database
    database = kind(url, pool_size=4, timeouts=Timeouts(lock=PATIENCE, pool=2, drain=1))
    yield database
    if isinstance(database, AsyncDatabase):
        await database.close()
    else:
        database.close()


@on_sqlite
async def test_c24_a_lock_of_another_process_is_told(impatient, lookout: Lookout, locker: Child) -> None:
    """While another process holds the write lock a block fails with a lock timeout; when it is free, it works."""
    locker.tell("hold")
    locker.wait_for("hold")
    told, error = await write(impatient, "Ovid")

    assert isinstance(error, LockTimeoutError)
    assert told is Status.ROLLED_BACK
    assert impatient.checked_out == 0
    locker.tell("free")
    locker.wait_for("free")
    assert lookout.open_transactions() == []
    assert await write(impatient, "Virgil") == (Status.COMMITTED, None)
    assert lookout.names() == ["Virgil-a", "Virgil-b"]
    await check_pool(impatient)


@on_sqlite
async def test_c24_a_reader_is_not_disturbed_by_a_lock(impatient, lookout: Lookout, locker: Child) -> None:
    """While another process holds the write lock everybody can read, in a block that says so too."""
    assert await write(impatient, "Ovid") == (Status.COMMITTED, None)
    locker.tell("hold")
    locker.wait_for("hold")
    if isinstance(impatient, AsyncDatabase):
        async with AsyncShop.serving(impatient) as shop:
            outside = await shop.authors.count()
            async with shop.block(read_only=True):
                inside = await shop.authors.count()
    else:
        with Shop.serving(impatient) as shop:
            outside = shop.authors.count()
            with shop.block(read_only=True):
                inside = shop.authors.count()

    assert (outside, inside) == (2, 2)
    locker.tell("free")
    locker.wait_for("free")
    await check_pool(impatient)


@on_sqlite
async def test_c11_in_a_storm_of_locks_every_outcome_is_true(impatient, lookout: Lookout, locker: Child) -> None:
    """Four writers against a process that locks at random: each block is committed, or a lock timeout and absent."""
    over, outcomes = asyncio.Event(), Outcomes()

    locker.tell("storm")
    async with asyncio.TaskGroup() as group:
        for who in ("Ovid", "Virgil", "Horace", "Sappho"):
            group.create_task(keep_writing(impatient, outcomes, who, until=over.is_set))
        await asyncio.to_thread(locker.wait_for, "storm")
        over.set()

    outcomes.check(lookout)
    assert all(isinstance(error, LockTimeoutError) for error in outcomes.errors)
    assert outcomes.stored
    assert lookout.open_transactions() == []
    assert lookout.rows("PRAGMA integrity_check") == [("ok",)]
    await check_pool(impatient)


# -- kill -9


def blocks_of(name: str, lookout: Lookout) -> set[int]:
    """Return the numbers of the blocks of one writer that are stored; each must be whole."""
    found: dict[int, set[str]] = {}
    for each in lookout.names():
        who, number, letter = each.split("-")
        if who == name:
            found.setdefault(int(number), set()).add(letter)
    halves = {number for number, letters in found.items() if letters != set("abc")}
    assert not halves, f"half of a block is stored: {sorted(halves)}"
    return set(found)


def check_what_the_dead_said(name: str, child: Child, lookout: Lookout) -> None:
    """Assert that what it reported as committed is stored, and beyond that at most the block it was in."""
    stored, committed, begun = blocks_of(name, lookout), child.numbers("committed"), child.numbers("begun")
    assert committed, "it was killed too early to prove anything"
    assert committed <= stored, f"reported and lost: {sorted(committed - stored)}"
    assert stored - committed <= {max(begun)}, f"never begun, or begun and given up: {sorted(stored - committed)}"


async def test_c11_a_killed_writer_leaves_what_it_reported(driver: Driver, url: str, lookout: Lookout) -> None:
    """Killed with SIGKILL at any moment, a process leaves exactly what it said, no lock, and a sound database."""
    colour = "async" if driver.is_async else "sync"
    count = random.Random(driver.id).randint(5, 25)
    arguments = "writer.py", colour, url
    with Child(*arguments, "racing") as racing, Child(*arguments, "held", "3") as held:
        with Child(*arguments, "next") as follower:
            racing.tell("go")
            racing.wait_for(f"committed {count}")
            racing.kill()
            held.tell("go")
            held.wait_for("flushed 3")
            lookout.wait_until_something_is_open()
            held.kill()
            follower.tell("go")
            follower.wait_for("committed 1")
            follower.kill()
    lookout.wait_until_nothing_is_open()

    check_what_the_dead_said("racing", racing, lookout)
    check_what_the_dead_said("held", held, lookout)
    check_what_the_dead_said("next", follower, lookout)
    assert blocks_of("held", lookout) == {1, 2}
    if driver.server == "SQLite":
        assert lookout.rows("PRAGMA integrity_check") == [("ok",)]
