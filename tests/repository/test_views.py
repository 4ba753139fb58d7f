"""Views of a repository: the same verbs, read in another way, and never a change of what they came from."""

from __future__ import annotations

import pytest
from conftest import World
from repository.scenes import ON_SQLITE, PLACES, recorded, rival, scene, sync_session
from sqlalchemy import select, update
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, defer, joinedload, load_only, selectinload, undefer

from bookshop.models import Author, Book, Customer, Order, OrderLine, Review
from fastkit.errors import DeclarationError
from fastkit.pages import PageQuery
from fastkit.repository import AsyncReads, AsyncRepository, Reads, Repository

pytestmark = pytest.mark.anyio

COLLECTIONS = pytest.mark.parametrize("load", [joinedload, selectinload], ids=["joined", "selectin"])


@pytest.fixture
async def reviewed(stocked: World) -> World:
    """Return the stocked shop with three reviews of book 1 and none of book 2."""
    async with stocked.shop() as shop:
        shop.customers.add_all(Customer(id=key, name=f"C{key}", email=f"{key}@example.org") for key in (2, 3))
        await shop.commit()
    async with stocked.shop() as shop:
        shop.reviews.add_all(Review(id=key, book_id=1, customer_id=key, stars=key, text="!") for key in (1, 2, 3))
        await shop.commit()
    return stocked


class TestOptions:
    """`with_options`."""

    @COLLECTIONS
    @pytest.mark.parametrize("place", PLACES)
    async def test_a_loaded_collection_gives_each_object_once(self, reviewed: World, load: object, place: str) -> None:
        """Three reviews do not make three books, for any verb."""
        async with scene(reviewed, place) as at:
            books = at.shop.books.with_options(load(Book.reviews))  # type: ignore[operator]
            everything = await books.order_by(Book.id).all()
            one = await books.one(Book.id == 1)
            first = await books.first()
            got = await books.get_one(1)

            assert [entity.id for entity in everything] == [1, 2]
            assert one is first is got is everything[0]
            assert [len(entity.reviews) for entity in everything] == [3, 0]
            assert at.settled

    @COLLECTIONS
    @pytest.mark.parametrize("place", PLACES)
    async def test_options_apply_to_objects_that_are_loaded_already(
        self, reviewed: World, load: object, place: str
    ) -> None:
        """A relationship that was not loaded is loaded onto the same object, by `get` too."""
        async with scene(reviewed, place) as at:
            plain = await at.shop.books.get_one(1)
            with pytest.raises(InvalidRequestError, match="raise"):
                _ = plain.reviews
            again = await at.shop.books.with_options(load(Book.reviews)).get_one(1)  # type: ignore[operator]

            assert again is plain
            assert len(plain.reviews) == 3
            assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    async def test_options_of_loaded_objects_apply_for_each_verb(self, reviewed: World, place: str) -> None:
        """A list, a page and a single match load onto what is there."""
        for verb in ("all", "first", "one", "page"):
            async with scene(reviewed, place) as at:
                plain = await at.shop.books.get_one(1)
                view = at.shop.books.with_options(joinedload(Book.author))
                await (view.page(PageQuery(), Book.id == 1) if verb == "page" else getattr(view, verb)(Book.id == 1))

                assert plain.author.name == "Jane Austen"
                assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    async def test_an_undeferred_column_is_loaded_onto_the_object(self, reviewed: World, place: str) -> None:
        """A column that was left out comes with the next view."""
        async with scene(reviewed, place) as at:
            slim = await at.shop.books.with_options(load_only(Book.title)).get_one(1)
            before = "price" in slim.__dict__
            full = await at.shop.books.with_options(undefer(Book.price)).get_one(1)

            assert (before, full is slim, "price" in slim.__dict__) == (False, True, True)
            assert at.settled

    async def test_options_accumulate(self, reviewed: World) -> None:
        """A view of a view loads both."""
        async with reviewed.shop() as shop:
            view = shop.books.with_options(joinedload(Book.author)).with_options(selectinload(Book.reviews))
            found = await view.get_one(1)

        assert (found.author.id, len(found.reviews)) == (1, 3)

    async def test_nested_options_reach_through(self, reviewed: World) -> None:
        """Authors, their books and the books' reviews in three statements."""
        async with reviewed.shop() as shop:
            with recorded(reviewed) as sent:
                found = await shop.authors.with_options(selectinload(Author.books).selectinload(Book.reviews)).all()

        assert sorted(len(entity.reviews) for entity in found[0].books) == [0, 3]
        assert len(sent) == 3

    async def test_a_composite_key_is_loaded_with_options(self, stocked: World) -> None:
        """`get` of a view builds its own criterion from all columns of the key."""
        from datetime import UTC, datetime

        async with stocked.shop() as shop:
            order = Order(id=7, customer_id=1, placed_at=datetime(2026, 1, 31, tzinfo=UTC), total=30)
            order.lines = [OrderLine(book_id=key, quantity=key, price=10) for key in (1, 2)]
            shop.orders.add(order)
            await shop.commit()
        async with stocked.shop() as shop:
            found = await shop.lines.with_options(joinedload(OrderLine.book)).get_one((7, 2))

        assert (found.quantity, found.book.title) == (2, "Persuasion")

    async def test_c5_what_an_option_loads_is_fresh_in_a_block(self, reviewed: World) -> None:
        """Objects that were loaded before the block and come along in a relationship are read again, too."""
        async with reviewed.serving() as shop:
            review = await shop.reviews.get_one(1)
            await shop.books.get_one(1)
            with rival(reviewed) as other:
                other.execute(update(Review.__table__).values(stars=5))  # type: ignore[arg-type]
                other.commit()
            async with shop:
                found = await shop.books.with_options(selectinload(Book.reviews)).get_one(1)

                assert review in found.reviews
                assert review.stars == 5

    @ON_SQLITE
    async def test_a_wrong_option_gives_the_connection_back(self, stocked: World) -> None:
        """An option of another model is SQLAlchemy's error, after which the unit goes on."""
        async with stocked.serving() as shop:
            with pytest.raises(Exception, match="Author"):
                await shop.books.with_options(joinedload(Author.books)).all()

            assert stocked.checked_out == 0
            assert await shop.books.count() == 2


