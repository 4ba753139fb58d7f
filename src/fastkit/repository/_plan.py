"""How rows become response models: what is selected, what is read for each row, and how both are put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import Any, TypeAlias

from sqlalchemy import Select

Fetch: TypeAlias = Callable[..., Sequence[Sequence[Any]]]
"""Run a statement with these parameters and return all of its rows."""

Groups: TypeAlias = Mapping[Any, list[Any]]
"""Related values by the key of the row that they belong to."""

KEYS = "keys"
_AT_ONCE = 500  # keys in one statement; every database and driver takes as many parameters


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What one statement selects, and how each of its rows becomes the input of a response model.

    Attributes:
        statement: The statement, without criteria, order or limit.
        make: Makes a value of a row and of what was read for it.
        children: What is read for all rows together, each by one statement more.
        columns: What the statement selects, as expressions.
    """

    statement: Select[Any]
    make: Callable[[Sequence[Any], Sequence[Groups]], Any]
    children: Sequence[Child] = ()
    columns: Sequence[Any] = ()

    def assemble(self, fetch: Fetch, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """Return one value for each row, with all that belongs to it."""
        groups = [child.read(fetch, rows) for child in self.children]
        make = self.make
        return [make(row, groups) for row in rows]


@dataclass(frozen=True)
class Child:
    """
    Related rows, read for many parents by one statement.

    Attributes:
        plan: How the related rows are read; its statement takes the keys of the parents as the parameter `keys`.
        key: Where the parent's key stands in the parent's row.
        own_key: Where the parent's key stands in the related row.
        identity: Where stands what a related row is told from others by, if the same one may come twice.
    """

    plan: Plan
    key: tuple[int, ...]
    own_key: tuple[int, ...] = field(repr=False)
    identity: tuple[int, ...] = field(default=(), repr=False)

    @cached_property
    def _key_of(self) -> Callable[[Sequence[Any]], Hashable]:
        return itemgetter(*self.key)

    @cached_property
    def _own_key_of(self) -> Callable[[Sequence[Any]], Hashable]:
        return itemgetter(*self.own_key)

    def read(self, fetch: Fetch, parents: Sequence[Sequence[Any]]) -> Groups:
        """Return the related values of these rows."""
        groups: defaultdict[Any, list[Any]] = defaultdict(list)
        keys = list(dict.fromkeys(filter(self._is_whole, map(self._key_of, parents))))
        for start in range(0, len(keys), _AT_ONCE):
            rows = self._once(fetch(self.plan.statement, {KEYS: keys[start : start + _AT_ONCE]}))
            for row, value in zip(rows, self.plan.assemble(fetch, rows), strict=True):
                groups[self._own_key_of(row)].append(value)
        return groups

    def _once(self, rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        """Return each row once, where it came first."""
        return list({itemgetter(*self.identity)(row): row for row in rows}.values()) if self.identity else rows

    def _is_whole(self, key: Any) -> bool:
        """Return whether no part is NULL, as all are where an optional relation is missing."""
        return None not in key if len(self.key) > 1 else key is not None


def children_of(plans: Iterable[Plan]) -> int:
    """Return how many statements the children take, at all depths."""
    return sum(1 + children_of([child.plan]) for plan in plans for child in plan.children)
