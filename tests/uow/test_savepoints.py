"""C8, and C2, C6, C7, C10, C18, C19, C20 inside a savepoint: the one part of a block that can fail alone."""

from __future__ import annotations

import asyncio
import itertools
import threading
import types
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from conftest import TIMEOUTS, AsyncShop, Shop, World
from repository.scenes import ON_SQLITE, recorded, rival, sync_session
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.orm import DeclarativeBase, joinedload, selectinload
from sqlalchemy.util import await_only
from sweep import cancelled_everywhere, only_a_sample

from bookshop.models import Author, Book, Customer, Order, OrderLine
from fastkit.database import AsyncDatabase
from fastkit.errors import (
    ConcurrentUseError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    LockTimeoutError,
    NotFoundError,
    OutsideBlockError,
    ReadOnlyError,
    SerializationError,
    StatementTimeoutError,
    TransactionDoomedError,
    UncommittedChangesError,
    UniqueError,
    UnitClosedError,
    UnitOfWorkError,
)
from fastkit.events import EventHandlers, RecordsEvents
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


class MyError(Exception):
    """What the tests raise."""


async def names(world: World) -> list[str]:
    """Return the names of all stored authors, as another session sees them."""
    async with world.shop() as shop:
        return sorted(author.name for author in await shop.authors.all())


async def stock(world: World) -> int:
    """Return the stored stock of book 1."""
    async with world.shop() as shop:
        return (await shop.books.get_one(1)).stock


@contextmanager
def everything_sent(world: World) -> Generator[list[str]]:
    """Collect the first word of every statement, SAVEPOINT and its likes included."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        verb = statement.split(maxsplit=1)[0]
        if verb in {"SAVEPOINT", "RELEASE", "ROLLBACK", "INSERT", "UPDATE", "DELETE", "SELECT"}:
            sent.append(verb)

    event.listen(world.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(world.sync_engine, "before_cursor_execute", note)


# -- C8: what it keeps and what it undoes


async def test_c8_an_exception_rolls_back_to_the_savepoint_and_the_block_goes_on(world: World) -> None:
    """What was done before and after is stored, what was done in it is not, and the error arrives as it is."""
    mine = MyError("mine")
    async with world.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(MyError) as caught:
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                raise mine
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert caught.value is mine
    assert await names(world) == ["after", "before"]


async def test_c8_a_savepoint_that_ends_well_is_kept(world: World) -> None:
    """Leaving it flushes and keeps, and the outermost commit stores."""
    async with world.shop() as shop:
        async with shop.savepoint() as same:
            author = shop.authors.add(Author(name="Ovid"))
        assert author.id is not None
        assert shop.outcome.status is Status.ACTIVE
        await shop.commit()

    assert repr(same) == repr(shop)
    assert await names(world) == ["Ovid"]


async def test_c8_without_the_outermost_commit_nothing_of_a_savepoint_is_stored(world: World) -> None:
    """A savepoint stores nothing by itself."""
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="Ovid"))
        await shop.rollback()

    assert await names(world) == []


@pytest.mark.parametrize("error", [MyError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=lambda e: type(e).__name__)
async def test_c8_whatever_leaves_it_rolls_it_back(world: World, error: BaseException) -> None:
    """An exit and an interrupt too."""
    async with world.shop() as shop:
        caught = None
        try:
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                raise error
        except BaseException as arrived:
            caught = arrived
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert caught is error
    assert await names(world) == ["after"]


async def test_c8_one_after_the_other(world: World) -> None:
    """An import that skips the bad rows: each row has a savepoint of its own."""
    skipped = []
    async with world.shop().begin() as shop:
        for name in ("a", "b", "a", "c", "b", "d"):
            try:
                async with shop.savepoint():
                    shop.authors.add(Author(name=name))
            except UniqueError:
                skipped.append(name)

    assert skipped == ["a", "b"]
    assert await names(world) == ["a", "b", "c", "d"]


async def test_c8_the_inner_savepoint_fails_alone(world: World) -> None:
    """Savepoints nest: the outer one is kept."""
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="outer"))
            with pytest.raises(MyError):
                async with shop.savepoint():
                    shop.authors.add(Author(name="inner"))
                    raise MyError
            shop.authors.add(Author(name="outer again"))
        await shop.commit()

    assert await names(world) == ["outer", "outer again"]


async def test_c8_a_released_savepoint_goes_with_the_one_around_it(world: World) -> None:
    """What the inner one kept is undone by the outer one."""
    async with world.shop() as shop:
        with pytest.raises(MyError):
            async with shop.savepoint():
                async with shop.savepoint():
                    inner = shop.authors.add(Author(name="inner"))
                raise MyError
        shop.authors.add(inner)
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(world) == ["after", "inner"]


async def test_c8_an_exception_through_several_savepoints_undoes_them_all(stocked: World) -> None:
    """An exception that nobody handles leaves one after the other."""
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(MyError):
            async with shop.savepoint():
                shop.authors.add(Author(name="1"))
                async with shop.savepoint(), shop.savepoint():
                    (await shop.books.get_one(1)).stock = 1
                    await shop.session.flush()
                    raise MyError
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "before"]
    assert await stock(stocked) == 5


async def test_c8_a_savepoint_may_be_used_again(world: World) -> None:
    """The object that savepoint() returns holds no state."""
    async with world.shop() as shop:
        savepoint = shop.savepoint()
        for name in ("1", "2", "3"):
            with suppress(MyError):
                async with savepoint:
                    shop.authors.add(Author(name=name))
                    if name == "2":
                        raise MyError
        await shop.commit()

    assert await names(world) == ["1", "3"]


async def test_c8_in_a_block_that_commits_by_itself(world: World) -> None:
    """begin() commits what is left."""
    async with world.shop().begin() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                raise MyError
        shop.authors.add(Author(name="after"))

    assert await names(world) == ["after"]


async def test_c8_in_the_blocks_of_a_served_unit(world: World) -> None:
    """A unit of a request may use savepoints in each of its blocks."""
    async with world.serving() as shop:
        for name in ("1", "2"):
            async with shop.begin():
                with suppress(MyError):
                    async with shop.savepoint():
                        shop.authors.add(Author(name=f"not {name}"))
                        await shop.session.flush()
                        raise MyError
                async with shop.savepoint():
                    shop.authors.add(Author(name=name))
            assert world.checked_out == 0

    assert await names(world) == ["1", "2"]


# -- C25: lazy


async def test_c25_an_empty_savepoint_sends_nothing(world: World) -> None:
    """Neither kept nor rolled back, nor rolled back on purpose, nor nested."""
    with everything_sent(world) as sent:
        async with world.shop() as shop:
            async with shop.savepoint():
                pass
            async with shop.savepoint(), shop.savepoint():
                pass
            with suppress(MyError):
                async with shop.savepoint(), shop.savepoint():
                    raise MyError
            async with shop.savepoint():
                await shop.rollback()
            await shop.commit()

    assert sent == []
    assert world.checked_out == 0


async def test_c25_savepoint_is_sent_with_its_first_statement(world: World) -> None:
    """What was pending before is written before it; its end sends one statement."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="before"))
        with everything_sent(world) as sent:
            async with shop.savepoint():
                assert sent == ["INSERT"]
                shop.authors.add(Author(id=2, name="inside"))
                assert sent == ["INSERT"]
            with suppress(MyError):
                async with shop.savepoint():
                    await shop.authors.count()
                    raise MyError
            async with shop.savepoint(), shop.savepoint():
                pass
        await shop.commit()

    assert sent == ["INSERT", "SAVEPOINT", "INSERT", "RELEASE", "SAVEPOINT", "SELECT", "ROLLBACK"]


async def test_c25_an_object_changed_in_a_rolled_back_savepoint_is_read_once(stocked: World) -> None:
    """It is read again as the savepoint ends; what else was loaded is read again when it is next asked for."""
    async with stocked.shop() as shop:
        emma, persuasion = await shop.books.get_one(1), await shop.books.get_one(2)
        with recorded(stocked) as sent:
            with suppress(MyError):
                async with shop.savepoint():
                    emma.stock = 1
                    await shop.session.flush()
                    raise MyError
            assert emma.stock == 5
            assert (await shop.books.get_one(1)).stock == 5
            assert (await shop.books.get_one(2)).stock == 5
            await shop.books.get_one(1)
            await shop.books.get_one(2)

    assert persuasion is not emma
    assert [statement.split()[0] for statement in sent] == ["UPDATE", "SELECT", "SELECT"]


