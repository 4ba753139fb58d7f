"""C17, C18: what happens after the commit, in which order, and that it is told when it does not."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from cancels import by_scope, by_task_cancel, by_timeout
from colours import TWINS, awaitable
from conftest import World
from servers import DRIVERS
from sqlalchemy import event
from sqlalchemy.util import await_only

from bookshop.models import Author
from fastkit.errors import (
    CommitUnknownError,
    ConnectionLostError,
    DeclarationError,
    HookError,
    OutsideBlockError,
    TransactionDoomedError,
    UncommittedChangesError,
    UniqueError,
    UnitClosedError,
)
from fastkit.uow import AsyncSavepoint, Savepoint, Status

pytestmark = pytest.mark.anyio
TWINS.setdefault(Savepoint, AsyncSavepoint)


def on(**wanted: object) -> pytest.MarkDecorator:
    """Run a test on some drivers only: what no other could change."""
    some = [each for each in DRIVERS if all(getattr(each, name) == value for name, value in wanted.items())]
    return pytest.mark.parametrize("driver", some, ids=lambda each: each.id, indirect=True)


on_sqlite = on(server="SQLite")
on_async = on(is_async=True)  # a thread cannot be cancelled
on_sync_sqlite = on(server="SQLite", is_async=False)
on_async_sqlite = on(server="SQLite", is_async=True)


async def names(world: World) -> list[str]:
    """Return the names of all stored authors, as another session sees them."""
    async with world.shop() as shop:
        return [author.name for author in await shop.authors.order_by(Author.name).all()]


def in_colour(world: World, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async function as a unit of this colour takes it: a sync one gets a plain function."""
    if world.driver.is_async:
        return function

    def plain(*arguments: Any) -> Any:
        try:
            function(*map(awaitable, arguments)).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a sync body waits for nobody")

    return plain


