"""Pages of a repository: a total order, a total that is right, and every row exactly once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import World, book
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from repository.scenes import ON_SQLITE, PLACES, meanwhile, recorded, scene
from sqlalchemy.orm import joinedload, selectinload, with_loader_criteria

from bookshop.models import Author, Base, Book, Customer, Review
from fastkit.pages import Page, PageQuery

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shelf(world: World) -> World:
    """Return a database with five books, four of them of the same year."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="Jane Austen"))
        for key in (3, 1, 5, 2, 4):
            shop.books.add(book(key, f"Volume {key}", author_id=1, year=1800 if key == 4 else 1815))
        await shop.commit()
    return world


def keys(page: Page[Book]) -> list[int]:
    """Return the keys of the books on a page."""
    return [entity.id for entity in page.items]


class TestPage:
    """`page`."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_page_holds_its_rows_and_the_total(self, shelf: World, place: str) -> None:
        """A page in the middle knows what it is."""
        async with scene(shelf, place) as at:
            page = await at.shop.books.page(PageQuery(page=2, size=2))

            assert isinstance(page, Page)
            assert (keys(page), page.total, page.page, page.size) == ([3, 4], 5, 2, 2)
            assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    async def test_the_last_page_may_be_short(self, shelf: World, place: str) -> None:
        """What is left is on the last page."""
        async with scene(shelf, place) as at:
            page = await at.shop.books.page(PageQuery(page=3, size=2))

            assert (keys(page), page.total) == ([5], 5)
            assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("number", [4, 1_000_000_000])
    async def test_beyond_the_end_the_total_is_right(self, shelf: World, place: str, number: int) -> None:
        """An empty page, the same total, and no error."""
        async with scene(shelf, place) as at:
            page = await at.shop.books.page(PageQuery(page=number, size=2))

            assert (keys(page), page.total, page.page) == ([], 5, number)
            assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_page_of_an_empty_table_is_empty(self, world: World, place: str) -> None:
        """No rows, no error."""
        async with scene(world, place) as at:
            page = await at.shop.books.page(PageQuery())

            assert (list(page.items), page.total, page.page, page.size) == ([], 0, 1, 20)
            assert at.settled

    async def test_a_page_that_is_exactly_full_has_no_empty_successor_row(self, shelf: World) -> None:
        """The boundary: the offset equals the total."""
        async with shelf.shop() as shop:
            full = await shop.books.page(PageQuery(page=1, size=5))
            after = await shop.books.page(PageQuery(page=2, size=5))

        assert keys(full) == [1, 2, 3, 4, 5]
        assert (keys(after), after.total) == ([], 5)

    async def test_the_total_counts_what_the_criteria_match(self, shelf: World) -> None:
        """Criteria narrow the rows and the total alike."""
        async with shelf.shop() as shop:
            page = await shop.books.page(PageQuery(size=3), Book.year == 1815, Book.id > 1)

        assert (keys(page), page.total) == ([2, 3, 5], 3)

    async def test_a_size_beyond_the_bounds_of_clients_is_for_code(self, shelf: World) -> None:
        """Code may ask for more than a client."""
        async with shelf.shop() as shop:
            page = await shop.books.page(PageQuery.model_construct(size=5000))

        assert (len(page.items), page.size) == (5, 5000)

    @ON_SQLITE
    async def test_a_python_value_is_no_criterion(self, shelf: World) -> None:
        """A page refuses what the other verbs refuse, and gives its connection back."""
        async with shelf.serving() as shop:
            with pytest.raises(TypeError, match="Is it a comparison on an object"):
                await shop.books.page(PageQuery(), True)
            with pytest.raises(TypeError):
                await shop.books.page(PageQuery(), title="Volume 1")

            assert shelf.checked_out == 0

    async def test_the_total_counts_objects_and_not_joined_rows(self, shelf: World) -> None:
        """A joined collection multiplies rows, but neither the page nor its total."""
        await reviewed(shelf)
        for option in (joinedload(Book.reviews), selectinload(Book.reviews)):
            async with shelf.shop() as shop:
                page = await shop.books.with_options(option).page(PageQuery(size=2))

            assert (keys(page), page.total) == ([1, 2], 5)
            assert [len(entity.reviews) for entity in page.items] == [2, 0]

    async def test_criteria_in_the_options_count_as_well(self, shelf: World) -> None:
        """`with_loader_criteria`, as soft deletion uses it, narrows the rows, so it must narrow the total."""
        view = with_loader_criteria(Book, Book.year == 1815)
        async with shelf.shop() as shop:
            books = shop.books.with_options(view)
            page = await books.page(PageQuery(size=2))
            told = (await books.count(), await books.exists(Book.id == 4))

        assert (keys(page), page.total) == ([1, 2], 4)
        assert told == (4, False)

    async def test_outside_a_block_both_statements_are_of_one_moment(self, shelf: World) -> None:
        """Rows that somebody deletes between the two statements are counted and listed, or neither."""
        table = Base.metadata.tables["book"]
        with meanwhile(shelf, "FROM book", lambda other: other.execute(table.delete())) as done:
            async with shelf.serving() as shop:
                page = await shop.books.page(PageQuery(size=2))
                after = await shop.books.page(PageQuery(size=2))

        assert done
        assert (len(page.items), page.total) == (2, 5)
        assert (len(after.items), after.total) == (0, 0)


class TestOrder:
    """Offset pages are only right in a total order."""

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ((), [1, 2, 3, 4, 5]),
            ((Book.year,), [4, 1, 2, 3, 5]),
            ((Book.year.desc(),), [1, 2, 3, 5, 4]),
            ((Book.year, Book.id.desc()), [4, 5, 3, 2, 1]),
            ((Book.language,), [1, 2, 3, 4, 5]),
        ],
        ids=["none", "ties", "descending", "key-named", "all-tied"],
    )
    async def test_ties_follow_in_the_order_of_the_key(
        self, shelf: World, order: tuple[Any, ...], expected: list[int]
    ) -> None:
        """Rows that are equal for the sort keys have an order of their own."""
        async with shelf.shop() as shop:
            books = shop.books.order_by(*order)
            walked = [key for number in (1, 2, 3) for key in keys(await books.page(PageQuery(page=number, size=2)))]

        assert walked == expected

    async def test_the_statement_of_every_page_ends_its_order_with_the_key(self, shelf: World) -> None:
        """What a small table shows by luck is in the statement."""
        async with shelf.shop() as shop:
            with recorded(shelf) as sent:
                await shop.books.page(PageQuery(size=2))
                await shop.books.order_by(Book.year).page(PageQuery(size=2))
                await shop.books.order_by(Book.year).first()
                await shop.books.order_by(Book.year).all()
                await shop.lines.first()

        orders = [" ".join(each.split("ORDER BY ")[1].split("LIMIT")[0].split()) for each in sent if "ORDER BY" in each]
        assert orders == [
            "book.id",
            "book.year, book.id",
            "book.year, book.id",
            "book.year, book.id",
            "order_line.order_id, order_line.book_id",
        ]


ORDERS: dict[str, tuple[tuple[Any, ...], Callable[[Book], Any]]] = {
    "none": ((), lambda entity: entity.id),
    "year": ((Book.year,), lambda entity: (entity.year, entity.id)),
    "year down": ((Book.year.desc(),), lambda entity: (-entity.year, entity.id)),
    "stock, year down": ((Book.stock, Book.year.desc()), lambda entity: (entity.stock, -entity.year, entity.id)),
    "parity": ((Book.stock % 2,), lambda entity: (entity.stock % 2, entity.id)),
}


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.tuples(st.integers(1, 1000), st.integers(1800, 1802), st.integers(0, 3)), max_size=20),
    order=st.sampled_from(sorted(ORDERS)),
    size=st.integers(1, 7),
)
async def test_all_pages_together_give_every_row_once(
    world: World, rows: list[tuple[int, int, int]], order: str, size: int
) -> None:
    """Walking the pages gives every row exactly once, in order, whatever the data, the sort keys and the size."""
    by_key = {key: (year, stock) for key, year, stock in rows}
    sort_keys, expected_order = ORDERS[order]
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="Jane Austen"))
        shop.books.add_all(
            book(key, f"Volume {key}", author_id=1, year=year, stock=stock) for key, (year, stock) in by_key.items()
        )
        view = shop.books.order_by(*sort_keys)
        pages = [await view.page(PageQuery(page=number, size=size)) for number in range(1, len(by_key) // size + 3)]
        await shop.rollback()

    walked = [entity for page in pages for entity in page.items]
    assert sorted(entity.id for entity in walked) == sorted(by_key)
    assert walked == sorted(walked, key=expected_order)
    assert {page.total for page in pages} == {len(by_key)}
    assert all(len(page.items) == size for page in pages[: len(by_key) // size])
    assert not pages[-1].items


async def reviewed(world: World) -> None:
    """Give book 1 two reviews."""
    async with world.shop() as shop:
        for key in (1, 2):
            shop.customers.add(Customer(id=key, name=f"Customer {key}", email=f"{key}@example.org"))
        await shop.commit()
    async with world.shop() as shop:
        shop.reviews.add_all(Review(id=key, book_id=1, customer_id=key, stars=5, text="!") for key in (1, 2))
        await shop.commit()
