"""C10 to C12, C23, C24 when the server ends a connection, or refuses a COMMIT: no success without rows, no remains."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from aftermath import Lookout, check_aftermath
from conftest import World
from proxy import Call
from servers import Driver
from sqlalchemy import text
from wired import WiredWorld, authors, on_servers, wired_world

from bookshop.models import Author, Customer, Order, Payment
from fastkit.errors import (
    CommitUnknownError,
    ConnectionLostError,
    ForeignKeyError,
    TransactionDoomedError,
    UniqueError,
)
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

OWN_ID = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT CONNECTION_ID()"}
KILL = {"PostgreSQL": "SELECT pg_terminate_backend({})", "MariaDB": "KILL {}"}
IS_THERE = {
    "PostgreSQL": "SELECT 1 FROM pg_stat_activity WHERE pid = {}",
    "MariaDB": "SELECT 1 FROM information_schema.processlist WHERE id = {}",
}
SLEEP = {"PostgreSQL": "SELECT pg_sleep(20)", "MariaDB": "SELECT SLEEP(20)"}
SLEEPERS = {
    "PostgreSQL": "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%' "
    "AND datname = current_database()",
    "MariaDB": "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%' AND db = database()",
}


@pytest.fixture
async def line(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[WiredWorld]:
    """Return one database behind a proxy, with a connection in its pool that was used before."""
    async with wired_world(driver, url) as world:
        async with world.shop() as shop:
            await shop.authors.count()
        yield world


async def own_id(world: WiredWorld, shop) -> int:
    """Return what the server calls the connection of this block."""
    return await shop.session.scalar(text(OWN_ID[world.server]).execution_options(fastkit_reads=True))


def kill(world: WiredWorld, number: int) -> None:
    """End a connection on the server, and wait until it is gone; each thread has a look of its own."""
    lookout = Lookout(world.lookout.url)
    lookout.rows(KILL[world.server].format(number))
    _until(lambda: not lookout.rows(IS_THERE[world.server].format(number)))
    lookout.close()


def kill_who_sleeps(world: WiredWorld) -> None:
    """Wait for the one statement that sleeps on this server and database, and end its connection."""
    lookout = Lookout(world.lookout.url)
    _until(lambda: bool(lookout.rows(SLEEPERS[world.server])))
    [(number,)] = lookout.rows(SLEEPERS[world.server])
    lookout.close()
    kill(world, number)


def _until(condition: Callable[[], bool]) -> None:
    ticker = threading.Event()
    for _ in range(500):
        if condition():
            return
        ticker.wait(0.01)  # servers send no event
    raise AssertionError("the server did not get there in 5 s")


@asynccontextmanager
async def killed(world: WiredWorld, *names: str) -> AsyncIterator:
    """Give a unit whose block loses its connection; check that this is told, and everything after it."""
    shop = world.shop()
    with pytest.raises(ConnectionLostError):
        yield shop
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, *names)
    again = world.shop()
    async with again.begin():
        authors(again, names)
    assert again.outcome.status is Status.COMMITTED
    assert await world.check(again, *names)


@on_servers
async def test_c24_killed_before_the_first_statement(line: WiredWorld) -> None:
    """The connection ends after BEGIN: the first statement says so, and the next block works."""
    async with killed(line, "Ovid") as shop, shop:
        number = await own_id(line, shop)
        await asyncio.to_thread(kill, line, number)
        authors(shop, ["Ovid"])
        await shop.commit()


@on_servers
async def test_c24_killed_between_two_statements(line: WiredWorld) -> None:
    """The connection ends between two flushes: the rows of the first are gone, and the second says so."""
    async with killed(line, "Ovid", "Virgil") as shop, shop.begin():
        number = await own_id(line, shop)
        authors(shop, ["Ovid"])
        await shop.session.flush()
        await asyncio.to_thread(kill, line, number)
        authors(shop, ["Virgil"])


@on_servers
async def test_c10_killed_between_two_statements_and_swallowed(line: WiredWorld) -> None:
    """Whoever swallows that cannot commit the second half on a new connection."""
    shop = line.shop()
    with pytest.raises(TransactionDoomedError):
        async with shop.begin():
            number = await own_id(line, shop)
            authors(shop, ["Ovid"])
            await shop.session.flush()
            await asyncio.to_thread(kill, line, number)
            authors(shop, ["Virgil"])
            with pytest.raises(ConnectionLostError):
                await shop.session.flush()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await line.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c24_killed_while_a_statement_runs(line: WiredWorld) -> None:
    """A statement that is under way when its connection is ended returns with that error, at once."""
    async with killed(line, "Ovid") as shop, shop:
        authors(shop, ["Ovid"])
        await shop.session.flush()

        killer = threading.Thread(target=kill_who_sleeps, args=(line,))
        killer.start()
        try:
            await shop.session.execute(text(SLEEP[line.server]))
        finally:
            await asyncio.to_thread(killer.join)
        await shop.commit()


@on_servers
@pytest.mark.parametrize("served", [False, True], ids=["by_hand", "served"])
async def test_c13_killed_just_before_commit(line: WiredWorld, served) -> None:
    """COMMIT is the first to notice: nothing is stored, and nobody is told that it was."""
    number = 0
    fault = line.proxy.arm(Call(lambda: kill(line, number)), before="COMMIT")

    with pytest.raises((CommitUnknownError, ConnectionLostError)):
        if served:
            async with line.serving() as shop:
                async with shop:
                    number = await own_id(line, shop)
                    authors(shop, ["Ovid", "Virgil"])
                    await shop.commit()
        else:
            async with line.shop().begin() as shop:
                number = await own_id(line, shop)
                authors(shop, ["Ovid", "Virgil"])

    assert fault.happened
    assert shop.outcome.status in {Status.UNKNOWN, Status.ROLLED_BACK}
    assert not await line.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c13_killed_just_after_commit(line: WiredWorld, rested: None) -> None:
    """The connection ends when COMMIT is answered: it counts, and the next block gets a new connection."""
    number = 0
    fault = line.proxy.arm(Call(lambda: kill(line, number)), after="COMMIT")

    async with line.shop().begin() as shop:
        number = await own_id(line, shop)
        authors(shop, ["Ovid"])

    assert fault.happened
    assert shop.outcome.status is Status.COMMITTED
    assert await line.check(shop, "Ovid")


@on_servers
async def test_c24_killed_while_idle_in_the_pool(line: WiredWorld, rested: None) -> None:
    """A connection that was ended in the pool is replaced before a block can notice."""
    async with line.shop() as shop:
        number = await own_id(line, shop)
    await asyncio.to_thread(kill, line, number)

    async with line.serving() as shop:
        assert await shop.authors.count() == 0
        async with shop.begin():
            authors(shop, ["Ovid"])
            assert await own_id(line, shop) != number

    assert shop.outcome.status is Status.COMMITTED
    assert await line.check(shop, "Ovid")


@on_servers
async def test_c3_killed_before_the_rollback(line: WiredWorld) -> None:
    """The original exception propagates although the ROLLBACK finds nobody."""
    shop = line.shop()
    with pytest.raises(LookupError, match="the original"):
        async with shop:
            number = await own_id(line, shop)
            authors(shop, ["Ovid"])
            await shop.session.flush()
            await asyncio.to_thread(kill, line, number)
            raise LookupError("the original")

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await line.check(shop, "Ovid")


@on_servers
async def test_c24_killed_in_a_read_outside_a_block(line: WiredWorld) -> None:
    """A read of a request that is killed says so, and the request goes on."""
    async with line.serving() as shop:
        killer = threading.Thread(target=kill_who_sleeps, args=(line,))
        killer.start()
        with pytest.raises(ConnectionLostError):
            await shop.session.scalar(text(SLEEP[line.server]).execution_options(fastkit_reads=True))
        await asyncio.to_thread(killer.join)
        assert line.checked_out == 0
        async with shop.begin():
            authors(shop, ["Ovid"])

    assert await line.check(shop, "Ovid")


# -- a COMMIT that the database refuses


@pytest.fixture
def deferring(world: World) -> World:
    """Return a database that can refuse a COMMIT."""
    if world.server == "MariaDB":
        pytest.skip("MariaDB has no deferred constraints")
    return world


async def by_commit(shop, *payments: Payment) -> None:
    async with shop:
        shop.authors.add(Author(name="Ovid"))
        shop.payments.add_all(payments)
        await shop.commit()


async def by_begin(shop, *payments: Payment) -> None:
    async with shop.begin():
        shop.authors.add(Author(name="Ovid"))
        shop.payments.add_all(payments)


async def by_nested(shop, *payments: Payment) -> None:
    async with shop.begin():
        shop.authors.add(Author(name="Ovid"))
        async with shop:
            shop.payments.add_all(payments)
            await shop.commit()


def payment(reference: str) -> Payment:
    return Payment(order_id=404, reference=reference, amount=Decimal(1))


@pytest.mark.parametrize("commit", [by_commit, by_begin, by_nested])
async def test_c12_a_commit_that_the_database_refuses_is_rolled_back(deferring: World, url: str, commit) -> None:
    """A deferred foreign key fails at COMMIT: translated, ROLLED_BACK, no remains, and the pool is as good as new."""
    shop, lookout = deferring.shop(), Lookout(url)
    with pytest.raises(ForeignKeyError):
        await commit(shop, payment("a"))

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await check_aftermath(deferring.naked, lookout, shop.outcome.status, ["Ovid"])
    again = deferring.shop()
    await commit(again)
    assert await check_aftermath(deferring.naked, lookout, again.outcome.status, ["Ovid"])
    lookout.close()


@pytest.mark.parametrize("commit", [by_commit, by_begin, by_nested])
async def test_c12_a_refused_commit_of_a_request_leaves_its_next_block_clean(
    deferring: World, url: str, commit
) -> None:
    """In one request a refused COMMIT is followed by a block that stores only its own."""
    lookout = Lookout(url)
    async with deferring.serving() as shop:
        with pytest.raises(ForeignKeyError):
            await commit(shop, payment("a"))
        assert shop.outcome.status is Status.ROLLED_BACK
        assert deferring.checked_out == 0
        assert lookout.open_transactions() == []
        async with shop.begin():
            shop.authors.add(Author(name="Horace"))

    assert await check_aftermath(deferring.naked, lookout, shop.outcome.status, ["Horace"])
    assert lookout.names() == ["Horace"]
    lookout.close()


async def test_c12_a_deferred_unique_constraint_is_told_at_commit(deferring: World, url: str) -> None:
    """Two payments with one reference are flushed, and refused by COMMIT."""
    if deferring.server == "SQLite":
        pytest.skip("SQLite does not defer a unique constraint")
    lookout = Lookout(url)
    customer = Customer(name="Ada", email="ada@example.org")
    order = Order(customer=customer, placed_at=datetime.now(UTC), total=Decimal(2))
    same = [Payment(order=order, reference="same", amount=Decimal(1)) for _ in range(2)]
    with pytest.raises(UniqueError) as caught:
        async with deferring.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            shop.payments.add_all(same)
            await shop.session.flush()
            await shop.commit()

    assert caught.value.columns == ("reference",)
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await check_aftermath(deferring.naked, lookout, shop.outcome.status, ["Ovid"])
    lookout.close()