@pytest.fixture(params=["commit", "begin"])
def committing(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Return each way to commit a block with some hooks in it."""

    async def by_commit(shop: Any, *hooks: Any, **options: Any) -> None:
        async with shop:
            shop.authors.add(Author(name="Ovid"))
            for hook in hooks:
                shop.after_commit(hook, **options)
            await shop.commit()

    async def by_begin(shop: Any, *hooks: Any, **options: Any) -> None:
        async with shop.begin():
            shop.authors.add(Author(name="Ovid"))
            for hook in hooks:
                shop.after_commit(hook, **options)

    return by_commit if request.param == "commit" else by_begin


# -- when they run


async def test_c17_hooks_run_in_order_when_the_connection_is_back(world: World, committing) -> None:
    """They run once each, in order, after the COMMIT, with no connection checked out."""
    shop, seen = world.shop(), []

    def hook(name: str) -> Callable[[], None]:
        return lambda: seen.append((name, world.checked_out, shop.outcome.status))

    await committing(shop, hook("first"), hook("second"), hook("third"))

    assert seen == [(name, 0, Status.COMMITTED) for name in ("first", "second", "third")]
    assert shop.outcome.hook_errors == ()
    shop.outcome.raise_hook_errors()


async def test_c17_hooks_run_before_commit_returns(world: World) -> None:
    """When commit() returns they have run; leaving the block runs none again."""
    seen = []
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        shop.after_commit(lambda: seen.append("hook"))
        assert seen == []
        await shop.commit()
        seen.append("returned")

    assert seen == ["hook", "returned"]


async def test_c17_a_hook_finds_the_rows_stored(world: World, committing) -> None:
    """A hook may open a unit of its own, which sees what was committed, and may write and have hooks itself."""
    seen = []

    async def hook() -> None:
        seen.append(await names(world))
        async with world.shop() as other:
            other.authors.add(Author(name="Horace"))
            other.after_commit(lambda: seen.append("inner hook"))
            await other.commit()

    await committing(world.shop(), in_colour(world, hook))

    assert seen == [["Ovid"], "inner hook"]
    assert await names(world) == ["Horace", "Ovid"]


@on_async
async def test_c17_an_async_hook_is_awaited(world: World, committing) -> None:
    """Async functions, plain ones and plain ones that return an awaitable run in order in an async unit."""
    seen = []

    async def slow(name: str = "async") -> None:
        await asyncio.sleep(0.01)
        seen.append(name)

    class Caller:
        async def __call__(self) -> None:
            await slow("object")

    hooks = [slow, functools.partial(slow, "partial"), Caller(), lambda: seen.append("plain"), lambda: slow("returned")]
    await committing(world.shop(), *hooks)

    assert seen == ["async", "partial", "object", "plain", "returned"]


async def test_c17_a_block_that_sent_nothing_runs_its_hooks(world: World) -> None:
    """A commit without a statement takes no connection, and its hooks run all the same."""
    seen = []
    async with world.shop() as shop:
        shop.after_commit(lambda: seen.append("hook"))
        await shop.commit()

    assert seen == ["hook"]
    assert world.naked.engine.pool.checkedin() == 0


async def test_c17_a_read_only_block_runs_its_hooks(world: World) -> None:
    """What is done after a read-only block needs no write."""
    seen = []
    async with world.shop().begin(read_only=True) as shop:
        await shop.authors.count()
        shop.after_commit(lambda: seen.append("hook"))

    assert seen == ["hook"]


async def test_c17_nested_blocks_leave_their_hooks_to_the_outermost(world: World) -> None:
    """A nested commit() or begin() runs nothing: the outermost commit runs all, in the order of registration."""
    seen = []
    async with world.shop() as shop:
        shop.after_commit(lambda: seen.append("outer"))
        async with shop:
            shop.after_commit(lambda: seen.append("nested"))
            await shop.commit()
        async with shop.begin():
            shop.after_commit(lambda: seen.append("begun"))
        assert seen == []
        shop.after_commit(lambda: seen.append("last"))
        await shop.commit()

    assert seen == ["outer", "nested", "begun", "last"]


async def test_c17_each_block_of_a_served_unit_has_its_own_hooks(world: World) -> None:
    """A hook runs after its own block only, and its failure is in the outcome of its own block only."""
    seen = []
    async with world.serving() as shop:
        async with shop.begin():
            shop.after_commit(lambda: seen.append("first"))
            shop.after_commit(lambda: 1 / 0)
        assert len(shop.outcome.hook_errors) == 1
        async with shop:
            assert shop.outcome.hook_errors == ()
            shop.after_commit(lambda: seen.append("second"))
            await shop.commit()

        assert shop.outcome.hook_errors == ()
    assert seen == ["first", "second"]


# -- what a hook may do


async def test_c17_a_hook_reads_through_its_unit(world: World) -> None:
    """After commit() the unit reads outside a block, also in a hook, and gives the connection back."""
    seen = []
    shop = world.shop()

    async def hook() -> None:
        seen.append([author.name for author in await shop.authors.all()])
        seen.append(world.checked_out)

    async with shop:
        shop.authors.add(Author(name="Ovid"))
        shop.after_commit(in_colour(world, hook))
        await shop.commit()

    assert seen == [["Ovid"], 0]
    assert shop.outcome.hook_errors == ()


async def test_c17_a_hook_of_a_served_unit_may_open_a_block(world: World) -> None:
    """When begin() has ended, no block is open: a hook may open one, whose own hooks run too."""
    seen = []
    async with world.serving() as shop:

        async def hook() -> None:
            async with shop.begin():
                shop.authors.add(Author(name="Horace"))
                shop.after_commit(lambda: seen.append("inner"))

        async with shop.begin():
            shop.authors.add(Author(name="Ovid"))
            shop.after_commit(in_colour(world, hook))
            shop.after_commit(lambda: seen.append("next"))

        shop.outcome.raise_hook_errors()
    assert seen == ["inner", "next"]
    assert await names(world) == ["Horace", "Ovid"]


async def test_c17_a_block_that_a_hook_opened_does_not_change_the_outcome(world: World) -> None:
    """A hook whose own block rolls back has failed; the commit that it followed stays COMMITTED."""
    async with world.serving() as shop:

        async def hook() -> None:
            async with shop.begin():
                shop.authors.add(Author(name="Horace"))
                raise ValueError("mine")

        async with shop.begin():
            shop.authors.add(Author(name="Ovid"))
            shop.after_commit(in_colour(world, hook))

        assert shop.outcome.status is Status.COMMITTED
        assert [str(error.__cause__) for error in shop.outcome.hook_errors] == ["mine"]
    assert await names(world) == ["Ovid"]


@on_sqlite
async def test_c17_a_block_that_a_hook_rolled_back_does_not_change_the_outcome(world: World) -> None:
    """A hook that thinks better of its own block is no error, and the commit that it followed stays COMMITTED."""
    async with world.serving() as shop:

        async def hook() -> None:
            async with shop:
                await shop.rollback()

        async with shop.begin():
            shop.authors.add(Author(name="Ovid"))
            shop.after_commit(in_colour(world, hook))

        assert shop.outcome.status is Status.COMMITTED
        assert shop.outcome.hook_errors == ()


@on_sqlite
async def test_c17_a_hook_registers_no_hook(world: World) -> None:
    """after_commit() in a hook raises, after commit() and after begin(), because no block is open."""
    async with world.serving() as shop:
        for block in (shop, shop.begin()):
            async with block:
                shop.after_commit(lambda: shop.after_commit(print))
                if block is shop:
                    await shop.commit()

            (error,) = shop.outcome.hook_errors
            assert isinstance(error.__cause__, OutsideBlockError)


# -- registration


@on_sqlite
async def test_c17_a_hook_needs_an_open_block(world: World) -> None:
    """Before, between and after blocks, and after commit(), registration raises, because nothing will be committed."""
    with pytest.raises(UnitClosedError):
        world.shop().after_commit(print)
    async with world.serving() as shop:
        with pytest.raises(OutsideBlockError, match="needs an open block"):
            shop.after_commit(print)
        async with shop:
            await shop.commit()
            with pytest.raises(OutsideBlockError, match="already ended"):
                shop.after_commit(print)
    with pytest.raises(UnitClosedError):
        shop.after_commit(print)


async def nothing() -> None:
    """Do nothing, as a coroutine."""


@on_sqlite
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: None, "NoneType"),
        (lambda: "print", "str"),
        (nothing, "pass it uncalled"),
        (lambda: [print], "list"),
    ],
)
async def test_c17_a_hook_is_a_function(world: World, make, said: str) -> None:
    """What cannot be called is refused at registration; a coroutine object says that it is to be passed uncalled."""
    async with world.shop() as shop:
        with pytest.raises(DeclarationError, match=said):
            shop.after_commit(make())

        await shop.commit()
    assert shop.outcome.hook_errors == ()


@on_sqlite
@pytest.mark.parametrize("timeout", [0, -1, 0.0, float("nan"), "1", [1]])
async def test_c17_a_timeout_is_a_time(world: World, timeout: Any) -> None:
    """What is no number of seconds above zero is refused at registration, and the hook does not run."""
    seen = []
    async with world.shop() as shop:
        with pytest.raises(DeclarationError, match="timeout"):
            shop.after_commit(lambda: seen.append("hook"), timeout=timeout)
        await shop.commit()

    assert seen == []


class AsyncCaller:
    """An object whose call must be awaited."""

    async def __call__(self) -> None:
        """Do nothing."""

    async def method(self) -> None:
        """Do nothing."""


@on_sync_sqlite
@pytest.mark.parametrize("hook", [nothing, functools.partial(nothing), AsyncCaller(), AsyncCaller().method])
async def test_c17_a_sync_unit_takes_no_async_hook(world: World, hook: Any) -> None:
    """Nobody could await it, so it is refused at registration."""
    async with world.shop() as shop:
        with pytest.raises(DeclarationError, match="sync unit"):
            shop.after_commit(hook)

        await shop.commit()


@on_sync_sqlite
async def test_c17_an_awaitable_that_nobody_awaits_is_told(world: World) -> None:
    """A plain function that turns out to be async has failed in a sync unit, not run in silence."""
    async with world.shop() as shop:
        shop.after_commit(lambda: nothing())  # noqa: PLW0108 - what hides that it is async
        await shop.commit()

    (error,) = shop.outcome.hook_errors
    assert isinstance(error.__cause__, DeclarationError)


@on_sqlite
async def test_c17_a_doomed_block_takes_no_hook(world: World) -> None:
    """What can never be committed refuses hooks, and says why."""
    async with world.shop() as shop:
        with pytest.raises(ValueError, match="mine"):
            async with shop:
                raise ValueError("mine")
        with pytest.raises(TransactionDoomedError, match="ValueError"):
            shop.after_commit(print)
        await shop.rollback()


# -- what goes wrong


async def test_c17_a_failing_hook_stops_nothing(world: World, committing, caplog) -> None:
    """The next hooks run, the outcome stays COMMITTED, commit() does not raise; the failures are logged and kept."""
    seen, mine = [], ValueError("mine")

    def fail() -> None:
        raise mine

    def fail_too() -> None:
        raise ZeroDivisionError

    shop = world.shop()
    await committing(shop, fail, lambda: seen.append("second"), fail_too, lambda: seen.append("fourth"))

    assert seen == ["second", "fourth"]
    assert shop.outcome.status is Status.COMMITTED
    assert await names(world) == ["Ovid"]
    first, second = shop.outcome.hook_errors
    assert isinstance(first, HookError)
    assert first.__cause__ is mine
    assert (first.hook.endswith("fail"), second.hook.endswith("fail_too")) == (True, True)
    assert "ValueError" in str(first)
    assert "The commit stands" in str(first)
    assert [record.levelname for record in caplog.records if record.name == "fastkit.uow"] == ["ERROR", "ERROR"]
    assert "fail_too failed with ZeroDivisionError" in caplog.text


@on_sqlite
async def test_c17_tests_can_ask_for_the_errors(world: World) -> None:
    """raise_hook_errors() raises all of them as one group."""
    async with world.shop() as shop:
        shop.after_commit(lambda: 1 / 0)
        shop.after_commit([].pop)
        await shop.commit()

    with pytest.raises(ExceptionGroup) as caught:
        shop.outcome.raise_hook_errors()
    assert caught.value.exceptions == shop.outcome.hook_errors
    assert [type(error.__cause__) for error in caught.value.exceptions] == [ZeroDivisionError, IndexError]


@on_async
async def test_c17_an_async_hook_is_cut_off_at_its_timeout(world: World, committing) -> None:
    """A hook that waits for ever costs its timeout, is told, and the next one runs."""
    seen = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("cut off")

    shop, start = world.shop(), time.monotonic()
    await committing(shop, hang, lambda: seen.append("next"), timeout=0.05)

    assert seen == ["cut off", "next"]
    assert time.monotonic() - start < 5
    (error,) = shop.outcome.hook_errors
    assert "did not end in 0.05 s" in str(error)
    assert isinstance(error.__cause__, TimeoutError)


@on_sqlite
async def test_c17_a_sync_hook_that_takes_too_long_is_told_afterwards(world: World, committing) -> None:
    """A plain function cannot be cut off: it runs to its end, and the overrun is told."""
    seen = []

    def slow() -> None:
        time.sleep(0.06)
        seen.append("slow")

    shop = world.shop()
    await committing(shop, slow, lambda: seen.append("next"), timeout=0.05)

    assert seen == ["slow", "next"]
    (error,) = shop.outcome.hook_errors
    assert "more than its 0.05 s" in str(error)


@on_sqlite
async def test_c17_a_hook_has_a_timeout_also_if_it_names_none(world: World, monkeypatch) -> None:
    """Without a timeout of its own a hook has the default one."""
    monkeypatch.setattr("fastkit.uow.hooks.HOOK_TIMEOUT", 0.03)
    async with world.shop() as shop:
        shop.after_commit(lambda: time.sleep(0.05))
        shop.after_commit(lambda: time.sleep(0.05), timeout=5)
        await shop.commit()

    assert len(shop.outcome.hook_errors) == 1


@on_sqlite
async def test_c17_a_timeout_of_the_hooks_own_is_a_failure(world: World) -> None:
    """A TimeoutError long before the time limit is the hook's own, and is told as such."""

    def fail() -> None:
        raise TimeoutError("mine")

    async with world.shop() as shop:
        shop.after_commit(fail)
        await shop.commit()

    (error,) = shop.outcome.hook_errors
    assert "failed with TimeoutError" in str(error)


class Odd(BaseException):
    """Neither an Exception nor a cancellation."""


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(1), Odd()])
async def test_c17_an_interrupt_propagates_and_the_rest_is_told(
    world: World, committing, interrupt: BaseException
) -> None:
    """An interrupt in a hook stops the rest, which are told; the commit stands, and the unit is closed in order."""
    seen = []

    def stop() -> None:
        raise interrupt

    def never() -> None:
        seen.append("never")

    shop = world.shop()
    with pytest.raises(type(interrupt)) as caught:
        await committing(shop, lambda: seen.append("first"), stop, never)

    assert caught.value is interrupt
    assert seen == ["first"]
    assert shop.outcome.status is Status.COMMITTED
    cut, skipped = shop.outcome.hook_errors
    assert cut.__cause__ is interrupt
    assert skipped.hook.endswith("never")
    assert "did not run" in str(skipped)
    assert await names(world) == ["Ovid"]


