"""The write verbs of a repository, and reads that see what the block wrote."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import World, book
from repository.scenes import ON_SQLITE, rival, sync_session
from sqlalchemy import select
from sqlalchemy.exc import InvalidRequestError

from bookshop.models import Author, Book, Review
from fastkit.errors import OutsideBlockError, ReadOnlyError
from fastkit.pages import PageQuery
from fastkit.repository import AsyncRepository, Repository

pytestmark = pytest.mark.anyio


async def titles(world: World) -> list[str]:
    """Return the titles of all stored books, as another unit sees them."""
    async with world.shop() as shop:
        return [entity.title for entity in await shop.books.order_by(Book.id).all()]


class TestAdd:
    """`add` and `add_all`."""

    async def test_add_returns_the_object_itself(self, stocked: World) -> None:
        """What goes in comes out, and is inserted by the commit."""
        sanditon = book(3, "Sanditon", author_id=1)
        async with stocked.shop() as shop:
            added = shop.books.add(sanditon)
            await shop.commit()

        assert added is sanditon
        assert await titles(stocked) == ["Emma", "Persuasion", "Sanditon"]

    async def test_add_sends_nothing(self, stocked: World) -> None:
        """The row is inserted by a flush, so that many rows go in one statement."""
        async with stocked.shop() as shop:
            shop.books.add(book(3, "Sanditon", author_id=1))
            held = stocked.checked_out
            await shop.rollback()

        assert held == 0

    async def test_a_flush_gives_the_key(self, world: World) -> None:
        """A nested commit flushes, so that the key of the database is known."""
        async with world.shop() as shop:
            author = shop.authors.add(Author(name="Ovid"))
            async with shop:
                await shop.commit()
            key = author.id
            found = await shop.authors.get(key)
            await shop.rollback()

        assert isinstance(key, int)
        assert found is author

    async def test_add_all_takes_any_iterable_and_returns_a_list(self, stocked: World) -> None:
        """A generator is consumed once, in its order."""
        async with stocked.shop() as shop:
            added = shop.books.add_all(book(key, f"Volume {key}", author_id=1) for key in (5, 4, 3))
            await shop.commit()

        assert [entity.id for entity in added] == [5, 4, 3]
        assert await titles(stocked) == ["Emma", "Persuasion", "Volume 3", "Volume 4", "Volume 5"]

    async def test_add_all_of_nothing_is_nothing(self, stocked: World) -> None:
        """An empty batch is no special case, and no unsaved work."""
        async with stocked.shop() as shop:
            added = shop.books.add_all([])

        assert added == []

    async def test_add_of_a_loaded_object_changes_nothing(self, stocked: World) -> None:
        """It is in the session already."""
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            shop.books.add(emma)
            await shop.commit()

        assert await titles(stocked) == ["Emma", "Persuasion"]

    async def test_without_commit_nothing_is_stored(self, stocked: World) -> None:
        """An explicit rollback leaves nothing behind."""
        async with stocked.shop() as shop:
            shop.books.add(book(3, "Sanditon", author_id=1))
            await shop.rollback()

        assert await titles(stocked) == ["Emma", "Persuasion"]


class TestChange:
    """There is no `update`: change the object."""

    async def test_a_changed_attribute_is_stored(self, stocked: World) -> None:
        """The session tracks what was changed."""
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).title = "Emma, corrected"
            await shop.commit()

        assert await titles(stocked) == ["Emma, corrected", "Persuasion"]

    def test_there_is_no_update(self) -> None:
        """A second way to change objects would go round the first."""
        for kind in (Repository, AsyncRepository):
            assert not {"update", "save", "merge", "list", "filter"} & set(dir(kind))


class TestDelete:
    """`delete`."""

    async def test_a_deleted_object_is_gone(self, stocked: World) -> None:
        """The commit deletes its row, and no other."""
        async with stocked.shop() as shop:
            await shop.books.delete(await shop.books.get_one(1))
            await shop.commit()

        assert await titles(stocked) == ["Persuasion"]

    async def test_a_deleted_object_is_gone_for_the_block_too(self, stocked: World) -> None:
        """The next read flushes first."""
        async with stocked.shop() as shop:
            await shop.books.delete(await shop.books.get_one(1))
            left = await shop.books.all()
            found = await shop.books.get(1)
            await shop.rollback()

        assert [entity.id for entity in left] == [2]
        assert found is None

    async def test_deletion_reaches_the_reviews(self, stocked: World) -> None:
        """A cascade of the database is the database's."""
        async with stocked.shop() as shop:
            review = Review(id=1, book_id=1, customer_id=1, stars=5, text="!")
            shop.reviews.add(review)
            await shop.commit()
        async with stocked.shop() as shop:
            await shop.books.delete(await shop.books.get_one(1))
            await shop.commit()

        async with stocked.shop() as shop:
            assert await shop.reviews.count() == 0

    async def test_what_was_never_stored_cannot_be_deleted(self, stocked: World) -> None:
        """SQLAlchemy says so; nothing is doomed by it."""
        async with stocked.shop() as shop:
            with pytest.raises(InvalidRequestError, match="not persisted"):
                await shop.books.delete(book(9, "Never"))
            left = await shop.books.count()

        assert left == 2


