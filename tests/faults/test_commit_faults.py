"""C3, C10 to C13, C23, C24 on a line that breaks: what is told after it is true, and nothing is left behind."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import nullcontext

import pytest
from proxy import CUT, RESET, STALL, delay
from servers import Driver
from sqlalchemy import text
from wired import WiredWorld, authors, on_async_servers, on_servers, on_sync_servers, wired_world

from bookshop.models import Author
from fastkit.errors import (
    CannotConnectError,
    CommitUnknownError,
    ConnectionLostError,
    TransactionDoomedError,
    UnavailableError,
)
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(anyio_backend: str, driver: Driver, url: str) -> AsyncIterator[WiredWorld]:
    """Return one database behind a proxy, with a connection in its pool that was used before."""
    async with wired_world(driver, url) as world:
        async with world.shop() as shop:
            await shop.authors.count()
        yield world


# -- the ways to commit


async def by_commit(world: WiredWorld, shop) -> None:
    async with shop:
        authors(shop, ["Ovid", "Virgil"])
        await shop.commit()


async def by_begin(world: WiredWorld, shop) -> None:
    async with shop.begin():
        authors(shop, ["Ovid", "Virgil"])


async def by_nested(world: WiredWorld, shop) -> None:
    async with shop.begin():
        authors(shop, ["Ovid"])
        async with shop:
            authors(shop, ["Virgil"])
            await shop.commit()


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel until it has ended: psycopg asks the server to cancel first, and waits 5 seconds for its answer."""
    async with asyncio.timeout(4):
        while not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=0.2)


class Ending:
    """One way to commit, in a unit that was made by hand or is owned as if by a request."""

    def __init__(self, commit, *, is_served: bool = False) -> None:
        self.commit, self.is_served = commit, is_served
        self.id = f"{commit.__name__}_{'served' if is_served else 'by_hand'}"

    async def run(self, world: WiredWorld):
        """Return the unit and what it raised, or None."""
        try:
            if self.is_served:
                async with world.serving() as shop:
                    await self.commit(world, shop)
            else:
                shop = world.shop()
                await self.commit(world, shop)
        except Exception as error:
            return shop, error
        return shop, None


ENDINGS = [Ending(by_commit), Ending(by_begin), Ending(by_nested), Ending(by_commit, is_served=True)]
endings = pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.id)
cuts = pytest.mark.parametrize(
    ("ending", "cut"),
    [*((ending, CUT) for ending in ENDINGS), (ENDINGS[0], RESET)],
    ids=[*(f"{ending.id}-closed" for ending in ENDINGS), "by_commit_by_hand-reset"],
)
few_endings = pytest.mark.parametrize(
    ("ending", "when"),
    [(ENDINGS[0], "before"), (ENDINGS[1], "before"), (ENDINGS[3], "after")],
    ids=lambda value: getattr(value, "id", value),
)
both_sides = pytest.mark.parametrize("when", ["before", "after"])


# -- COMMIT


@cuts
@on_servers
async def test_c13_a_commit_that_never_reached_the_server_is_unknown(world: WiredWorld, ending, cut) -> None:
    """The line breaks before COMMIT: the app cannot know, and is told so."""
    fault = world.proxy.arm(cut, before="COMMIT")

    shop, error = await ending.run(world)

    assert fault.happened
    assert isinstance(error, CommitUnknownError)
    assert isinstance(error.__cause__, ConnectionLostError)
    assert shop.outcome.status is Status.UNKNOWN
    assert not await world.check(shop, "Ovid", "Virgil")


