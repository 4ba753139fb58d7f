"""Readers: the response model is the query, and its rows are what the database holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import pytest
from conftest import World, book
from pydantic import BaseModel, ConfigDict, Field, computed_field, field_validator
from repository.scenes import INSIDE, OUTSIDE, PLACES, meanwhile, recorded, scene
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session, with_loader_criteria

from bookshop.models import Author, Book, Customer, Review
from fastkit.errors import DeclarationError, MultipleFoundError, NotFoundError, RowMismatchError, UnitClosedError
from fastkit.pages import PageQuery
from fastkit.repository import Repository
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio
places = pytest.mark.parametrize("place", PLACES)


class CustomerOut(Schema):
    """Who wrote a review."""

    name: str


class ReviewOut(Schema):
    """A list in a list's element: a join in the second statement."""

    id: int
    stars: int
    customer: CustomerOut


class AuthorOut(Schema):
    """One related row."""

    id: int
    name: str


class BookOut(Schema):
    """One of each kind of source."""

    id: int
    title: str
    price: Decimal
    author: AuthorOut
    author_name: Annotated[str, From("author.name")]
    reviews: list[ReviewOut]


class AuthorlessOut(Schema):
    """Columns alone."""

    id: int
    title: str


class Shelf(Schema):
    """A book with what is counted and computed for it."""

    id: int
    worth: Annotated[Decimal, From(Book.price * Book.stock)]
    reviews: Annotated[int, From.count("reviews")]
    stars: Annotated[int | None, From.sum("reviews.stars")]
    mean: Annotated[float | None, From.avg("reviews.stars")]
    worst: Annotated[int | None, From.min("reviews.stars")]
    best: Annotated[int | None, From.max("reviews.stars")]
    newest: Annotated[list[ReviewOut], From("reviews", order_by="-id", limit=2)]
    reviewers: Annotated[list[str], From("reviews.customer.name")]
    loudest: Annotated[
        str | None,
        From(select(func.max(Review.text)).where(Review.book_id == Book.id).scalar_subquery()),
    ]


class Shelves(Schema):
    """An author with all of the above, one level deeper, where the book is not the root."""

    name: str
    books: list[Shelf]


@pytest.fixture
async def reviewed(stocked: World) -> World:
    """Return the stocked shop with three reviews of book 1 and none of book 2."""
    async with stocked.shop() as shop:
        shop.customers.add_all(Customer(id=key, name=f"C{key}", email=f"{key}@example.org") for key in (2, 3))
        await shop.commit()
    async with stocked.shop() as shop:
        shop.reviews.add_all(Review(id=key, book_id=1, customer_id=key, stars=key, text=f"!{key}") for key in (1, 2, 3))
        await shop.commit()
    return stocked