# -- C6, C7: nesting and doom


async def test_c7_an_exception_of_a_nested_block_dooms_the_savepoint_only(stocked: World) -> None:
    """Every later statement in it raises from the original; leaving it tells, and the block goes on."""
    mine = MyError("mine")
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(TransactionDoomedError, match="MyError was raised in it at test_savepoints:") as told:
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                with suppress(MyError):
                    async with shop:
                        await fail(mine)
                for attempt in (
                    shop.books.all,
                    lambda: shop.books.get(1),
                    shop.books.count,
                    lambda: shop.session.execute(select(Book)),
                    shop.commit,
                ):
                    with pytest.raises(TransactionDoomedError, match=r"savepoint.*MyError.* in fail") as caught:
                        await attempt()
                    assert caught.value.__cause__ is mine
                with pytest.raises(TransactionDoomedError):
                    shop.authors.add(Author(name="Horace"))
                with pytest.raises(TransactionDoomedError):
                    shop.after_commit(print)
                with pytest.raises(TransactionDoomedError):
                    async with shop:
                        pass
                with pytest.raises(TransactionDoomedError):
                    async with shop.savepoint():
                        pass
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert told.value.__cause__ is mine
    assert await names(stocked) == ["Jane Austen", "after", "before"]


async def fail(error: BaseException) -> None:
    raise error


async def test_c7_the_error_of_a_nested_block_that_leaves_the_savepoint_too_leaves_no_doom(world: World) -> None:
    """It arrives as it is, and the block goes on."""
    mine = MyError("mine")
    async with world.shop() as shop:
        with pytest.raises(MyError) as caught:
            async with shop.savepoint(), shop:
                shop.authors.add(Author(name="inside"))
                raise mine
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert caught.value is mine
    assert caught.value.__context__ is None
    assert await names(world) == ["after"]


async def test_c7_another_error_may_leave_a_doomed_savepoint(world: World) -> None:
    """What leaves it is what the caller sees; the doom has gone with the savepoint."""
    async with world.shop() as shop:
        with pytest.raises(KeyError):
            async with shop.savepoint():
                with suppress(MyError):
                    async with shop:
                        shop.authors.add(Author(name="inside"))
                        raise MyError
                raise KeyError
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(world) == ["after"]


async def test_c7_an_inner_savepoint_saves_the_outer_one(world: World) -> None:
    """Only the innermost savepoint around the nested block is doomed."""
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="outer"))
            with pytest.raises(TransactionDoomedError):
                async with shop.savepoint():
                    with suppress(MyError):
                        async with shop:
                            shop.authors.add(Author(name="inner"))
                            raise MyError
            assert await shop.authors.count() == 1
        await shop.commit()

    assert await names(world) == ["outer"]


async def test_c7_a_savepoint_in_a_nested_block_does_not_save_that_block(world: World) -> None:
    """An exception that leaves the savepoint and the nested block around it dooms the transaction."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="before"))
        with suppress(MyError):
            async with shop, shop.savepoint():
                shop.authors.add(Author(name="inside"))
                raise MyError
        with pytest.raises(TransactionDoomedError, match="transaction cannot go on"):
            await shop.commit()
        await shop.rollback()

    assert await names(world) == []


async def test_c8_a_nested_block_may_handle_the_error_of_its_savepoint(world: World) -> None:
    """Then nothing is doomed."""
    async with world.shop() as shop:
        async with shop.begin():
            with suppress(MyError):
                async with shop.savepoint():
                    shop.authors.add(Author(name="inside"))
                    raise MyError
            shop.authors.add(Author(name="nested"))
        await shop.commit()

    assert await names(world) == ["nested"]


async def test_c6_commit_in_a_savepoint_flushes_only(world: World) -> None:
    """It gives keys, stores nothing, and the savepoint can still be rolled back."""
    async with world.shop() as shop:
        with pytest.raises(MyError):
            async with shop.savepoint():
                author = shop.authors.add(Author(name="Ovid"))
                await shop.commit()
                assert author.id is not None
                assert shop.outcome.status is Status.ACTIVE
                raise MyError
        await shop.commit()

    assert await names(world) == []


async def test_c6_begin_in_a_savepoint_flushes_at_its_end(world: World) -> None:
    """A nested block joins the savepoint."""
    async with world.shop() as shop:
        async with shop.savepoint():
            async with shop.begin():
                author = shop.authors.add(Author(name="Ovid"))
            assert author.id is not None
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c8_rollback_in_a_savepoint_is_meant_and_silent(world: World) -> None:
    """Called in its own block, it undoes the savepoint without an error; inside, nothing may follow."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="before"))
        async with shop.savepoint():
            shop.authors.add(Author(name="inside"))
            await shop.session.flush()
            await shop.rollback()
            with pytest.raises(TransactionDoomedError, match=r"called rollback\(\) at"):
                await shop.authors.all()
            with pytest.raises(TransactionDoomedError):
                await shop.commit()
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(world) == ["after", "before"]


async def test_c8_rollback_in_a_savepoint_leaves_the_outer_one_alone(world: World) -> None:
    """It is about the innermost one."""
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="outer"))
            async with shop.savepoint():
                shop.authors.add(Author(name="inner"))
                await shop.rollback()
            assert await shop.authors.count() == 1
        await shop.commit()

    assert await names(world) == ["outer"]


async def test_c7_rollback_in_a_nested_block_of_a_savepoint_is_told(world: World) -> None:
    """Somebody else's rollback() is not what the savepoint's own block meant."""
    async with world.shop() as shop:
        with pytest.raises(
            TransactionDoomedError, match=r"savepoint cannot .* nested block called rollback\(\) at \w+:"
        ):
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                async with shop:
                    await shop.rollback()
        await shop.commit()

    assert await names(world) == []


async def test_c8_rollback_after_a_swallowed_error_is_meant(stocked: World) -> None:
    """Whoever swallows an error and calls rollback() knows what is lost."""
    async with stocked.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="Jane Austen"))
            with suppress(UniqueError):
                await shop.session.flush()
            await shop.rollback()
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "after"]


async def test_c8_errors_that_are_no_answers_of_the_database_do_not_doom(stocked: World) -> None:
    """An error of the app, or a row that is not there, may be handled inside."""
    async with stocked.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="Ovid"))
            with suppress(MyError):
                raise MyError
            with suppress(NotFoundError):
                await shop.books.get_one(404)
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "Ovid"]


# -- C10: errors of the database


async def failing_statement(shop) -> None:
    await shop.session.execute(text("SELECT * FROM no_such_table"))


async def failing_flush(shop) -> None:
    shop.authors.add(Author(name="Jane Austen"))
    await shop.session.flush()


async def failing_commit(shop) -> None:
    shop.authors.add(Author(name="Jane Austen"))
    await shop.commit()


async def failing_autoflush(shop) -> None:
    shop.authors.add(Author(name="Jane Austen"))
    await shop.books.all()


async def failing_core_insert(shop) -> None:
    await shop.session.execute(insert(Author).values(name="Jane Austen"))


async def failing_binding(shop) -> None:
    shop.books.add(Book(title=object()))
    await shop.session.flush()


async def failing_on_the_connection(shop) -> None:
    connection = shop.session.connection()
    if hasattr(connection, "__await__"):
        connection = await connection
    result = connection.execute(text("SELECT * FROM no_such_table"))
    if hasattr(result, "__await__"):
        await result


FAILURES = [
    failing_statement,
    failing_flush,
    failing_commit,
    failing_autoflush,
    failing_core_insert,
    failing_binding,
    failing_on_the_connection,
]
each_failure = pytest.mark.parametrize("fails", FAILURES, ids=lambda function: function.__name__)


@each_failure
async def test_c8_an_error_of_the_database_may_be_handled_outside(stocked: World, fails) -> None:
    """After the savepoint the block goes on, on every database alike."""
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(Exception, match=r".") as caught:
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                await fails(shop)
        assert not isinstance(caught.value, UnitOfWorkError)
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "after", "before"]


