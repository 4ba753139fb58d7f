"""Each wrong use of a unit of work gives the error that says what to do, on every driver, and harms nobody else."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from conftest import World
from deps.apps import author, finished, rows, slow_read
from sqlalchemy import insert, text, update

from bookshop.models import Author
from fastkit.errors import (
    BlockMismatchError,
    ConcurrentUseError,
    OutsideBlockError,
    ReadOnlyError,
    TransactionDoomedError,
    UncommittedChangesError,
    UnitClosedError,
    UnitOfWorkError,
)

pytestmark = pytest.mark.anyio

Verb = Callable[[Any], Coroutine[Any, Any, Any]]


async def read(shop: Any) -> Any:
    """Read with a repository."""
    return await shop.books.all()


async def scalar(shop: Any) -> Any:
    """Read with the session."""
    return await shop.session.scalar(text("SELECT 1").execution_options(fastkit_reads=True))


async def commit(shop: Any) -> Any:
    """Commit."""
    await shop.commit()


async def rollback(shop: Any) -> Any:
    """Roll back."""
    await shop.rollback()


async def nest(shop: Any) -> Any:
    """Open a nested block."""
    async with shop:
        pass


async def add(shop: Any) -> Any:
    """Write with the unit of work."""
    shop.authors.add(author())
    await shop.session.flush()


async def write_core(shop: Any) -> Any:
    """Write with Core."""
    await shop.session.execute(insert(Author).values(id=99, name="George Eliot"))


async def write_text(shop: Any) -> Any:
    """Write with a textual statement."""
    await shop.session.execute(text("UPDATE author SET name = 'x'"))


async def write_update(shop: Any) -> Any:
    """Write with the criteria of the ORM."""
    await shop.session.execute(update(Author).values(name="x"))


async def change(shop: Any) -> Any:
    """Change an object and flush it."""
    (await shop.authors.get_one(1)).name = "x"
    await shop.session.flush()


def raises(kind: type[Exception], remedy: str) -> Any:
    """Expect an error whose message holds these words."""
    return pytest.raises(kind, match=re.escape(remedy))


async def usable(world: World) -> bool:
    """Return whether the whole pool still works, and nothing is checked out."""
    for _ in range(6):
        async with world.shop() as shop:
            await shop.books.count()
    return world.checked_out == 0


@pytest.mark.parametrize("verb", [read, scalar, add, commit, rollback, write_core])
async def test_c5_a_unit_is_not_used_before_it_is_opened(stocked: World, verb: Verb) -> None:
    """The message shows how to open it."""
    opened = "async with" if stocked.driver.is_async else "with"
    with raises(UnitClosedError, f"use it inside `{opened} {stocked.unit.__name__}(database) as shop:`"):
        await verb(stocked.shop())


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("verb", [read, scalar, add, commit, rollback, nest, write_core])
async def test_c5_a_unit_is_not_used_after_its_end(stocked: World, verb: Verb, used: bool) -> None:
    """Neither a second entry nor a read works, whether its repositories were used before or not."""
    async with stocked.shop() as shop:
        if used:
            await shop.books.all()
            await shop.authors.all()

    with raises(UnitClosedError, f"make a new one, {stocked.unit.__name__}(database)"):
        await verb(shop)


@pytest.mark.parametrize("verb", [add, write_core, write_text, write_update, change])
async def test_c5_a_write_needs_an_open_block(stocked: World, verb: Verb) -> None:
    """Outside a block every way to write says how to open one, and stores nothing."""
    async with stocked.serving() as shop:
        with raises(OutsideBlockError, "`async with shop:` (without async: `with shop:`)"):
            await verb(shop)
        shop.session.expunge_all()

    assert rows(stocked, Author) == 1


@pytest.mark.parametrize("verb", [commit, rollback])
async def test_c5_commit_needs_an_open_block(stocked: World, verb: Verb) -> None:
    """The message shows how to open one."""
    async with stocked.serving() as shop:
        with raises(OutsideBlockError, "needs an open block: `async with shop:`"):
            await verb(shop)


@pytest.mark.parametrize("verb", [add, write_core, write_text, write_update, commit, rollback])
async def test_c1_a_block_that_is_over_refuses_writes(stocked: World, verb: Verb) -> None:
    """After commit() the rest of the body reads, but does not write and does not end it again."""
    async with stocked.shop() as shop:
        shop.authors.add(author("Somebody else"))
        await shop.commit()
        assert len(await shop.authors.all()) == 2
        with pytest.raises(OutsideBlockError):
            await verb(shop)

    assert rows(stocked, Author) == 2


async def test_c1_a_second_block_waits_for_the_first_to_be_left(stocked: World) -> None:
    """While a block is over and not left, another one is refused with the reason."""
    async with stocked.serving() as shop, shop:
        await shop.commit()
        with raises(OutsideBlockError, "leave its `with` before opening another"):
            await nest(shop)


@pytest.mark.parametrize("verb", [add, write_core, write_update, change])
async def test_c2_a_forgotten_commit_is_told(stocked: World, verb: Verb) -> None:
    """The error names what would be lost and both ways out."""
    with raises(UncommittedChangesError, "Call commit() to keep it, or rollback() to say"):
        async with stocked.shop() as shop:
            await verb(shop)

    assert rows(stocked, Author) == 1


async def test_c6_a_nested_commit_only_flushes(stocked: World) -> None:
    """The outermost block decides, and is asked whether it forgot."""
    with pytest.raises(UncommittedChangesError, match="added Author"):
        async with stocked.shop() as shop, shop:
            new = shop.authors.add(author())
            await shop.commit()
            assert new.id

    assert rows(stocked, Author) == 1


async def test_c7_a_swallowed_error_ends_in_an_error(stocked: World) -> None:
    """After a nested block failed, the outer one cannot commit; the message says what to do."""
    with raises(TransactionDoomedError, "Let the error leave the block") as raised:
        async with stocked.shop() as shop:
            try:
                async with shop:
                    raise ValueError
            except ValueError:
                shop.session.expunge_all()
            await shop.commit()

    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("options", [{"isolation": "SERIALIZABLE"}, {"read_only": True}, {"timeout": 3}])
async def test_c9_a_nested_block_cannot_ask_for_more(stocked: World, options: Any) -> None:
    """What the open transaction is not is refused, with the place where to ask."""
    async with stocked.shop() as shop:
        with raises(BlockMismatchError, "Ask for it where the outermost block is opened"):
            async with shop.block(**options):
                pass


@pytest.mark.parametrize(("verb", "remedy"), [("commit", "commit()"), ("rollback", "rollback()")])
async def test_c2_the_session_is_not_ended_behind_the_unit(stocked: World, verb: str, remedy: str) -> None:
    """The session's own commit() and rollback() name the unit's."""
    async with stocked.shop() as shop:
        with raises(UnitOfWorkError, f"Call {remedy} of the unit of work, not of its session"):
            await getattr(shop.session, verb)()


async def test_c2_the_session_is_not_closed_behind_the_unit(stocked: World) -> None:
    """close() and begin() of the session say what to do instead."""
    async with stocked.shop() as shop:
        with raises(UnitOfWorkError, "leave its block instead"):
            await shop.session.close()
        with raises(UnitOfWorkError, "Open a block of the unit of work instead"):
            async with shop.session.begin():
                pass
        assert await shop.books.count() == 2


@pytest.mark.parametrize("verb", [add, change, write_core, write_update, write_text])
async def test_c22_a_read_only_block_refuses_writes(stocked: World, verb: Verb) -> None:
    """The ORM and Core are refused by the session, text by the database, all with the same class."""
    with pytest.raises(ReadOnlyError, match=r"read.only|only reads"):
        async with stocked.shop().block(read_only=True) as shop:
            await verb(shop)

    assert rows(stocked, Author) == 1
    assert await usable(stocked)


@asynccontextmanager
async def busy(world: World, shop: Any) -> AsyncIterator[asyncio.Task[Any]]:
    """Let another task (sync: another thread) run a slow statement on a unit, and wait for its end."""
    statement = slow_read(world)
    if world.driver.is_async:
        other = asyncio.create_task(shop.session.execute(statement))
    else:
        other = asyncio.create_task(asyncio.to_thread(lambda: finished(shop.session.execute(statement))))
    await asyncio.sleep(0.1)
    assert not other.done()
    try:
        yield other
    finally:
        await asyncio.wait({other})


@pytest.mark.parametrize("verb", [read, scalar, add, write_text])
@pytest.mark.parametrize("block", [True, False])
async def test_c20_overlapping_use_is_an_error(stocked: World, verb: Verb, block: bool) -> None:
    """A second statement while one runs is refused at once; the first one goes on to its end."""
    if not block and verb in {add, write_text}:
        pytest.skip("a write needs a block anyway")
    with anyio.fail_after(10):
        async with stocked.serving() as shop, shop.block() if block else nothing():
            async with busy(stocked, shop) as first:
                with raises(ConcurrentUseError, "give each concurrent task a unit of its own"):
                    await verb(shop)
            assert first.exception() is None
            if block:
                await shop.rollback()

    assert await usable(stocked)


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    """Do nothing."""
    yield


async def test_c20_gather_in_one_block_is_an_error(stocked: World) -> None:
    """The error leaves the block while the other statement still runs, and the pool is whole afterwards."""
    with anyio.fail_after(10), pytest.raises(ConcurrentUseError):
        async with stocked.shop() as shop:
            shop.authors.add(author())
            await shop.session.flush()
            async with busy(stocked, shop) as first:
                first.add_done_callback(lambda done: done.exception())
                await read(shop)

    assert await usable(stocked)
    assert rows(stocked, Author) == 1


@pytest.mark.parametrize("how", ["error", "commit", "end"])
async def test_c20_a_block_that_ends_while_a_statement_runs(stocked: World, how: str) -> None:
    """A task that nobody waited for costs an error at most: no hang, no half commit, no broken connection."""
    others = []
    with anyio.fail_after(10):
        try:
            async with stocked.shop() as shop:
                shop.authors.add(author())
                await shop.session.flush()
                statement = slow_read(stocked)
                work = (
                    shop.session.execute(statement)
                    if stocked.driver.is_async
                    else asyncio.to_thread(lambda: finished(shop.session.execute(statement)))
                )
                others.append(asyncio.create_task(work))
                await asyncio.sleep(0.1)
                if how == "error":
                    await read(shop)
                elif how == "commit":
                    await shop.commit()
        except UnitOfWorkError as error:
            assert how == "end" or isinstance(error, ConcurrentUseError)  # noqa: PT017 - or none at all
        finally:
            await asyncio.wait(others)
            others[0].exception()

    assert await usable(stocked)
    assert rows(stocked, Author) == 1


@pytest.mark.parametrize("verb", [commit, rollback, nest])
async def test_c20_a_block_belongs_to_its_task(stocked: World, verb: Verb) -> None:
    """Another task, or thread, cannot end a block and cannot open one in it."""
    async with stocked.shop() as shop:
        with raises(ConcurrentUseError, "Only the task or thread that opened the block may"):
            if stocked.driver.is_async:
                await asyncio.create_task(verb(shop))
            else:
                await asyncio.to_thread(lambda: finished(verb(shop)))
