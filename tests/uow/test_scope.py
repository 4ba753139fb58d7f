"""C1 to C5: what a block keeps, what it tells, when it holds a connection."""

from __future__ import annotations

import asyncio
import gc

import pytest
from conftest import World
from sqlalchemy import delete, event, insert, select, text, update
from sqlalchemy.orm import joinedload

from bookshop.models import Author, Book
from fastkit.database import READS
from fastkit.errors import (
    OutsideBlockError,
    UncommittedChangesError,
    UnitClosedError,
    UnitOfWorkError,
)
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


async def names(world: World) -> list[str]:
    """Return the names of all stored authors, as another session sees them."""
    async with world.shop() as shop:
        return [author.name for author in await shop.authors.order_by(Author.name).all()]


async def test_c1_commit_stores(world: World) -> None:
    """What was added before commit() is stored."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        await shop.commit()

    assert await names(world) == ["Ovid"]
    assert shop.outcome.status is Status.COMMITTED


async def test_c1_rollback_leaves_nothing(world: World) -> None:
    """An explicit rollback() leaves nothing behind and is no error."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        await shop.rollback()

    assert await names(world) == []
    assert shop.outcome.status is Status.ROLLED_BACK


async def test_c1_begin_commits_on_a_clean_exit(world: World) -> None:
    """begin() is a block that commits by itself."""
    async with world.shop().begin() as shop:
        shop.authors.add(Author(name="Ovid"))

    assert await names(world) == ["Ovid"]


async def test_c1_begin_rolls_back_on_an_exception(world: World) -> None:
    """begin() stores nothing if its body fails."""
    with pytest.raises(ZeroDivisionError):
        async with world.shop().begin() as shop:
            shop.authors.add(Author(name="Ovid"))
            raise ZeroDivisionError

    assert await names(world) == []
    assert shop.outcome.status is Status.ROLLED_BACK


async def test_c1_commit_ends_the_block(stocked: World) -> None:
    """After commit() the connection is back, reads go on outside a block, writes raise."""
    async with stocked.shop() as shop:
        (await shop.books.get_one(1)).stock = 3
        await shop.commit()

        assert stocked.checked_out == 0
        assert (await shop.books.get_one(2)).title == "Persuasion"
        assert stocked.checked_out == 0
        with pytest.raises(OutsideBlockError):
            shop.authors.add(Author(name="Ovid"))
        with pytest.raises(OutsideBlockError, match="already ended"):
            await shop.commit()
        with pytest.raises(OutsideBlockError, match="leave its `with`"):
            async with shop:
                pass


async def lose_added(shop) -> None:
    shop.authors.add(Author(name="Ovid"))


async def lose_flushed(shop) -> None:
    shop.authors.add(Author(name="Ovid"))
    await shop.session.flush()


async def lose_changed(shop) -> None:
    (await shop.books.get_one(1)).stock = 99


async def lose_deleted(shop) -> None:
    await shop.books.delete(await shop.books.get_one(1))


async def lose_core_insert(shop) -> None:
    await shop.session.execute(insert(Author.__table__).values(name="Ovid"))


async def lose_orm_update(shop) -> None:
    await shop.session.execute(update(Book).values(stock=0))


async def lose_orm_delete(shop) -> None:
    await shop.session.execute(delete(Book).where(Book.id == 1))


async def lose_text(shop) -> None:
    await shop.session.execute(text("UPDATE book SET stock = 0"))


async def lose_textual_select(shop) -> None:
    await shop.session.execute(select(Book).from_statement(text("SELECT * FROM book")))


LOSSES = {
    lose_added: "1 x Author",
    lose_flushed: "1 x added Author",
    lose_changed: "1 x Book",
    lose_deleted: "1 x Book",
    lose_core_insert: "1 x statement INSERT author",
    lose_orm_update: "1 x statement UPDATE book",
    lose_orm_delete: "1 x statement DELETE book",
    lose_text: "1 x textual statement",
    lose_textual_select: "1 x textual statement",
}


@pytest.mark.parametrize(("lose", "told"), LOSSES.items(), ids=lambda value: getattr(value, "__name__", ""))
async def test_c2_forgotten_commit_is_told(stocked: World, lose, told: str) -> None:
    """Leaving a block with unsaved work raises, says what it was, and stores nothing."""
    before = await names(stocked)

    with pytest.raises(UncommittedChangesError, match=told) as caught:
        async with stocked.shop() as shop:
            await lose(shop)

    assert "commit()" in str(caught.value)
    assert await names(stocked) == before
    async with stocked.shop() as shop:
        assert [b.stock for b in await shop.books.all()] == [5, 5]