class TestWhatIsRead:
    """Columns, paths, relations, expressions."""

    @places
    async def test_a_model_with_relations(self, reviewed: World, place: str) -> None:
        """One row and all that belongs to it, whatever is nested in what."""
        async with scene(reviewed, place) as at:
            found = await at.shop.books.into(BookOut).get_one(1)

            assert found == BookOut(
                id=1,
                title="Emma",
                price=Decimal(10),
                author=AuthorOut(id=1, name="Jane Austen"),
                author_name="Jane Austen",
                reviews=[
                    ReviewOut(id=1, stars=1, customer=CustomerOut(name="Ada")),
                    ReviewOut(id=2, stars=2, customer=CustomerOut(name="C2")),
                    ReviewOut(id=3, stars=3, customer=CustomerOut(name="C3")),
                ],
            )
            assert at.settled

    @places
    async def test_what_is_counted_and_computed(self, reviewed: World, place: str) -> None:
        """Expressions and numbers of related rows, where there are some and where there are none."""
        async with scene(reviewed, place) as at:
            first, second = await at.shop.books.order_by(Book.id).into(Shelf).all()

            assert first.worth == Decimal(50)
            assert (first.reviews, first.stars, first.mean, first.worst, first.best) == (3, 6, 2.0, 1, 3)
            assert [review.id for review in first.newest] == [3, 2]
            assert first.reviewers == ["Ada", "C2", "C3"]
            assert first.loudest == "!3"
            assert (second.reviews, second.stars, second.mean, second.worst, second.best) == (0, None, None, None, None)
            assert (second.newest, second.reviewers, second.loudest) == ([], [], None)

    async def test_the_same_one_level_deeper(self, reviewed: World) -> None:
        """A model means the same wherever it stands."""
        async with scene(reviewed, OUTSIDE) as at:
            flat = await at.shop.books.order_by(Book.id).into(Shelf).all()
            (author,) = await at.shop.authors.into(Shelves).all()

            assert author == Shelves(name="Jane Austen", books=list(flat))

    @places
    @pytest.mark.parametrize("count", [1, 2, 7])
    async def test_the_number_of_statements_does_not_grow(self, reviewed: World, count: int, place: str) -> None:
        """One for the rows and one for each list in the model, for any number of rows."""
        async with reviewed.shop() as shop:
            shop.books.add_all([book(key, f"T{key}", author_id=1) for key in range(10, 10 + count)])
            await shop.commit()
        async with scene(reviewed, place) as at:
            with recorded(reviewed) as sent:
                assert len(await at.shop.books.into(BookOut).all()) == count + 2

            assert len(sent) == 2
            assert not any("sku" in statement for statement in sent)

    async def test_one_text_for_any_number_of_rows(self, reviewed: World) -> None:
        """PostgreSQL prepares one statement for the lists, however many rows they belong to."""
        async with scene(reviewed, OUTSIDE) as at:
            books = at.shop.books.into(BookOut)
            with recorded(reviewed) as sent:
                for keys in ((1, 2), (1,), (2, 1)):
                    assert len(await books.all(Book.id.in_(keys))) == len(keys)

        assert len(sent) == 6
        assert len(set(sent[1::2])) == (1 if reviewed.server == "PostgreSQL" else 2)

    @places
    async def test_no_statement_for_relations_of_no_rows(self, reviewed: World, place: str) -> None:
        """Nothing is asked about nothing."""
        async with scene(reviewed, place) as at:
            with recorded(reviewed) as sent:
                assert await at.shop.books.into(BookOut).all(Book.id == 404) == []
            assert len(sent) == 1

    async def test_more_parents_than_parameters(self, world: World) -> None:
        """Their lists are read in parts, each row once."""
        async with world.shop() as shop:
            await shop.session.execute(insert(Author), [{"id": 1, "name": "A"}])
            await shop.session.execute(insert(Customer), [{"id": 1, "name": "C", "email": "c", "blocked": False}])
            rows = [book(key, f"T{key}", author_id=1) for key in range(1, 1203)]
            shop.books.add_all(rows)
            await shop.session.flush()
            shop.reviews.add_all(Review(id=key, book_id=key, customer_id=1, stars=1, text="") for key in range(1, 1203))
            await shop.commit()
        async with scene(world, OUTSIDE) as at:
            with recorded(world) as sent:
                found = await at.shop.books.into(BookOut).all()

            assert len(sent) == 4
            assert [each.reviews[0].id for each in sorted(found, key=lambda each: each.id)] == list(range(1, 1203))
            assert all(len(each.reviews) == 1 for each in found)

    async def test_all_statements_see_one_moment(self, reviewed: World) -> None:
        """A review that is removed between the two statements is not missing from a list that counts it."""
        if reviewed.server == "SQLite":
            pytest.skip("a reader keeps the writer out")

        class Counted(Schema):
            n: Annotated[int, From.count("reviews")]
            reviews: list[ReviewOut]

        def remove(other: object) -> None:
            other.execute(Review.__table__.delete())  # type: ignore[attr-defined]

        async with scene(reviewed, OUTSIDE) as at:
            with meanwhile(reviewed, "FROM book", remove) as done:
                found = await at.shop.books.into(Counted).get_one(1)

            assert done
            assert len(found.reviews) == found.n == 3


