"""C25: how many statements each verb sends, counted where they reach the driver."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import World
from repository.scenes import PLACES, recorded, scene
from sqlalchemy.orm import joinedload, selectinload

from bookshop.models import Author, Book, Customer
from fastkit.pages import PageQuery, WindowQuery

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("verb", "arguments", "budget"),
    [
        ("get", (1,), 1),
        ("get", (99,), 1),
        ("get", (None,), 0),
        ("get_one", (1,), 1),
        ("one", (Book.id == 1,), 1),
        ("first", (), 1),
        ("all", (), 1),
        ("count", (), 1),
        ("exists", (), 1),
        ("page", (PageQuery(size=1),), 2),
        ("page", (PageQuery(page=99),), 2),
        ("page", (PageQuery(),), 1),  # it has room left, so it tells the total
        ("slice", (PageQuery(size=1),), 1),
        ("window", (WindowQuery(size=1),), 1),
    ],
)
async def test_c25_a_read(stocked: World, place: str, verb: str, arguments: tuple[Any, ...], budget: int) -> None:
    """Every read verb: one statement, two for a page whose rows are counted, inside a block and outside of one."""
    async with scene(stocked, place) as at:
        with recorded(stocked) as sent:
            await getattr(at.shop.books, verb)(*arguments)

        assert len(sent) == budget, sent


@pytest.mark.parametrize("how", ["get", "get_one", "all", "first", "page", "select", "for_update", "view"])
async def test_c25_get_of_what_this_block_has_read(stocked: World, how: str) -> None:
    """An object that the block has read, in whatever way, and that is still in use, is not read again by `get`."""
    async with stocked.shop() as shop:
        kept = await read(shop, how)
        with recorded(stocked) as sent:
            await shop.books.get(1)
            await shop.books.get_one(1)

    assert kept
    assert sent == []


@pytest.mark.parametrize("how", ["get", "get_one", "all", "first", "page", "select", "for_update", "view"])
async def test_c25_get_of_what_was_loaded_before_and_read_in_this_block(stocked: World, how: str) -> None:
    """It is read once in the block, whichever verb does it."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        async with shop:
            with recorded(stocked) as sent:
                kept = await read(shop, how)
                first = len(sent)
                await shop.books.get(1)
                await shop.books.get_one(1)

    assert kept
    assert emma.id == 1
    assert first == 1
    assert sent[first:] == []


async def test_c25_get_of_what_came_along_in_this_block(stocked: World) -> None:
    """An object that an option loaded was read in this block, too."""
    async with stocked.serving() as shop:
        author = await shop.authors.get_one(1)
        async with shop:
            emma = await shop.books.with_options(joinedload(Book.author)).get_one(1)
            with recorded(stocked) as sent:
                await shop.authors.get_one(1)

    assert emma.author is author
    assert sent == []


async def test_c25_get_of_what_this_block_added(stocked: World) -> None:
    """After its flush an added object is known."""
    async with stocked.shop() as shop:
        ovid = shop.authors.add(Author(id=5, name="Ovid"))
        async with shop:
            await shop.commit()
        with recorded(stocked) as sent:
            found = await shop.authors.get_one(5)
        await shop.rollback()

    assert found is ovid
    assert sent == []


async def test_c25_get_outside_a_block_of_a_loaded_object(stocked: World) -> None:
    """Outside a block an object that is known is not read again."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        with recorded(stocked) as sent:
            again = await shop.books.get_one(1)

    assert again is emma
    assert sent == []


async def test_c25_add(stocked: World) -> None:
    """One INSERT, with the key that the database gives, and nothing after the commit to read it back."""
    async with stocked.shop() as shop:
        with recorded(stocked) as sent:
            author = shop.authors.add(Author(name="Ovid"))
            if stocked.server == "PostgreSQL":
                author.id = 77  # its sequence does not know the keys that the test gave
            await shop.commit()
            key, name = author.id, author.name

    assert (isinstance(key, int), name) == (True, "Ovid")
    assert [statement.split()[0] for statement in sent] == ["INSERT"]


async def test_c25_update_of_a_loaded_object(stocked: World) -> None:
    """One UPDATE, of the changed column alone."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        with recorded(stocked) as sent:
            emma.stock = 3
            await shop.commit()

    assert [statement.split()[0] for statement in sent] == ["UPDATE"]
    assert "title" not in sent[0]