async def test_c2_objects_are_on_the_error(stocked: World) -> None:
    """The error carries the objects that would have been lost, flushed or not."""
    with pytest.raises(UncommittedChangesError) as caught:
        async with stocked.shop() as shop:
            flushed = shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            pending = shop.authors.add(Author(name="Horace"))

    assert {id(entity) for entity in caught.value.objects} == {id(flushed), id(pending)}
    assert flushed.name == "Ovid"


async def lose_nothing_by_reading(shop) -> None:
    await shop.books.all()


async def lose_nothing_by_an_equal_value(shop) -> None:
    (await shop.books.get_one(1)).stock = 5


async def lose_nothing_by_an_equal_value_flushed(shop) -> None:
    (await shop.books.get_one(1)).stock = 5
    await shop.session.flush()


async def lose_nothing_by_a_marked_text(shop) -> None:
    await shop.session.execute(text("SELECT 1").execution_options(**{READS: True}))
    await shop.session.execute(text("SELECT 1"), execution_options={READS: True})


async def lose_nothing_by_nothing(shop) -> None:
    pass


@pytest.mark.parametrize(
    "body",
    [
        lose_nothing_by_nothing,
        lose_nothing_by_reading,
        lose_nothing_by_an_equal_value,
        lose_nothing_by_an_equal_value_flushed,
        lose_nothing_by_a_marked_text,
    ],
)
async def test_c2_a_block_that_changed_nothing_needs_no_commit(stocked: World, body) -> None:
    """Reading, or setting a value to what it is, loses nothing."""
    async with stocked.shop() as shop:
        await body(shop)

    assert shop.outcome.status is Status.ROLLED_BACK


@pytest.mark.parametrize("call", ["commit", "rollback", "close", "begin"])
async def test_c2_the_session_points_to_the_unit(world: World, call: str) -> None:
    """The session of a unit cannot be ended behind its back."""
    async with world.shop() as shop:
        with pytest.raises(UnitOfWorkError, match=r"(shop|block)"):
            result = getattr(shop.session, call)()
            await (result.__aenter__() if call == "begin" else result)


class Odd(BaseException):
    """Neither an Exception nor a cancellation."""


@pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError(), KeyboardInterrupt(), Odd()])
async def test_c3_every_exception_rolls_back_and_propagates(stocked: World, error: BaseException) -> None:
    """Whatever leaves the block rolls it back and arrives unchanged."""
    with pytest.raises(type(error)) as caught:
        async with stocked.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            raise error

    assert caught.value is error
    assert await names(stocked) == ["Jane Austen"]
    assert shop.outcome.status is Status.ROLLED_BACK


async def test_c3_objects_keep_their_values_after_a_rollback(stocked: World) -> None:
    """Rolled-back objects are detached with the values that they had: read, changed, added and deleted ones."""
    async with stocked.shop() as shop:
        read = await shop.books.with_options(joinedload(Book.author)).get_one(1)
        deleted = await shop.books.get_one(2)
        read.stock = 77
        added = shop.authors.add(Author(name="Ovid"))
        await shop.books.delete(deleted)
        await shop.session.flush()
        await shop.rollback()

    assert (read.title, read.stock, read.author.name) == ("Emma", 77, "Jane Austen")
    assert (deleted.title, added.name) == ("Persuasion", "Ovid")


async def test_c3_objects_keep_their_values_after_a_failed_flush(stocked: World) -> None:
    """A constraint error at flush does not take the values away either."""
    with pytest.raises(Exception, match="name"):
        async with stocked.shop() as shop:
            read = await shop.books.get_one(1)
            read.stock = 77
            twin = shop.authors.add(Author(name="Jane Austen"))
            await shop.session.flush()

    assert (read.title, read.stock, twin.name) == ("Emma", 77, "Jane Austen")


async def test_c3_an_object_of_a_rolled_back_block_can_be_added_again(world: World) -> None:
    """An INSERT that was rolled back is sent again by the next unit, not silently taken for done."""
    author = Author(name="Ovid")
    async with world.shop() as shop:
        shop.authors.add(author)
        await shop.session.flush()
        await shop.rollback()

    async with world.shop() as shop:
        shop.authors.add(author)
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c3_a_failing_rollback_does_not_hide_the_cause(world: World, caplog, monkeypatch) -> None:
    """If the rollback fails too, the original error arrives, with a note, and the failure is logged."""
    from fastkit.database import GuardedSession

    def fail(session) -> None:
        session.close_for_good(lambda: "gone")
        raise ConnectionError("gone")

    monkeypatch.setattr(GuardedSession, "rollback_open", fail)

    with pytest.raises(ValueError, match="mine") as caught:
        async with world.shop() as shop:
            await shop.authors.all()
            raise ValueError("mine")

    assert any("rollback failed" in note for note in caught.value.__notes__)
    assert isinstance(caught.value.__context__, ConnectionError)
    assert "rollback" in caplog.text


