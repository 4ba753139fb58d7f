"""C20: a unit serves one task or thread; anything else is an error at once, never a hang or a mix-up."""

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import World

from bookshop.models import Author, Book
from fastkit.errors import ConcurrentUseError

pytestmark = pytest.mark.anyio


async def elsewhere(world: World, work) -> BaseException | None:
    """Run *work* in another task or, for a sync unit, another thread, and return what it raised."""
    if world.driver.is_async:
        (outcome,) = await asyncio.gather(asyncio.create_task(work()), return_exceptions=True)
        return outcome if isinstance(outcome, BaseException) else None
    raised: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


async def open_nested(shop) -> None:
    async with shop:
        pass


async def commit(shop) -> None:
    await shop.commit()


async def rollback(shop) -> None:
    await shop.rollback()


@pytest.mark.parametrize("work", [open_nested, commit, rollback])
async def test_c20_a_block_belongs_to_who_opened_it(world: World, work) -> None:
    """Another task or thread cannot open a nested block in it, commit it or roll it back."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))

        error = await elsewhere(world, lambda: work(shop))

        assert isinstance(error, ConcurrentUseError)
        assert "unit of its own" in str(error)
        await shop.commit()


async def test_c20_reads_from_another_task_are_only_checked_for_overlap(stocked: World) -> None:
    """A plain read from another task, one after the other, works."""
    async with stocked.shop() as shop:
        await shop.books.all()

        async def read() -> None:
            assert (await shop.books.get_one(1)).title == "Emma"

        if stocked.driver.name == "sqlite":
            pytest.skip("sqlite3 checks threads by itself")
        assert await elsewhere(stocked, read) is None


async def overlapping_reads(shop) -> list:
    return [shop.books.all(), shop.books.all(), shop.books.all()]


async def overlapping_flushes(shop) -> list:
    await shop.books.all()
    shop.authors.add(Author(name="Ovid"))
    return [shop.session.flush(), shop.session.flush()]


async def overlapping_read_and_commit(shop) -> list:
    await shop.books.all()
    shop.authors.add(Author(name="Ovid"))
    return [shop.books.all(), shop.commit()]


@pytest.mark.parametrize("start", [overlapping_reads, overlapping_flushes, overlapping_read_and_commit])
async def test_c20_overlapping_use_in_a_block_raises(stocked: World, start) -> None:
    """Two operations at once on one unit raise on every driver, instead of hanging or serialising."""
    if not stocked.driver.is_async:
        pytest.skip("one thread cannot overlap with itself")
    async with asyncio.timeout(5):
        async with stocked.shop() as shop:
            outcomes = await asyncio.gather(*await start(shop), return_exceptions=True)
            if shop.outcome.status.name == "ACTIVE":
                await shop.rollback()

    assert any(isinstance(outcome, ConcurrentUseError) for outcome in outcomes), outcomes


async def test_c20_overlapping_reads_outside_a_block_raise(stocked: World) -> None:
    """Outside a block too: a unit is not a connection pool."""
    if not stocked.driver.is_async:
        pytest.skip("one thread cannot overlap with itself")
    async with stocked.serving() as shop:
        outcomes = await asyncio.gather(*(shop.books.all() for _ in range(3)), return_exceptions=True)

        assert [type(outcome) for outcome in outcomes[1:]] == [ConcurrentUseError] * 2
        assert len(outcomes[0]) == 2
        assert stocked.checked_out == 0


async def test_c20_overlapping_threads_raise(stocked: World) -> None:
    """Two threads in one sync unit: the second is refused while the first is busy."""
    if stocked.driver.is_async:
        pytest.skip("tasks are tested above")
    from sqlalchemy import event

    entered, release, raised = threading.Event(), threading.Event(), []

    def hold(*_: object) -> None:
        if not entered.is_set():
            entered.set()
            release.wait(5)

    with stocked.unit.serving(stocked.naked) as shop:

        def first() -> None:
            shop.books.all()

        event.listen(stocked.sync_engine, "before_cursor_execute", hold)
        thread = threading.Thread(target=first)
        thread.start()
        entered.wait(5)
        try:
            shop.books.get(1)
        except ConcurrentUseError as error:
            raised.append(error)
        release.set()
        thread.join()

    assert len(raised) == 1


async def test_separate_units_run_at_once(stocked: World) -> None:
    """What is refused in one unit works in several: 30 increments by 6 tasks lose none, with a lock."""
    if not stocked.driver.is_async:
        pytest.skip("tasks")

    async def sell() -> None:
        for _ in range(5):
            async with stocked.shop() as shop:
                emma = await shop.books.for_update().get_one(1)
                emma.stock += 1
                await shop.commit()

    await asyncio.gather(*(sell() for _ in range(6)))

    async with stocked.shop() as shop:
        assert (await shop.books.one(Book.id == 1)).stock == 35


async def gathered(shop) -> None:
    await asyncio.gather(shop.books.all(), shop.authors.all())


async def grouped(shop) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(shop.books.all())
        group.create_task(shop.authors.all())


@pytest.mark.parametrize("misuse", [gathered, grouped])
@pytest.mark.parametrize("in_block", [True, False], ids=["in a block", "outside"])
async def test_c20_two_tasks_at_the_first_use_leak_nothing(stocked: World, misuse, in_block) -> None:
    """The mistake is told as such although a connection is still being made, which is given back."""
    if not stocked.driver.is_async:
        pytest.skip("one thread cannot overlap with itself")
    for _ in range(5):
        with pytest.raises((ConcurrentUseError, ExceptionGroup)) as caught:
            async with stocked.shop() if in_block else stocked.serving() as shop:
                await misuse(shop)
        error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
        assert isinstance(error, ConcurrentUseError)

    await asyncio.sleep(0.1)
    assert stocked.checked_out == 0
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        await shop.commit()