@cuts
@on_servers
async def test_c13_a_commit_whose_answer_is_lost_is_unknown(world: WiredWorld, ending, cut) -> None:
    """The server has committed and the line breaks: to the app it looks the same, and is told the same."""
    fault = world.proxy.arm(cut, after="COMMIT")

    shop, error = await ending.run(world)

    assert fault.happened
    assert isinstance(error, CommitUnknownError)
    assert isinstance(error.__cause__, ConnectionLostError)
    assert shop.outcome.status is Status.UNKNOWN
    assert await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c12_a_request_can_go_on_after_an_unknown_commit(world: WiredWorld) -> None:
    """The unit of a request reads back what happened and does the work again, on a new connection."""
    world.proxy.arm(CUT, before="COMMIT")

    async with world.serving() as shop:
        with pytest.raises(CommitUnknownError):
            await by_commit(world, shop)
        assert world.checked_out == 0
        assert await shop.authors.count() == 0
        await by_commit(world, shop)

    assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c13_a_swallowed_unknown_commit_stays_unknown(world: WiredWorld) -> None:
    """Whoever swallows the error in the block cannot make the outcome look like another one."""
    world.proxy.arm(CUT, after="COMMIT")

    async with world.shop() as shop:
        authors(shop, ["Ovid"])
        with pytest.raises(CommitUnknownError):
            await shop.commit()
        assert world.checked_out == 0

    assert shop.outcome.status is Status.UNKNOWN
    assert await world.check(shop, "Ovid")


@on_servers
async def test_c13_the_commit_of_a_block_that_only_read_may_be_lost_too(world: WiredWorld) -> None:
    """A lost COMMIT is unknown whatever the block did, because a read may have called a function that writes."""
    fault = world.proxy.arm(CUT, before="COMMIT")

    with pytest.raises(CommitUnknownError):
        async with world.shop() as shop:
            await shop.authors.count()
            await shop.commit()

    assert fault.happened
    assert shop.outcome.status is Status.UNKNOWN
    assert not await world.check(shop, "Ovid")


@few_endings
@on_servers
async def test_c11_a_commit_that_is_slow_is_committed(world: WiredWorld, ending, when) -> None:
    """A delay below the deadline changes nothing but the time."""
    fault = world.proxy.arm(delay(0.2), **{when: "COMMIT"})
    start = time.monotonic()

    shop, error = await ending.run(world)

    assert error is None
    assert fault.happened
    assert time.monotonic() - start >= 0.2
    assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid", "Virgil")


@pytest.mark.parametrize(
    ("ending", "when"),
    [(ENDINGS[1], "before"), (ENDINGS[3], "after")],
    ids=lambda value: getattr(value, "id", value),
)
@on_async_servers
async def test_c11_a_stalled_commit_ends_at_the_deadline(world: WiredWorld, ending, when) -> None:
    """No answer comes: at the deadline the outcome is unknown, and the connection is thrown away."""
    world.commit_deadline(0.3)
    fault = world.proxy.arm(STALL, **{when: "COMMIT"})
    start = time.monotonic()

    shop, error = await ending.run(world)

    assert isinstance(error, CommitUnknownError)
    assert fault.happened
    assert time.monotonic() - start < 3.5
    assert shop.outcome.status is Status.UNKNOWN
    await world.mend()
    world.commit_deadline(3)
    assert await world.check(shop, "Ovid", "Virgil") == (when == "after")


@on_async_servers
async def test_c23_the_connection_is_back_when_the_missed_deadline_is_told(world: WiredWorld) -> None:
    """After a COMMIT that was never answered nothing is checked out, although the line is as dead as before."""
    world.commit_deadline(0.2)
    world.proxy.arm(STALL, before="COMMIT")
    with pytest.raises(CommitUnknownError):
        async with world.shop().begin() as shop:
            authors(shop, ["Ovid"])

    assert world.checked_out == 0
    assert not await world.check(shop, "Ovid")


@on_async_servers
async def test_c13_a_request_can_go_on_after_a_missed_deadline(world: WiredWorld) -> None:
    """The unit of a request whose COMMIT was never answered reads back, and works in its next block."""
    world.commit_deadline(0.3)
    world.proxy.arm(STALL, after="COMMIT")

    async with world.serving() as shop:
        with pytest.raises(CommitUnknownError):
            await by_commit(world, shop)
        world.commit_deadline(3)
        assert shop.outcome.status is Status.UNKNOWN
        assert await shop.authors.count() == 2
        async with shop.begin():
            authors(shop, ["Horace"])
        assert shop.outcome.status is Status.COMMITTED

    assert await world.check(shop, "Horace")


