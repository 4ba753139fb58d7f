"""What a kind of model is to the tests: how its rows are made, what they show, and what may not be done with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel
from sqlalchemy import MetaData, Table
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.base import ExecutableOption

TABLES = MetaData()
STOCKED = (1, 2, 3, 4, 5)
RANKS = {1: 3, 2: 1, 3: 2, 4: 1, 5: 3, 6: 2, 7: 1}
"""What the rows are sorted by: with equal ones, so that the key has to decide."""


class Base(DeclarativeBase):
    """The base of the declared models."""

    metadata = TABLES


@dataclass(frozen=True)
class Kind:
    """
    One kind of model, with the same verbs as all others; its rows have numbers, and labels that tell them.

    Attributes:
        name: What the test shows.
        model: The mapped class.
        tables: Its tables and those of its related rows, referred to before referring.
        row: The values of a row by attribute name; the key among them, unless the database gives it.
        out: The response model.
        shown: What that tells of a row, its key aside.
        change: An attribute that may change, and a new value.
        changed: What the response model tells after the change.
        missing: A key that no row has.
        key: The key of a row; None if the database gives it.
        make: Makes objects with these numbers and what is related to them; by default of the values of the rows.
        bare: What is shown of a row that is inserted without related ones.
        loads: What has to be loaded for an object to become the response model.
        beside: Makes rows of the same tables that are not of this model.
        refused: Part of the message of the verbs that do not work.
        written: How many tables hold one row.
        rank: The attribute that the rows are sorted by.
        rank_type: Its type.
        is_returned_by_insert: Whether the row alone tells all that is shown.
        is_read_at_once: Whether one statement reads the objects of a list.
        read_again_on: Databases that cannot return what they make of a change.
    """

    name: str
    model: type[Any]
    tables: Sequence[Table]
    row: Callable[[int], dict[str, Any]]
    out: type[BaseModel]
    shown: Callable[[int], dict[str, Any]]
    change: tuple[str, Any]
    changed: Mapping[str, Any]
    missing: Any
    key: Callable[[int], Any] | None = None
    make: Callable[[Sequence[int]], list[Any]] | None = None
    bare: Callable[[int], dict[str, Any]] | None = None
    loads: Sequence[ExecutableOption] = ()
    beside: Callable[[], list[Any]] = list
    refused: Mapping[str, str] = field(default_factory=dict)
    written: int = 1
    rank: str = "rank"
    rank_type: type[Any] = int
    is_returned_by_insert: bool = True
    is_read_at_once: bool = True
    read_again_on: Sequence[str] = ()

    def objects(self, numbers: Sequence[int]) -> list[Any]:
        """Return new objects."""
        return [self.model(**self.row(number)) for number in numbers] if self.make is None else self.make(numbers)

    def shown_alone(self, number: int) -> dict[str, Any]:
        """Return what is shown of a row that is inserted without related ones."""
        return (self.bare or self.shown)(number)

    def ranked(self, number: int) -> Any:
        """Return what a row is sorted by."""
        return self.rank_type(RANKS[number])

    @property
    def label(self) -> Any:
        """Return the attribute that tells the rows."""
        return self.model.label

    @property
    def ranks(self) -> Any:
        """Return the attribute that the rows are sorted by."""
        return getattr(self.model, self.rank)


def labelled(number: int) -> dict[str, Any]:
    """Return what the rows of nearly all kinds have."""
    return {"label": f"row {number}", "rank": RANKS[number]}


def keyed(number: int) -> dict[str, Any]:
    """Return the same with a key."""
    return {"id": number, **labelled(number)}
