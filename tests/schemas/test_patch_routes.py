"""Derived models in routes: what a client may send, what it gets, and what OpenAPI says."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World
from deps.apps import answer, app_of, coloured, problem_of
from pydantic import BaseModel, Field, model_validator
from repository.scenes import ON_SQLITE

from bookshop.models import Book
from fastkit.deps import found, unit_of_work
from fastkit.pages import Page, PageQuery
from fastkit.schemas import IfLoaded, ReadOnly, Schema, WriteOnly, apply, omit, partial

pytestmark = pytest.mark.anyio
MERGE = {"content-type": "application/merge-patch+json"}


class AuthorOut(Schema):
    """An author."""

    name: str


class BookModel(Schema, camel=True):
    """A book."""

    id: ReadOnly[int] = 0
    title: str = Field(min_length=2, max_length=200, description="Title in English.", examples=["Emma"])
    stock: int = Field(ge=0)
    price: Decimal
    sku: WriteOnly[str]
    author_id: ReadOnly[int] = 0

    @model_validator(mode="after")
    def many_are_cheap(self) -> BookModel:
        """Refuse many that cost much."""
        if self.stock > 1000 and self.price > 100:
            raise ValueError("too many that cost too much")
        return self


class BookPatch(BookModel, partial=True):
    """Changes of a book."""


class BookListItem(BookModel, omit={"sku", "price", "many_are_cheap"}):
    """A book in a list."""

    author: IfLoaded[AuthorOut]


def shop_app(world: World) -> Any:
    """Return an app with a route for each derived model."""
    app = app_of(world)
    shop_dep: Any = Annotated[world.unit, unit_of_work(world.unit)]
    book_dep: Any = Annotated[Book, found(world.unit.books)]

    async def change(book: Any, body: Any, shop: Any) -> Any:
        async with shop.begin():
            apply(getattr(book, "naked", book), body)
        return BookListItem.model_validate(getattr(book, "naked", book))

    change.__annotations__ = {"book": book_dep, "body": BookPatch, "shop": shop_dep, "return": BookListItem}
    app.patch("/books/{book_id}")(coloured(world, change))

    async def read(shop: Any) -> Any:
        return await shop.books.into(BookListItem).page(PageQuery())

    read.__annotations__ = {"shop": shop_dep, "return": Page[BookListItem]}
    app.get("/books")(coloured(world, read))
    return app


async def patched(world: World, payload: Any, **options: Any) -> Any:
    """Return the answer to a patch of the first book."""
    options = {"headers": MERGE} | options
    return await answer(shop_app(world), "/books/1", "PATCH", content=json.dumps(payload), **options)


async def test_a_patch(stocked: World) -> None:
    """It is taken as JSON and as a merge patch; what is read-only is ignored, what is write-only stays unseen."""
    for headers in (MERGE, {"content-type": "application/json"}):
        response = await patched(stocked, {"title": "Emma II", "id": 7, "authorId": 7, "sku": "X"}, headers=headers)
        assert response.status_code == 200, response.text
        assert response.json() == {"id": 1, "title": "Emma II", "stock": 5, "authorId": 1}
    async with stocked.shop() as shop:
        book = await shop.books.get_one(1)
    assert (book.id, book.author_id, book.sku, book.title) == (1, 1, "X", "Emma II")


@pytest.mark.parametrize(
    ("payload", "pointer"),
    [({"title": None}, "/title"), ({"stock": -1}, "/stock"), ({"title": "E"}, "/title"), ([], "")],
)
@ON_SQLITE
async def test_what_does_not_fit(stocked: World, payload: Any, pointer: str) -> None:
    """Null for a column that cannot be null is an error of the request, not of the database."""
    document = problem_of(await patched(stocked, payload))

    assert document["status"] == 422
    assert [each.get("pointer", "") for each in document["errors"]] == [pointer]


@ON_SQLITE
async def test_a_rule_about_the_whole(stocked: World) -> None:
    """A patch that breaks a rule together with what stays is a 422, and one that says too little is no 500."""
    assert (await patched(stocked, {"stock": 1001})).status_code == 200
    document = problem_of(await patched(stocked, {"price": "100.01"}))

    assert document["status"] == 422
    assert document["errors"] == [{"detail": "too many that cost too much"}]
    assert (await patched(stocked, {})).status_code == 200


@ON_SQLITE
async def test_a_list(stocked: World) -> None:
    """A reader reads what a derived model has."""
    response = await answer(shop_app(stocked), "/books")

    assert response.json()["items"][0] == {
        "id": 1,
        "title": "Emma",
        "stock": 5,
        "authorId": 1,
        "author": {"name": "Jane Austen"},
    }


class Plain(BaseModel):
    """A model that is none of ours."""

    name: str
    age: int = 3


def test_openapi(stocked: World) -> None:
    """Each class is there under its own name, with nothing required of a patch."""
    app = shop_app(stocked)

    def plain(body: partial(Plain)) -> omit(Plain, {"age"}):  # type: ignore[valid-type]
        """Take and give a derived model."""

    app.post("/plain")(plain)
    schemas = app.openapi()["components"]["schemas"]
    patch = schemas["BookPatch"]

    assert {"BookPatch", "BookListItem", "PlainPatch", "PlainWithoutAge", "Page_BookListItem_"} <= schemas.keys()
    assert "required" not in patch
    assert patch["properties"].keys() == {"title", "stock", "price", "sku"}
    assert patch["properties"]["sku"]["writeOnly"] is True
    assert patch["properties"]["title"]["examples"] == ["Emma"]
    assert schemas["BookListItem"]["properties"]["id"]["readOnly"] is True
    assert "author" not in schemas["BookListItem"]["required"]
    assert schemas["PlainPatch"]["properties"]["age"] == {"type": "integer", "title": "Age"}