class TestFreshness:
    """C5: what a block reads first is what the database holds."""

    @pytest.mark.parametrize("verb", ["get", "one", "first", "all", "page", "select"])
    async def test_c5_the_first_read_in_a_block_refreshes(self, stocked: World, verb: str) -> None:
        """Each verb brings an object that was loaded before up to date."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            change_title(stocked, "Emma, 2nd edition")
            async with shop:
                if verb == "get":
                    await shop.books.get(1)
                elif verb == "page":
                    await shop.books.page(PageQuery())
                elif verb == "select":
                    (await shop.session.scalars(shop.books.select(Book.id == 1))).all()
                else:
                    await getattr(shop.books, verb)(Book.id == 1)

                assert emma.title == "Emma, 2nd edition"

    async def test_c5_get_in_a_block_keeps_changes_that_are_not_flushed(self, stocked: World) -> None:
        """A change made in the block survives the first read, also where autoflush is off on purpose."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with shop:
                with sync_session(shop).no_autoflush:
                    emma.title = "Emma, changed"
                    await shop.books.get(1)
                    kept = emma.title
                await shop.rollback()

        assert kept == "Emma, changed"

    async def test_c5_a_list_in_a_block_keeps_changes_that_are_not_flushed(self, stocked: World) -> None:
        """The same for a statement."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with shop:
                with sync_session(shop).no_autoflush:
                    emma.title = "Emma, changed"
                    await shop.books.all()
                    kept = emma.title
                await shop.rollback()

        assert kept == "Emma, changed"

    async def test_c5_a_statement_without_autoflush_keeps_changes(self, stocked: World) -> None:
        """The same where one statement turns autoflush off."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with shop:
                emma.title = "Emma, changed"
                statement = select(Book).execution_options(autoflush=False)
                (await shop.session.scalars(statement)).all()
                kept = emma.title
                await shop.rollback()

        assert kept == "Emma, changed"

    async def test_c5_changes_made_in_the_block_are_kept_by_a_read(self, stocked: World) -> None:
        """The plain case: the change is flushed, then read back."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with shop:
                emma.title = "Emma, changed"
                await shop.books.get(1)
                kept = emma.title
                await shop.commit()

        assert kept == "Emma, changed"

    async def test_c5_a_refresh_keeps_relationships_that_were_loaded(self, stocked: World) -> None:
        """A dependency loads a book with its author; the service's `get` in a block does not lose it."""
        async with stocked.serving() as shop:
            emma = await shop.books.with_options(joinedload(Book.author)).get_one(1)
            async with shop:
                await shop.books.get_one(1)

                assert emma.author.name == "Jane Austen"

    async def test_c5_what_is_loaded_elsewhere_does_not_unload_relationships(self, stocked: World) -> None:
        """An object from before the block, of another model, has no say in what a list does to objects of the block."""
        async with stocked.serving() as shop:
            customer = await shop.customers.get_one(1)
            async with shop:
                emma = await shop.books.with_options(joinedload(Book.author)).get_one(1)
                await shop.books.all()

                assert customer.id == 1
                assert emma.author.name == "Jane Austen"

    async def test_c5_after_the_unit_has_ended_its_repositories_refuse(self, stocked: World) -> None:
        """A repository that was used in the block reads nothing after it."""
        from fastkit.errors import UnitClosedError

        async with stocked.shop() as shop:
            books = shop.books
            await books.count()

        with pytest.raises(UnitClosedError):
            await shop.books.count()
        with pytest.raises(UnitClosedError):
            await books.count()
        assert stocked.checked_out == 0