@each_failure
async def test_c10_an_error_swallowed_in_a_savepoint_is_told_when_it_is_left(stocked: World, fails) -> None:
    """Nothing may be lost in silence: leaving raises from the error, after the rollback to the savepoint."""
    error = None
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(TransactionDoomedError, match="savepoint cannot go on") as caught:
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                try:
                    await fails(shop)
                except Exception as swallowed:
                    error = swallowed
                with pytest.raises(TransactionDoomedError):
                    await shop.authors.all()
                with pytest.raises(TransactionDoomedError):
                    await shop.commit()
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert error is not None
    assert caught.value.__cause__ is not None
    assert await names(stocked) == ["Jane Austen", "after", "before"]


async def test_c8_what_a_savepoint_cannot_write_at_its_end_is_rolled_back(stocked: World) -> None:
    """Leaving it flushes; an error of that flush is an error of the savepoint."""
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(UniqueError):
            async with shop.savepoint():
                shop.after_commit(pytest.fail)
                shop.authors.add(Author(name="Jane Austen"))
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "after", "before"]
    shop.outcome.raise_hook_errors()


async def test_c10_what_cannot_be_written_before_a_savepoint_dooms_what_is_around_it(stocked: World) -> None:
    """Entering flushes first; what fails there was done outside the savepoint."""
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="Jane Austen"))
        with pytest.raises(UniqueError):
            async with shop.savepoint():
                pytest.fail("it was entered")
        with pytest.raises(TransactionDoomedError, match="transaction cannot go on"):
            await shop.commit()
        await shop.rollback()

    assert await names(stocked) == ["Jane Austen"]


async def test_c10_what_cannot_be_written_before_an_inner_savepoint_dooms_the_outer_one(stocked: World) -> None:
    """The same one level deeper: the block around both can go on."""
    async with stocked.shop() as shop:
        with pytest.raises(UniqueError):
            async with shop.savepoint():
                shop.authors.add(Author(name="Jane Austen"))
                async with shop.savepoint():
                    pytest.fail("it was entered")
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "after"]


# -- C2: what counts as lost


async def test_c2_work_rolled_back_with_a_savepoint_does_not_count(stocked: World) -> None:
    """A block that has nothing else to lose may end without commit()."""
    async with stocked.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                await shop.session.execute(update(Book).values(stock=1))
                await shop.session.execute(text("DELETE FROM book WHERE id = 2"))
                await shop.books.delete(await shop.books.get_one(1))
                shop.after_commit(print)
                raise MyError
        async with shop.savepoint():
            shop.authors.add(Author(name="inside"))
            await shop.rollback()

    assert shop.outcome.status is Status.ROLLED_BACK
    assert await stock(stocked) == 5


async def test_c2_work_of_a_released_savepoint_counts(stocked: World) -> None:
    """What was kept is lost without commit(), and counted once."""
    with pytest.raises(
        UncommittedChangesError, match=r"1 x added Author, 1 x statement UPDATE book, 1 x hook\."
    ) as caught:
        async with stocked.shop() as shop:
            async with shop.savepoint():
                ovid = shop.authors.add(Author(name="Ovid"))
                await shop.session.flush()
                async with shop.savepoint():
                    await shop.session.execute(update(Book).values(stock=1))
                    shop.after_commit(print)

    assert ovid in caught.value.objects


async def test_c2_work_around_a_rolled_back_savepoint_counts(world: World) -> None:
    """The message and the objects name what was done before and after, and nothing that was undone."""
    with pytest.raises(UncommittedChangesError, match=r"2 x added Author\.") as caught:
        async with world.shop() as shop:
            before = shop.authors.add(Author(name="before"))
            with suppress(MyError):
                async with shop.savepoint():
                    inside = shop.authors.add(Author(name="inside"))
                    await shop.session.flush()
                    raise MyError
            after = shop.authors.add(Author(name="after"))
            await shop.session.flush()

    assert set(caught.value.objects) == {before, after}
    assert inside.name == "inside"


# -- C3: objects


async def by_flush(shop, emma: Book) -> None:
    emma.stock = 1
    await shop.session.flush()


async def without_flush(shop, emma: Book) -> None:
    emma.stock = 1


async def by_orm_update(shop, emma: Book) -> None:
    await shop.session.execute(update(Book).where(Book.id == 1).values(stock=1))


async def by_unsynchronised_update(shop, emma: Book) -> None:
    await shop.session.execute(
        update(Book).where(Book.id == 1).values(stock=1).execution_options(synchronize_session=False)
    )
    await shop.session.refresh(emma)


async def by_fetching_update(shop, emma: Book) -> None:
    await shop.session.execute(
        update(Book).where(Book.id == 1).values(stock=1).execution_options(synchronize_session="fetch")
    )


async def by_core_update(shop, emma: Book) -> None:
    await shop.session.execute(update(Book.__table__).where(Book.__table__.c.id == 1).values(stock=1))
    await shop.session.refresh(emma)


async def by_text(shop, emma: Book) -> None:
    await shop.session.execute(text("UPDATE book SET stock = 1 WHERE id = 1"))
    await shop.session.refresh(emma)


async def by_released_savepoint(shop, emma: Book) -> None:
    async with shop.savepoint():
        emma.stock = 1


CHANGES = [
    by_flush,
    without_flush,
    by_orm_update,
    by_unsynchronised_update,
    by_fetching_update,
    by_core_update,
    by_text,
    by_released_savepoint,
]
READS = {
    "get": lambda shop: shop.books.get(1),
    "get_one": lambda shop: shop.books.get_one(1),
    "one": lambda shop: shop.books.one(Book.id == 1),
    "first": lambda shop: shop.books.first(Book.id == 1),
    "for_update": lambda shop: shop.books.for_update().get_one(1),
    "options": lambda shop: shop.books.with_options(selectinload(Book.reviews)).get_one(1),
    "session": lambda shop: shop.session.scalar(select(Book).where(Book.id == 1)),
}


@pytest.mark.parametrize(
    ("change", "read"),
    [(change, read) for change in CHANGES for read in READS if change is by_orm_update or read in {"get", "one"}],
    ids=lambda each: getattr(each, "__name__", each),
)
async def test_c3_an_object_changed_in_a_rolled_back_savepoint_is_read_again(stocked: World, change, read) -> None:
    """However it was changed and is read, the next read in the block sees what the database has."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        emma.stock = 4
        with suppress(MyError):
            async with shop.savepoint():
                await change(shop, emma)
                raise MyError
        found = await READS[read](shop)
        assert found is emma
        assert found.stock == 4
        assert found.title == "Emma"
        await shop.commit()

    assert emma.stock == 4
    assert await stock(stocked) == 4


async def test_c3_reads_of_many_objects_see_no_rolled_back_value(stocked: World) -> None:
    """A list after the savepoint is what the database has."""
    async with stocked.shop() as shop:
        books = await shop.books.all()
        with suppress(MyError):
            async with shop.savepoint():
                await shop.session.execute(update(Book).values(stock=Book.stock + 1))
                for each in books:
                    each.year = 1
                raise MyError
        found = await shop.books.order_by(Book.id).all()

    assert [(each.stock, each.year) for each in found] == [(5, 1815), (5, 1815)]


async def test_c3_an_object_loaded_in_a_rolled_back_savepoint_stays_usable(stocked: World) -> None:
    """It was only read; it can be changed afterwards."""
    async with stocked.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                await shop.session.execute(update(Book).values(stock=1))
                emma = await shop.books.get_one(1)
                assert emma.stock == 1
                raise MyError
        emma = await shop.books.get_one(1)
        assert emma.stock == 5
        emma.stock += 1
        await shop.commit()

    assert await stock(stocked) == 6


async def test_c3_an_object_added_in_a_rolled_back_savepoint_can_be_added_again(world: World) -> None:
    """It is new again, and keeps its values."""
    async with world.shop() as shop:
        ovid = Author(name="Ovid")
        for _ in range(2):
            with suppress(MyError):
                async with shop.savepoint():
                    shop.authors.add(ovid)
                    await shop.session.flush()
                    raise MyError
            assert ovid not in sync_session(shop)
            assert await shop.authors.count() == 0
        assert shop.authors.add(ovid).name == "Ovid"
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c3_an_object_of_a_failed_flush_can_be_mended_and_added_again(stocked: World) -> None:
    """The usual way out of a unique constraint."""
    async with stocked.shop() as shop:
        author = Author(name="Jane Austen")
        with suppress(UniqueError):
            async with shop.savepoint():
                shop.authors.add(author)
        author.name = "Jane Austen 2"
        shop.authors.add(author)
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "Jane Austen 2"]


@pytest.mark.parametrize("flushed", [True, False])
async def test_c3_an_object_deleted_in_a_rolled_back_savepoint_is_back(stocked: World, flushed: bool) -> None:
    """It can be read, changed and stored."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        with suppress(MyError):
            async with shop.savepoint():
                await shop.books.delete(emma)
                if flushed:
                    await shop.session.flush()
                    assert await shop.books.get(1) is None
                raise MyError
        assert await shop.books.get_one(1) is emma
        emma.stock += 1
        await shop.commit()

    assert await stock(stocked) == 6


