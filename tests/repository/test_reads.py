"""The read verbs of a repository, inside a block and outside of one, on every driver."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from colours import awaitable
from conftest import World, book
from repository.scenes import ON_SQLITE, PLACES, Scene, scene
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column, relationship, selectinload

from bookshop.models import Author, Book, Customer, Order, OrderLine
from fastkit.errors import MultipleFoundError, NotFoundError
from fastkit.repository import AsyncRepository, Repository, _selection

pytestmark = pytest.mark.anyio

VIEWS = ("repository", "view")
VERBS = ("one", "first", "all", "count", "exists", "select")


@pytest.fixture(params=PLACES)
async def reading(stocked: World, request: pytest.FixtureRequest) -> AsyncIterator[Scene]:
    """Read the stocked shop, with an order of book 2 and then book 1, in each place."""
    async with stocked.shop() as shop:
        order = Order(id=7, customer_id=1, placed_at=datetime(2026, 1, 31, tzinfo=UTC), total=Decimal(30))
        shop.orders.add(order)
        await shop.commit()
    async with stocked.shop() as shop:
        shop.lines.add_all(OrderLine(order_id=7, book_id=key, quantity=key, price=Decimal(10)) for key in (2, 1))
        await shop.commit()
    async with scene(stocked, request.param) as found:
        yield found


class TestGet:
    """`get` and `get_one`."""

    async def test_get_returns_the_object_with_that_key(self, reading: Scene) -> None:
        """The key finds its object."""
        found = await reading.shop.books.get(2)

        assert isinstance(found, Book)
        assert (found.id, found.title, found.price) == (2, "Persuasion", Decimal(10))
        assert reading.settled

    async def test_get_of_a_missing_key_is_none(self, reading: Scene) -> None:
        """No row, no object, no error."""
        found = await reading.shop.books.get(99)

        assert found is None
        assert reading.settled

    async def test_get_twice_returns_the_same_object(self, reading: Scene) -> None:
        """One row is one object in one unit."""
        first = await reading.shop.books.get(1)
        second = await reading.shop.books.get(1)

        assert first is second
        assert reading.settled

    async def test_get_of_none_is_none(self, reading: Scene) -> None:
        """The value of an empty optional foreign key finds nothing, and asks nobody."""
        found = await reading.shop.books.get(None)
        in_view = await reading.shop.books.with_options(joinedload(Book.author)).get(None)

        assert (found, in_view) == (None, None)
        assert reading.world.checked_out == 0

    @pytest.mark.parametrize("view", VIEWS)
    async def test_get_takes_a_composite_key(self, reading: Scene, view: str) -> None:
        """A composite key is a tuple in the order of its columns, or a mapping in any order."""
        lines = (
            reading.shop.lines if view == "repository" else reading.shop.lines.with_options(joinedload(OrderLine.book))
        )
        keys: list[Any] = [(7, 2), [7, 2], {"order_id": 7, "book_id": 2}, {"book_id": 2, "order_id": 7}]
        found = [await lines.get(key) for key in keys]

        assert [(line.order_id, line.book_id, line.quantity) for line in found] == [(7, 2, 2)] * 4
        assert reading.settled

    async def test_get_takes_a_tuple_of_one_for_a_simple_key(self, reading: Scene) -> None:
        """Generic code may give every key as a tuple."""
        found = await reading.shop.books.get((2,))
        again = await reading.shop.books.with_options(joinedload(Book.author)).get((2,))

        assert found is again
        assert found.id == 2

    async def test_a_composite_key_in_the_wrong_order_is_another_key(self, reading: Scene) -> None:
        """The order of the columns decides."""
        found = await reading.shop.lines.get((2, 7))

        assert found is None

    @ON_SQLITE
    @pytest.mark.parametrize("ident", [7, (7,), (7, 2, 1), (), {"order_id": 7}, {"order_id": 7, "book": 2}])
    @pytest.mark.parametrize("view", VIEWS)
    async def test_a_key_of_the_wrong_shape_is_refused(self, reading: Scene, ident: Any, view: str) -> None:
        """A key of the wrong length or with the wrong names never finds another row; each view says so alike."""
        lines = (
            reading.shop.lines if view == "repository" else reading.shop.lines.with_options(joinedload(OrderLine.book))
        )

        with pytest.raises(InvalidRequestError):
            await lines.get(ident)

    async def test_get_one_returns_the_object_with_that_key(self, reading: Scene) -> None:
        """The key finds its object."""
        found = await reading.shop.lines.get_one((7, 1))

        assert (found.order_id, found.book_id) == (7, 1)
        assert reading.settled

    @pytest.mark.parametrize(("ident", "repository"), [(4711, "books"), (None, "books"), ((4711, 1), "lines")])
    async def test_get_one_of_a_missing_key_raises(self, reading: Scene, ident: Any, repository: str) -> None:
        """The error carries the model and the key; its message holds no key."""
        with pytest.raises(NotFoundError) as caught:
            await getattr(reading.shop, repository).get_one(ident)

        assert caught.value.model == {"books": "Book", "lines": "OrderLine"}[repository]
        assert caught.value.identity == ident
        assert "4711" not in str(caught.value)

    async def test_get_one_of_a_missing_key_leaves_the_block_usable(self, reading: Scene) -> None:
        """To find nothing is no error of the transaction."""
        with pytest.raises(NotFoundError):
            await reading.shop.books.get_one(99)
        found = await reading.shop.books.get_one(1)

        assert found.title == "Emma"
        assert reading.settled


class TestOne:
    """`one` and `first`."""

    async def test_one_returns_the_only_match(self, reading: Scene) -> None:
        """A single match is the answer."""
        found = await reading.shop.books.one(Book.title == "Emma")

        assert found.id == 1
        assert reading.settled

    async def test_one_without_a_match_raises(self, reading: Scene) -> None:
        """No match is told with the model."""
        with pytest.raises(NotFoundError, match="Book") as caught:
            await reading.shop.books.one(Book.title == "Sanditon")

        assert caught.value.model == "Book"
        assert reading.settled

    async def test_one_with_two_matches_raises(self, reading: Scene) -> None:
        """Two matches are no answer."""
        with pytest.raises(MultipleFoundError, match="Book") as caught:
            await reading.shop.books.one(Book.year == 1815)

        assert caught.value.model == "Book"
        assert reading.settled

    async def test_first_is_the_one_with_the_smallest_key(self, reading: Scene) -> None:
        """Without an order it is the order of the primary key, all of its columns."""
        line = await reading.shop.lines.first()

        assert (line.order_id, line.book_id) == (7, 1)
        assert reading.settled

    async def test_first_follows_the_order_of_the_view(self, reading: Scene) -> None:
        """A sort key decides which one is the first."""
        found = await reading.shop.books.order_by(Book.title.desc()).first()

        assert found.title == "Persuasion"
        assert reading.settled

    async def test_first_without_a_match_is_none(self, reading: Scene) -> None:
        """Nothing matches, nothing is returned."""
        found = await reading.shop.books.first(Book.stock > 1000)

        assert found is None
        assert reading.settled


class TestAll:
    """`all`, `count`, `exists` and `select`."""

    async def test_all_without_criteria_returns_every_object(self, reading: Scene) -> None:
        """The list is complete and is a list."""
        found = await reading.shop.books.all()

        assert isinstance(found, list)
        assert sorted(entity.id for entity in found) == [1, 2]
        assert reading.settled

    async def test_criteria_are_joined_by_and(self, reading: Scene) -> None:
        """Each criterion narrows the result."""
        found = await reading.shop.books.all(Book.year == 1815, Book.title != "Emma")

        assert [entity.id for entity in found] == [2]
        assert reading.settled

    async def test_all_without_a_match_is_empty(self, reading: Scene) -> None:
        """Nothing matches: an empty list."""
        found = await reading.shop.books.all(Book.id.in_([]))

        assert found == []
        assert reading.settled

    async def test_count_counts_what_matches(self, reading: Scene) -> None:
        """With criteria only what matches, without every row."""
        counts = [await reading.shop.books.count(*where) for where in ((), (Book.id == 1,), (Book.id == 99,))]

        assert counts == [2, 1, 0]
        assert reading.settled

    async def test_count_of_a_composite_key_counts_rows(self, reading: Scene) -> None:
        """Rows are counted, not values of one column."""
        counted = await reading.shop.lines.count()

        assert counted == 2
        assert reading.settled

    async def test_exists_tells_whether_a_row_matches(self, reading: Scene) -> None:
        """True or False, exactly."""
        told = [await reading.shop.books.exists(*where) for where in ((), (Book.id == 1,), (Book.id == 99,))]

        assert told == [True, True, False]
        assert all(type(answer) is bool for answer in told)
        assert reading.settled

    async def test_exists_of_an_empty_table_is_false(self, reading: Scene) -> None:
        """No rows: nothing exists."""
        told = await reading.shop.reviews.exists()

        assert told is False

    async def test_criteria_may_follow_a_relationship(self, reading: Scene) -> None:
        """`any` and `has` are criteria as well."""
        by_austen = await reading.shop.books.count(Book.author.has(Author.name == "Jane Austen"))
        with_books = await reading.shop.authors.exists(Author.books.any(Book.title == "Emma"))

        assert (by_austen, with_books) == (2, True)

    async def test_a_boolean_column_is_a_criterion(self, reading: Scene) -> None:
        """An attribute of the class needs no comparison."""
        blocked = await reading.shop.customers.count(Customer.blocked)

        assert blocked == 0
        assert reading.settled

    async def test_select_is_a_statement_that_can_go_on(self, reading: Scene) -> None:
        """What no verb says, SQLAlchemy says, on the unit's own session."""
        statement = reading.shop.books.select(Book.stock > 0).join(Book.author).where(Author.name == "Jane Austen")
        found = (await reading.shop.session.scalars(statement.order_by(Book.id.desc()).limit(1))).all()

        assert [entity.id for entity in found] == [2]
        assert reading.settled

    async def test_select_sends_nothing(self, reading: Scene) -> None:
        """A statement is a value."""
        reading.shop.books.select(Book.id == 1)

        assert reading.world.checked_out == 0