class TestModels:
    """What Pydantic does with the values, it does here."""

    async def test_any_model_will_do(self, stocked: World) -> None:
        """Aliases, constraints, validators and computed fields hold; extra columns are not there to be refused."""

        class Plain(BaseModel):
            model_config = ConfigDict(extra="forbid", frozen=True)

            title: str = Field(alias="bookTitle", min_length=2)
            price: Annotated[float, Field(serialization_alias="cost")]
            kind: Annotated[str, From(None)] = "paper"

            @field_validator("title")
            @classmethod
            def shout(cls, value: str) -> str:
                return value.upper()

            @computed_field
            def double(self) -> float:
                return self.price * 2

        async with scene(stocked, OUTSIDE) as at:
            found = await at.shop.books.into(Plain).get_one(1)

            assert found.model_dump(by_alias=True) == {
                "bookTitle": "EMMA",
                "cost": 10.0,
                "kind": "paper",
                "double": 20.0,
            }

    async def test_rows_that_do_not_fit(self, stocked: World) -> None:
        """Row, field and kind of the fault are told; the value is not."""

        class Short(BaseModel):
            title: str = Field(max_length=4)

        async with scene(stocked, OUTSIDE) as at:
            with pytest.raises(RowMismatchError) as caught:
                await at.shop.books.order_by(Book.id).into(Short).all()

            assert caught.value.faults == (("1.title", "string_too_long"),)
            assert str(caught.value) == (
                "Book into Short: the rows do not fit the response model, row and field: 1.title (string_too_long)."
            )
            assert caught.value.__cause__ is None
            assert at.settled