# -- cancellation


CANCELS = pytest.mark.parametrize("cancel", [by_task_cancel, by_timeout, by_scope])


@on_async
@CANCELS
async def test_c17_a_cancellation_during_a_hook_stops_the_rest(world: World, committing, cancel) -> None:
    """It propagates although the commit stands; the hook is told as cut off, the others as not run."""
    seen, hanging = [], asyncio.Event()

    async def hang() -> None:
        seen.append("hangs")
        hanging.set()
        await asyncio.sleep(60)

    async def never() -> None:
        seen.append("never")

    def never_too() -> None:
        seen.append("never")

    shop = world.shop()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await cancel(committing(shop, hang, never, never_too), hanging)

    assert seen == ["hangs"]
    assert shop.outcome.status is Status.COMMITTED
    assert [error.hook.rpartition(".")[2] for error in shop.outcome.hook_errors] == ["hang", "never", "never_too"]
    assert ["did not run" in str(error) for error in shop.outcome.hook_errors] == [False, True, True]
    assert world.checked_out == 0
    assert await names(world) == ["Ovid"]


@on_async
@CANCELS
async def test_c17_a_cancellation_during_the_commit_stops_the_hooks(
    world: World, committing, monkeypatch, cancel
) -> None:
    """Cancelled while COMMIT was under way: committed, no hook runs, all are told, and the cancellation propagates."""
    seen, begun = [], asyncio.Event()
    dialect = world.sync_engine.dialect
    commit = dialect.do_commit

    def slow(connection) -> None:
        begun.set()
        await_only(asyncio.sleep(0.4))
        commit(connection)

    def plain() -> None:
        seen.append("plain")

    async def waiting() -> None:
        seen.append("waiting")

    monkeypatch.setattr(dialect, "do_commit", slow)
    shop = world.shop()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await cancel(committing(shop, plain, waiting), begun)
    monkeypatch.undo()

    assert shop.outcome.status is Status.COMMITTED
    assert seen == []
    assert ["did not run" in str(error) for error in shop.outcome.hook_errors] == [True, True]
    assert world.checked_out == 0
    assert await names(world) == ["Ovid"]


