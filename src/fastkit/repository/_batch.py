"""Rows that name the same columns, as they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Column


class Held:
    """
    The values of mappings that have the same names; tuples of them live only while somebody looks at one.

    Ten thousand that are kept make Python's garbage collector look through everything, again and again.

    Attributes:
        mappings: The mappings.
        names: The names, in the order of the values.
        make: Makes the values of one mapping.
    """

    def __init__(self, mappings: list[dict[str, Any]], names: tuple[str, ...]) -> None:
        self.mappings = mappings
        self.names = names
        self.make = getter(names)

    def __len__(self) -> int:
        return len(self.mappings)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return map(self.make, self.mappings)

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        return self.make(self.mappings[place])


Values: TypeAlias = list[tuple[Any, ...]] | Held


class Batch(NamedTuple):
    """
    Rows that name the same columns.

    Attributes:
        columns: The columns.
        rows: The values of each row, in the order of the columns.
        numbers: Which of the given rows they are, counted from 1.
        made: Those of the columns that are not given: what each new row gets besides.
        named: The columns that the rows name, those among them in which None stands for a default.
    """

    columns: tuple[Column[Any], ...]
    rows: Values
    numbers: Sequence[int]
    made: frozenset[Column[Any]]
    named: tuple[Column[Any], ...] = ()

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Return the rows as SQLAlchemy takes them."""
        keys = [column.key for column in self.columns]
        if isinstance(self.rows, Held) and self.rows.names == tuple(keys):
            return self.rows.mappings
        return [dict(zip(keys, row, strict=True)) for row in self.rows]

    def values_of(self, column: Column[Any]) -> list[Any]:
        """Return the values of one column."""
        place = self.columns.index(column)
        return [row[place] for row in self.rows]

    def with_value(self, column: Column[Any], value: Any) -> Batch:
        """Return the rows with the same value in one column."""
        if column not in self.columns:
            return self._replace(columns=(*self.columns, column), rows=[(*row, value) for row in self.rows])
        place = self.columns.index(column)
        return self._replace(rows=[(*row[:place], value, *row[place + 1 :]) for row in self.rows])

    def taken(self, places: Sequence[int]) -> Batch:
        """Return some of the rows, in this order."""
        rows, numbers = [self.rows[place] for place in places], [self.numbers[place] for place in places]
        return self._replace(rows=rows, numbers=numbers)


def getter(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes these values out of a mapping."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda held: tuple(held[name] for name in names)
