"""camelCase by one class setting: in JSON, and nowhere else."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from conftest import World
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, computed_field
from repository.scenes import ON_SQLITE

from bookshop.models import Review
from fastkit.errors import DeclarationError
from fastkit.pages import Page, PageQuery
from fastkit.schemas import From, Schema, apply, partial


class AuthorOut(Schema):
    """Not in camelCase: each model says it for itself."""

    id: int
    full_name: Annotated[str, From("name")]


class ReviewOut(Schema, camel=True):
    """One of many."""

    id: int
    customer_id: int


class BookOut(Schema, camel=True):
    """What a client sees."""

    id: int
    author_id: int
    author: AuthorOut
    stock_value: Annotated[int, From("stock")]
    article_number: Annotated[str, From("sku")] = Field(alias="SKU")
    last_reviews: Annotated[list[ReviewOut], From("reviews")]


class BookListItem(BookOut, omit={"author", "article_number"}):
    """A subclass speaks as its base."""

    is_new: Annotated[bool, From(None)] = True


class BookIn(Schema, camel=True):
    """What a client sends."""

    author_id: int
    is_sold_out: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sort_key(self) -> int:
        """Return what it is sorted by."""
        return -self.author_id


def test_both_names_are_understood() -> None:
    """A client sends camelCase; code uses the names of Python; an error names what the client knows."""
    assert BookIn.model_validate({"authorId": 1}) == BookIn(author_id=1) == BookIn.model_validate({"author_id": 1})
    with pytest.raises(ValidationError) as caught:
        BookIn.model_validate({"authorId": "x"})
    assert caught.value.errors()[0]["loc"] == ("authorId",)


def test_json_has_camel_case() -> None:
    """As FastAPI writes it, and as the JSON schema says; a plain dump has the names of Python, to make objects of."""
    book = BookIn(author_id=1)

    assert book.model_dump() == {"author_id": 1, "is_sold_out": False, "sort_key": -1}
    assert json.loads(book.model_dump_json(by_alias=True)) == {"authorId": 1, "isSoldOut": False, "sortKey": -1}
    assert BookIn.model_json_schema()["properties"].keys() == {"authorId", "isSoldOut"}
    assert BookIn.model_json_schema(mode="serialization")["required"] == ["authorId", "sortKey"]


def test_own_aliases_and_inherited_fields() -> None:
    """An alias of a field stays; fields of a base without the setting get it too."""

    class Late(AuthorOut, camel=True):
        pass

    assert BookOut.model_fields["article_number"].alias == "SKU"
    assert Late(id=1, full_name="x").model_dump(by_alias=True) == {"id": 1, "fullName": "x"}
    assert AuthorOut(id=1, full_name="x").model_dump(by_alias=True) == {"id": 1, "full_name": "x"}


def test_a_patch_in_camel_case() -> None:
    """`apply()` works by the names of Python."""

    class Target:
        author_id = 1
        is_sold_out = False

    target = Target()

    assert apply(target, partial(BookIn).model_validate({"isSoldOut": True})) == {"is_sold_out"}
    assert target.is_sold_out is True


def test_another_generator_says_otherwise() -> None:
    """Two settings about the same thing are an error at import, and other settings stay."""

    class Strict(Schema, camel=True, extra="forbid"):
        model_config = ConfigDict(frozen=True)

        a_b: int

    with pytest.raises(ValidationError):
        Strict.model_validate({"aB": 1, "c": 1})
    with pytest.raises(ValidationError):
        Strict(a_b=1).a_b = 2  # type: ignore[misc]
    with pytest.raises(DeclarationError, match=r"Wrong.*camel=True.*alias_generator"):

        class Wrong(Schema, camel=True, alias_generator=str.upper):
            pass


@pytest.mark.anyio
@ON_SQLITE
@pytest.mark.parametrize("schema", [BookOut, BookListItem])
async def test_readers_and_their_json(stocked: World, schema: type[BaseModel]) -> None:
    """A reader reads by the names of Python, and its fast JSON has the bytes of the slow way."""
    async with stocked.shop() as shop:
        shop.reviews.add(Review(id=1, book_id=1, customer_id=1, stars=5, text=""))
        await shop.commit()
    async with stocked.serving() as shop:
        reader = shop.books.into(schema)
        explained = reader.explain()
        found, shown = await reader.page(PageQuery()), await reader.json().page(PageQuery())
    adapter: Any = TypeAdapter(Page[schema])  # type: ignore[valid-type]

    assert "because" not in explained.splitlines()[-1], "this is not the fast way"
    assert shown == adapter.dump_json(found, by_alias=True)
    first = json.loads(shown)["items"][0]
    assert first["lastReviews"] == [{"id": 1, "customerId": 1}]
    assert first["stockValue"] == 5
    assert ("author" in first) is (schema is BookOut)
    assert ("isNew" in first) is (schema is BookListItem)