class TestVerbs:
    """The verbs of a repository, with the same meaning."""

    @places
    async def test_each_verb(self, reviewed: World, place: str) -> None:
        """What a repository answers as objects, a reader answers as models."""
        async with scene(reviewed, place) as at:
            titles = at.shop.books.order_by(Book.title.desc()).into(AuthorlessOut)

            assert (await titles.get(1)) == AuthorlessOut(id=1, title="Emma")
            assert await titles.get(404) is None
            assert await titles.get(None) is None
            assert (await titles.one(Book.title == "Emma")).id == 1
            assert (await titles.first()).title == "Persuasion"
            assert (await titles.order_by(Book.title).first()).title == "Emma"
            assert await titles.first(Book.id == 404) is None
            assert [each.id for each in await titles.all()] == [2, 1]
            assert await titles.count() == 2
            assert await titles.exists(Book.id == 2)
            assert not await titles.exists(Book.id == 404)
            with pytest.raises(NotFoundError):
                await titles.get_one(404)
            with pytest.raises(NotFoundError):
                await titles.one(Book.id == 404)
            with pytest.raises(MultipleFoundError):
                await titles.one()
            assert at.settled

    @places
    async def test_pages(self, reviewed: World, place: str) -> None:
        """A page counts, a slice only looks one row further."""
        async with scene(reviewed, place) as at:
            books = at.shop.books.into(AuthorlessOut)
            with recorded(reviewed) as sent:
                page = await books.page(PageQuery(page=2, size=1), Book.stock > 0)
            assert (page.items, page.total, page.page, page.size) == (
                [AuthorlessOut(id=2, title="Persuasion")],
                2,
                2,
                1,
            )
            assert len(sent) == 2
            with recorded(reviewed) as sent:
                first = await books.slice(PageQuery(page=1, size=1))
                last = await books.slice(PageQuery(page=2, size=1))
            assert (first.items, first.has_more) == ([AuthorlessOut(id=1, title="Emma")], True)
            assert (last.items, last.has_more) == (page.items, False)
            assert len(sent) == 2
            assert (await books.page(PageQuery(page=3, size=1))).items == []
            assert (await books.slice(PageQuery(page=3, size=1))).items == []

    async def test_a_block_reads_its_own_writes(self, stocked: World) -> None:
        """What is added, changed or deleted and not flushed is flushed first."""
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).title = "New"
            shop.books.add(book(3, "Added", author_id=1))
            await shop.books.delete(await shop.books.get_one(2))

            found = await shop.books.order_by(Book.id).into(BookOut).all()

            assert [each.title for each in found] == ["New", "Added"]
            await shop.rollback()

    async def test_no_object_is_made(self, reviewed: World) -> None:
        """The session knows nothing of what was read."""
        async with scene(reviewed, INSIDE) as at:
            await at.shop.books.into(BookOut).all()

            assert len(list(at.shop.session.identity_map)) == 0

    async def test_objects_that_are_loaded_stay_as_they_are(self, stocked: World) -> None:
        """A reader says what the database holds; an object that was loaded before the block is not touched by it."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            async with stocked.shop() as other:
                await other.session.execute(update(Book).where(Book.id == 1).values(title="Other"))
                await other.commit()
            async with shop:
                assert (await shop.books.into(AuthorlessOut).get_one(1)).title == "Other"
                assert emma.title == "Emma"
                assert (await shop.books.get_one(1)).title == "Other"
                await shop.rollback()


class TestDeclaration:
    """A field that nothing gives is refused before anything is sent."""

    @pytest.mark.parametrize(
        ("annotation", "told"),
        [
            (str, r"Out\.titel: Book has no attribute 'titel'; did you mean 'title'\?"),
            (Annotated[str, From("autor.name")], r"Book\.autor does not exist; did you mean 'author'\?"),
            (Annotated[str, From("title.name")], r"Book\.title is no relationship"),
            (Annotated[str, From("author.nme")], r"Author has no attribute 'nme'; did you mean 'name'\?"),
            (Annotated[str, From("metadata")], r"Book\.metadata is Python, which no statement can ask for"),
            (Annotated[str, From(3)], r"From\(\) takes a path, or a SQL expression"),
            (Annotated[str, From(Author.name)], r"the expression is about author, and the rows are those of Book"),
            (Annotated[str, From(None)], r"needs a default"),
            (Annotated[str, From("author")], r"Book\.author gives one Author: annotate it with a response model"),
            (Annotated[AuthorOut, From("reviews")], r"Book\.reviews gives many Review: .* as in list\[...\]"),
            (Annotated[list[AuthorOut], From("author")], r"Book\.author gives one Author: .* not a list"),
            (Annotated[int, From.count("title")], r"Book\.title is no relationship"),
            (Annotated[int, From.sum("reviews")], r"name the relationship too"),
            (Annotated[int, From.sum("reviews.star")], r"Review has no attribute 'star'; did you mean 'stars'\?"),
            (
                Annotated[list[ReviewOut], From("reviews", order_by="-sars")],
                r"no attribute 'sars'; did you mean 'stars'",
            ),
        ],
    )
    def test_what_nothing_gives(self, annotation: object, told: str) -> None:
        """Model, field, and the nearest names."""
        schema = type("Out", (Schema,), {"__annotations__": {"titel": annotation}})

        with pytest.raises(DeclarationError, match=told):
            Repository(Session(), Book).into(schema)

    async def test_a_lock_is_for_objects(self, stocked: World) -> None:
        """What is locked is to be changed, and a model cannot be."""
        async with stocked.shop() as shop:
            with pytest.raises(DeclarationError, match="read their objects"):
                shop.books.for_update().into(AuthorlessOut)
            await shop.rollback()

    async def test_a_closed_unit(self, stocked: World) -> None:
        """As for any read."""
        shop = stocked.shop()
        with pytest.raises(UnitClosedError):
            await shop.books.into(AuthorlessOut).all()

    async def test_a_reader_that_is_kept_too_long(self, stocked: World) -> None:
        """It refuses to read when its unit has ended."""
        async with stocked.serving() as shop:
            reader = shop.books.into(AuthorlessOut)
            assert len(await reader.all()) == 2
        for verb, arguments in (("get", (1,)), ("all", ()), ("slice", (PageQuery(),))):
            with pytest.raises(UnitClosedError, match="has ended"):
                await getattr(reader, verb)(*arguments)
        assert stocked.checked_out == 0

    async def test_criteria_in_the_options(self, stocked: World) -> None:
        """They narrow a page in whatever order, also where its statement is kept for the next time."""
        hidden = with_loader_criteria(Book, Book.id != 1)
        async with stocked.serving() as shop:
            for books in (shop.books, shop.books.order_by(Book.title)):
                whole, narrow = books.into(AuthorlessOut), books.with_options(hidden).into(AuthorlessOut)
                for _ in range(3):
                    assert {each.id for each in (await whole.slice(PageQuery())).items} == {1, 2}
                    assert {each.id for each in (await narrow.slice(PageQuery())).items} == {2}

    async def test_any_number_of_orders(self, stocked: World) -> None:
        """Each page is in its own order, though what was sorted by before is forgotten; few statements are kept."""
        async with stocked.serving() as shop:
            ready = shop.books.into(AuthorlessOut)._projection.ready
            for number in range(600):
                up = number % 3 > 0
                key = (Book.id + number) if up else (Book.id + number).desc()
                found = await shop.books.order_by(key).into(AuthorlessOut).slice(PageQuery())
                assert [each.id for each in found.items] == ([1, 2] if up else [2, 1])
            assert 0 < len(ready._pages) <= 256