class TestCriteria:
    """What is no criterion is refused before anything is sent."""

    @ON_SQLITE
    @pytest.mark.parametrize("verb", VERBS)
    @pytest.mark.parametrize("criterion", [True, False, None, "title = 'Emma'", 1])
    async def test_a_python_value_is_no_criterion(self, reading: Scene, verb: str, criterion: Any) -> None:
        """A comparison on an object is a bool that would match every row or none; the message says so."""
        call = getattr(reading.shop.books, verb)

        with pytest.raises(TypeError, match="Is it a comparison on an object"):
            await call(Book.id == 1, criterion)
        assert reading.world.checked_out == 0

    async def test_a_comparison_on_an_object_is_refused(self, reading: Scene) -> None:
        """The mistake itself."""
        emma = await reading.shop.books.get_one(1)

        with pytest.raises(TypeError, match="not bool"):
            await reading.shop.books.all(emma.id == 1)

    @ON_SQLITE
    @pytest.mark.parametrize("verb", VERBS)
    async def test_keyword_criteria_are_refused(self, reading: Scene, verb: str) -> None:
        """A misspelt name would be a silent no-op, so there are no names."""
        call = getattr(reading.shop.books, verb)

        with pytest.raises(TypeError):
            await call(title="Emma")


class TestPlainSession:
    """A repository on a session that no unit of work watches over."""

    async def test_every_verb_works(self, stocked: World) -> None:
        """Each verb answers as it does in a unit of work."""
        async with plain(stocked) as books:
            books.add(book(3, "Sanditon", author_id=1))

            assert (await books.get_one(1)).title == "Emma"
            assert await books.get(99) is None
            assert (await books.one(Book.id == 2)).title == "Persuasion"
            assert (await books.order_by(Book.title.desc()).first()).title == "Sanditon"
            assert len(await books.all()) == await books.count() == 3
            assert await books.exists(Book.stock > 4)
            await books.delete(await books.for_update().get_one(2))
            assert not await books.exists(Book.id == 2)

    async def test_errors_are_those_of_the_repository(self, stocked: World) -> None:
        """What is missing is told in the same words."""
        async with plain(stocked) as books:
            with pytest.raises(NotFoundError):
                await books.get_one(99)
            with pytest.raises(MultipleFoundError):
                await books.one()