async def test_c3_an_object_deleted_in_a_released_savepoint_is_gone(stocked: World) -> None:
    """Kept means kept."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        async with shop.savepoint():
            await shop.books.delete(emma)
        assert await shop.books.get(1) is None
        await shop.commit()

    async with stocked.shop() as shop:
        assert await shop.books.count() == 1


async def test_c3_an_object_added_and_deleted_in_a_rolled_back_savepoint_is_new_again(world: World) -> None:
    """What came and went in it never was."""
    async with world.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                ovid = shop.authors.add(Author(name="Ovid"))
                await shop.session.flush()
                await shop.authors.delete(ovid)
                await shop.session.flush()
                raise MyError
        shop.authors.add(ovid)
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c3_changes_made_before_the_savepoint_survive_it(stocked: World) -> None:
    """They are flushed when it is entered."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        emma.stock = 3
        ovid = shop.authors.add(Author(name="Ovid"))
        with suppress(MyError):
            async with shop.savepoint():
                emma.stock, ovid.name = 1, "Naso"
                raise MyError
        assert (await shop.books.get_one(1)).stock == 3
        await shop.commit()

    assert await stock(stocked) == 3
    assert await names(stocked) == ["Jane Austen", "Ovid"]


async def test_c3_composite_work_goes_as_one(stocked: World) -> None:
    """An order with its lines, in a savepoint that fails and in one that does not."""

    def order(key: int) -> Order:
        lines = [OrderLine(book_id=each, quantity=1, price=Decimal(1)) for each in (1, 2)]
        return Order(id=key, customer_id=1, placed_at=datetime.now(UTC), total=Decimal(2), lines=lines)

    async with stocked.shop() as shop:
        failed = order(1)
        with suppress(MyError):
            async with shop.savepoint():
                shop.orders.add(failed)
                async with shop:
                    await shop.commit()
                raise MyError
        assert await shop.lines.count() == 0
        async with shop.savepoint():
            shop.orders.add(order(2))
        shop.orders.add(failed)
        await shop.commit()

    async with stocked.shop() as shop:
        stored = await shop.orders.with_options(selectinload(Order.lines)).order_by(Order.id).all()
        assert [(each.id, len(each.lines)) for each in stored] == [(1, 2), (2, 2)]


async def test_c3_a_deleted_order_comes_back_with_its_lines(stocked: World) -> None:
    """Cascades are undone too."""
    async with stocked.shop() as shop:
        lines = [OrderLine(book_id=each, quantity=1, price=Decimal(1)) for each in (1, 2)]
        shop.orders.add(Order(id=1, customer_id=1, placed_at=datetime.now(UTC), total=Decimal(2), lines=lines))
        await shop.commit()
    async with stocked.shop() as shop:
        order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
        with suppress(MyError):
            async with shop.savepoint():
                await shop.orders.delete(order)
                await shop.session.flush()
                raise MyError
        order = await shop.orders.with_options(selectinload(Order.lines)).get_one(1)
        assert len(order.lines) == 2
        order.total = Decimal(3)
        await shop.commit()

    async with stocked.shop() as shop:
        assert await shop.lines.count() == 2


async def modify(shop, books: list[Book], customer: Customer) -> None:
    books[1].stock = 2


async def modify_nothing(shop, books: list[Book], customer: Customer) -> None:
    books[1].stock = books[1].stock  # SQLAlchemy notes it as a change


async def modify_there_and_back(shop, books: list[Book], customer: Customer) -> None:
    books[1].stock = 2
    books[1].stock = 5


async def append(shop, books: list[Book], customer: Customer) -> None:
    customer.orders.append(Order(placed_at=datetime.now(UTC), total=Decimal(1)))


async def append_with_children(shop, books: list[Book], customer: Customer) -> None:
    lines = [OrderLine(book_id=1, quantity=1, price=Decimal(1))]
    customer.orders.append(Order(placed_at=datetime.now(UTC), total=Decimal(1), lines=lines))


async def modify_new(shop, books: list[Book], customer: Customer) -> None:
    books[1].stock = 2
    for entity in shop.session.new:
        entity.name = "changed"


@pytest.mark.parametrize(
    "change",
    [modify, modify_nothing, modify_there_and_back, append, append_with_children, modify_new],
    ids=lambda function: function.__name__,
)
@pytest.mark.parametrize("swallowed", [True, False], ids=["swallowed", "raised"])
@pytest.mark.parametrize("fails", [failing_flush, failing_core_insert], ids=lambda function: function.__name__)
async def test_c3_changes_made_after_a_failed_flush_are_taken_back(stocked: World, change, swallowed, fails) -> None:
    """Without a warning of SQLAlchemy, whatever they are; the block goes on and stores only its own."""
    async with stocked.shop() as shop:
        books = await shop.books.order_by(Book.id).all()
        customer = await shop.customers.with_options(selectinload(Customer.orders)).get_one(1)
        with pytest.raises(TransactionDoomedError if swallowed else UniqueError):
            async with shop.savepoint():
                books[0].stock = 1
                try:
                    await fails(shop)
                except UniqueError:
                    await change(shop, books, customer)
                    if not swallowed:
                        raise
        found = await shop.books.order_by(Book.id).all()
        assert [each.stock for each in found] == [5, 5]
        shop.authors.add(Author(name="after"))
        await shop.commit()

    async with stocked.shop() as shop:
        assert await shop.orders.count() == 0
    assert await names(stocked) == ["Jane Austen", "after"]


async def test_c3_objects_deleted_before_a_failed_flush_are_back(stocked: World) -> None:
    """Also those whose DELETE was not sent."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        with suppress(UniqueError):
            async with shop.savepoint():
                await shop.books.delete(emma)
                shop.authors.add(Author(name="Jane Austen"))
        assert await shop.books.get_one(1) is emma
        emma.stock += 1
        await shop.commit()

    assert await stock(stocked) == 6


async def test_c3_without_autoflush_nothing_is_lost(world: World) -> None:
    """Objects that a query was told not to flush are flushed when the savepoint ends."""
    async with world.shop() as shop:
        async with shop.savepoint():
            shop.authors.add(Author(name="Ovid"))
            with sync_session(shop).no_autoflush:
                assert await shop.authors.count() == 0
        await shop.commit()

    assert await names(world) == ["Ovid"]


@pytest.mark.parametrize("part", ["savepoint", "block"])
async def test_c7_a_doomed_part_refuses_to_flush_too(stocked: World, part: str) -> None:
    """Objects can be changed without asking anybody; what would send the change refuses."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        with pytest.raises(TransactionDoomedError):
            async with shop.savepoint() if part == "savepoint" else shop:
                with suppress(MyError):
                    async with shop:
                        raise MyError
                emma.stock = 1
                with everything_sent(stocked) as sent:
                    await shop.session.flush()
        await shop.rollback()

    assert sent == []


# -- C1, C5, C20: what is refused


async def enter(shop) -> None:
    async with shop.savepoint():
        pytest.fail("it was entered")