async def test_c3_objects_keep_their_values_when_the_rollback_itself_fails(stocked: World) -> None:
    """A ROLLBACK that fails is logged; the objects are usable, the connection is gone from use, nothing was stored."""
    broken: list[bool] = []

    def fail(connection) -> None:
        if not broken:
            broken.append(True)
            raise RuntimeError("no rollback")

    event.listen(stocked.sync_engine, "rollback", fail)
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        emma.stock = 77
        await shop.session.flush()
        await shop.rollback()

    assert (emma.title, emma.stock) == ("Emma", 77)
    assert broken
    assert stocked.checked_out == 0
    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 5


async def test_c4_no_connection_before_the_first_statement(world: World) -> None:
    """Opening a block and adding objects take no connection; the first statement does."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        assert world.checked_out == 0

        await shop.session.flush()
        assert world.checked_out == 1

        await shop.commit()
        assert world.checked_out == 0


async def test_c4_an_untouched_unit_sends_nothing(world: World) -> None:
    """A block without a statement costs no connection, also when it commits."""
    async with world.shop() as shop:
        await shop.commit()

    assert shop.outcome.status is Status.COMMITTED
    assert world.naked.engine.pool.checkedin() == 0


async def add(shop) -> None:
    shop.authors.add(Author(name="Ovid"))


async def add_all(shop) -> None:
    shop.authors.add_all([Author(name="Ovid")])


async def delete_object(shop) -> None:
    await shop.books.delete(await shop.books.get_one(1))


async def merge(shop) -> None:
    await shop.session.merge(Author(id=1, name="Ovid"))


async def core_update(shop) -> None:
    await shop.session.execute(update(Book).values(stock=0))


async def textual(shop) -> None:
    await shop.session.execute(text("UPDATE book SET stock = 0"))


async def flush_changed(shop) -> None:
    found = await shop.books.get_one(1)
    found.stock = 0
    try:
        await shop.session.flush()
    finally:
        found.stock = 5


@pytest.mark.parametrize("write", [add, add_all, delete_object, merge, core_update, textual, flush_changed])
async def test_c5_writes_need_an_open_block(stocked: World, write) -> None:
    """Outside a block each way to write raises, and says how to open one."""
    async with stocked.serving() as shop:
        with pytest.raises(OutsideBlockError, match="async with shop"):
            await write(shop)

    async with stocked.shop() as shop:
        assert [b.stock for b in await shop.books.all()] == [5, 5]


async def test_c5_reads_outside_a_block_are_complete(stocked: World) -> None:
    """After each read, of whatever kind, the connection is back and the objects are usable."""
    async with stocked.serving() as shop:
        found = await shop.books.with_options(joinedload(Book.author)).order_by(Book.id).all()
        assert stocked.checked_out == 0
        via_session = (await shop.session.scalars(select(Book).order_by(Book.id))).all()
        assert stocked.checked_out == 0
        assert await shop.session.scalar(select(Book.title).where(Book.id == 2)) == "Persuasion"
        assert (await shop.session.get(Book, 1)) is found[0]
        assert stocked.checked_out == 0

    assert [b.title for b in via_session] == ["Emma", "Persuasion"]
    assert found[0].author.name == "Jane Austen"


async def test_c5_loaded_objects_stay_attached_over_blocks(stocked: World) -> None:
    """An object read outside a block is changed and saved inside one; identity is kept."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        async with shop:
            emma.stock = 4
            await shop.commit()
        async with shop:
            assert await shop.books.get_one(1) is emma
            emma.stock = 3
            await shop.commit()

    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 3


async def set_stock(world: World, stock: int) -> None:
    async with world.shop() as other:
        (await other.books.get_one(1)).stock = stock
        await other.commit()


@pytest.mark.parametrize("how", ["get", "get_one", "all", "one", "session_get", "session_scalars", "page"])
async def test_c5_first_read_inside_a_block_refreshes(stocked: World, how: str) -> None:
    """What was loaded before the block is read afresh by the first read inside it."""
    from fastkit.pages import PageQuery

    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        await set_stock(stocked, 42)
        async with shop:
            match how:
                case "get" | "get_one":
                    await getattr(shop.books, how)(1)
                case "all" | "one":
                    await getattr(shop.books, how)(Book.id == 1)
                case "page":
                    await shop.books.page(PageQuery())
                case "session_get":
                    await shop.session.get(Book, 1)
                case "session_scalars":
                    (await shop.session.scalars(select(Book))).all()

            assert emma.stock == 42


async def test_c5_what_the_block_does_not_read_keeps_its_values(stocked: World) -> None:
    """An object that was loaded before the block, and is not read in it, stays as it is: nothing is expired."""
    async with stocked.serving() as shop:
        emma, persuasion = await shop.books.order_by(Book.id).all()
        async with shop:
            await shop.books.all(Book.id == 1)
            await shop.books.count()

            assert (persuasion.title, persuasion.stock) == ("Persuasion", 5)
            assert (emma.title, emma.stock) == ("Emma", 5)