@both_sides
@on_async_servers
async def test_c11_a_cancellation_during_a_stalled_commit_waits_for_the_outcome(world: WiredWorld, when) -> None:
    """Cancelled while COMMIT is under way, the block ends with its answer, and knows it."""
    fault = world.proxy.arm(STALL, **{when: "COMMIT"})
    shop = world.shop()
    task = asyncio.create_task(by_commit(world, shop))
    await asyncio.to_thread(fault.wait)
    task.cancel()
    await asyncio.wait({task}, timeout=0.1)
    assert not task.done()
    fault.release()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid", "Virgil")


@on_async_servers
async def test_c23_a_cancellation_and_a_deadline_together_still_tell_the_outcome(world: WiredWorld) -> None:
    """Cancelled while COMMIT is under way and never answered, the block ends at the deadline and is unknown."""
    world.commit_deadline(0.3)
    fault = world.proxy.arm(STALL, after="COMMIT")
    shop = world.shop()
    task = asyncio.create_task(by_commit(world, shop))
    await asyncio.to_thread(fault.wait)
    task.cancel()

    with pytest.raises((asyncio.CancelledError, CommitUnknownError)):
        await task

    assert shop.outcome.status is Status.UNKNOWN
    await world.mend()
    world.commit_deadline(3)
    assert await world.check(shop, "Ovid", "Virgil")


@on_sync_servers
async def test_c11_a_stalled_commit_of_a_thread_waits_for_its_answer(world: WiredWorld) -> None:
    """No deadline can end the COMMIT of a sync driver: it waits, and is committed when the answer comes."""
    fault = world.proxy.arm(STALL, after="COMMIT")
    shop = world.unit(world.naked)

    def work() -> None:
        with shop.begin():
            shop.authors.add(Author(name="Ovid"))

    thread = threading.Thread(target=work)
    thread.start()
    fault.wait()
    thread.join(0.1)
    assert thread.is_alive()
    assert shop.outcome.status is Status.ACTIVE
    fault.release()
    thread.join(5)

    assert not thread.is_alive()
    assert await world.check(shop, "Ovid")
    assert shop.outcome.status is Status.COMMITTED


@both_sides
@on_sync_servers
async def test_c11_a_read_timeout_of_the_driver_ends_the_commit_of_a_thread(driver: Driver, url: str, when) -> None:
    """PyMySQL can be told how long to wait for an answer; what it says then is an unknown commit."""
    if driver.server == "PostgreSQL":
        pytest.skip("only PyMySQL has such an option")
    async with wired_world(driver, url, connect_args={"read_timeout": 0.3}) as world:
        fault = world.proxy.arm(STALL, **{when: "COMMIT"})
        shop = world.shop()

        with pytest.raises(CommitUnknownError):
            await by_commit(world, shop)

        assert fault.happened
        assert shop.outcome.status is Status.UNKNOWN
        assert await world.check(shop, "Ovid", "Virgil") == (when == "after")


# -- other statements


@few_endings
@on_servers
async def test_c24_a_lost_insert_is_a_lost_connection(world: WiredWorld, ending, when) -> None:
    """The line breaks before COMMIT was sent: nothing is stored, and that is known."""
    fault = world.proxy.arm(CUT, **{when: "INSERT INTO author"})

    shop, error = await ending.run(world)

    assert isinstance(error, ConnectionLostError)
    assert fault.happened
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c10_a_swallowed_lost_insert_cannot_be_committed(world: WiredWorld) -> None:
    """After a lost statement the rest of the block must not be stored on another connection."""
    world.proxy.arm(CUT, after="INSERT INTO author")

    with pytest.raises(TransactionDoomedError):
        async with world.shop() as shop:
            authors(shop, ["Ovid"])
            with pytest.raises(ConnectionLostError):
                await shop.session.flush()
            authors(shop, ["Virgil"])
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c10_the_cause_of_a_doom_is_the_error_that_was_swallowed(world: WiredWorld) -> None:
    """Who swallowed a ConnectionLostError is told that it was one."""
    with pytest.raises(TransactionDoomedError, match="ConnectionLostError") as caught:
        async with world.shop() as shop:
            world.proxy.arm(CUT, before="SELECT count")
            with pytest.raises(ConnectionLostError):
                await shop.authors.count()
            await shop.commit()

    assert isinstance(caught.value.__cause__, ConnectionLostError)