async def test_c5_a_savepoint_needs_an_open_block(world: World) -> None:
    """Before, between and after the blocks of a unit it is refused, and the reason given."""
    unit = world.shop()
    with pytest.raises(UnitClosedError):
        await enter(unit)
    async with world.serving() as shop:
        with pytest.raises(OutsideBlockError, match=r"savepoint\(\) needs an open block"):
            await enter(shop)
        async with shop:
            pass
        with pytest.raises(OutsideBlockError, match=r"savepoint\(\)"):
            await enter(shop)
    with pytest.raises(UnitClosedError):
        await enter(shop)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_c1_a_savepoint_after_the_end_of_the_block_is_refused(world: World, ends: str) -> None:
    """commit() and rollback() of the outermost block end it, its `with` notwithstanding."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        await getattr(shop, ends)()
        with pytest.raises(OutsideBlockError, match=r"savepoint\(\)"):
            await enter(shop)

    assert world.checked_out == 0


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


async def test_c20_a_savepoint_belongs_to_who_opened_the_block(world: World) -> None:
    """Another task or thread can neither open one nor, inside of one, call rollback() or open another."""
    async with world.shop() as shop:
        assert isinstance(await elsewhere(world, lambda: enter(shop)), ConcurrentUseError)
        async with shop.savepoint():
            shop.authors.add(Author(name="Ovid"))
            for work in (lambda: enter(shop), shop.rollback, shop.commit):
                assert isinstance(await elsewhere(world, work), ConcurrentUseError)
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c8_the_savepoints_of_the_session_are_refused(world: World) -> None:
    """The error names the unit's own."""
    async with world.shop() as shop:
        with pytest.raises(UnitOfWorkError, match=r"shop\.savepoint\(\)"):
            started = shop.session.begin_nested()
            if hasattr(started, "__await__"):
                await started


async def test_c8_a_read_only_block_may_have_savepoints(stocked: World) -> None:
    """Reads work in them, a refused write can be handled outside, and nothing is stored."""
    async with stocked.shop().block(read_only=True) as shop:
        async with shop.savepoint():
            assert await shop.books.count() == 2
        with pytest.raises(ReadOnlyError):
            async with shop.savepoint():
                shop.authors.add(Author(name="Ovid"))
        emma = await shop.books.get_one(1)
        with pytest.raises(ReadOnlyError):
            async with shop.savepoint():
                emma.stock = 1
        with pytest.raises(ReadOnlyError):
            async with shop.savepoint():
                await shop.session.execute(text("UPDATE book SET stock = 1"))
        assert (await shop.books.get_one(1)).stock == 5

    assert await stock(stocked) == 5


# -- C10: what a savepoint cannot help against


async def assert_lost(world: World, shop: Any, cause: type[BaseException] | tuple[type[BaseException], ...]) -> None:
    """Check that a block can do nothing more, from the original error, also not by a savepoint."""
    for attempt in (shop.books.all, lambda: enter(shop), lambda: shop.session.execute(select(Book)), shop.commit):
        with pytest.raises(TransactionDoomedError, match="transaction cannot go on") as caught:
            await attempt()
        assert isinstance(caught.value.__cause__, cause)


async def by_unit_of_work(shop, key: int) -> None:
    (await shop.books.get_one(key)).stock += 1
    await shop.session.flush()


async def by_statement(shop, key: int) -> None:
    await shop.session.execute(update(Book).where(Book.id == key).values(stock=Book.stock + 1))


RUNS = itertools.count(1000)


async def meet(barrier: asyncio.Barrier | threading.Barrier) -> None:
    """Wait for the other, but not for ever."""
    if isinstance(barrier, threading.Barrier):
        barrier.wait()
    else:
        await asyncio.wait_for(barrier.wait(), 10)


async def at_once(world: World, *bodies: Any) -> list[Any]:
    """Run the bodies in tasks or, for sync units, in threads; return what they returned or raised."""
    if world.driver.is_async:
        return await asyncio.gather(*(body() for body in bodies), return_exceptions=True)

    def run(body: Any) -> Any:
        try:
            return asyncio.run(body())
        except BaseException as error:
            return error

    return await asyncio.gather(*(asyncio.to_thread(run, body) for body in bodies))


@pytest.mark.parametrize("wants", [by_unit_of_work, by_statement], ids=lambda function: function.__name__)
@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c10_a_deadlock_in_a_savepoint(stocked: World, wants, before: bool) -> None:
    """PostgreSQL's loser goes on after its savepoint and commits; MariaDB's has lost the whole transaction."""
    if stocked.server == "SQLite":
        pytest.skip("its writers wait for each other, one at a time")
    barrier = asyncio.Barrier(2) if stocked.driver.is_async else threading.Barrier(2, timeout=10)
    run = next(RUNS)  # MariaDB locks the traces of deleted rows too: two runs share no keys
    lost, hooks, inserted = [], [], {}

    def author(what: str, number: int) -> Author:
        return Author(id=run * 1000 + 10 * number + len(what), name=f"{what} {number} of {run}")

    async def work(mine: int, other: int) -> None:
        async with stocked.serving() as shop:
            async with shop:
                if before:
                    shop.authors.add(author("before", mine))
                try:
                    async with shop.savepoint():
                        shop.after_commit(lambda: hooks.append(mine))
                        await shop.books.for_update().get_one(mine)
                        inserted[mine] = shop.authors.add(author("in", mine))
                        await shop.session.flush()
                        await meet(barrier)
                        await wants(shop, other)
                except DeadlockError:
                    lost.append(mine)
                    if stocked.server == "MariaDB":
                        await assert_lost(stocked, shop, DeadlockError)
                        await shop.rollback()
                    else:
                        shop.authors.add(author("after", mine))
                        await shop.commit()
                else:
                    await shop.commit()
            async with shop.begin():
                shop.authors.add(author("next", mine))

    outcomes = await at_once(stocked, lambda: work(1, 2), lambda: work(2, 1))

    assert outcomes == [None, None]
    assert stocked.checked_out == 0
    (loser,) = lost
    winner = 3 - loser
    expected = {f"in {winner}", "next 1", "next 2"}
    if stocked.server == "PostgreSQL":
        expected |= {f"after {loser}"} | ({"before 1", "before 2"} if before else set())
    elif before:
        expected |= {f"before {winner}"}
    assert hooks == [winner]
    assert set(await names(stocked)) == {"Jane Austen", *(f"{each} of {run}" for each in expected)}
    async with stocked.shop() as shop:
        shop.authors.add(inserted[loser])
        await shop.commit()
    assert f"in {loser} of {run}" in await names(stocked)


@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c10_a_record_that_changed_since_the_snapshot(stocked: World, before: bool) -> None:
    """MariaDB ends the transaction (1020); PostgreSQL goes on after the savepoint, with the same old snapshot."""
    if stocked.server == "SQLite":
        pytest.skip("it has one writer at a time")
    strict = "SET innodb_snapshot_isolation = ON" if stocked.server == "MariaDB" else "SELECT 1"
    async with stocked.shop().block(isolation="REPEATABLE READ") as shop:
        await shop.session.execute(text(strict).execution_options(fastkit_reads=True))
        await shop.books.get_one(2)
        if before:
            shop.authors.add(Author(id=10, name="before"))
            await shop.session.flush()
        with rival(stocked) as other:
            other.execute(text("UPDATE book SET stock = 3 WHERE id = 1"))
            other.commit()
        with pytest.raises((SerializationError, DeadlockError)):
            async with shop.savepoint():
                inside = shop.authors.add(Author(id=11, name="inside"))
                await shop.session.flush()
                await shop.session.execute(update(Book).where(Book.id == 1).values(stock=Book.stock + 1))
        if stocked.server == "MariaDB":
            await assert_lost(stocked, shop, (SerializationError, DeadlockError))
            await shop.rollback()
        else:
            assert (await shop.books.get_one(1)).stock == 5
            shop.authors.add(Author(id=12, name="after"))
            await shop.commit()

    assert await stock(stocked) == 3
    kept = (["after", "before"] if before else ["after"]) if stocked.server == "PostgreSQL" else []
    assert await names(stocked) == ["Jane Austen", *kept]
    async with stocked.shop() as shop:
        shop.authors.add(inside)
        await shop.commit()
    assert "inside" in await names(stocked)


