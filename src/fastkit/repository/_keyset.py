"""Keysets: the rows after a row, or before it, in an order that leaves no two rows equal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import (
    ColumnElement,
    Integer,
    Join,
    Select,
    TextClause,
    and_,
    bindparam,
    false,
    literal_column,
    or_,
    true,
    tuple_,
)
from sqlalchemy.dialects.mysql import BIT, ENUM, SET
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.sql import coercions, operators, roles
from sqlalchemy.sql.elements import BindParameter, ColumnClause, Label, Over, Tuple, TypeCoerce, UnaryExpression
from sqlalchemy.sql.visitors import iterate
from sqlalchemy.types import ARRAY, JSON, NullType

from fastkit.errors import DeclarationError
from fastkit.repository._exact import Exact, exact, kind_of, raw

_DESCENDING = {operators.desc_op: True, operators.asc_op: False}
_NULLS = {operators.nulls_first_op: True, operators.nulls_last_op: False}
_WITHOUT_ORDER = (JSON, ARRAY)
_NUMBERED = (ENUM, SET, BIT)


@dataclass(frozen=True, slots=True)
class Key:
    """
    One sort key.

    Attributes:
        element: What is sorted by.
        raw: The same as the driver gives it: no type of Python's in between, so that what was read compares equal.
        exact: What happens to a value on its way out and back, where the driver alone would lose some of it.
        descending: Whether greater values come first.
        nulls: Where NULL stands: None nowhere, because there is none; otherwise whether it is first.
        told: Whether the order says where NULL stands, or leaves it to the database.
    """

    element: ColumnElement[Any]
    raw: ColumnElement[Any]
    exact: Exact
    descending: bool
    nulls: bool | None
    told: bool

    def reversed(self) -> Key:
        """Return the key of the list from its end."""
        return replace(self, descending=not self.descending, nulls=None if self.nulls is None else not self.nulls)

    @property
    def ordering(self) -> ColumnElement[Any]:
        """Return it for ORDER BY."""
        found = self.element.desc() if self.descending else self.element.asc()
        if not self.told:
            return found
        return found.nulls_first() if self.nulls else found.nulls_last()

    @property
    def shown(self) -> ColumnElement[Any]:
        """Return what is selected, to be compared with later."""
        return self.exact.out(self.raw)

    def name(self, dialect: Dialect) -> str:
        """Return what is sorted by, and in which direction, as text; with the constants of an expression."""
        place = "" if not self.told else " nulls first" if self.nulls else " nulls last"
        return f"{_name(self.element, dialect)}{' desc' if self.descending else ''}{place}"

    def is_plain_after(self, value: ColumnElement[Any] | None) -> bool:
        """Return whether what comes after a value is what compares so, and no NULL."""
        return value is not None and self.nulls is not False

    def after(self, value: ColumnElement[Any] | None) -> ColumnElement[bool]:
        """Return the criterion for the rows after those with this value, a parameter, or with NULL."""
        if value is None:
            return self.raw.is_not(None) if self.nulls else false()
        return self._with_nulls(self.raw < value if self.descending else self.raw > value)

    def beyond(self, value: ColumnElement[Any] | None) -> ColumnElement[bool]:
        """Return a simple criterion that is true for those rows and for those with this value; for an index."""
        if value is None:
            return true() if self.nulls else self.raw.is_(None)
        return self._with_nulls(self.raw <= value if self.descending else self.raw >= value)

    def equal(self, value: ColumnElement[Any] | None) -> ColumnElement[bool]:
        """Return the criterion for the rows with this value."""
        return self.raw.is_(None) if value is None else self.raw == value

    def _with_nulls(self, criterion: ColumnElement[bool]) -> ColumnElement[bool]:
        return criterion if self.nulls is not False else or_(criterion, self.raw.is_(None))


class Keyset:
    """
    A total order of the rows of a mapped class; what it takes to go on in it is made once.

    Args:
        keys: The sort keys; with the last one no two rows are equal.
        compares_rows: Whether the database finds `(a, b) > (x, y)` in an index.
    """

    def __init__(self, keys: tuple[Key, ...], *, compares_rows: bool) -> None:
        self.keys = keys
        self._compares_rows = compares_rows
        self._criteria: dict[tuple[bool, ...], ColumnElement[bool]] = {}
        self._names: dict[str, str] = {}
        self._narrowed: dict[tuple[Any, ...], Select[Any]] = {}

    @classmethod
    def of(cls, model: type[Any], ordering: Sequence[Any], dialect: Dialect) -> Keyset:
        """
        Return the order by these keys, and by the primary key at last; the same objects give it again at once.

        Raises:
            DeclarationError: A key is a text, or has no order.
        """
        asked = (model, dialect.name, dialect.driver, *map(id, ordering))
        known = _known.get(asked)
        if known is None:
            if len(_known) >= _REMEMBERED:
                _known.clear()
            known = cls._made(model, ordering, dialect), tuple(ordering)  # kept, so that no other has their ids
            _known[asked] = known
        return known[0]

    @classmethod
    def _made(cls, model: type[Any], ordering: Sequence[Any], dialect: Dialect) -> Keyset:
        mapper: Mapper[Any] = class_mapper(model)
        primary: list[Any] = [each.class_attribute for each in map(mapper.get_property_by_column, mapper.primary_key)]
        if any(each.concrete for each in mapper.self_and_descendants) and mapper.polymorphic_on is not None:
            primary.append(mapper.polymorphic_on)  # of several tables, whose keys may be the same
        keys = [_key(mapper, each, dialect) for each in (*ordering, *primary)]
        unlike = [
            key
            for place, key in enumerate(keys)
            if not any(key.element.compare(other.element) for other in keys[:place])
        ]
        return cls(tuple(unlike), compares_rows=dialect.name not in {"mariadb", "mysql"})

    @cached_property
    def reversed(self) -> Keyset:
        """Return the same order from its end."""
        return Keyset(tuple(key.reversed() for key in self.keys), compares_rows=self._compares_rows)

    @cached_property
    def ordering(self) -> list[ColumnElement[Any]]:
        """Return the keys for ORDER BY."""
        return [key.ordering for key in self.keys]

    @cached_property
    def columns(self) -> list[ColumnElement[Any]]:
        """Return what is selected to know where a row stands."""
        return [key.shown.label(f"key_{number}") for number, key in enumerate(self.keys)]

    def name(self, dialect: Dialect) -> str:
        """Return the order as text."""
        if dialect.name not in self._names:
            self._names[dialect.name] = ", ".join(key.name(dialect) for key in self.keys)
        return self._names[dialect.name]

    def parameters(self, values: Sequence[Any] | None, size: int) -> dict[str, Any]:
        """Return the values of a row, and how many rows are read, as the parameters of a narrowed statement."""
        placed = zip(_parameters(), self.keys, values or (), strict=False)
        return {_SIZE: size, **{name: key.exact.value(value) for name, key, value in placed if value is not None}}

    def narrowed(
        self, statement: Select[Any], values: Sequence[Any] | None, *, inclusive: bool, lasts: bool
    ) -> Select[Any]:
        """
        Return a statement for the rows after the one with these values, in this order; what it is by comes last.

        Args:
            statement: The statement for all rows.
            values: Those of the row, which become parameters; None for the first rows.
            inclusive: Whether that row is one of them.
            lasts: Whether the statement is the same object in every call, so that what is made of it can be kept.
        """
        shape = None if values is None else (inclusive, *(value is None for value in values))
        known = self._narrowed.get((statement, shape)) if lasts else None
        if known is None:
            found = statement if values is None else statement.where(self.after(values, inclusive=inclusive))
            known = found.order_by(*self.ordering).limit(_ROWS).add_columns(*self.columns)
            if lasts:
                self._narrowed[statement, shape] = known
        return known

    def after(self, values: Sequence[Any], *, inclusive: bool) -> ColumnElement[bool]:
        """Return the criterion for the rows after the one with these values, or from it on; they are its parameters."""
        if len(values) != len(self.keys):
            raise ValueError("a row has as many values as the order has keys")
        shape = (inclusive, *(value is None for value in values))
        known = self._criteria.get(shape)
        if known is None:
            known = self._criteria[shape] = self._after(shape[1:], inclusive=inclusive)
        return known

    def _after(self, is_null: Sequence[bool], *, inclusive: bool) -> ColumnElement[bool]:
        named = zip(_parameters(), self.keys, is_null, strict=False)
        bound = [None if null else key.exact.back(BindParameter(name, type_=NullType())) for name, key, null in named]
        placed = list(zip(self.keys, bound, strict=True))
        directions = {key.descending for key in self.keys}
        if self._compares_rows and len(directions) == 1 and all(key.is_plain_after(value) for key, value in placed):
            return self._by_rows(bound, inclusive=inclusive)
        found: ColumnElement[bool] = true() if inclusive else false()
        for key, value in reversed(placed):
            found = or_(key.after(value), and_(key.equal(value), found))
        first, value = placed[0]
        return and_(first.beyond(value), found)

    def _by_rows(self, bound: Sequence[Any], *, inclusive: bool) -> ColumnElement[bool]:
        """Return the same as a comparison of rows, which an index answers."""
        ours, theirs = tuple_(*(key.raw for key in self.keys)), tuple_(*bound)
        if self.keys[0].descending:
            return ours <= theirs if inclusive else ours < theirs
        return ours >= theirs if inclusive else ours > theirs


def _parameters() -> Iterator[str]:
    return (f"fastkit_after_{number}" for number in count())


_SIZE = "fastkit_size"
_ROWS = bindparam(_SIZE, type_=Integer)
_REMEMBERED = 256
_known: dict[tuple[Any, ...], tuple[Keyset, tuple[Any, ...]]] = {}


def _key(mapper: Mapper[Any], given: Any, dialect: Dialect) -> Key:
    element, descending, first = _taken_apart(given)
    kind = kind_of(element.type, dialect)
    if isinstance(kind, _WITHOUT_ORDER) or any(isinstance(each, Over) for each in iterate(element)):
        raise DeclarationError(f"A window cannot be sorted by {element}: a {type(kind).__name__} has no lasting order.")
    if isinstance(kind, _NUMBERED) and isinstance(element, ColumnClause):
        element = TypeCoerce(element, Integer) + literal_column("0")  # it is sorted by number, and compared as text
    nulls: bool | None = None
    if not _is_never_null(mapper, element):
        nulls = first if first is not None else descending is (dialect.name == "postgresql")
    return Key(element, raw(element), exact(kind, dialect), descending, nulls, told=first is not None)


def _taken_apart(given: Any) -> tuple[ColumnElement[Any], bool, bool | None]:
    """Return what is sorted by, whether downwards, and whether NULL is to be first if the order says so."""
    if isinstance(given, str | TextClause):
        raise DeclarationError(f"A window is sorted by expressions, such as Book.title, not by a text: {str(given)!r}.")
    element: Any = coercions.expect(roles.OrderByRole, given)
    if not isinstance(element, ColumnElement) or isinstance(element, Tuple):
        raise DeclarationError(f"A window is sorted by one value after the other: give the parts of {element}.")
    descending, first = False, None
    while True:
        if isinstance(element, UnaryExpression) and element.modifier in _DESCENDING:
            descending = _DESCENDING[element.modifier]
        elif isinstance(element, UnaryExpression) and element.modifier in _NULLS:
            first = _NULLS[element.modifier]
        elif not (isinstance(element, Label) or element.__visit_name__ == "label_reference"):
            return element, descending, first
        element = element.element


def _is_never_null(mapper: Mapper[Any], element: Any) -> bool:
    if any(isinstance(each, Join) and (each.isouter or each.full) for each in iterate(mapper.persist_selectable)):
        return False
    return getattr(element, "table", None) in mapper.tables and not element.nullable


def _name(element: Any, dialect: Dialect) -> str:
    if isinstance(element, ColumnClause) and not element.is_literal:
        return f"{element.table}.{element.key}"
    found = _names.setdefault(element, {})
    if dialect.name not in found:
        compiled = element.compile(dialect=dialect)
        found[dialect.name] = f"{compiled} {sorted(compiled.params.items())}" if compiled.params else str(compiled)
    return found[dialect.name]


_names: WeakKeyDictionary[Any, dict[str, str]] = WeakKeyDictionary()
