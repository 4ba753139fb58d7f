"""What a stream takes, in both colours."""

from typing import assert_type

from bookshop.asynchronous.shop import Shop as AsyncShop
from bookshop.models import Book
from bookshop.schemas import AuthorOut
from bookshop.synchronous.shop import Shop
from fastkit.deps import UnitFactory
from fastkit.repository import AsyncReader
from fastkit.responses import CsvStream, JsonStream, NdjsonStream, stream_csv, stream_json, stream_ndjson


def sync_streams(new_shop: UnitFactory[Shop]) -> None:
    """A sync unit, whose reader is sync."""
    assert_type(stream_json(new_shop, lambda shop: shop.authors.into(AuthorOut)), JsonStream)
    assert_type(stream_csv(new_shop, lambda shop: shop.authors.into(AuthorOut), bom=True), CsvStream)


def async_streams(new_shop: UnitFactory[AsyncShop]) -> None:
    """An async unit, whose reader is async."""
    assert_type(stream_ndjson(new_shop, lambda shop: shop.authors.into(AuthorOut), Book.stock > 0), NdjsonStream)
    stream_json(new_shop, lambda shop: shop.autors.into(AuthorOut))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    stream_json(new_shop, authors, bom=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def authors(shop: AsyncShop) -> AsyncReader[AuthorOut]:
    """Return a reader; a function will do as well as a lambda."""
    return shop.authors.into(AuthorOut)