async def test_c8_a_lock_that_is_not_given_can_be_handled_outside(stocked: World) -> None:
    """A lock timeout ends the statement only, on PostgreSQL and MariaDB alike."""
    if stocked.server == "SQLite":
        pytest.skip("a block waits for its lock at its first statement")
    with rival(stocked) as other:
        other.execute(text("UPDATE book SET stock = 3 WHERE id = 1"))
        async with stocked.shop() as shop:
            shop.authors.add(Author(name="before"))
            with pytest.raises(LockTimeoutError):
                async with shop.savepoint():
                    shop.authors.add(Author(name="inside"))
                    await shop.books.for_update().get_one(1)
            shop.authors.add(Author(name="after"))
            await shop.commit()
        other.rollback()

    assert await names(stocked) == ["Jane Austen", "after", "before"]


SLOW = {
    "PostgreSQL": "SELECT pg_sleep(5)",
    "MariaDB": "SELECT SLEEP(5)",
    "SQLite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
}


async def test_c8_a_statement_that_took_too_long_can_be_handled_outside(stocked: World) -> None:
    """The statement timeout of the block ends the statement only."""
    async with stocked.shop().block(timeout=0.3) as shop:
        shop.authors.add(Author(name="before"))
        with pytest.raises(StatementTimeoutError):
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.execute(text(SLOW[stocked.server]).execution_options(fastkit_reads=True))
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(stocked) == ["Jane Austen", "after", "before"]


async def cut_off(world: World, shop: Any) -> None:
    """Let the server end the connection of the block."""
    own_id = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT CONNECTION_ID()"}[world.server]
    kill = {"PostgreSQL": "SELECT pg_terminate_backend({})", "MariaDB": "KILL {}"}[world.server]
    number = await shop.session.scalar(text(own_id).execution_options(fastkit_reads=True))
    with rival(world) as other:
        other.execute(text(kill.format(number)))


@pytest.fixture
def served_by_a_server(stocked: World) -> World:
    """Return a database whose connections can be cut."""
    if stocked.server == "SQLite":
        pytest.skip("SQLite has no server that could go away")
    return stocked


@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c10_a_connection_lost_in_a_savepoint(served_by_a_server: World, before: bool) -> None:
    """No savepoint helps: the commit raises from it, nothing is stored, and the unit's next block works."""
    world = served_by_a_server
    async with world.serving() as shop:
        async with shop:
            if before:
                shop.authors.add(Author(id=10, name="before"))
                await shop.session.flush()
            with pytest.raises(ConnectionLostError):
                async with shop.savepoint():
                    inside = shop.authors.add(Author(id=11, name="inside"))
                    await shop.session.flush()
                    await cut_off(world, shop)
                    await shop.books.all()
            await assert_lost(world, shop, ConnectionLostError)
            await shop.rollback()
        assert world.checked_out == 0
        async with shop.begin():
            shop.authors.add(inside)

    assert await names(world) == ["Jane Austen", "inside"]


async def test_c10_a_connection_lost_in_a_savepoint_and_swallowed(served_by_a_server: World) -> None:
    """Leaving the savepoint tells, and names the transaction, not the savepoint, as what is lost."""
    world = served_by_a_server
    async with world.shop() as shop:
        with pytest.raises(TransactionDoomedError, match="transaction cannot go on") as caught:
            async with shop.savepoint():
                shop.authors.add(Author(id=11, name="inside"))
                await shop.session.flush()
                await cut_off(world, shop)
                with suppress(ConnectionLostError):
                    await shop.books.all()
                await shop.rollback()
        await assert_lost(world, shop, ConnectionLostError)
        await shop.rollback()

    assert isinstance(caught.value.__cause__, ConnectionLostError)
    assert await names(world) == ["Jane Austen"]


async def test_c3_a_connection_that_is_lost_before_the_rollback_to_a_savepoint(served_by_a_server: World) -> None:
    """The original error arrives; the transaction is lost."""
    world = served_by_a_server
    with pytest.raises(TransactionDoomedError, match="transaction cannot go on"):
        async with world.shop().begin() as shop:
            shop.authors.add(Author(id=10, name="before"))
            with pytest.raises(MyError):
                async with shop.savepoint():
                    shop.authors.add(Author(id=11, name="inside"))
                    await shop.session.flush()
                    await cut_off(world, shop)
                    raise MyError

    assert await names(world) == ["Jane Austen"]


async def test_c10_a_connection_that_is_lost_before_the_release(served_by_a_server: World) -> None:
    """Leaving raises; the transaction is lost."""
    world = served_by_a_server
    async with world.shop() as shop:
        shop.authors.add(Author(id=10, name="before"))
        with pytest.raises(ConnectionLostError):
            async with shop.savepoint():
                shop.authors.add(Author(id=11, name="inside"))
                await shop.session.flush()
                await cut_off(world, shop)
        await assert_lost(world, shop, ConnectionLostError)
        await shop.rollback()

    assert await names(world) == ["Jane Austen"]


async def end_by_conflict(shop) -> None:
    await shop.session.execute(text("INSERT OR ROLLBACK INTO author (name) VALUES ('Jane Austen')"))


async def end_by_trigger(shop) -> None:
    await shop.session.execute(
        text(
            "CREATE TEMP TRIGGER cruel BEFORE INSERT ON author WHEN NEW.name = 'cruel' "
            "BEGIN SELECT RAISE(ROLLBACK, 'cruel'); END"
        )
    )
    shop.authors.add(Author(name="cruel"))
    await shop.session.flush()


@ON_SQLITE
@pytest.mark.parametrize("ends", [end_by_conflict, end_by_trigger], ids=lambda function: function.__name__)
@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c10_sqlite_that_ends_the_transaction_by_itself(stocked: World, ends, before: bool) -> None:
    """Its savepoints are gone too: nothing helps, nothing is stored, nothing runs on without a transaction."""
    async with stocked.serving() as shop:
        async with shop:
            if before:
                shop.authors.add(Author(id=10, name="before"))
                await shop.session.flush()
            with pytest.raises(ConstraintError) as caught:
                async with shop.savepoint(), shop.savepoint():
                    inside = shop.authors.add(Author(id=11, name="inside"))
                    await shop.session.flush()
                    await ends(shop)
            await assert_lost(stocked, shop, type(caught.value))
            await shop.rollback()
        assert stocked.checked_out == 0
        async with shop.begin():
            shop.authors.add(inside)

    assert await names(stocked) == ["Jane Austen", "inside"]


@ON_SQLITE
@pytest.mark.parametrize("ends", [end_by_conflict, end_by_trigger], ids=lambda function: function.__name__)
async def test_c10_sqlite_that_ends_the_transaction_is_noticed_at_once(stocked: World, ends) -> None:
    """Inside the savepoint already: leaving it, also by rollback(), is told to be no help."""
    async with stocked.shop() as shop:
        with pytest.raises(TransactionDoomedError, match="transaction cannot go on"):
            async with shop.savepoint():
                with suppress(ConstraintError):
                    await ends(shop)
                await assert_lost(stocked, shop, ConstraintError)
                await shop.rollback()
        await assert_lost(stocked, shop, ConstraintError)
        await shop.rollback()

    assert await names(stocked) == ["Jane Austen"]


@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c3_a_rollback_to_the_savepoint_that_fails(stocked: World, monkeypatch, before: bool) -> None:
    """The original error arrives, as from a block; the transaction is lost, and its connection goes back."""

    def refuse(connection, name) -> None:
        raise RuntimeError("refused")

    mine = MyError("mine")
    async with stocked.serving() as shop:
        async with shop:
            if before:
                shop.authors.add(Author(id=10, name="before"))
                await shop.session.flush()
            monkeypatch.setattr(stocked.sync_engine.dialect, "do_rollback_to_savepoint", refuse)
            with pytest.raises(MyError) as caught:
                async with shop.savepoint():
                    inside = shop.authors.add(Author(id=11, name="inside"))
                    await shop.session.flush()
                    raise mine
            await assert_lost(stocked, shop, Exception)
            await shop.rollback()
        assert stocked.checked_out == 0
        async with shop.begin():
            shop.authors.add(inside)

    assert caught.value is mine
    assert await names(stocked) == ["Jane Austen", "inside"]