@on_servers
async def test_c10_a_swallowed_lost_read_dooms_what_was_written_before(world: WiredWorld) -> None:
    """A lost connection takes the rows with it that were flushed before: a commit must not report success."""
    with pytest.raises(TransactionDoomedError):
        async with world.shop() as shop:
            authors(shop, ["Ovid"])
            await shop.session.flush()
            world.proxy.arm(CUT, before="SELECT count")
            with pytest.raises(ConnectionLostError):
                await shop.authors.count()
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid")


@on_servers
async def test_c10_a_swallowed_loss_in_a_nested_block_cannot_be_committed(world: WiredWorld) -> None:
    """A nested block that lost its connection dooms the outer one, also where begin() would commit by itself."""
    with pytest.raises(TransactionDoomedError):
        async with world.shop().begin() as shop:
            authors(shop, ["Ovid"])
            await shop.session.flush()
            world.proxy.arm(CUT, before="INSERT INTO author")
            try:
                async with shop:
                    authors(shop, ["Virgil"])
                    await shop.commit()
            except ConnectionLostError:
                pass

    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid", "Virgil")


@both_sides
@on_async_servers
async def test_c23_a_stalled_insert_that_is_cancelled_leaves_nothing(world: WiredWorld, when) -> None:
    """A statement that is never answered can be cancelled, and its connection does not come back broken."""
    world.commit_deadline(0.3)
    fault = world.proxy.arm(STALL, **{when: "INSERT INTO author"})
    shop = world.shop()

    async def work() -> None:
        async with shop:
            authors(shop, ["Ovid"])
            await shop.session.flush()

    task = asyncio.create_task(work())
    await asyncio.to_thread(fault.wait)
    await cancel(task)

    assert task.cancelled()
    assert shop.outcome.status is Status.ROLLED_BACK
    await world.mend()
    world.commit_deadline(3)
    assert not await world.check(shop, "Ovid")


@both_sides
@pytest.mark.parametrize("owner", ["by_hand", "served"])
@on_servers
async def test_c3_the_original_exception_survives_a_lost_rollback(world: WiredWorld, owner, when) -> None:
    """A ROLLBACK that fails is noted on the exception that caused it, and does not take its place."""
    unit = world.shop() if owner == "by_hand" else world.serving()

    with pytest.raises(LookupError, match="the original") as caught:
        async with unit as shop, shop if owner == "served" else nullcontext():
            authors(shop, ["Ovid"])
            await shop.session.flush()
            fault = world.proxy.arm(CUT, **{when: "ROLLBACK"})
            raise LookupError("the original")

    assert fault.happened
    assert any("rollback failed" in note for note in caught.value.__notes__)
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid")


@on_servers
async def test_c3_a_lost_rollback_on_purpose_is_a_rollback(world: WiredWorld) -> None:
    """rollback() on a line that breaks ends the block as asked: the server rolls back by itself."""
    async with world.shop() as shop:
        authors(shop, ["Ovid"])
        await shop.session.flush()
        fault = world.proxy.arm(CUT, before="ROLLBACK")
        await shop.rollback()

    assert fault.happened
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid")


@both_sides
@on_servers
async def test_c23_a_lost_rollback_of_what_only_read_is_nobodys_business(world: WiredWorld, when) -> None:
    """A block that only read ends without an error when its ROLLBACK finds no line, and its connection is not kept."""
    async with world.shop() as shop:
        await shop.authors.count()
        fault = world.proxy.arm(CUT, **{when: "ROLLBACK"})

    assert fault.happened
    assert shop.outcome.status is Status.ROLLED_BACK
    assert not await world.check(shop, "Ovid")


