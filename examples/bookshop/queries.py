"""What a client may ask of a list: filters, sort keys and bounds; nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from bookshop.models import Book
from fastkit import From
from fastkit.repository import Equals, ListQuery, OneOf, Range, Search, Sort


class BookQuery(ListQuery[Book]):
    """The books of the shop, by title unless a client asks for another order."""

    q: Annotated[str | None, Search("title", "author.name")] = None
    author_id: Equals[int] = None
    author: Annotated[Equals[str], From("author.name")] = None
    language: OneOf[str] = None
    year: Range[int] = None
    price: Range[Decimal] = None

    sort = Sort("title", "year", "price", default="title")
