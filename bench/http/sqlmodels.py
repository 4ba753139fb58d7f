"""The same tables as SQLModel has them; imported once, because a table can be mapped only once."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from bench.http.shop import newest_of
from sqlalchemy import DateTime
from sqlmodel import Field, SQLModel


class SQLAuthor(SQLModel, table=True):
    """The related row."""

    __tablename__: Any = "shop_author"
    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(max_length=100)


class SQLNote(SQLModel, table=True):
    """The row of a list."""

    __tablename__: Any = "shop_note"
    id: int | None = Field(default=None, primary_key=True)
    book_id: int = Field(foreign_key="shop_book.id", index=True)
    stars: int
    text: str = Field(max_length=200)


class BookBase(SQLModel):
    """What a book is, wherever it is shown."""

    title: str = Field(max_length=200)
    language: str = Field(max_length=3)
    price: Decimal = Field(max_digits=10, decimal_places=2)
    stock: int
    pages: int
    in_print: bool
    published_at: dt.datetime = Field(sa_type=DateTime)  # its own type has a zone
    author_id: int = Field(foreign_key="shop_author.id")


class Keyed(SQLModel):
    """What comes first in the table; PostgreSQL skips rows faster if they are read in the order of their columns."""

    id: int | None = Field(default=None, primary_key=True)


class SQLBook(BookBase, Keyed, table=True):
    """The row."""

    __tablename__: Any = "shop_book"


class BookCreate(BookBase):
    """A new book."""


class BookChange(SQLModel):
    """What may be changed."""

    stock: int | None = None


class BookPublic(BookBase):
    """What is answered."""

    id: int


class AuthorPublic(SQLModel):
    """The related row."""

    id: int
    name: str


class NotePublic(SQLModel):
    """A row of the list."""

    id: int
    stars: int
    text: str


class NestedPublic(BookPublic):
    """A book, its author and its newest notes."""

    author: AuthorPublic
    newest: list[NotePublic]


def relate() -> None:
    """Map the relationships: SQLModel's `Relationship` has no limited ones, so SQLAlchemy's are added."""
    from sqlalchemy import inspect
    from sqlalchemy.orm import relationship

    mapper: Any = inspect(SQLBook)
    mapper.add_property("author", relationship(SQLAuthor))
    mapper.add_property("newest", newest_of(SQLBook, SQLNote))


relate()
