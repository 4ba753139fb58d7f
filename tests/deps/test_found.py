"""A row named by the path, or a 404 problem."""

from typing import Annotated, Any

import pytest
from conftest import AsyncShop, Shop, World
from deps.apps import answer, app_of, client_of, coloured, problem_of
from fastapi import APIRouter, Depends
from pydantic import BaseModel
from repository.scenes import ON_SQLITE, recorded
from sqlalchemy.orm import joinedload, selectinload

from bookshop.models import Book
from fastkit.deps import check_routes, found, unit_of_work
from fastkit.errors import DeclarationError

pytestmark = pytest.mark.anyio

PATHS = {None: "/books/{book_id}", "sku": "/books/{sku}", "year": "/books/{year}", "key": "/books/{key}"}


def titles(world: World, *, path: str | None = None, **options: Any) -> Any:
    """Return an app that answers with the title of the book that its path names."""
    app = app_of(world)

    async def title(book: Annotated[Any, found(world.unit.books, path=path, **options)]) -> str:
        return str(book.title)

    app.get(PATHS[path])(coloured(world, title))
    check_routes(app)
    return app


@pytest.mark.parametrize(("path", "value"), [(None, "2"), ("sku", "sku-Persuasion"), ("key", "2")])
async def test_found_gives_the_row_that_the_path_names(stocked: World, path: str | None, value: str) -> None:
    """By its primary key, or by the attribute that has the name of the parameter."""
    response = await answer(titles(stocked, path=path), f"/books/{value}")

    assert response.json() == "Persuasion"
    assert stocked.checked_out == 0


@pytest.mark.parametrize(("path", "value"), [(None, "3"), (None, "-1"), ("sku", "sku-Ulysses")])
async def test_found_answers_404_for_no_row(stocked: World, path: str | None, value: str) -> None:
    """The problem names the model and not the value."""
    response = await answer(titles(stocked, path=path), f"/books/{value}")

    problem = problem_of(response)
    assert (problem["status"], problem["type"]) == (404, "urn:fastkit:problem:not-found")
    assert problem["detail"] == "No Book matches."


async def test_found_answers_422_for_a_wrong_type(stocked: World) -> None:
    """The parameter has the type of the column, and its place is in the problem."""
    problem = problem_of(await answer(titles(stocked), "/books/emma"))

    assert problem["status"] == 422
    assert problem["errors"][0]["parameter"] == "book_id"


@pytest.mark.parametrize("value", [2**31, 2**63, 10**30])
async def test_found_answers_a_key_that_no_row_can_have(stocked: World, value: int) -> None:
    """A number that the column or the driver cannot take is the client's fault, never a 500."""
    response = await answer(titles(stocked), f"/books/{value}")

    assert problem_of(response)["status"] in {404, 422}


async def test_found_answers_500_when_the_attribute_is_not_unique(stocked: World) -> None:
    """Two books of one year are a mistake of the app, which the client cannot mend."""
    problem = problem_of(await answer(titles(stocked, path="year"), "/books/1815"))

    assert (problem["status"], problem["type"]) == (500, "about:blank")


@pytest.mark.parametrize("load", [joinedload, selectinload])
async def test_found_loads_what_the_options_ask_for(stocked: World, load: Any) -> None:
    """Relationships that the response shows come with the row."""
    app, options = app_of(stocked), [load(Book.author), load(Book.reviews)]

    async def show(book: Annotated[Any, found(stocked.unit.books, options=options)]) -> list[Any]:
        return [book.author.name, book.reviews]

    app.get("/{book_id}")(coloured(stocked, show))

    response = await answer(app, "/1")

    assert response.json() == ["Jane Austen", []]


async def test_found_reads_a_parameter_of_the_routers_prefix(stocked: World) -> None:
    """The whole path counts, also that of a router in a router."""
    inner, outer = APIRouter(prefix="/reviews"), APIRouter(prefix="/authors/{author_id}")

    async def show(
        author: Annotated[Any, found(stocked.unit.authors)], book: Annotated[Any, found(stocked.unit.books)]
    ) -> list[str]:
        return [author.name, book.title]

    inner.get("/{book_id}")(coloured(stocked, show))
    outer.include_router(inner)
    app = app_of(stocked)
    app.include_router(outer, prefix="/v1")
    check_routes(app)

    response = await answer(app, "/v1/authors/1/reviews/2")

    assert response.json() == ["Jane Austen", "Persuasion"]


