"""List queries: filters, order and page of a list, on every database."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World, book
from pydantic import BaseModel, ValidationError
from repository.scenes import OUTSIDE, PLACES, recorded, scene

from bookshop.models import Author, Book, Customer, Review
from fastkit.errors import DeclarationError
from fastkit.repository import (
    Between,
    Contains,
    Equals,
    IsNull,
    ListQuery,
    OneOf,
    Range,
    Search,
    Sort,
    StartsWith,
    Where,
)
from fastkit.schemas import From

pytestmark = pytest.mark.anyio


class BookQuery(ListQuery[Book]):
    """One of each filter."""

    id: OneOf[int] = None
    title: Contains[str] = None
    sku: StartsWith[str] = None
    year: Equals[int] = None
    price: Range[Decimal] = None
    language: IsNull = None
    author: Annotated[Equals[str], From("author.name")] = None
    stars: Annotated[Range[int], From("reviews.stars")] = None
    reviewer: Annotated[Contains[str], From("reviews.customer.name")] = None
    worth: Annotated[Range[Decimal], From(Book.price * Book.stock)] = None
    q: Annotated[str | None, Search("title", "author.name")] = None
    sold_out: Annotated[bool | None, Where(lambda yes: Book.stock == 0 if yes else Book.stock > 0)] = None

    sort = Sort("title", "price", "id", worth=Book.price * Book.stock, default="title")
    max_size = 50


class EitherQuery(ListQuery[Book]):
    """Two filters of which one is enough, and one that is needed."""

    title: Contains[str] = None
    year: Equals[int] = None
    price: Range[Decimal] = None
    any_of = (("title", "year"),)


class BookOut(BaseModel):
    """What is read."""

    id: int


ROWS = [
    # id, title, sku, year, price, stock, author
    (1, "Emma", "A-1", 1815, 10, 5, 1),
    (2, "Persuasion", "A-2", 1817, 20, 0, 1),
    (3, "100% True", "B_1", 1900, 5, 2, 2),
    (4, "100 Trees", "Bx1", 1901, 5, 9, 2),
    (5, "emmanuelle", "C/1", 1959, 7, 1, 3),
]


@pytest.fixture
async def shelf(world: World) -> World:
    """Return a shop with five books of three authors, two of them reviewed."""
    async with world.shop() as shop:
        shop.authors.add_all(Author(id=key, name=name) for key, name in [(1, "Austen"), (2, "Zola"), (3, "Arsan")])
        shop.customers.add_all(Customer(id=key, name=f"C{key}", email=f"{key}@x") for key in (1, 2))
        for key, title, sku, year, price, stock, author in ROWS:
            values = {"sku": sku, "year": year, "price": price, "stock": stock, "author_id": author}
            shop.books.add(book(key, title, **values))
        await shop.commit()
    async with world.shop() as shop:
        reviews = [(1, 1, 1, 5), (2, 1, 2, 2), (3, 3, 1, 3)]
        shop.reviews.add_all(Review(id=i, book_id=b, customer_id=c, stars=s, text="") for i, b, c, s in reviews)
        await shop.commit()
    return world


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, {1, 2, 3, 4, 5}),
        ({"id": [1, 3, 99]}, {1, 3}),
        ({"id": []}, set()),
        ({"title": "EMMA"}, {1, 5}),
        ({"title": "100%"}, {3}),
        ({"title": "_"}, set()),
        ({"sku": "B_"}, {3}),
        ({"sku": "C/"}, {5}),
        ({"year": 1815}, {1}),
        ({"year": 1}, set()),
        ({"price": {"min": 7}}, {1, 2, 5}),
        ({"price": {"max": 7}}, {3, 4, 5}),
        ({"price": Between(min=Decimal(7), max=Decimal(10))}, {1, 5}),
        ({"price": {}}, {1, 2, 3, 4, 5}),
        ({"language": True}, set()),
        ({"language": False}, {1, 2, 3, 4, 5}),
        ({"author": "Zola"}, {3, 4}),
        ({"stars": {"min": 3}}, {1, 3}),
        ({"stars": {"max": 2}}, {1}),
        ({"reviewer": "c2"}, {1}),
        ({"worth": {"min": 40, "max": 50}}, {1, 4}),
        ({"q": "ar"}, {5}),
        ({"q": "a"}, {1, 2, 3, 4, 5}),
        ({"sold_out": True}, {2}),
        ({"sold_out": False}, {1, 3, 4, 5}),
        ({"title": "emma", "price": {"max": 7}}, {5}),
    ],
    ids=str,
)
async def test_filters(shelf: World, asked: dict[str, Any], found: set[int]) -> None:
    """Each filter lets the right rows through, as objects and as models, with the right total; several by AND."""
    query = BookQuery.model_validate(asked)
    async with scene(shelf, OUTSIDE) as at:
        objects = await at.shop.books.page(query)
        models = await at.shop.books.into(BookOut).page(query)
        part = await at.shop.books.into(BookOut).slice(query)

        assert {each.id for each in objects.items} == {each.id for each in models.items} == found
        assert {each.id for each in part.items} == found
        assert objects.total == models.total == len(found)
        assert at.settled


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"title": "emma", "year": 1817}, {1, 2, 5}),
        ({"title": "emma"}, {1, 5}),
        ({"title": "emma", "year": 1817, "price": {"min": 10}}, {1, 2}),
        ({}, {1, 2, 3, 4, 5}),
    ],
    ids=str,
)
async def test_groups(shelf: World, asked: dict[str, Any], found: set[int]) -> None:
    """Of a group one is enough; what is not asked for does not count; the rest is needed as well."""
    async with scene(shelf, OUTSIDE) as at:
        page = await at.shop.books.page(EitherQuery.model_validate(asked))

        assert {each.id for each in page.items} == found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("price,-id", [4, 3, 5, 1, 2]),
        ("-price, id", [2, 1, 5, 3, 4]),
        ("worth", [2, 5, 3, 4, 1]),
        ("-worth,title", [1, 4, 3, 5, 2]),
    ],
)
async def test_sorting(shelf: World, sort: str, order: list[int], place: str) -> None:
    """By several keys, by an expression; the primary key comes last, so each page continues the one before."""
    async with scene(shelf, place) as at:
        found = []
        for page in (1, 2, 3):
            query = BookQuery(page=page, size=2, sort=sort)
            found += [each.id for each in (await at.shop.books.into(BookOut).page(query)).items]
            objects = (await at.shop.books.page(query)).items
            assert [each.id for each in objects] == found[2 * page - 2 :]

        assert found == order


async def test_the_order_of_a_view_holds_until_the_client_asks(shelf: World) -> None:
    """The default of the query is for views without an order."""
    async with scene(shelf, OUTSIDE) as at:
        books = at.shop.books.order_by(Book.id.desc())
        own = await books.page(BookQuery(size=2))
        asked = await books.page(BookQuery(size=2, sort="price"))

        assert [each.id for each in own.items] == [5, 4]
        assert [each.id for each in asked.items] == [3, 4]


async def test_the_default_order_is_that_of_the_query(shelf: World) -> None:
    """On every page, where neither the view nor the client says another."""

    class Latest(ListQuery[Book]):
        """The last ones first."""

        sort = Sort("year", default="-year")

    async with scene(shelf, OUTSIDE) as at:
        pages = [await at.shop.books.into(BookOut).page(Latest(page=page, size=3)) for page in (1, 2)]

        assert [[each.id for each in page.items] for page in pages] == [[5, 4, 3], [2, 1]]


def test_sort_keys_that_several_queries_share() -> None:
    """Are attributes of the model of each."""
    shared = Sort("id", default="id")
    queries = [type("Query", (ListQuery[each],), {"sort": shared, "__module__": __name__}) for each in (Book, Author)]

    assert [query().ordering()[0].class_ for query in queries] == [Book, Author]


async def test_a_list_is_two_statements(shelf: World) -> None:
    """The rows and their number, however many filters go through relationships."""
    query = BookQuery(author="Austen", stars=Between(min=1), reviewer="C", q="emma", size=1)
    async with scene(shelf, OUTSIDE) as at:
        with recorded(shelf) as sent:
            page = await at.shop.books.into(BookOut).page(query)

        assert [each.id for each in page.items] == [1]
        assert len(sent) == 2


async def test_further_criteria(shelf: World) -> None:
    """What the code asks for is joined by AND, whatever the client asks for."""
    async with scene(shelf, OUTSIDE) as at:
        page = await at.shop.books.page(BookQuery(title="emma"), Book.price < 8)

        assert [each.id for each in page.items] == [5]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"sort": "prise"}, "can be sorted by title, price, id, worth; did you mean 'price'?"),
        ({"sort": "title,-stock"}, "can be sorted by title"),
        ({"sort": "--title"}, "can be sorted by title"),
        ({"size": 51}, "at most 50 rows"),
        ({"size": 0}, "greater than or equal to 1"),
        ({"page": 0}, "greater than or equal to 1"),
        ({"stock": 1}, "Extra inputs"),
        ({"id": list(range(101))}, "at most 100"),
        ({"title": "x" * 201}, "at most 200"),
        ({"price": {"least": 1}}, "price.least"),
        ({"price": {"min": "NaN"}}, "finite"),
    ],
    ids=str,
)
def test_what_is_not_on_the_list(asked: dict[str, Any], told: str) -> None:
    """Is refused where the query is made, with what is."""
    with pytest.raises(ValidationError) as caught:
        BookQuery.model_validate(asked)

    assert told in str(caught.value)


def _declared(**fields: Any) -> Any:
    annotations = {name: given for name, given in fields.items() if not name.startswith("_")}
    values: dict[str, Any] = {"__annotations__": annotations, "__module__": __name__, **dict.fromkeys(annotations)}
    values |= {name.removeprefix("_"): given for name, given in fields.items() if name.startswith("_")}
    return type("Query", (ListQuery[Book],), values)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"titel": Contains[str]}, r"Query\.titel: Book has no attribute 'titel'; did you mean 'title'\?"),
        ({"title": str | None}, r"Query\.title: says no filter"),
        ({"q": Annotated[str | None, Search("titel")]}, "no attribute 'titel'"),
        ({"name": Annotated[Equals[str], From("autor.name")]}, "no attribute 'autor'; did you mean 'author'"),
        ({"_sort": Sort("titel")}, r"Query\.sort: Book has no attribute 'titel'"),
        ({"_any_of": (("title",),)}, r"Query\.any_of: 'title' is no filter of it"),
    ],
)
def test_a_declaration_that_cannot_work(fields: dict[str, Any], told: str) -> None:
    """Is told when the class is made, with the nearest name."""
    with pytest.raises(DeclarationError, match=told):
        _declared(**fields)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("author.nme", r"Author\.nme holds no value to compare; did you mean 'name'\?"),
        ("author", r"Book\.author holds no value to compare"),
        ("title.name", r"Book has no relationship 'title'"),
    ],
)
def test_a_path_that_leads_nowhere(path: str, told: str) -> None:
    """Is told at the first use, when all models are there; `listed` looks when the app starts."""
    query = _declared(name=Annotated[Equals[str], From(path)])
    with pytest.raises(DeclarationError, match=told):
        query(name="x").criteria()


def test_what_is_no_query() -> None:
    """A default that is not listed, a class that is not mapped, no class at all."""
    with pytest.raises(DeclarationError, match="'price' is none of title"):
        Sort("title", default="price")
    with pytest.raises(DeclarationError, match="names a mapped class"):

        class NotMapped(ListQuery[BookOut]):
            """A list of nothing."""

    with pytest.raises(DeclarationError, match="does not say what it lists"):
        ListQuery.mapped_class()

    class Needed(ListQuery[Book]):
        """The base of the next."""

    with pytest.raises(DeclarationError, match="needs the default None"):
        type("Query", (Needed,), {"__annotations__": {"title": Contains[str]}, "__module__": __name__})
    with pytest.raises(DeclarationError, match="needs the default None"):
        type("Query", (Needed,), {"__annotations__": {"year": Equals[int]}, "year": 7, "__module__": __name__})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"size": OneOf[str]}, r"Query\.size: every list has a parameter 'size': name the field otherwise"),
        ({"order": Equals[str]}, r"every list has a parameter 'order'"),
        ({"price": Contains[Decimal]}, r"Query\.price: Contains is for texts"),
        ({"price": StartsWith[Decimal]}, r"StartsWith is for texts"),
        ({"sold_out": Annotated[bool | None, Where(Book.stock == 0)]}, r"Where\(\) takes a function"),  # type: ignore[arg-type]
    ],
)
def test_a_filter_that_cannot_work(fields: dict[str, Any], told: str) -> None:
    """Is told when the class is made."""
    with pytest.raises(DeclarationError, match=told):
        _declared(**fields)


@pytest.mark.parametrize(
    ("sort", "at_once", "told"),
    [
        ({"writer": "author.name"}, True, r"writer='author.name' is no SQL expression"),
        ({"writer": Author.name}, False, r"'writer' is about author, not Book: sort by a subquery"),
        ({"writer": Book.author}, False, r"'writer' is a relationship"),
    ],
)
def test_a_sort_key_that_cannot_work(sort: dict[str, Any], at_once: bool, told: str) -> None:
    """Is told when the class is made, or at the first use; `listed` looks when the app starts."""

    def declare() -> Any:
        body = {"sort": Sort(**sort), "__module__": __name__, "__annotations__": {}}
        return type("Query", (ListQuery[Book],), body)

    if at_once:
        with pytest.raises(DeclarationError, match=told):
            declare()
    else:
        with pytest.raises(DeclarationError, match=told):
            declare()().ordering()


def test_the_default_size_is_allowed() -> None:
    """Also where fewer rows are than usual; and there is one at least."""

    class Few(ListQuery[Book]):
        """At most five."""

        max_size = 5

    assert Few().size == 5
    assert ListQuery[Book]().size == 20
    with pytest.raises(DeclarationError, match="at least one row"):
        type("Query", (ListQuery[Book],), {"max_size": 0, "__module__": __name__})


async def test_no_text_has_a_nul(shelf: World) -> None:
    """Not even in SQLite, where it would end the pattern."""
    async with scene(shelf, OUTSIDE) as at:
        for query in (BookQuery(title="\0"), BookQuery(q="Em\0"), BookQuery(sku="\0")):
            assert not await at.shop.books.exists(*query.criteria())


async def test_a_query_of_another_model(shelf: World) -> None:
    """Is told before anything is sent."""
    async with scene(shelf, OUTSIDE) as at:
        with pytest.raises(DeclarationError, match="BookQuery is about Book, not about Author"):
            await at.shop.authors.page(BookQuery())
