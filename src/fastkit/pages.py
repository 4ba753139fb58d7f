"""Pages of a list: what a client asks for, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

T = TypeVar("T")
U = TypeVar("U")

LAST_PAGE = 1_000_000_000
LARGEST_SIZE = 100


class PageQuery(BaseModel):
    """
    Which page a client asks for; usable as query parameters: `query: Annotated[PageQuery, Query()]`.

    Subclass it to change the bounds; code that asks for pages may use `PageQuery.model_construct(size=5000)`.

    Attributes:
        page: Number of the page, from 1.
        size: Rows on a page, 1 to 100.
    """

    model_config = ConfigDict(frozen=True)

    page: int = Field(default=1, ge=1, le=LAST_PAGE, description="Number of the page, from 1.")
    size: int = Field(default=20, ge=1, le=LARGEST_SIZE, description="Rows on a page.")

    @property
    def offset(self) -> int:
        """Return how many rows come before the page."""
        return (self.page - 1) * self.size


class Slice(BaseModel, Generic[T]):
    """
    One page of a list, without the number of all rows: nothing is counted.

    Attributes:
        items: The rows of this page; empty beyond the end.
        has_more: Whether there are rows after this page.
        page: Number of this page, from 1.
        size: The size that was asked for.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: Sequence[T]
    has_more: bool
    page: int
    size: int

    @classmethod
    def of(cls, found: Sequence[U], query: PageQuery) -> Slice[U]:
        """Return the slice of rows that were read with one more than fits on the page."""
        items, has_more = found[: query.size], len(found) > query.size
        return Slice.model_construct(items=items, has_more=has_more, page=query.page, size=query.size)

    def map(self, convert: Callable[[T], U]) -> Slice[U]:
        """Return the same slice with each item converted."""
        items = [convert(item) for item in self.items]
        return Slice.model_construct(items=items, has_more=self.has_more, page=self.page, size=self.size)


class Page(BaseModel, Generic[T]):
    """
    One page of a list, with the number of rows on all pages.

    Attributes:
        items: The rows of this page; empty beyond the end.
        total: Rows on all pages, also beyond the end.
        page: Number of this page, from 1.
        size: The size that was asked for.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: Sequence[T]
    total: int
    page: int
    size: int

    def map(self, convert: Callable[[T], U]) -> Page[U]:
        """Return the same page with each item converted: `page.map(BookOut.model_validate)`."""
        items = [convert(item) for item in self.items]
        return Page.model_construct(items=items, total=self.total, page=self.page, size=self.size)