async def test_found_serves_other_dependencies(stocked: World) -> None:
    """A sub-dependency takes the row, and a router may ask for it before all its routes."""
    unit = stocked.unit

    async def priced(book: Annotated[Any, found(unit.books)]) -> str:
        return f"{book.title} costs {book.price:.0f}"

    async def show(price: Annotated[str, Depends(coloured(stocked, priced))]) -> str:
        return price

    router = APIRouter(dependencies=[found(unit.authors)])
    router.get("/{author_id}/{book_id}")(coloured(stocked, show))
    app = app_of(stocked)
    app.include_router(router)
    check_routes(app)

    async with client_of(app) as client:
        good, no_author = await client.get("/1/1"), await client.get("/9/1")

    assert good.json() == "Emma costs 10"
    assert no_author.status_code == 404


async def test_found_gives_an_object_that_a_block_can_change(stocked: World) -> None:
    """The row belongs to the request's unit, so a block of it stores the change."""
    app, unit = app_of(stocked), stocked.unit

    async def rename(
        title: str, book: Annotated[Any, found(unit.books)], shop: Annotated[Any, unit_of_work(unit)]
    ) -> None:
        async with shop.begin():
            book.title = title

    app.put("/{book_id}")(coloured(stocked, rename))

    response = await answer(app, "/1?title=Ulysses", "PUT")
    async with stocked.serving() as shop:
        assert response.status_code == 200
        assert (await shop.books.get_one(1)).title == "Ulysses"


@pytest.mark.parametrize("unit", [Shop, AsyncShop])
def test_found_refuses_what_it_cannot_find(unit: Any) -> None:
    """A composite key and a class that is no repository are told where they are written."""
    with pytest.raises(DeclarationError, match=r"has 2 columns.*Write a dependency.*get_one\(\(a, b\)\)"):
        found(unit.lines)
    with pytest.raises(DeclarationError, match=r"found\(Shop\.books\)"):
        found(Book)


async def test_found_is_in_the_openapi_schema(stocked: World) -> None:
    """The operation shows the parameter with its type, and the 404."""
    operation = titles(stocked).openapi()["paths"]["/books/{book_id}"]["get"]

    assert operation["parameters"][0]["schema"]["type"] == "integer"
    assert {"404", "422"} <= operation["responses"].keys()


class AuthorOut(BaseModel):
    """What a book shows of its author."""

    name: str


class BookOut(BaseModel):
    """What a route shows of a book."""

    title: str
    author: AuthorOut


@pytest.mark.parametrize(("path", "value"), [(None, "2"), ("sku", "sku-Persuasion"), ("key", "2")])
async def test_found_reads_straight_into_a_response_model(stocked: World, path: str | None, value: str) -> None:
    """One statement, by key or by another attribute; 404 and 422 as for objects."""
    app = app_of(stocked)

    async def show(book: Annotated[BookOut, found(stocked.unit.books, BookOut, path=path)]) -> BookOut:
        return book

    app.get(PATHS[path])(coloured(stocked, show))
    check_routes(app)
    with recorded(stocked) as sent:
        response = await answer(app, f"/books/{value}")

    assert response.json() == {"title": "Persuasion", "author": {"name": "Jane Austen"}}
    assert len(sent) == 1
    assert problem_of(await answer(app, "/books/404"))["status"] == 404
    assert stocked.checked_out == 0


@ON_SQLITE
async def test_found_tells_of_a_field_that_nothing_gives_at_start(stocked: World) -> None:
    """With the route, the field and the nearest name; and what is no model, at once."""

    class Wrong(BaseModel):
        titel: str

    app = app_of(stocked)

    async def show(book: Annotated[Any, found(stocked.unit.books, Wrong)]) -> None: ...

    app.get("/books/{book_id}")(coloured(stocked, show))
    with pytest.raises(DeclarationError, match=r"/books/\{book_id\} \(.*show\): Wrong\.titel: .*did you mean 'title'"):
        check_routes(app)
    with pytest.raises(DeclarationError, match="is a response model, not 'title'"):
        found(stocked.unit.books, "title")  # type: ignore[arg-type]