@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
async def test_c10_a_release_that_fails(stocked: World, monkeypatch, before: bool) -> None:
    """Its error arrives; whatever can be saved then, nothing of the savepoint is stored."""

    def refuse(connection, name) -> None:
        raise RuntimeError("refused")

    async with stocked.serving() as shop:
        async with shop:
            if before:
                shop.authors.add(Author(id=10, name="before"))
                await shop.session.flush()
            monkeypatch.setattr(stocked.sync_engine.dialect, "do_release_savepoint", refuse)
            with pytest.raises(RuntimeError, match="refused"):
                async with shop.savepoint():
                    shop.after_commit(pytest.fail)
                    inside = shop.authors.add(Author(id=11, name="inside"))
            try:
                await shop.commit()
            except TransactionDoomedError:
                await shop.rollback()
        shop.outcome.raise_hook_errors()
        assert stocked.checked_out == 0
        assert "inside" not in await names(stocked)
        async with shop.begin():
            shop.authors.add(inside)

    assert "inside" in await names(stocked)


# -- C18: hooks


async def test_c18_hooks_of_a_rolled_back_savepoint_never_run(world: World) -> None:
    """Those around it run, in order, and those of a released savepoint too."""
    ran: list[str] = []
    async with world.shop() as shop:
        shop.after_commit(lambda: ran.append("before"))
        with suppress(MyError):
            async with shop.savepoint():
                shop.after_commit(lambda: ran.append("raised"))
                async with shop.savepoint():
                    shop.after_commit(lambda: ran.append("released in raised"))
                raise MyError
        async with shop.savepoint():
            shop.after_commit(lambda: ran.append("released"))
            async with shop.savepoint():
                shop.after_commit(lambda: ran.append("meant"))
                await shop.rollback()
            shop.after_commit(lambda: ran.append("released too"))
        with suppress(TransactionDoomedError):
            async with shop.savepoint():
                shop.after_commit(lambda: ran.append("swallowed"))
                with suppress(MyError):
                    async with shop:
                        raise MyError
        shop.after_commit(lambda: ran.append("after"))
        assert ran == []
        await shop.commit()
        assert ran == ["before", "released", "released too", "after"]

    shop.outcome.raise_hook_errors()


# -- C19: events


@dataclass(frozen=True)
class Wrote:
    """A poet wrote something."""

    what: str


class Poets(DeclarativeBase):
    """A registry beside the bookshop's."""


class Poet(RecordsEvents, Poets):
    """An author who records events; the same table."""

    __table__ = Author.__table__

    def write(self, what: str) -> Poet:
        """Record an event."""
        self.record(Wrote(what))
        return self


@pytest.fixture
def told(world: World) -> list[str]:
    """Give the units of the world handlers; return what they are told, in order."""
    heard: list[str] = []
    handlers = EventHandlers()

    @handlers.before_commit(Wrote)
    def before(event: Wrote, shop: Any) -> None:
        heard.append(f"before: {event.what}")

    @handlers.after_commit(Wrote)
    def after(event: Wrote) -> None:
        heard.append(f"after: {event.what}")

    world.unit = telling(world, handlers)
    return heard


def telling(world: World, handlers: EventHandlers) -> type[Any]:
    """Return the bookshop's unit in the colour of the world, with handlers."""
    return types.new_class("TellingShop", (world.unit,), {"events": handlers})


async def test_c18_events_of_a_rolled_back_savepoint_are_not_told(world: World, told: list[str]) -> None:
    """Those around it are, in order."""
    async with world.shop() as shop:
        poet = Poet(name="Ovid")
        shop.session.add(poet.write("before"))
        with suppress(MyError):
            async with shop.savepoint():
                poet.write("inside")
                await shop.session.flush()
                raise MyError
        async with shop.savepoint():
            poet.write("released")
            async with shop.savepoint():
                poet.write("meant")
                await shop.rollback()
        poet.write("after")
        await shop.commit()

    kept = ["before", "released", "after"]
    assert told == [f"before: {each}" for each in kept] + [f"after: {each}" for each in kept]


async def test_c2_only_events_outside_a_rolled_back_savepoint_count_as_lost(world: World, told: list[str]) -> None:
    """Nothing is told of them, and nobody is asked for a commit."""
    async with world.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                shop.session.add(Poet(name="Ovid").write("inside"))
                raise MyError
    with pytest.raises(UncommittedChangesError, match="1 x Wrote"):
        async with world.shop() as shop:
            poet = Poet(name="Ovid")
            shop.session.add(poet)
            async with shop.savepoint():
                poet.write("released")

    assert told == []


async def test_c19_what_an_added_entity_brought_goes_back_with_it(world: World, told: list[str]) -> None:
    """Added again it is told, once, with what it records in between; what it recorded in the savepoint is not."""
    poet = Poet(name="Ovid").write("own")
    async with world.shop() as shop:
        for _ in range(2):
            with suppress(MyError):
                async with shop.savepoint():
                    shop.session.add(poet)
                    poet.write("inside")
                    await shop.session.flush()
                    raise MyError
        poet.write("in between")
        shop.session.add(poet)
        await shop.commit()

    kept = ["own", "in between"]
    assert told == [f"before: {each}" for each in kept] + [f"after: {each}" for each in kept]


async def test_c19_a_loaded_entity_goes_on_telling_after_a_rolled_back_savepoint(world: World, told: list[str]) -> None:
    """Also if the savepoint was where it was loaded, or deleted."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="Ovid"))
        await shop.commit()
    async with world.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                poet = await shop.session.get(Poet, 1)
                poet.write("inside")
                await shop.session.delete(poet)
                await shop.session.flush()
                raise MyError
        poet.write("after")
        await shop.commit()

    assert told == ["before: after", "after: after"]


async def test_c19_an_entity_attached_in_a_rolled_back_savepoint_goes_on_telling(world: World, told: list[str]) -> None:
    """A detached one stays in the session, so what it records afterwards is told: nothing is lost in silence."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="Ovid"))
        await shop.commit()
    async with world.shop() as shop:
        poet = await shop.session.get(Poet, 1)
    poet.write("brought")
    async with world.shop() as shop:
        with suppress(MyError):
            async with shop.savepoint():
                shop.session.add(poet)
                raise MyError
        shop.session.add(poet)
        poet.write("after")
        await shop.commit()

    assert told == ["before: brought", "before: after", "after: brought", "after: after"]


async def test_c19_a_handler_may_use_savepoints(world: World) -> None:
    """What a handler undoes is not stored, and its events are not told; the commit goes on."""
    heard: list[str] = []
    handlers = EventHandlers()

    @handlers.after_commit(Wrote)
    def after(event: Wrote) -> None:
        heard.append(event.what)

    if world.driver.is_async:

        @handlers.before_commit(Wrote)
        async def handle(event: Wrote, shop: AsyncShop) -> None:
            if event.what == "first":
                with suppress(MyError):
                    async with shop.savepoint():
                        shop.session.add(Poet(id=2, name="not stored").write("not told"))
                        await shop.session.flush()
                        raise MyError
                async with shop.savepoint():
                    shop.session.add(Poet(id=3, name="stored").write("told"))

    else:

        @handlers.before_commit(Wrote)
        def handle(event: Wrote, shop: Shop) -> None:
            if event.what == "first":
                with suppress(MyError), shop.savepoint():
                    shop.session.add(Poet(id=2, name="not stored").write("not told"))
                    shop.session.flush()
                    raise MyError
                with shop.savepoint():
                    shop.session.add(Poet(id=3, name="stored").write("told"))

    world.unit = telling(world, handlers)
    async with world.shop() as shop:
        shop.session.add(Poet(id=1, name="Ovid").write("first"))
        await shop.commit()

    assert heard == ["first", "told"]
    assert await names(world) == ["Ovid", "stored"]


# -- C11, C23: cancellation and deadlines


@pytest.fixture
def cancellable(stocked: World) -> World:
    """Return an async database; a sync one cannot be cancelled."""
    if not stocked.driver.is_async:
        pytest.skip("a thread cannot be cancelled")
    return stocked


async def test_c8_a_cancellation_between_statements_can_be_handled_outside(cancellable: World) -> None:
    """Nothing was cut off: the savepoint is rolled back, and the block goes on."""
    async with cancellable.shop() as shop:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                await asyncio.sleep(60)
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(cancellable) == ["Jane Austen", "after"]