class TestReadYourOwnWrites:
    """Every read in a block sees what the block wrote before, without a flush by hand."""

    @pytest.mark.parametrize("verb", ["get", "one", "first", "all", "count", "exists", "page", "locked", "select"])
    async def test_an_added_object_is_seen(self, stocked: World, verb: str) -> None:
        """An added object is there for each verb."""
        async with stocked.shop() as shop:
            added = shop.books.add(book(3, "Sanditon", author_id=1))
            seen = await seen_by(shop, verb)
            await shop.rollback()

        assert seen in (added, [added], True, 1)

    async def test_a_changed_object_is_found_by_its_new_value(self, stocked: World) -> None:
        """Criteria are compared with the changed value."""
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).title = "Sanditon"
            found = await shop.books.one(Book.title == "Sanditon")
            lost = await shop.books.exists(Book.title == "Emma")
            await shop.rollback()

        assert found.id == 1
        assert lost is False

    async def test_nobody_else_sees_it_before_the_commit(self, stocked: World) -> None:
        """What was flushed is not stored."""
        async with stocked.shop() as shop:
            shop.books.add(book(3, "Sanditon", author_id=1))
            assert await shop.books.count() == 3
            with rival(stocked) as other:
                seen = len(other.execute(select(Book.__table__.c.id)).all())
            await shop.commit()

        assert seen == 2


class TestWhere:
    """Writes need an open block that may write."""

    @pytest.mark.parametrize("verb", ["add", "add_all", "delete"])
    async def test_c5_a_write_outside_a_block_raises(self, stocked: World, verb: str) -> None:
        """The error says how to open a block; nothing is left in the session, nothing is checked out."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            with pytest.raises(OutsideBlockError, match="async with shop"):
                await write(shop, verb, emma)
            left = [*sync_session(shop).new, *sync_session(shop).deleted]

        assert left == []
        assert stocked.checked_out == 0
        assert await titles(stocked) == ["Emma", "Persuasion"]

    @pytest.mark.parametrize("verb", ["add", "add_all", "delete"])
    async def test_c22_a_write_in_a_read_only_block_raises(self, stocked: World, verb: str) -> None:
        """It is refused at the call, on every database."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with shop.block(read_only=True):
                with pytest.raises(ReadOnlyError, match="read-only"):
                    await write(shop, verb, emma)

        assert await titles(stocked) == ["Emma", "Persuasion"]

    @ON_SQLITE
    @pytest.mark.parametrize("verb", ["add", "add_all", "delete"])
    async def test_a_write_after_commit_raises(self, stocked: World, verb: str) -> None:
        """commit() ended the block, although its `with` goes on."""
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            await shop.commit()

            with pytest.raises(OutsideBlockError):
                await write(shop, verb, emma)


async def write(shop: Any, verb: str, entity: Book) -> None:
    """Write in one of three ways."""
    if verb == "add":
        shop.books.add(book(3, "Sanditon", author_id=1))
    elif verb == "add_all":
        shop.books.add_all([book(3, "Sanditon", author_id=1)])
    else:
        await shop.books.delete(entity)


async def seen_by(shop: Any, verb: str) -> Any:
    """Ask for book 3 with a verb; return what it says."""
    is_third = Book.id == 3
    if verb == "get":
        return await shop.books.get(3)
    if verb == "page":
        return (await shop.books.page(PageQuery(), is_third)).items
    if verb == "locked":
        return await shop.books.for_update().get(3)
    if verb == "select":
        return (await shop.session.scalars(shop.books.select(is_third))).all()
    return await getattr(shop.books, verb)(is_third)
