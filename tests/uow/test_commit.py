"""C11, C12: the outcome is known or honestly unknown, and a failed COMMIT is followed by a ROLLBACK."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal

import pytest
from cancels import by_scope, by_sibling, by_task_cancel, by_task_cancel_twice, by_timeout
from conftest import World
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from bookshop.models import Author, Payment
from fastkit.errors import CommitUnknownError, ConnectionLostError, ForeignKeyError, StatementTimeoutError
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


async def names(world: World) -> list[str]:
    """Return the names of all stored authors, as another session sees them."""
    async with world.shop() as shop:
        return [author.name for author in await shop.authors.order_by(Author.name).all()]


@pytest.fixture
def deferring(world: World) -> World:
    """Return a database that can refuse a COMMIT; MariaDB refuses the statement instead."""
    if world.server == "MariaDB":
        pytest.skip("MariaDB has no deferred constraints, so its COMMIT does not fail by itself")
    return world


async def test_c11_a_refused_commit_is_rolled_back(deferring: World) -> None:
    """A deferred constraint fails at COMMIT: the error is translated, the outcome ROLLED_BACK, nothing stored."""
    with pytest.raises(ForeignKeyError):
        async with deferring.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            shop.payments.add(Payment(order_id=404, reference="r", amount=Decimal(1)))
            await shop.session.flush()
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert await names(deferring) == []


async def test_c12_the_next_user_cannot_commit_the_failed_rows(deferring: World) -> None:
    """After a failed COMMIT the same pooled connection is clean for whoever gets it next."""
    with pytest.raises(ForeignKeyError):
        async with deferring.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            shop.payments.add(Payment(order_id=404, reference="r", amount=Decimal(1)))
            await shop.commit()

    async with deferring.shop() as shop:
        shop.authors.add(Author(name="Horace"))
        await shop.commit()

    assert await names(deferring) == ["Horace"]


async def test_c12_the_unit_that_failed_is_clean_too(deferring: World) -> None:
    """A request's unit gives its connection back after a failed COMMIT, and its next block stores only its own."""
    async with deferring.serving() as shop:
        with pytest.raises(ForeignKeyError):
            async with shop:
                shop.authors.add(Author(name="Ovid"))
                shop.payments.add(Payment(order_id=404, reference="r", amount=Decimal(1)))
                await shop.commit()
        assert deferring.checked_out == 0
        async with shop:
            shop.authors.add(Author(name="Horace"))
            await shop.commit()

    assert await names(deferring) == ["Horace"]


async def test_c12_holds_for_plain_sessions_of_the_database_too(deferring: World) -> None:
    """SQLite keeps the transaction open when COMMIT fails; the pool does not hand it to the next user."""
    failed = Payment(order_id=404, reference="r", amount=Decimal(1))
    if deferring.driver.is_async:
        async with deferring.naked.session() as session:
            session.add_all([Author(name="Ovid"), failed])
            with pytest.raises(IntegrityError):
                await session.commit()
    else:
        with deferring.naked.session() as session:
            session.add_all([Author(name="Ovid"), failed])
            with pytest.raises(IntegrityError):
                session.commit()

    async with deferring.shop() as shop:
        shop.authors.add(Author(name="Horace"))
        await shop.commit()
    assert await names(deferring) == ["Horace"]


async def test_c12_a_commit_that_fails_before_it_is_sent_is_rolled_back(world: World) -> None:
    """An exception in an event of the engine, just before COMMIT, leaves no open transaction in the pool."""

    def refuse(connection) -> None:
        raise RuntimeError("refused")

    event.listen(world.sync_engine, "commit", refuse, insert=True)
    with pytest.raises(RuntimeError, match="refused"):
        async with world.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()
    event.remove(world.sync_engine, "commit", refuse)
    assert shop.outcome.status is Status.ROLLED_BACK

    async with world.shop() as shop:
        shop.authors.add(Author(name="Horace"))
        await shop.commit()

    assert await names(world) == ["Horace"]


class CommitFault:
    """Let the driver's COMMIT do something else, once."""

    def __init__(self, world: World, monkeypatch) -> None:
        self.dialect = world.sync_engine.dialect
        self.real = self.dialect.do_commit
        self.patch = monkeypatch

    def replace(self, fault) -> None:
        """Call *fault* with the real COMMIT and the connection."""
        self.patch.setattr(self.dialect, "do_commit", lambda connection: fault(self.real, connection))


async def test_c11_a_connection_lost_during_commit_is_unknown(world: World, monkeypatch) -> None:
    """Nobody knows whether it is stored: the error says so, the outcome is UNKNOWN."""

    def cut_after(commit, connection) -> None:
        commit(connection)
        raise ConnectionLostError("gone")

    CommitFault(world, monkeypatch).replace(cut_after)
    with pytest.raises(CommitUnknownError, match="Read them back") as caught:
        async with world.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()
    monkeypatch.undo()

    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert shop.outcome.status is Status.UNKNOWN
    assert await names(world) == ["Ovid"]