@on_async_servers
async def test_c3_a_stalled_rollback_ends_at_the_deadline(world: WiredWorld) -> None:
    """A ROLLBACK that is never answered holds nobody for ever, and the original exception is what arrives."""
    start = time.monotonic()
    with pytest.raises(LookupError, match="the original"):
        async with world.shop() as shop:
            authors(shop, ["Ovid"])
            await shop.session.flush()
            world.commit_deadline(0.3)
            world.proxy.arm(STALL, before="ROLLBACK")
            raise LookupError("the original")

    assert time.monotonic() - start < 3.5
    assert shop.outcome.status is Status.ROLLED_BACK
    await world.mend()
    world.commit_deadline(3)
    assert not await world.check(shop, "Ovid")


# -- reads and connections


@on_servers
async def test_c24_a_lost_read_outside_a_block_is_a_lost_connection(world: WiredWorld) -> None:
    """A read of a request that loses its line says so, and the next read is answered."""
    async with world.serving() as shop:
        fault = world.proxy.arm(CUT, before="SELECT count")
        with pytest.raises(ConnectionLostError):
            await shop.authors.count()
        assert fault.happened
        assert world.checked_out == 0
        assert await shop.authors.count() == 0
        await by_commit(world, shop)

    assert await world.check(shop, "Ovid", "Virgil")


@on_async_servers
async def test_c23_a_stalled_read_outside_a_block_can_be_cancelled(world: WiredWorld) -> None:
    """A read that is never answered is cancelled, and the request goes on with another connection."""
    world.commit_deadline(0.5)
    async with world.serving() as shop:
        fault = world.proxy.arm(STALL, before="SELECT count")
        task = asyncio.create_task(shop.authors.count())
        await asyncio.to_thread(fault.wait)
        await cancel(task)
        assert task.cancelled()
        assert world.checked_out == 0
        await by_commit(world, shop)

    assert await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c24_connections_that_died_in_the_pool_are_replaced_unseen(world: WiredWorld, rested: None) -> None:
    """Before a block takes a connection it is asked whether it lives, so an idle one that was cut harms nobody."""
    world.proxy.cut_all()

    shop = world.shop()
    await by_commit(world, shop)

    assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid", "Virgil")


@on_servers
async def test_c24_a_server_that_is_away_cannot_be_connected(world: WiredWorld) -> None:
    """While nobody answers each block says so; when the server is back, so is the app."""
    world.proxy.refuse()

    with pytest.raises((CannotConnectError, ConnectionLostError)) as caught:
        async with world.shop() as lost:
            authors(lost, ["Horace"])
            await lost.commit()
    world.proxy.disarm()
    shop = world.shop()
    await by_commit(world, shop)

    assert isinstance(caught.value, UnavailableError)
    assert lost.outcome.status is Status.ROLLED_BACK
    assert shop.outcome.status is Status.COMMITTED
    assert await world.check(shop, "Ovid", "Virgil")
    assert "Horace" not in world.lookout.names()


@both_sides
@on_servers
async def test_c11_whatever_breaks_what_is_told_is_true(world: WiredWorld, when) -> None:
    """The line breaks at any one statement of a block that reads and writes: the outcome is what is stored."""
    for statement in ("BEGIN", "INSERT INTO author", "SELECT 1", "ROLLBACK", "COMMIT"):
        names = [f"{name} at {statement}" for name in ("Ovid", "Virgil")]
        fault = world.proxy.arm(CUT, **{when: statement})
        shop = world.shop()

        try:
            async with shop:
                await shop.session.scalar(text("SELECT 1").execution_options(fastkit_reads=True))
                authors(shop, names)
                await shop.commit()
        except (UnavailableError, CommitUnknownError):
            assert fault.happened
        else:
            assert shop.outcome.status is Status.COMMITTED

        await world.check(shop, *names)
