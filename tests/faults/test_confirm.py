"""C13: a unit with confirm_commit=True asks PostgreSQL what became of a COMMIT whose answer was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from conftest import AsyncShop, Shop
from proxy import CUT, STALL
from servers import DRIVERS, Driver
from wired import WiredWorld, authors, wired_world

from fastkit.database import Database
from fastkit.errors import CommitUnknownError, ConnectionLostError, DeclarationError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio

on_postgresql = pytest.mark.parametrize(
    "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], ids=lambda driver: driver.id, indirect=True
)


class ConfirmingShop(Shop, confirm_commit=True):
    """The bookshop, asking."""


class AsyncConfirmingShop(AsyncShop, confirm_commit=True):
    """The same, async."""


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[WiredWorld]:
    """Return one database behind a proxy, whose units confirm their commits."""
    async with wired_world(driver, url) as world:
        world.unit = AsyncConfirmingShop if driver.is_async else ConfirmingShop
        async with world.shop() as shop:
            await shop.authors.count()
        yield world


@on_postgresql
async def test_c13_a_confirmed_commit_is_committed(world: WiredWorld) -> None:
    """The answer is lost, the transaction is not: commit() returns, hooks run."""
    told = []
    fault = world.proxy.arm(CUT, after="COMMIT")

    async with world.shop() as shop:
        authors(shop, ["Ovid"])
        shop.after_commit(lambda: told.append("hook"))
        await shop.commit()

    assert fault.happened
    assert shop.outcome.status is Status.COMMITTED
    assert told == ["hook"]
    assert await world.check(shop, "Ovid")


@on_postgresql
async def test_c13_a_commit_that_never_arrived_is_rolled_back(world: WiredWorld) -> None:
    """The server says so, so it is no unknown commit: nothing is stored, and it may be done again."""
    fault = world.proxy.arm(CUT, before="COMMIT")

    with pytest.raises(ConnectionLostError, match="nothing was stored"):
        async with world.shop().begin() as shop:
            authors(shop, ["Ovid"])

    assert fault.happened
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid")


@on_postgresql
async def test_c13_a_commit_without_an_answer_is_asked_about(world: WiredWorld) -> None:
    """The deadline passes while the answer is held up: the database is asked on another connection."""
    if not world.driver.is_async:
        pytest.skip("a thread has no deadline")
    world.commit_deadline(0.5)
    world.proxy.arm(STALL, after="COMMIT")

    async with world.serving() as shop:
        async with shop:
            authors(shop, ["Ovid"])
            await shop.commit()

        assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid")


@on_postgresql
async def test_c13_it_stays_unknown_if_nobody_answers(world: WiredWorld) -> None:
    """Without a server to ask, unknown is all that can be told; hooks do not run and are named."""
    object.__setattr__(world.naked.timeouts, "connect", 0.3)
    world.proxy.arm(CUT, after="COMMIT")
    world.naked.ledger.ask_whether_committed = lambda number: None

    with pytest.raises(CommitUnknownError):
        async with world.shop() as shop:
            authors(shop, ["Ovid"])
            shop.after_commit(lambda: None)
            await shop.commit()

    assert shop.outcome.status is Status.UNKNOWN
    assert "nobody knows" in str(shop.outcome.hook_errors[0])
    assert await world.check(shop, "Ovid")


@on_postgresql
async def test_c13_a_cancellation_arrives_although_the_commit_is_confirmed(world: WiredWorld) -> None:
    """Cancelled during a COMMIT that is then confirmed: the task is cancelled, the outcome is COMMITTED."""
    if not world.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    stall = world.proxy.arm(STALL, after="COMMIT")
    async with world.serving() as shop:

        async def store() -> None:
            async with shop:
                authors(shop, ["Ovid"])
                await shop.commit()

        task = asyncio.create_task(store())
        while not stall.happened:
            await asyncio.sleep(0.01)
        task.cancel()
        stall.release()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert shop.outcome.status is Status.COMMITTED

    assert await world.check(shop, "Ovid")


@on_postgresql
async def test_c13_one_statement_more_and_only_where_something_was_written(world: WiredWorld, sent) -> None:
    """A block that confirms costs one statement; without confirm_commit it costs none."""
    async with world.shop() as shop:
        authors(shop, ["Ovid"])
        await shop.commit()
    confirming = [each for each in sent if "pg_current_xact_id" in each]
    plain = AsyncShop if world.driver.is_async else Shop
    world.unit = plain
    async with world.shop() as shop:
        authors(shop, ["Virgil"])
        await shop.commit()

    assert len(confirming) == 1
    assert [each for each in sent if "pg_current_xact_id" in each] == confirming


@pytest.fixture
def sent(world: WiredWorld) -> list[str]:
    """Return the statements that are sent."""
    from sqlalchemy import event

    statements: list[str] = []
    event.listen(
        world.sync_engine, "before_cursor_execute", lambda connection, cursor, sql, *more: statements.append(sql)
    )
    return statements


def test_c13_sqlite_needs_no_confirmation(tmp_path) -> None:
    """The same unit works on the laptop: there is no connection to lose."""
    database = Database(f"sqlite:///{tmp_path / 'shop.db'}")

    with ConfirmingShop(database) as shop:
        shop.commit()

    database.close()
    assert shop.outcome.status is Status.COMMITTED


def test_c13_mariadb_cannot_be_asked() -> None:
    """It is told when the unit is made, and not when an outcome is unknown."""
    database = Database("mariadb+pymysql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(DeclarationError, match="cannot be asked"):
        ConfirmingShop(database)
    with pytest.raises(DeclarationError, match="cannot be asked"):
        Shop(database, confirm_commit=True)
