"""What a reader does, in words: its statements, and the index that a window wants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Index, PrimaryKeyConstraint, Select, Table, UniqueConstraint
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import class_mapper
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import ColumnClause, UnaryExpression

from fastkit.repository._keyset import Keyset
from fastkit.repository._plan import Plan

_Sorted = Sequence[tuple[str, bool]]
"""Columns, and whether each is sorted downwards."""


def told(plan: Plan, statement: Select[Any], dialect: Dialect) -> Iterator[str]:
    """Yield the lines of the statements of a read: its own, and one more for each list of related rows."""
    yield from _sql(statement, dialect, "")
    yield from _lists(plan, dialect, "  ")


def order_of(*, sent_by_all: bool, asked: bool) -> str:
    """Return which verbs read in the order that is shown."""
    paged = "page(), slice(), window() and stream()"
    if asked:
        return f"This is what {paged} send for that query, but for what cuts it into parts."
    return (
        f"The ORDER BY is that of all(), first(), {paged}."
        if sent_by_all
        else f"The ORDER BY is that of first(), {paged}; all() sends none, because order_by() asks for none."
    )


def _lists(plan: Plan, dialect: Dialect, indent: str) -> Iterator[str]:
    for child in plan.children:
        yield f"{indent}and for all of these rows together:"
        yield from _sql(child.plan.statement, dialect, indent)
        yield from _lists(child.plan, dialect, indent + "  ")


def _sql(statement: Select[Any], dialect: Dialect, indent: str) -> Iterator[str]:
    yield from (indent + line.rstrip() for line in str(statement.compile(dialect=dialect)).splitlines())


def wanted(keyset: Keyset, model: type[Any], dialect: Dialect) -> str:
    """Return which index a window in this order wants, and whether the metadata has it."""
    elements, name = [key.element for key in keyset.keys], keyset.name(dialect)
    tables = {each.table for each in elements if isinstance(each, ColumnClause)}
    table: Any = next(iter(tables), None)
    window = f"A window by {name}"
    if len(tables) != 1 or not isinstance(table, Table) or not all(isinstance(each, ColumnClause) for each in elements):
        return f"{window} sorts all rows that match: no index of one table has these keys."
    keys = [(str(each.key), key.descending) for each, key in zip(elements, keyset.keys, strict=True)]
    for index, columns in _indexes(table, dialect.name):
        if _serves(columns[: len(keys)], keys):
            return f"A window by {name} has the index that it wants: {index}."
    mixed = len({descending for _, descending in keys}) > 1
    owner, told = model.__name__, "_".join(f"{key}_desc" if mixed and down else key for key, down in keys)
    names = {column: each.key for each in class_mapper(model).column_attrs for column in each.columns}
    attributes = [names.get(table.c[key], key) for key, _ in keys]
    written = ", ".join(
        f"{owner}.{each}{'.desc()' if mixed and down else ''}" for each, (_, down) in zip(attributes, keys, strict=True)
    )
    return f'{window} wants an index that {table.name} does not have: Index("ix_{table.name}_{told}", {written}).'


def _serves(columns: _Sorted, keys: _Sorted) -> bool:
    """Return whether an index gives this order, read forward or backward."""
    return list(columns) == list(keys) or [(name, not down) for name, down in columns] == list(keys)


def _indexes(table: Table, dialect_name: str) -> Iterator[tuple[str, _Sorted]]:
    """Yield the indexes of a table; to those of MariaDB the server appends the primary key."""
    primary = [(str(column.key), False) for column in table.primary_key.columns]
    for each in (*table.constraints, *table.indexes):
        if isinstance(each, PrimaryKeyConstraint | UniqueConstraint):
            columns = [(str(column.key), False) for column in each.columns]
        elif isinstance(each, Index) and not _is_special(each, dialect_name):
            columns = [_sorted(expression) for expression in each.expressions]
        else:
            continue
        yield (
            str(each.name or "that of the primary key"),
            [*columns, *(primary if dialect_name in {"mariadb", "mysql"} else ())],
        )


def _is_special(index: Index, dialect_name: str) -> bool:
    """Return whether an index has only some of the rows, or only the beginnings of values, or no order."""
    own = {dialect_name, "mysql" if dialect_name == "mariadb" else dialect_name}
    given = [(*name.partition("_")[::2], value) for name, value in index.kwargs.items() if value is not None]
    asked = {name: value for dialect, name, value in given if dialect in own}
    return bool(asked.keys() & {"where", "length", "prefix"}) or asked.get("using", "btree") != "btree"


def _sorted(expression: Any) -> tuple[str, bool]:
    """Return what one part of an index is about; a column that is named in a text, as in desc("price"), too."""
    down = isinstance(expression, UnaryExpression) and expression.modifier is operators.desc_op
    element = expression.element if down else expression
    element = getattr(element, "element", element)  # of a text that names a column
    return str(getattr(element, "key", None) or element), down