async def test_c11_a_connection_lost_before_commit_is_known(world: World) -> None:
    """A connection killed inside the block stores nothing, and says so, also if COMMIT is the first to notice."""
    if world.server == "SQLite":
        pytest.skip("SQLite has no server that could go away")
    kill = {"PostgreSQL": "SELECT pg_terminate_backend({})", "MariaDB": "KILL {}"}[world.server]
    own_id = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT CONNECTION_ID()"}[world.server]

    with pytest.raises((CommitUnknownError, ConnectionLostError)):
        async with world.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            number = await shop.session.scalar(text(own_id))
            async with world.shop() as other:
                await other.session.execute(text(kill.format(number)))
                await other.rollback()
            await shop.commit()

    assert shop.outcome.status in {Status.UNKNOWN, Status.ROLLED_BACK}
    assert await names(world) == []


def slowly(seconds: float, begun: asyncio.Event | None = None):
    """Return a fault that takes its time with the COMMIT, and tells when it has begun."""

    def fault(commit, connection) -> None:
        from sqlalchemy.util import await_only

        if begun:
            begun.set()
        await_only(asyncio.sleep(seconds))
        commit(connection)

    return fault


@pytest.fixture
def cancellable(world: World) -> World:
    """Return an async database; a sync one cannot be cancelled."""
    if not world.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    return world


async def commit_one(shop) -> None:
    async with shop:
        shop.authors.add(Author(name="Ovid"))
        await shop.commit()


@pytest.mark.parametrize("cancel", [by_task_cancel, by_task_cancel_twice, by_timeout, by_scope, by_sibling])
async def test_c11_a_cancellation_cannot_cut_a_commit_in_two(cancellable: World, monkeypatch, cancel) -> None:
    """Cancelled during COMMIT, by whatever means, the block is committed and knows it, without burning CPU."""
    begun = asyncio.Event()
    CommitFault(cancellable, monkeypatch).replace(slowly(0.4, begun))
    shop = cancellable.shop()
    start, cpu = time.monotonic(), time.process_time()

    try:
        await cancel(commit_one(shop), begun)
    except BaseException as error:
        told = error
    else:
        told = None

    assert shop.outcome.status is Status.COMMITTED
    assert cancellable.checked_out == 0
    assert time.monotonic() - start >= 0.4
    assert time.process_time() - cpu < 0.3, "the event loop was spinning"
    monkeypatch.undo()
    assert await names(cancellable) == ["Ovid"]
    assert told is not None or cancel is by_scope


async def test_c11_a_commit_that_is_never_answered_ends_at_the_deadline(cancellable: World, monkeypatch) -> None:
    """After the deadline the outcome is UNKNOWN, told as such, and the pool is usable."""
    CommitFault(cancellable, monkeypatch).replace(slowly(60))
    object.__setattr__(cancellable.naked.timeouts, "commit", 0.3)
    start = time.monotonic()
    with pytest.raises(CommitUnknownError):
        async with cancellable.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()

    assert shop.outcome.status is Status.UNKNOWN
    assert time.monotonic() - start < 3
    monkeypatch.undo()
    object.__setattr__(cancellable.naked.timeouts, "commit", 5.0)
    assert await names(cancellable) == []


async def test_c11_a_flush_that_is_never_answered_stores_nothing(cancellable: World, monkeypatch) -> None:
    """If the deadline passes before COMMIT was sent, it is known that nothing was stored."""
    object.__setattr__(cancellable.naked.timeouts, "commit", 0.3)

    def stall(session, *_: object) -> None:
        from sqlalchemy.util import await_only

        await_only(asyncio.sleep(60))

    with pytest.raises(StatementTimeoutError, match="nothing was stored"):
        async with cancellable.shop() as shop:
            event.listen(shop.session.sync_session, "before_flush", stall)
            await shop.authors.count()
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK
    object.__setattr__(cancellable.naked.timeouts, "commit", 5.0)
    assert await names(cancellable) == []


async def test_c11_a_cancellation_in_the_body_rolls_back(cancellable: World) -> None:
    """A cancellation before the commit rolls back, and is what the caller sees."""
    shop, reached = cancellable.shop(), asyncio.Event()

    async def work() -> None:
        async with shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            reached.set()
            await asyncio.sleep(60)

    with pytest.raises(asyncio.CancelledError):
        await by_task_cancel(work(), reached)

    assert shop.outcome.status is Status.ROLLED_BACK
    assert await names(cancellable) == []


async def test_c10_a_swallowed_cancellation_dooms(cancellable: World) -> None:
    """A statement that was cut off by a timeout leaves a transaction that cannot be committed."""
    slow = {"PostgreSQL": "SELECT pg_sleep(5)", "MariaDB": "SELECT SLEEP(5)"}
    if cancellable.server == "SQLite":
        pytest.skip("a statement of SQLite cannot be cut off in its thread")
    with pytest.raises(Exception, match=r"cannot go on|ended without|closed|invalid"):
        async with cancellable.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            try:
                async with asyncio.timeout(0.1):
                    await shop.session.execute(text(slow[cancellable.server]))
            except TimeoutError:
                pass
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert await names(cancellable) == []


async def test_errors_that_are_not_ours_stay_what_they_are(world: World) -> None:
    """A missing table is a bug of the app: SQLAlchemy's own error arrives."""
    with pytest.raises(Exception, match="no_such_table") as caught:
        async with world.shop() as shop:
            await shop.session.execute(text("SELECT * FROM no_such_table"))

    assert not type(caught.value).__module__.startswith("fastkit")