@on_sqlite
async def test_c17_a_cancellation_of_something_else_is_a_failed_hook(world: World, committing) -> None:
    """A hook that awaited something cancelled has failed; nobody cancels the task, so the next one runs."""
    seen = []

    def fail() -> None:
        raise asyncio.CancelledError

    shop = world.shop()
    await committing(shop, fail, lambda: seen.append("next"))

    assert seen == ["next"]
    (error,) = shop.outcome.hook_errors
    assert "failed with CancelledError" in str(error)


@on_sync_sqlite
async def test_c17_a_thread_without_a_loop_may_have_it_too(world: World, committing) -> None:
    """The same in a thread, where there is no task that could be cancelled."""
    seen = []

    def fail() -> None:
        raise asyncio.CancelledError

    def work() -> None:
        with pytest.raises(StopIteration):
            committing(shop, fail, lambda: seen.append("next")).send(None)
        seen.append("committed")

    shop = world.shop()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert seen == ["next", "committed"]
    (error,) = shop.outcome.hook_errors
    assert "failed with CancelledError" in str(error)


@on_async_sqlite
async def test_c17_a_cancellation_that_is_over_cancels_no_hook(world: World, committing) -> None:
    """A task that swallowed a cancellation long before runs its hooks as any other."""
    seen = []

    async def fail() -> None:
        raise asyncio.CancelledError

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await committing(shop, fail, lambda: seen.append("next"))

    shop = world.shop()
    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()
    await task

    assert seen == ["next"]


