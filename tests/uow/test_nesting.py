"""C6, C7, C9, C10: nested blocks join, and a swallowed error can never end in a commit."""

from __future__ import annotations

import pytest
from conftest import World
from sqlalchemy import select, text

from bookshop.models import Author, Book
from fastkit.errors import (
    BlockMismatchError,
    DeclarationError,
    TransactionDoomedError,
    UncommittedChangesError,
    UniqueError,
)
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


async def names(world: World) -> list[str]:
    """Return the names of all stored authors, as another session sees them."""
    async with world.shop() as shop:
        return [author.name for author in await shop.authors.order_by(Author.name).all()]


async def test_c6_a_nested_commit_flushes_only(world: World) -> None:
    """commit() in a nested block gives keys and stores nothing; the outermost one stores."""
    async with world.shop() as shop:
        async with shop:
            author = shop.authors.add(Author(name="Ovid"))
            await shop.commit()
            assert author.id is not None
        assert shop.outcome.status is Status.ACTIVE
        await shop.rollback()

    assert await names(world) == []


async def test_c6_a_nested_begin_flushes_on_a_clean_exit(world: World) -> None:
    """begin() in a nested block flushes at its end; the outermost block is still asked for its commit."""
    with pytest.raises(UncommittedChangesError):
        async with world.shop() as shop:
            async with shop.begin():
                author = shop.authors.add(Author(name="Ovid"))
            assert author.id is not None

    assert await names(world) == []


async def test_c6_constraint_errors_appear_in_the_nested_commit(stocked: World) -> None:
    """A constraint speaks up at the nested commit(), not later."""
    async with stocked.shop() as shop:
        with pytest.raises(UniqueError):
            async with shop:
                shop.authors.add(Author(name="Jane Austen"))
                await shop.commit()


async def test_c6_only_the_outermost_block_is_asked_for_a_commit(world: World) -> None:
    """A nested block may end without commit()."""
    async with world.shop() as shop:
        async with shop:
            shop.authors.add(Author(name="Ovid"))
        await shop.commit()

    assert await names(world) == ["Ovid"]


async def test_c6_a_nested_rollback_dooms(world: World) -> None:
    """rollback() in a nested block makes the commit of the outer one impossible."""
    async with world.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        async with shop:
            await shop.rollback()
        with pytest.raises(TransactionDoomedError) as caught:
            await shop.commit()
        await shop.rollback()

    assert "nested block" in str(caught.value.__cause__)
    assert await names(world) == []


async def test_c7_a_swallowed_exception_of_a_nested_block_dooms(stocked: World) -> None:
    """After it every statement and the commit raise, from the original."""
    mine = ValueError("mine")
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        try:
            async with shop:
                raise mine
        except ValueError:
            pass
        for attempt in (
            shop.books.all,
            lambda: shop.books.get(1),
            lambda: shop.session.execute(select(Book)),
            shop.commit,
        ):
            with pytest.raises(TransactionDoomedError, match="ValueError") as caught:
                await attempt()
            assert caught.value.__cause__ is mine
        with pytest.raises(TransactionDoomedError):
            shop.authors.add(Author(name="Horace"))
        with pytest.raises(TransactionDoomedError):
            async with shop:
                pass
        await shop.rollback()

    assert await names(stocked) == ["Jane Austen"]


async def test_c7_a_doomed_block_left_without_rollback_tells_the_cause(stocked: World) -> None:
    """Leaving a doomed block cleanly with lost work raises from what doomed it."""
    with pytest.raises(UncommittedChangesError) as caught:
        async with stocked.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            with pytest.raises(ValueError, match="mine"):
                async with shop:
                    raise ValueError("mine")

    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({}, {"isolation": "SERIALIZABLE"}),
        ({"isolation": "REPEATABLE READ"}, {"isolation": "SERIALIZABLE"}),
        ({}, {"read_only": True}),
        ({"read_only": True}, {"read_only": False}),
        ({}, {"timeout": 1}),
        ({}, {"durable": True}),
    ],
)
async def test_c9_a_nested_block_cannot_ask_for_something_else(world: World, outer, inner) -> None:
    """What the open transaction is not is refused, never ignored."""
    async with world.shop().block(**outer) as shop:
        with pytest.raises(BlockMismatchError):
            async with shop.block(**inner):
                pass


async def test_c9_a_nested_block_may_ask_for_what_is_given(world: World) -> None:
    """Asking for what the transaction is, or for nothing, joins."""
    async with world.shop().block(isolation="SERIALIZABLE", timeout=2, durable=True) as shop:
        async with shop.block(isolation="SERIALIZABLE", timeout=2, read_only=False):
            async with shop:
                assert await shop.authors.count() == 0


@pytest.mark.parametrize("options", [{"isolation": "CHAOS"}, {"timeout": 0}, {"timeout": -1}, {"timeout": 10**9}])
async def test_unknown_options_are_refused_when_asked_for(world: World, options) -> None:
    """A mode that no database has is told before the block is entered."""
    with pytest.raises(DeclarationError):
        world.shop().block(**options)


async def failing_statement(shop) -> None:
    await shop.session.execute(text("SELECT * FROM no_such_table"))


async def failing_flush(shop) -> None:
    shop.authors.add(Author(name="Jane Austen"))
    await shop.session.flush()


async def failing_binding(shop) -> None:
    shop.books.add(Book(title=object()))
    await shop.session.flush()


async def failing_on_the_connection(shop) -> None:
    connection = await shop.session.connection() if hasattr(shop.session.connection, "__await__") else None
    connection = connection or shop.session.connection()
    if hasattr(connection, "__await__"):
        connection = await connection
    result = connection.execute(text("SELECT * FROM no_such_table"))
    if hasattr(result, "__await__"):
        await result


@pytest.mark.parametrize(
    "fail", [failing_statement, failing_flush, failing_binding, failing_on_the_connection], ids=lambda f: f.__name__
)
async def test_c10_a_swallowed_database_error_can_never_be_committed(stocked: World, fail) -> None:
    """On every database alike, whatever way the statement took."""
    async with stocked.shop() as shop:
        shop.authors.add(Author(name="Ovid"))
        await shop.session.flush()
        error: BaseException | None = None
        try:
            await fail(shop)
        except Exception as swallowed:
            error = swallowed

        assert error is not None
        with pytest.raises(TransactionDoomedError) as caught:
            await shop.commit()
        assert caught.value.__cause__ is not None
        await shop.rollback()

    assert await names(stocked) == ["Jane Austen"]


async def test_c10_a_doomed_begin_of_a_request_gives_its_connection_back(stocked: World) -> None:
    """A unit that lives on after the block has no transaction left, and can open the next one."""
    async with stocked.serving() as shop:
        with pytest.raises(TransactionDoomedError):
            async with shop.begin():
                shop.authors.add(Author(name="Ovid"))
                await shop.session.flush()
                with pytest.raises(Exception, match="no_such_table"):
                    await failing_statement(shop)
        assert stocked.checked_out == 0
        assert shop.outcome.status is Status.ROLLED_BACK
        async with shop.begin():
            shop.authors.add(Author(name="Horace"))

    assert await names(stocked) == ["Horace", "Jane Austen"]


async def test_c10_begin_does_not_commit_over_a_swallowed_error(stocked: World) -> None:
    """A block that commits by itself raises too, and stores nothing."""
    with pytest.raises(TransactionDoomedError):
        async with stocked.shop().begin() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            with pytest.raises(Exception, match="no_such_table"):
                await failing_statement(shop)

    assert await names(stocked) == ["Jane Austen"]
