"""What a client may filter a list by: the kinds of filters of a `ListQuery`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeAlias, TypeVar

from pydantic import Field
from sqlalchemy import ColumnElement, and_, false, or_, true

T = TypeVar("T")

MOST_VALUES = 100
"""So many values a client may give to one filter."""

LONGEST_TEXT = 200
"""So many characters a client may search for."""


_NUL = "\0"  # no text of PostgreSQL has it, and to SQLite it is the end of the pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Between(Generic[T]):
    """
    The bounds of a range, both included; None is no bound.

    Attributes:
        min: The least value.
        max: The greatest value.
    """

    min: T | None = None
    max: T | None = None


class Filter:
    """How the value of one field narrows a list."""

    says = ""
    """What it does, for the OpenAPI schema; `{0}` is what it is about."""

    def paths(self, name: str) -> Sequence[str]:
        """Return the paths of the attributes that it is about, for a field of this name."""
        return (name,)

    def criterion(self, column: Any, value: Any) -> ColumnElement[bool]:
        """Return the criterion on one attribute."""
        raise NotImplementedError


class EqualsFilter(Filter):
    """Rows with this value."""

    says = "Only where {0} is this."

    def criterion(self, column: Any, value: Any) -> ColumnElement[bool]:
        """Return `column = value`."""
        found: ColumnElement[bool] = column == value
        return found


class OneOfFilter(Filter):
    """Rows with one of these values."""

    says = "Only where {0} is one of these."

    def criterion(self, column: Any, value: Any) -> ColumnElement[bool]:
        """Return `column IN (values)`."""
        found: ColumnElement[bool] = column.in_(list(value))
        return found


class RangeFilter(Filter):
    """Rows with a value between these bounds."""

    says = "Only where {0} is in this range."

    def criterion(self, column: Any, value: Between[Any]) -> ColumnElement[bool]:
        """Return `column >= min AND column <= max`, as far as there are bounds."""
        least = [column >= value.min] if value.min is not None else []
        greatest = [column <= value.max] if value.max is not None else []
        return and_(true(), *least, *greatest)


class ContainsFilter(Filter):
    """Rows whose text has this in it, in any case."""

    says = "Only where {0} contains this, in any case."

    def criterion(self, column: Any, value: str) -> ColumnElement[bool]:
        """Return `lower(column) LIKE '%value%'`; wildcards in the value are taken literally."""
        found: ColumnElement[bool] = column.icontains(value, autoescape=True)
        return false() if _NUL in value else found


class StartsWithFilter(Filter):
    """Rows whose text begins with this, in the case that the database compares in."""

    says = "Only where {0} begins with this."

    def criterion(self, column: Any, value: str) -> ColumnElement[bool]:
        """Return `column LIKE 'value%'`; wildcards in the value are taken literally."""
        found: ColumnElement[bool] = column.startswith(value, autoescape=True)
        return false() if _NUL in value else found


class IsNullFilter(Filter):
    """Rows with no value, or with one."""

    says = "Only where {0} is missing (true), or is there (false)."

    def criterion(self, column: Any, value: bool) -> ColumnElement[bool]:
        """Return `column IS NULL` or `column IS NOT NULL`."""
        found: ColumnElement[bool] = column.is_(None) if value else column.is_not(None)
        return found


class Search(ContainsFilter):
    """
    Rows where one of several texts has this in it, in any case.

    >>> q: Annotated[str | None, Search("title", "author.name")] = None
    """

    says = "Only where {0} contains this, in any case."

    def __init__(self, *paths: str) -> None:
        self._paths = paths

    def paths(self, name: str) -> Sequence[str]:
        """Return the paths that are searched."""
        return self._paths


@dataclass(frozen=True, slots=True, eq=False)
class Where:
    """
    Rows that a criterion of your own lets through; the function gets the client's value.

    >>> sold_out: Annotated[bool | None, Where(lambda yes: Book.stock == 0 if yes else Book.stock > 0)] = None
    """

    criterion: Callable[[Any], ColumnElement[bool]]


def either(criteria: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    """Return the criterion that one of these is met."""
    return or_(*criteria)


_Text = Annotated[T, Field(max_length=LONGEST_TEXT)]

Equals: TypeAlias = Annotated[T | None, EqualsFilter()]
"""`author_id: Equals[int] = None`: rows with this value."""

OneOf: TypeAlias = Annotated[Annotated[list[T], Field(max_length=MOST_VALUES)] | None, OneOfFilter()]
"""`language: OneOf[str] = None`: rows with one of these values, `?language=en&language=de`."""

Range: TypeAlias = Annotated[Between[T] | None, RangeFilter()]
"""`price: Range[Decimal] = None`: rows between two values, `?price_min=5&price_max=10`."""

Contains: TypeAlias = Annotated[_Text[T] | None, ContainsFilter()]
"""`title: Contains[str] = None`: rows whose text has this in it, in any case."""

StartsWith: TypeAlias = Annotated[_Text[T] | None, StartsWithFilter()]
"""`sku: StartsWith[str] = None`: rows whose text begins with this."""

IsNull: TypeAlias = Annotated[bool | None, IsNullFilter()]
"""`shipped_at: IsNull = None`: rows with no value (`true`), or with one (`false`)."""