@on_async_sqlite
async def test_c17_a_hook_cannot_hide_a_cancellation_behind_an_error(world: World, committing) -> None:
    """A hook that makes another error of its cancellation has failed, and the cancellation propagates all the same."""
    seen, reached = [], asyncio.Event()

    async def convert() -> None:
        reached.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            raise RuntimeError("converted") from error

    def never() -> None:
        seen.append("never")

    shop = world.shop()
    with pytest.raises(asyncio.CancelledError):
        await by_task_cancel(committing(shop, convert, never), reached)

    assert seen == []
    first, second = shop.outcome.hook_errors
    assert str(first.__cause__) == "converted"
    assert "did not run" in str(second)


# -- what was not committed


async def by_rollback(shop: Any) -> None:
    """Roll back by hand."""
    await shop.rollback()


async def by_exception(shop: Any) -> None:
    """Fail in the body."""
    raise ValueError("mine")


async def by_failing_commit(shop: Any) -> None:
    """Fail at the flush of the commit."""
    shop.authors.add(Author(name="Jane Austen"))
    await shop.commit()


async def by_doom(shop: Any) -> None:
    """Swallow an error and commit."""
    try:
        async with shop:
            raise ValueError("mine")
    except ValueError:
        pass
    await shop.commit()


@pytest.mark.parametrize("end", [by_rollback, by_exception, by_failing_commit, by_doom])
async def test_c18_hooks_of_a_rolled_back_block_never_run(stocked: World, end) -> None:
    """They are dropped, which is no error, and the next block of the unit knows nothing of them."""
    seen = []
    told = {by_exception: ValueError, by_failing_commit: UniqueError, by_doom: TransactionDoomedError}.get(end)
    async with stocked.serving() as shop:
        with pytest.raises(told) if told else nullcontext():
            async with shop:
                shop.authors.add(Author(name="Ovid"))
                shop.after_commit(lambda: seen.append("never"))
                await end(shop)
        assert shop.outcome.status is Status.ROLLED_BACK
        assert shop.outcome.hook_errors == ()
        async with shop.begin():
            shop.authors.add(Author(name="Horace"))

    assert seen == []
    assert await names(stocked) == ["Horace", "Jane Austen"]