async def test_c5_a_refresh_keeps_what_the_block_changed(stocked: World) -> None:
    """A change made in the block before the read is not overwritten by it."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        async with shop:
            emma.title = "Emma, revised"
            assert await shop.books.get_one(1) is emma
            await shop.books.all()

            assert emma.title == "Emma, revised"
            await shop.commit()

    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).title == "Emma, revised"


async def test_c5_changes_made_outside_a_block_are_told_when_one_opens(stocked: World) -> None:
    """A change made while no block was open cannot slip into the next one."""
    with pytest.raises(UncommittedChangesError, match="1 x Book"):
        async with stocked.serving() as shop:
            (await shop.books.get_one(1)).stock = 0
            async with shop:
                pass


async def test_c5_changes_made_outside_a_block_are_told_when_the_owner_ends(stocked: World) -> None:
    """A change made outside any block is not lost in silence when the request ends."""
    with pytest.raises(UncommittedChangesError, match="while no block was open"):
        async with stocked.serving() as shop:
            (await shop.books.get_one(1)).stock = 0


async def test_c5_changes_made_after_commit_are_told(stocked: World) -> None:
    """A change between commit() and the end of the `with` is told too."""
    with pytest.raises(UncommittedChangesError, match="1 x Book"):
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            await shop.commit()
            emma.stock = 0


async def test_c5_an_exception_goes_before_the_complaint(stocked: World) -> None:
    """Unsaved changes do not hide the exception that ended the request."""
    with pytest.raises(ZeroDivisionError):
        async with stocked.serving() as shop:
            (await shop.books.get_one(1)).stock = 0
            raise ZeroDivisionError


async def test_c5_a_unit_made_by_hand_serves_one_block(world: World) -> None:
    """Use before the block, after it, and a second entry raise, and say what to do."""
    shop = world.shop()
    with pytest.raises(UnitClosedError, match="not opened yet"):
        await shop.authors.all()
    with pytest.raises(UnitClosedError, match="not opened yet"):
        await shop.commit()
    async with shop:
        authors = shop.authors

    with pytest.raises(UnitClosedError, match="make a new one"):
        await authors.all()
    with pytest.raises(UnitClosedError, match="make a new one"):
        authors.add(Author(name="Ovid"))
    with pytest.raises(UnitClosedError, match="make a new one"):
        _ = shop.session
    with pytest.raises(UnitClosedError, match="make a new one"):
        async with shop:
            pass


async def test_c5_a_served_unit_refuses_use_after_its_owner_ended(world: World) -> None:
    """After the request its unit, and repositories taken from it, refuse all use."""
    async with world.serving() as shop:
        authors = shop.authors

    with pytest.raises(UnitClosedError, match="unit_factory"):
        await authors.all()
    with pytest.raises(UnitClosedError):
        _ = shop.books


async def test_a_unit_keeps_no_object_alive(world: World) -> None:
    """Flushed objects can be forgotten before the block ends, so a large import needs no large memory."""
    import weakref

    async with world.shop() as shop:
        author = Author(name="Ovid")
        shop.authors.add(author)
        await shop.session.flush()
        gone = weakref.ref(author)
        del author
        gc.collect()

        assert gone() is None
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_repr_tells_phase_and_outcome(world: World) -> None:
    """The representation of a unit helps in a debugger."""
    async with world.shop() as shop:
        assert "open, outcome active" in repr(shop)

    assert "closed, outcome rolled back" in repr(shop)


async def test_c2_a_select_that_writes_is_a_write(world: World) -> None:
    """A common table expression that inserts needs a block, and is told when its commit is forgotten."""
    if world.server != "PostgreSQL":
        pytest.skip("only PostgreSQL has such statements")
    added = insert(Author).values(name="Ovid").returning(Author.id).cte("added")
    async with world.serving() as shop:
        with pytest.raises(OutsideBlockError, match="common table expression"):
            await shop.session.execute(select(added.c.id))
    with pytest.raises(UncommittedChangesError, match="SELECT that writes"):
        async with world.shop() as shop:
            await shop.session.execute(select(added.c.id))

    assert await names(world) == []


async def test_c5_a_stream_outside_a_block_is_a_complete_read(stocked: World) -> None:
    """session.stream() outside a block works, and its connection is back before the first row is looked at."""
    if not stocked.driver.is_async:
        pytest.skip("streams are async")
    async with stocked.serving() as shop:
        result = await shop.session.stream_scalars(select(Book.title).order_by(Book.id))
        assert stocked.checked_out == 0

        assert [title async for title in result] == ["Emma", "Persuasion"]
