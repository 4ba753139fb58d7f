"""Where the fields of a response model come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class From:
    """
    Where a field of a response model comes from, if not from the attribute of its own name.

    >>> author_name: Annotated[str, From("author.name")]
    >>> value: Annotated[Decimal, From(Book.price * Book.stock)]
    >>> review_count: Annotated[int, From.count("reviews")]
    >>> newest: Annotated[list[ReviewOut], From("reviews", order_by="-id", limit=3)]
    >>> kind: Annotated[str, From(None)] = "book"

    A type checker sees the type of the field alone; the reader checks path and expression when it is made.

    Args:
        source: A path of attributes, through relationships, of which one may give many; an SQL expression of the
            model's columns; or None for a field that no row gives, which keeps its default.
        order_by: For a list: the order of its elements, as attribute names of the related model with "-" in front
            for descending, or SQL expressions. Without it, the order of the relationship, or that of the primary key.
        limit: For a list: at most so many elements for each row.
        depth: For a model that contains itself: how many levels of it; below the last, a list is empty, and a single
            value None.
    """

    source: Any
    order_by: Any = ()
    limit: int | None = None
    depth: int | None = None
    aggregate: str | None = None

    @property
    def ordering(self) -> Sequence[Any]:
        """Return the keys of `order_by`."""
        return tuple(self.order_by) if isinstance(self.order_by, list | tuple) else (self.order_by,)

    @classmethod
    def count(cls, path: str) -> From:
        """Return the number of related rows: `From.count("reviews")`."""
        return replace(cls(path), aggregate="count")

    @classmethod
    def sum(cls, path: str) -> From:
        """Return the sum over related rows, None if there are none: `From.sum("lines.quantity")`."""
        return replace(cls(path), aggregate="sum")

    @classmethod
    def avg(cls, path: str) -> From:
        """Return the mean over related rows, None if there are none: `From.avg("reviews.stars")`."""
        return replace(cls(path), aggregate="avg")

    @classmethod
    def min(cls, path: str) -> From:
        """Return the least value of related rows, None if there are none: `From.min("reviews.stars")`."""
        return replace(cls(path), aggregate="min")

    @classmethod
    def max(cls, path: str) -> From:
        """Return the greatest value of related rows, None if there are none: `From.max("reviews.id")`."""
        return replace(cls(path), aggregate="max")