async def test_c18_a_commit_that_is_refused_runs_nothing(world: World, committing) -> None:
    """An error before COMMIT is sent rolls back, and the hooks are dropped without a word."""
    seen = []

    def refuse(connection) -> None:
        raise RuntimeError("refused")

    event.listen(world.sync_engine, "commit", refuse, insert=True)
    shop = world.shop()
    with pytest.raises(RuntimeError, match="refused"):
        await committing(shop, lambda: seen.append("never"))
    event.remove(world.sync_engine, "commit", refuse)

    assert seen == []
    assert shop.outcome.status is Status.ROLLED_BACK
    assert shop.outcome.hook_errors == ()


async def test_c18_hooks_of_a_rolled_back_savepoint_never_run(world: World) -> None:
    """Only what was registered inside is dropped; what came before and after runs."""
    seen = []
    async with world.shop() as shop:
        shop.after_commit(lambda: seen.append("before"))
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                shop.after_commit(lambda: seen.append("inside"))
                async with shop.savepoint():
                    shop.after_commit(lambda: seen.append("kept inside"))
                async with shop:
                    shop.after_commit(lambda: seen.append("nested"))
                raise ValueError("mine")
        shop.after_commit(lambda: seen.append("after"))
        await shop.commit()

    assert seen == ["before", "after"]
    assert shop.outcome.hook_errors == ()


