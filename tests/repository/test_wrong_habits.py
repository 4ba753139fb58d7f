"""What looks right to whoever comes from SQLAlchemy, and is not: told in words, never ignored."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World
from pydantic import BaseModel
from repository.bulk_models import Thing, kinds, of, row
from repository.scenes import ON_SQLITE

from bookshop.models import Author, Book
from fastkit.errors import DeclarationError, InvalidValueError
from fastkit.pages import PageQuery, WindowQuery
from fastkit.repository import Contains, ListQuery, Search, StartsWith
from fastkit.repository._list_filters import check_paths
from fastkit.schemas import From

pytestmark = pytest.mark.anyio
__all__ = ["kinds"]


class Meta(BaseModel):
    """What is kept in one column."""

    a: int


@ON_SQLITE
async def test_values_in_set_are_no_names(stocked: World) -> None:
    """`set=` of an upsert takes attributes, as `match=` does; values there would be ignored."""
    async with stocked.shop() as shop:
        with pytest.raises(DeclarationError, match="their values are those of the rows"):
            await shop.books.bulk.upsert([row(1)], match="sku", set={"title": "x"})  # type: ignore[arg-type]
        assert await shop.books.count() == 2


@ON_SQLITE
async def test_attributes_are_no_names_of_values(stocked: World) -> None:
    """Values go by name, in each verb."""
    wrong: Any = {Book.price: 1}
    async with stocked.shop() as shop:
        for call in (lambda: shop.books.bulk.update(wrong, Book.id > 0), lambda: shop.books.bulk.insert([wrong])):
            with pytest.raises(DeclarationError, match="by name"):
                await call()
        with pytest.raises(DeclarationError, match="by name"):
            await shop.books.into(Priced).insert(wrong)


@ON_SQLITE
async def test_pages_and_windows_are_asked_for_by_queries(stocked: World) -> None:
    """Each by its own, of repositories, readers and JSON."""
    wrong: Any
    async with stocked.serving() as shop:
        for reader in (shop.books, shop.books.into(Priced), shop.books.into(Priced).json()):
            for wrong in (1, None, {"page": 1}):
                with pytest.raises(
                    DeclarationError, match=rf"page\(\) takes PageQuery\(.* not {type(wrong).__name__}\."
                ):
                    await reader.page(wrong)
                with pytest.raises(
                    DeclarationError, match=rf"slice\(\) takes PageQuery\(.* not {type(wrong).__name__}\."
                ):
                    await reader.slice(wrong)
                with pytest.raises(
                    DeclarationError, match=rf"window\(\) takes WindowQuery.* not {type(wrong).__name__};"
                ):
                    await reader.window(wrong)
            for verb in (reader.page, reader.slice):
                with pytest.raises(DeclarationError, match=r"not WindowQuery; windows are read by window\(\)\."):
                    await verb(WindowQuery())
            with pytest.raises(DeclarationError, match=r"not PageQuery; numbered pages are page\(\) and slice\(\)\."):
                await reader.window(PageQuery())


@ON_SQLITE
async def test_rows_are_read_into_pydantic_models(stocked: World) -> None:
    """Not into what only looks like one."""
    async with stocked.serving() as shop:
        for wrong in (dict, list[Priced], Priced(price=Decimal(1)), [], Book):
            with pytest.raises(
                DeclarationError, match=r"into\(\) takes a Pydantic model, whose fields say what is read"
            ):
                shop.books.into(wrong)


class Priced(BaseModel):
    """A price."""

    price: Decimal


@ON_SQLITE
@pytest.mark.parametrize("keys", ["12", b"12"])
async def test_a_text_is_not_many_keys(stocked: World, keys: Any) -> None:
    """Not its characters."""
    async with stocked.serving() as shop:
        with pytest.raises(DeclarationError, match="takes many keys"):
            await shop.books.get_many(keys)


async def test_a_model_in_a_column_of_json(kinds: World) -> None:
    """It is stored as what it becomes in JSON, in a mapping as in a model, beside rows without one."""
    async with kinds.shop() as shop:
        things = of(shop, Thing)
        await things.bulk.insert([{"label": "a", "data": Meta(a=1)}, {"label": "b", "data": {"c": None}}])
        await shop.commit()
    async with kinds.shop() as shop:
        found = {each.label: each.data for each in await of(shop, Thing).all()}
    assert found == {"a": {"a": 1}, "b": {"c": None}}


async def test_what_no_text_of_postgresql_has(stocked: World) -> None:
    """COPY tells it as an INSERT does, with the number of the row, and stores nothing."""
    if stocked.server != "PostgreSQL":
        pytest.skip("about COPY")
    with pytest.raises(InvalidValueError, match="It is row 2"):
        async with stocked.shop() as shop:
            await shop.authors.bulk.insert([{"name": "ok"}, {"name": "a\0b"}], copy=True)
    async with stocked.shop() as shop:
        assert await shop.authors.count(Author.name == "ok") == 0


@pytest.mark.parametrize(
    ("annotation", "told"),
    [
        (Annotated[Contains[str], From("stock")], "Book.stock is no text"),
        (Annotated[StartsWith[str], From("price")], "Book.price is no text"),
        (Annotated[Contains[str], From("author.id")], "Author.id is no text"),
        (Annotated[str | None, Search("title", "year")], "Book.year is no text"),
    ],
)
def test_a_filter_of_texts_is_about_texts(annotation: Any, told: str) -> None:
    """PostgreSQL has no LIKE for numbers; SQLite does, so tests there would not find it."""
    wrong: Any = type("Wrong", (ListQuery[Book],), {"__annotations__": {"found": annotation}, "found": None})
    right: Any = type("Right", (ListQuery[Book],), {"__annotations__": {"title": Contains[str]}, "title": None})

    check_paths(right)
    with pytest.raises(DeclarationError, match=told):
        check_paths(wrong)
