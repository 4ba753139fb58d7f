"""Services: use cases that work the same in a script, in a request and in a test."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import AsyncShop, World, book

from bookshop.models import Book
from fastkit.errors import NotFoundError, RulesBrokenError, TransactionDoomedError, UncommittedChangesError
from fastkit.service import Service, rules
from fastkit.uow import Status

pytestmark = pytest.mark.anyio


class Restock(Service[AsyncShop]):
    """Fetch, validate, change, save."""

    async def __call__(self, book_id: int, copies: int) -> Book:
        """Put more copies on the shelf."""
        async with self.uow as shop:
            found = await shop.books.for_update().get_one(book_id)
            with rules() as rule:
                rule(copies > 0, "must be positive", at="copies")
            found.stock += copies
            await shop.commit()
            return found


class Rename(Service[AsyncShop]):
    """A service that calls another one."""

    async def __call__(self, book_id: int, title: str) -> None:
        """Give a book another title and put a copy of it on the shelf."""
        async with self.uow as shop:
            await Restock(self.uow)(book_id, 1)
            (await shop.books.get_one(book_id)).title = title
            await shop.commit()


async def stock(world: World) -> int:
    """Return how many copies of book 1 are stored."""
    async with world.shop() as shop:
        found: int = (await shop.books.get_one(1)).stock
        return found


async def test_a_service_works_with_a_unit_made_by_hand(stocked: World) -> None:
    """The unit is the service's own; its block is the outermost and its commit is real."""
    shop = stocked.shop()
    found = await Restock(shop)(1, 5)

    assert found.stock == 10
    assert shop.outcome.status is Status.COMMITTED
    assert await stock(stocked) == 10
    assert stocked.checked_out == 0


async def test_a_service_works_in_a_served_unit_more_than_once(stocked: World) -> None:
    """As in a request: one block after the other."""
    async with stocked.serving() as shop:
        await Restock(shop)(1, 5)
        await Restock(shop)(1, 5)

    assert await stock(stocked) == 15


async def test_a_block_of_a_service_joins_the_one_that_is_open(stocked: World) -> None:
    """Its commit flushes; the outer block decides."""
    async with stocked.shop() as shop:
        found = await Restock(shop)(1, 5)
        nested = found.stock, shop.outcome.status
        await shop.rollback()

    assert nested == (10, Status.ACTIVE)
    assert await stock(stocked) == 5


async def test_the_script_that_forgets_to_commit_is_told(stocked: World) -> None:
    """A service in an open block commits nothing by itself, and nothing is lost in silence."""
    with pytest.raises(UncommittedChangesError, match="Book"):
        async with stocked.shop() as shop:
            await Restock(shop)(1, 5)

    assert await stock(stocked) == 5


async def test_services_call_services(stocked: World) -> None:
    """All of it is one transaction."""
    async with stocked.serving() as shop:
        await Rename(shop)(1, "Emma, revised")

    async with stocked.shop() as other:
        found = await other.books.get_one(1)
    assert (found.title, found.stock) == ("Emma, revised", 6)


async def test_broken_rules_leave_nothing_behind(stocked: World) -> None:
    """The error leaves the service, its block rolls back."""
    async with stocked.serving() as shop:
        with pytest.raises(RulesBrokenError, match="must be positive"):
            await Restock(shop)(1, 0)

        assert shop.outcome.status is Status.ROLLED_BACK
        assert stocked.checked_out == 0
    assert await stock(stocked) == 5


async def test_a_swallowed_error_of_a_nested_service_dooms_the_outer_block(stocked: World) -> None:
    """Half of a use case is never stored."""
    async with stocked.serving() as shop:
        with pytest.raises(TransactionDoomedError) as caught:
            async with shop:
                shop.books.add(book(3, "Sanditon", author_id=1))
                with pytest.raises(NotFoundError):
                    await Restock(shop)(99, 1)
                await shop.commit()

        assert isinstance(caught.value.__cause__, NotFoundError)
    async with stocked.shop() as other:
        assert await other.books.count() == 2


def test_a_service_keeps_what_it_was_given() -> None:
    """It holds its unit and nothing else, so a test may give it a fake."""
    unit: Any = object()

    assert vars(Service(unit)) == {"uow": unit}