async def test_c25_update_of_nothing(stocked: World) -> None:
    """A value that is the old one sends nothing."""
    async with stocked.shop() as shop:
        emma = await shop.books.get_one(1)
        with recorded(stocked) as sent:
            emma.title = "Emma"
            await shop.commit()

    assert sent == []


async def test_c25_update_of_an_object_loaded_before_the_block(stocked: World) -> None:
    """One read to be up to date and one UPDATE."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        async with shop:
            with recorded(stocked) as sent:
                (await shop.books.get_one(1)).stock = 3
                await shop.commit()

    assert emma.stock == 3
    assert [statement.split()[0] for statement in sent] == ["SELECT", "UPDATE"]


@pytest.mark.parametrize("repository", ["customers", "books"])
async def test_c25_delete_of_a_loaded_object(stocked: World, repository: str) -> None:
    """One DELETE; the cascades of the database's own cost nothing where the model says `passive_deletes`."""
    async with stocked.shop() as shop:
        entity = await getattr(shop, repository).get_one(1)
        with recorded(stocked) as sent:
            await getattr(shop, repository).delete(entity)
            await shop.commit()

    assert [statement.split()[0] for statement in sent] == ["DELETE"]


async def test_c25_many_added_objects_are_one_statement(stocked: World) -> None:
    """A batch is one statement, or one for each connection's batch size."""
    async with stocked.shop() as shop:
        with recorded(stocked) as sent:
            shop.customers.add_all(Customer(id=key, name="C", email=f"{key}@example.org") for key in range(10, 30))
            await shop.commit()

    assert len(sent) == 1


async def test_c25_for_update(stocked: World) -> None:
    """A lock is part of the statement that reads."""
    async with stocked.shop() as shop:
        with recorded(stocked) as sent:
            await shop.books.for_update().get_one(1)
            await shop.books.for_update().all()

    assert len(sent) == 2


@pytest.mark.parametrize(
    ("option", "budget"),
    [
        (joinedload(Author.books), 1),
        (selectinload(Author.books), 2),
        (selectinload(Author.books).selectinload(Book.reviews), 3),
    ],
    ids=["joined", "selectin", "nested"],
)
async def test_c25_a_relationship_costs_a_constant(stocked: World, option: Any, budget: int) -> None:
    """One statement for each to-many relationship, or none if it is joined, however many rows there are."""
    async with stocked.shop() as shop:
        shop.authors.add_all(Author(id=key, name=f"A{key}") for key in range(10, 30))
        await shop.commit()
    async with stocked.serving() as shop:
        with recorded(stocked) as sent:
            found = await shop.authors.with_options(option).all()

    assert len(found) == 21
    assert len(sent) == budget


async def test_c25_an_empty_block(stocked: World) -> None:
    """A block without reads and writes sends nothing, with a commit as well."""
    with recorded(stocked) as sent:
        async with stocked.shop():
            pass
        async with stocked.shop() as shop:
            await shop.commit()

    assert sent == []


async def read(shop: Any, how: str) -> Any:
    """Read book 1 in one of many ways; return what keeps it alive."""
    if how in {"get", "get_one"}:
        return await getattr(shop.books, how)(1)
    if how == "page":
        return await shop.books.page(PageQuery())
    if how == "select":
        return (await shop.session.scalars(shop.books.select())).all()
    if how == "for_update":
        return await shop.books.for_update().one(Book.id == 1)
    if how == "view":
        return await shop.books.with_options(joinedload(Book.author)).order_by(Book.title).all()
    return await getattr(shop.books, how)()
