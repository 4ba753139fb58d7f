"""`listed`: a list query from the parameters of a request, with 422 for what is not on the list."""

from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World
from deps.apps import answer, app_of, coloured, problem_of
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from repository.scenes import ON_SQLITE

from bookshop.models import Author, Book
from fastkit.deps import check_routes, listed, unit_of_work
from fastkit.errors import DeclarationError
from fastkit.pages import Page
from fastkit.repository import Contains, Equals, ListQuery, OneOf, Range, Search, Sort
from fastkit.schemas import From

pytestmark = pytest.mark.anyio


class BookQuery(ListQuery[Book]):
    """What a client may ask of books."""

    title: Contains[str] = None
    language: OneOf[str] = None
    price: Range[Decimal] = None
    author: Annotated[Equals[str], From("author.name")] = None
    q: Annotated[str | None, Search("title", "author.name")] = None
    sort = Sort("title", "price", default="title")
    max_size = 50


class AuthorQuery(ListQuery[Author]):
    """What a client may ask of authors."""

    name: Contains[str] = None


class BookOut(BaseModel):
    """What is shown."""

    title: str


@pytest.fixture
def app(stocked: World) -> FastAPI:
    """Return an app with a list of books, behind a router that has a parameter of its own."""
    app = app_of(stocked)

    async def guard(tenant: str = "") -> None: ...

    async def books(
        shop: Annotated[Any, unit_of_work(stocked.unit)],
        query: Annotated[BookQuery, listed(BookQuery)],
        extra: int = 1,
    ) -> Page[BookOut]:
        found: Page[BookOut] = await shop.books.into(BookOut).page(query)
        return found

    router = APIRouter(prefix="/v1", dependencies=[Depends(guard)])
    router.get("/books")(coloured(stocked, books))
    app.include_router(router)
    check_routes(app)
    return app


@pytest.mark.parametrize(
    ("asked", "titles"),
    [
        ("", ["Emma", "Persuasion"]),
        ("sort=-title", ["Persuasion", "Emma"]),
        ("size=1&page=2", ["Persuasion"]),
        ("title=EMM", ["Emma"]),
        ("language=en&language=de", ["Emma", "Persuasion"]),
        ("language=de", []),
        ("price_min=1&price_max=10", ["Emma", "Persuasion"]),
        ("price_max=9.99", []),
        ("author=Jane+Austen&extra=3&tenant=x", ["Emma", "Persuasion"]),
        ("q=suasi", ["Persuasion"]),
    ],
)
async def test_what_a_client_may_ask(app: FastAPI, asked: str, titles: list[str]) -> None:
    """Each filter is a parameter, beside those of the route and of its router."""
    response = await answer(app, f"/v1/books?{asked}")

    assert [each["title"] for each in response.json()["items"]] == titles


@pytest.mark.parametrize(
    ("asked", "parameter", "told"),
    [
        ("titel=x", "titel", "No such parameter; did you mean 'title'?"),
        ("zzzzzzz=1", "zzzzzzz", "No such parameter"),
        ("sort=prise", "sort", "The list can be sorted by title, price; did you mean 'price'?"),
        ("sort=id", "sort", "The list can be sorted by title, price"),
        ("size=51", "size", "Input should be less than or equal to 50"),
        ("page=0", "page", "Input should be greater than or equal to 1"),
        ("price_min=cheap", "price_min", "Input should be a valid decimal"),
        ("price_min=NaN", "price_min", "Input should be a finite number"),
        ("price=1", "price", "No such parameter; did you mean"),
        (f"q={'x' * 201}", "q", "String should have at most 200 characters"),
        ("&".join(f"language={n}" for n in range(101)), "language", "List should have at most 100 items"),
    ],
)
async def test_what_a_client_may_not_ask(app: FastAPI, asked: str, parameter: str, told: str) -> None:
    """Is a 422 that names the parameter and what is allowed, and repeats no value."""
    problem = problem_of(await answer(app, f"/v1/books?{asked}"))

    assert problem["status"] == 422
    (error,) = problem["errors"]
    assert (error["in"], error["parameter"]) == ("query", parameter)
    assert error["detail"].startswith(told)


@pytest.mark.parametrize(
    "asked", ["title=%00", "title=%F0%9F%92%A9", "q=%25%5F%2F", "author=%27%3B--", "price_min=1e400"]
)
async def test_odd_values(app: FastAPI, asked: str) -> None:
    """Are never a 500."""
    response = await answer(app, f"/v1/books?{asked}")

    assert response.status_code in {200, 422}


@ON_SQLITE
async def test_the_schema_shows_each_parameter(app: FastAPI) -> None:
    """With a description and its bounds."""
    schema = (await answer(app, "/openapi.json")).json()
    shown = {each["name"]: each for each in schema["paths"]["/v1/books"]["get"]["parameters"]}

    assert {"page", "size", "sort", "title", "language", "price_min", "price_max", "author", "q"} <= shown.keys()
    assert shown["size"]["schema"]["maximum"] == 50
    assert shown["sort"]["description"] == 'Keys to sort by, separated by commas, "-" for descending: title, price.'
    assert shown["q"]["description"] == "Only where title or author.name contains this, in any case."
    assert all(each["description"] for name, each in shown.items() if name not in {"extra", "tenant"})
    assert not any(each["required"] for each in shown.values())


@ON_SQLITE
async def test_several_list_queries_in_one_route(stocked: World) -> None:
    """Their parameters stand side by side; what neither knows is refused."""
    app = app_of(stocked)

    async def both(
        books: Annotated[BookQuery, listed(BookQuery)], authors: Annotated[AuthorQuery, listed(AuthorQuery)]
    ) -> list[str | None]:
        return [books.title, authors.name]

    app.get("/both")(both)

    assert (await answer(app, "/both?title=a&name=b&size=3")).json() == ["a", "b"]
    assert problem_of(await answer(app, "/both?nam=b"))["status"] == 422


@ON_SQLITE
async def test_a_path_that_leads_nowhere_stops_the_start(stocked: World) -> None:
    """With the route; and what is no list query is told at once."""

    class Wrong(ListQuery[Book]):
        """A path that only the other model can refuse."""

        author: Annotated[Equals[str], From("author.nme")] = None

    app = app_of(stocked)

    async def books(query: Annotated[Wrong, listed(Wrong)]) -> None: ...

    app.get("/books")(books)
    with pytest.raises(DeclarationError, match=r"/books \(.*books\): Wrong\.author: Author\.nme holds no value"):
        check_routes(app)
    for wrong in (BookOut, ListQuery, "books"):
        with pytest.raises(DeclarationError):
            listed(wrong)  # type: ignore[type-var]