class plain:  # noqa: N801 - a context manager, as in contextlib
    """A repository of books on a plain session, dressed so that it can be awaited."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._session = world.naked.session()

    async def __aenter__(self) -> Any:
        kind: Any = AsyncRepository if self._world.driver.is_async else Repository
        return awaitable(kind(self._session, Book))

    async def __aexit__(self, *error: object) -> None:
        closed = self._session.close()
        if closed is not None:
            await closed


def test_lazy_relationships_are_told_once_in_development(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What would be a statement for each object, or an error in async code; not if loader options are named."""

    class Base(DeclarativeBase):
        """The base of two."""

    class Band(Base):
        """With two relationships, of which one is never loaded by itself."""

        __tablename__ = "band"
        id: Mapped[int] = mapped_column(primary_key=True)
        songs: Mapped[list[Song]] = relationship()
        hits: Mapped[list[Song]] = relationship(viewonly=True, lazy="raise")

    class Song(Base):
        """What it is related to."""

        __tablename__ = "song"
        id: Mapped[int] = mapped_column(primary_key=True)
        band_id: Mapped[int] = mapped_column(ForeignKey("band.id"))

    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        bands = Repository(session, Band)
        bands.all()
        monkeypatch.setattr(_selection, "DEVELOPMENT", True)
        bands.with_options(selectinload(Band.songs)).all()
        Repository(session, Song).all()
        assert not caplog.records
        for _ in range(3):
            bands.all()

    (told,) = [each.getMessage() for each in caplog.records]
    assert told.startswith("Band.all(): each object loads songs by a statement of its own")
    assert "with_options(selectinload(Band.songs))" in told