async def test_c18_hooks_of_a_kept_savepoint_run(world: World) -> None:
    """A savepoint that is kept keeps its hooks, also if one inside it is rolled back."""
    seen = []
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.after_commit(lambda: seen.append("kept"))
            with pytest.raises(ValueError, match="mine"):
                async with shop.savepoint():
                    shop.after_commit(lambda: seen.append("dropped"))
                    raise ValueError("mine")
            shop.after_commit(lambda: seen.append("kept too"))
        await shop.commit()

    assert seen == ["kept", "kept too"]


def lost_after(commit: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a COMMIT whose answer is lost."""

    def lose(connection) -> None:
        commit(connection)
        raise ConnectionLostError("gone")

    return lose


async def test_c13_hooks_of_an_unknown_commit_are_told(world: World, committing, monkeypatch) -> None:
    """Nobody knows whether it is stored, so no hook runs, and each is told."""
    seen = []

    def never() -> None:
        seen.append("never")

    dialect = world.sync_engine.dialect
    monkeypatch.setattr(dialect, "do_commit", lost_after(dialect.do_commit))
    shop = world.shop()
    with pytest.raises(CommitUnknownError):
        await committing(shop, never, never)
    monkeypatch.undo()

    assert seen == []
    assert shop.outcome.status is Status.UNKNOWN
    assert ["did not run" in str(error) for error in shop.outcome.hook_errors] == [True, True]
    assert not any("The commit stands" in str(error) for error in shop.outcome.hook_errors)


@on(server="PostgreSQL")  # only it can be asked
async def test_c13_hooks_of_a_confirmed_commit_run(world: World, committing, monkeypatch) -> None:
    """Where the database confirms a commit without an answer, it is one, and its hooks run."""
    seen = []
    dialect = world.sync_engine.dialect
    commit = dialect.do_commit
    lose = lost_after(commit)

    def once(connection) -> None:
        monkeypatch.setattr(dialect, "do_commit", commit)
        lose(connection)

    monkeypatch.setattr(dialect, "do_commit", once)
    shop = awaitable(world.unit(world.naked, confirm_commit=True))
    await committing(shop, lambda: seen.append("hook"))

    assert seen == ["hook"]
    assert shop.outcome.status is Status.COMMITTED
    assert await names(world) == ["Ovid"]


@on_sqlite
async def test_c2_a_hook_without_a_commit_is_told(world: World) -> None:
    """Leaving a block with a hook that will never run raises and names it, also if nothing else was done."""
    seen = []
    with pytest.raises(UncommittedChangesError, match="2 x hook"):
        async with world.shop() as shop:
            shop.after_commit(lambda: seen.append("never"))
            async with shop:
                shop.after_commit(lambda: seen.append("never"))

    assert seen == []
    assert shop.outcome.status is Status.ROLLED_BACK
    assert shop.outcome.hook_errors == ()


@on_sqlite
async def test_c2_a_hook_may_be_dropped_on_purpose(world: World) -> None:
    """rollback() says that it is meant; a savepoint that was rolled back leaves nothing to be asked for."""
    seen = []
    async with world.shop() as shop:
        shop.after_commit(lambda: seen.append("never"))
        await shop.rollback()
    async with world.shop() as shop:
        with pytest.raises(ValueError, match="mine"):
            async with shop.savepoint():
                shop.after_commit(lambda: seen.append("never"))
                raise ValueError("mine")

    assert seen == []
