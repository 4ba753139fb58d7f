"""Rows that were written, found again by what tells them: in the order in which they were given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Select, and_, tuple_
from sqlalchemy.engine import Dialect

from fastkit.errors import DeclarationError
from fastkit.repository._selection import KEYS_AT_ONCE

Key: TypeAlias = tuple[Any, ...]
Found: TypeAlias = Sequence[Sequence[Any]]


class Told(NamedTuple):
    """
    What tells rows that a block has just written and still holds.

    Attributes:
        attributes: The attributes that tell them.
        given: Their values, row by row, as they were given.
        stored: The same as the database has them, in which two that Python tells apart may be the same.
    """

    attributes: Sequence[Any]
    given: list[Key]
    stored: list[Key]

    def rows(self, fetch: Callable[[Select[Any]], Found], statement: Select[Any], dialect: Dialect) -> list[Any]:
        """
        Return the rows of a statement about them, in their order.

        Raises:
            DeclarationError: A row is not there, or not under what it was told by.
        """
        read = partial(self._read, fetch, self._fresh(statement, dialect), dialect)
        found, each = dict[Key, Any](), KEYS_AT_ONCE // len(self.attributes)
        for start in range(0, len(self.given), each):
            found |= read(self._among(self.given[start : start + each]))
        for given, stored in zip(self.given, self.stored, strict=True):
            if stored not in found:  # the database takes another key for the same, such as "ADA" for "ada"
                same = and_(*(one == value for one, value in zip(self.attributes, given, strict=True)))
                found[stored] = next(iter(read(same).values()), None)
        if None in found.values():
            raise self._lost(self.stored.index(next(key for key, row in found.items() if row is None)))
        return [found[key] for key in self.stored]

    def _fresh(self, statement: Select[Any], dialect: Dialect) -> Select[Any]:
        """Return the statement with what tells each row, and about the rows of now."""
        statement = statement.add_columns(*self.attributes)
        # A block of MariaDB reads the rows of its beginning, but for those that it locks.
        return statement.with_for_update(read=True) if dialect.name in {"mariadb", "mysql"} else statement

    def _read(
        self,
        fetch: Callable[[Select[Any]], Found],
        statement: Select[Any],
        dialect: Dialect,
        where: ColumnElement[bool],
    ) -> dict[Key, Any]:
        rows = fetch(statement.where(where))
        columns = [
            as_stored(each, [row[place] for row in rows], dialect)
            for place, each in enumerate(self.attributes, -len(self.attributes))
        ]
        keys = zip(*columns, strict=True)
        return dict(zip(keys, rows, strict=True))

    def _among(self, keys: list[Key]) -> ColumnElement[bool]:
        if len(self.attributes) > 1:
            return tuple_(*self.attributes).in_(keys)
        found: ColumnElement[bool] = self.attributes[0].in_([key for (key,) in keys])
        return found

    def _lost(self, place: int) -> DeclarationError:
        model = self.attributes[0].parent.class_.__name__
        names = ", ".join(each.key for each in self.attributes)
        return DeclarationError(
            f"upsert(), row {place + 1}: no {model} has this ({names}) after it was written. Either a trigger left it "
            "out, or the database stores another value than was given, such as a rounded one: give it as it is stored."
        )


def as_stored(column: Any, values: Sequence[Any], dialect: Dialect) -> Sequence[Any]:
    """Return the values of a column as they are stored."""
    convert = column.type.dialect_impl(dialect).bind_processor(dialect)
    return values if convert is None else [convert(value) for value in values]
