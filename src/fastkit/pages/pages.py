"""What a client asks for, and what it gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeVar

from fastkit.errors import DeclarationError
from fastkit.pages.cursors import LONGEST_CURSOR

T = TypeVar("T")
U = TypeVar("U")

LAST_PAGE = 1_000_000_000
LARGEST_SIZE = 100


@dataclass(frozen=True, slots=True)
class CountUpTo:
    """
    Count no more than so many rows: a total that is greater than `most` only says that there are more.

    Attributes:
        most: Rows that are counted at most.
    """

    most: int

    def __post_init__(self) -> None:
        if self.most < 1:
            raise DeclarationError(
                f"CountUpTo({self.most}): count at least one row, or take slice(), which counts none."
            )


Count: TypeAlias = Literal["exact", "estimated"] | CountUpTo
"""How the total of a page is found: all rows counted, what PostgreSQL's planner expects, or counted up to a limit."""


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


class WindowQuery(BaseModel):
    """
    Which window a client asks for; usable as query parameters: `query: Annotated[WindowQuery, Query()]`.

    Attributes:
        cursor: Where to go on: `next_cursor` or `previous_cursor` of another window; None is the beginning.
        size: Rows in a window, 1 to 100.
    """

    model_config = ConfigDict(frozen=True)

    cursor: str | None = Field(
        default=None, max_length=LONGEST_CURSOR, description="Where to go on, from the window before or after."
    )
    size: int = Field(default=20, ge=1, le=LARGEST_SIZE, description="Rows in a window.")


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

    items: list[T]  # not a Sequence, which Pydantic serialises in Python and not in Rust
    has_more: bool
    page: int
    size: int

    @classmethod
    def of(cls, found: Sequence[U], query: PageQuery) -> Slice[U]:
        """Return the slice of rows that were read with one more than fits on the page."""
        items, has_more = list(found[: query.size]), len(found) > query.size
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
        total: Rows on all pages, also beyond the end; at least so many if they are not counted to the end.
        page: Number of this page, from 1.
        size: The size that was asked for.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: list[T]  # not a Sequence, which Pydantic serialises in Python and not in Rust
    total: int
    page: int
    size: int

    @classmethod
    def of(cls, found: Sequence[U], query: PageQuery, count: Callable[[], int]) -> Page[U]:
        """
        Return the page of rows that were read, perhaps with one more than fits on it.

        All are counted only if they do not tell how many there are.
        """
        seen, items = query.offset + len(found), list(found[: query.size])
        is_last = len(found) < query.size and (bool(found) or not query.offset)
        total = seen if is_last else max(seen if found else 0, count())
        return Page.model_construct(items=items, total=total, page=query.page, size=query.size)

    def map(self, convert: Callable[[T], U]) -> Page[U]:
        """Return the same page with each item converted: `page.map(BookOut.model_validate)`."""
        items = [convert(item) for item in self.items]
        return Page.model_construct(items=items, total=self.total, page=self.page, size=self.size)


class Window(BaseModel, Generic[T]):
    """
    A part of a list that goes on from a row instead of a number, so that nothing is lost or shown twice in between.

    It costs the same however deep in the list it is, because the database begins at that row.

    Attributes:
        items: The rows of this window.
        next_cursor: Where the rows after this window begin; None at the end.
        previous_cursor: Where the rows before this window end; None at the beginning.
        size: The size that was asked for.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    items: list[T]  # not a Sequence, which Pydantic serialises in Python and not in Rust
    next_cursor: str | None
    previous_cursor: str | None
    size: int

    def map(self, convert: Callable[[T], U]) -> Window[U]:
        """Return the same window with each item converted."""
        items = [convert(item) for item in self.items]
        return Window.model_construct(
            items=items, next_cursor=self.next_cursor, previous_cursor=self.previous_cursor, size=self.size
        )