async def slow_statement(world: World, shop: Any) -> None:
    if world.server == "SQLite":
        slow = (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200000) SELECT COUNT(*) FROM n"
        )
    else:
        slow = SLOW[world.server].replace("5", "1")  # as long MariaDB keeps the locks of who does not wait any more
    await shop.session.execute(text(slow).execution_options(fastkit_reads=True))


@pytest.mark.parametrize("before", [True, False], ids=["after writes", "first write"])
@pytest.mark.parametrize("swallowed", [True, False], ids=["swallowed inside", "handled outside"])
async def test_c10_a_statement_cancelled_in_a_savepoint_dooms_all(cancellable: World, before, swallowed) -> None:
    """Nobody knows how far it came: the block cannot go on, and the unit's next one can."""
    async with cancellable.serving() as shop:
        async with shop:
            if before:
                shop.authors.add(Author(id=10, name="before"))
                await shop.session.flush()
            with pytest.raises(TransactionDoomedError if swallowed else TimeoutError):
                async with shop.savepoint():
                    inside = shop.authors.add(Author(id=11, name="inside"))
                    await shop.session.flush()
                    try:
                        async with asyncio.timeout(0.1):
                            await slow_statement(cancellable, shop)
                    except TimeoutError:
                        if not swallowed:
                            raise
            await assert_lost(cancellable, shop, BaseException)
            await shop.rollback()
        assert cancellable.checked_out == 0
        async with shop.begin():
            shop.authors.add(inside)

    assert await names(cancellable) == ["Jane Austen", "inside"]


async def test_c3_a_task_cancelled_in_a_savepoint_rolls_everything_back(cancellable: World) -> None:
    """The cancellation is what the caller sees."""
    shop = cancellable.shop()

    async def work() -> None:
        async with shop.begin():
            shop.authors.add(Author(name="before"))
            async with shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await slow_statement(cancellable, shop)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.15)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert shop.outcome.status is Status.ROLLED_BACK
    assert cancellable.checked_out == 0
    assert await names(cancellable) == ["Jane Austen"]


@contextmanager
def stalling(world: World, monkeypatch, what: str, seconds: float) -> Generator[None]:
    """Let the driver take its time with a statement about savepoints."""
    dialect = world.sync_engine.dialect
    real = getattr(dialect, what)

    def slowly(connection: Any, name: str) -> None:
        await_only(asyncio.sleep(seconds))
        real(connection, name)

    with monkeypatch.context() as patch:
        patch.setattr(dialect, what, slowly)
        yield


async def test_c10_cancelled_while_a_savepoint_is_entered(cancellable: World, monkeypatch) -> None:
    """Its first statement, or the flush before it, was cut off: the block cannot go on."""
    async with cancellable.shop() as shop:
        shop.authors.add(Author(name="before"))
        await shop.session.flush()
        with stalling(cancellable, monkeypatch, "do_savepoint", 60), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), shop.savepoint():
                await shop.books.all()
        await assert_lost(cancellable, shop, BaseException)
        await shop.rollback()

    async with cancellable.shop() as shop:

        def stall(*_: object) -> None:
            await_only(asyncio.sleep(60))

        await shop.books.all()
        shop.authors.add(Author(name="before"))
        event.listen(shop.session.sync_session, "before_flush", stall)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await enter(shop)
        await assert_lost(cancellable, shop, BaseException)
        await shop.rollback()

    assert await names(cancellable) == ["Jane Austen"]


async def test_c11_cancelled_while_a_savepoint_is_released(cancellable: World, monkeypatch) -> None:
    """It is not cut in two; what the cancellation seems to have undone is not stored behind its back."""
    with pytest.raises(TransactionDoomedError):
        async with cancellable.shop() as shop:
            with stalling(cancellable, monkeypatch, "do_release_savepoint", 0.3), pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1), shop.savepoint():
                    shop.authors.add(Author(name="inside"))
            await shop.commit()

    assert await names(cancellable) == ["Jane Austen"]


async def test_c11_cancelled_while_a_savepoint_is_rolled_back(cancellable: World, monkeypatch) -> None:
    """It is not cut in two: the cancellation arrives afterwards, and the block can go on."""
    async with cancellable.shop() as shop:
        with stalling(cancellable, monkeypatch, "do_rollback_to_savepoint", 0.3), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), shop.savepoint():
                shop.authors.add(Author(name="inside"))
                await shop.session.flush()
                raise MyError
        shop.authors.add(Author(name="after"))
        await shop.commit()

    assert await names(cancellable) == ["Jane Austen", "after"]


@pytest.mark.parametrize("raises", [True, False], ids=["rolled back", "released"])
async def test_c11_a_savepoint_whose_end_is_never_answered(cancellable: World, monkeypatch, raises: bool) -> None:
    """At the deadline the block is lost, the outcome known, the pool usable."""
    what = "do_rollback_to_savepoint" if raises else "do_release_savepoint"
    object.__setattr__(cancellable.naked.timeouts, "commit", 0.3)
    async with cancellable.serving() as shop:
        async with shop:
            shop.authors.add(Author(id=10, name="before"))
            with stalling(cancellable, monkeypatch, what, 60):
                with pytest.raises(MyError if raises else StatementTimeoutError):
                    async with asyncio.timeout(5), shop.savepoint():
                        inside = shop.authors.add(Author(id=11, name="inside"))
                        await shop.session.flush()
                        if raises:
                            raise MyError
            await assert_lost(cancellable, shop, BaseException)
            await shop.rollback()
        object.__setattr__(cancellable.naked.timeouts, "commit", 5.0)
        assert shop.outcome.status is Status.ROLLED_BACK
        assert cancellable.checked_out == 0
        async with shop.begin():
            shop.authors.add(inside)

    assert await names(cancellable) == ["Jane Austen", "inside"]


async def keep(shop: AsyncShop) -> None:
    async with shop:
        async with shop.savepoint():
            shop.authors.add(Author(id=77, name="Ovid"))
        await shop.rollback()


async def undo(shop: AsyncShop) -> None:
    async with shop.begin():
        with suppress(MyError):
            async with shop.savepoint():
                shop.authors.add(Author(id=77, name="Ovid"))
                await shop.session.flush()
                raise MyError
        await shop.authors.count()


@pytest.mark.parametrize("body", [keep, undo], ids=lambda function: function.__name__)
async def test_c23_cancelled_at_every_await_of_a_savepoint(cancellable: World, body) -> None:
    """The sweep finds no leaked connection, lost slot, swallowed cancellation or bad pool."""
    only_a_sample(body is keep or cancellable.driver.name == "postgresql+asyncpg")
    url = cancellable.naked.engine.url

    def make_engine() -> Any:
        return AsyncDatabase(url, pool_size=2, timeouts=TIMEOUTS).engine

    async def scenario(engine: Any) -> None:
        async with AsyncShop.serving(AsyncDatabase(engine, timeouts=TIMEOUTS)) as shop:
            await body(shop)

    assert await cancelled_everywhere(make_engine, scenario, cancels=1) == []


# -- what is left of objects


@pytest.mark.parametrize("how", ["flushed", "unflushed", "deleted", "loaded inside"])
async def test_c3_objects_of_a_rolled_back_savepoint_are_as_the_database_has_them(stocked: World, how: str) -> None:
    """Columns and loaded relations can be read at once, in both colours, in the block and after it."""
    async with stocked.shop() as shop:
        emma = await shop.books.with_options(selectinload(Book.reviews), joinedload(Book.author)).get_one(1)
        with suppress(MyError):
            async with shop.savepoint():
                emma.stock, emma.title = 1, "Another"
                if how != "unflushed":
                    await shop.session.flush()
                if how == "deleted":
                    await shop.books.delete(emma)
                    await shop.session.flush()
                if how == "loaded inside":
                    (await shop.books.get_one(2)).stock = 0
                raise MyError

        assert (emma.id, emma.stock, emma.title) == (1, 5, "Emma")
        assert (emma.author.name, emma.reviews) == ("Jane Austen", [])
        assert emma not in shop.session.dirty
        emma.stock = 7
        await shop.commit()

    assert (emma.id, emma.stock, emma.title, emma.author.name) == (1, 7, "Emma", "Jane Austen")
    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 7
        assert (await shop.books.get_one(2)).stock == 5
