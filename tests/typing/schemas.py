"""What type checkers know of derived models; read by mypy and pyright, never run."""

from __future__ import annotations

from decimal import Decimal
from typing import assert_type

from pydantic import BaseModel

from bookshop.models import Book
from fastkit.schemas import IfLoaded, ReadOnly, Schema, WriteOnly, apply, omit, partial, pick


class ReviewOut(Schema):
    """What is related."""

    stars: int


class BookModel(Schema):
    """A model with words in its types."""

    id: ReadOnly[int]
    title: str
    key: WriteOnly[str | None] = None
    reviews: IfLoaded[list[ReviewOut]]


class BookPatch(BookModel, partial=True):
    """A class, so that it can be an annotation."""


class BookTitle(BookModel, pick={"id", "title"}):
    """The same."""


class BookListItem(BookModel, omit={"reviews"}, extra="forbid"):
    """The same, and a setting of Pydantic."""


class Account(Schema, camel=True):
    """Names in Python stay."""

    first_name: str


class Plain(BaseModel):
    """A model that is none of ours."""

    price: Decimal


PlainPatch = partial(Plain)


def read(book: BookModel, patch: BookPatch, title: BookTitle) -> None:
    """Words change nothing of the type of a field."""
    assert_type(book.id, int)
    assert_type(book.key, str | None)
    assert_type(book.reviews, list[ReviewOut])
    assert_type(patch.title, str)
    assert_type(title.id, int)
    assert patch.titel  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    assert_type(BookPatch.model_validate({}), BookPatch)
    assert_type(Account(first_name="Ada").first_name, str)
    Account(firstName="Ada")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def change(book: Book, patch: BookPatch) -> None:
    """A patch is written to any object."""
    assert_type(apply(book, patch), frozenset[str])
    apply(book, {"title": "x"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(PlainPatch, type[Plain])
    assert_type(partial(Plain, name="PlainChanges"), type[Plain])
    assert_type(pick(Plain, {"price"}), type[Plain])
    assert_type(omit(Plain, ["price"]).model_validate({}).price, Decimal)
    partial(Book)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