class TestValue:
    """A view is a value: to make one changes nothing."""

    async def test_views_leave_the_repository_as_it_was(self, stocked: World) -> None:
        """Making views of every kind is forgotten when they are."""
        async with stocked.shop() as shop:
            shop.books.order_by(Book.title.desc())
            shop.books.with_options(defer(Book.price))
            shop.books.for_update()
            with recorded(stocked) as sent:
                found = await shop.books.first()

        assert found.id == 1
        assert "price" in found.__dict__
        assert "FOR UPDATE" not in sent[0]

    async def test_a_new_order_replaces_the_old(self, stocked: World) -> None:
        """The last order holds; none is the order of the key."""
        async with stocked.shop() as shop:
            down = shop.books.order_by(Book.title.desc())
            up_again = await down.order_by(Book.title).first()
            by_key = await down.order_by().first()

        assert (up_again.id, by_key.id) == (1, 1)

    def test_a_view_has_no_writes(self) -> None:
        """What a view adds or deletes would be no part of the view."""
        for view in (
            Reads(Session(), Repository(Session(), Book)._selection),
            Repository(Session(), Book).for_update(),
        ):
            assert not {"add", "add_all", "delete"} & set(dir(view))

    def test_repr_names_the_kind_and_the_model(self) -> None:
        """A repository and its views can be told apart in a log."""
        books = Repository(Session(), Book)

        assert repr(books) == "<Repository of Book>"
        assert repr(books.order_by(Book.title)) == "<Reads of Book>"

    def test_a_repository_without_a_model_is_refused(self) -> None:
        """The message shows both ways to name it."""
        with pytest.raises(
            DeclarationError, match=r"Repository\(session, Book\), or class Books\(Repository\[Book\]\)"
        ):
            Repository(Session())

    def test_a_subclass_knows_its_model(self) -> None:
        """From its brackets, through any number of classes."""

        class Books(Repository[Book]):
            """Books."""

        class OldBooks(Books):
            """Old books."""

        assert Books(Session())._selection.model is OldBooks(Session())._selection.model is Book

    @pytest.mark.parametrize("kind", [Repository, AsyncRepository])
    def test_a_subclass_of_what_is_no_model_is_refused(self, kind: type) -> None:
        """At the definition of the class, with its name."""
        with pytest.raises(DeclarationError, match=r"Numbers.*'int' is not a class that SQLAlchemy maps"):
            type(kind)("Numbers", (kind,), {"__orig_bases__": (kind[int],)})  # type: ignore[index]

    def test_each_colour_makes_views_of_its_own(self) -> None:
        """A view of an async repository is awaited."""
        from sqlalchemy.ext.asyncio import AsyncSession

        view = AsyncRepository(AsyncSession(), Book).order_by(Book.id).with_options().for_update()

        assert type(view) is AsyncReads


def change_title(world: World, title: str) -> None:
    """Let somebody else give every book a title."""
    with rival(world) as other:
        other.execute(update(Book.__table__).where(Book.__table__.c.id == 1).values(title=title))  # type: ignore[arg-type]
        other.commit()
