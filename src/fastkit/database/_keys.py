"""Rows whose key is one of many: a list of parameters, or one array where PostgreSQL can be told one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BindParameter, Boolean, ColumnElement, Integer, Uuid, any_, bindparam, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_PLAIN = (Integer, Uuid)
"""Types of which an array is compared as each of its values would be, if these are of one type as well."""


def of_keys(mapper: Mapper[Any], idents: Sequence[Sequence[Any]], dialect: Dialect) -> ColumnElement[bool]:
    """Return the criterion for these primary keys, each as its parts."""
    keys: list[Any] = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
    found: ColumnElement[bool]
    if len(keys) > 1:
        return tuple_(*keys).in_(idents)
    values = [ident[0] for ident in idents]
    is_plain = isinstance(keys[0].type, _PLAIN) and {keys[0].type.python_type}.issuperset(map(type, values))
    if dialect.name == "postgresql" and is_plain:
        found = keys[0] == any_(bindparam(None, values, type_=ARRAY(keys[0].type)))
    else:
        found = keys[0].in_(values)
    return found


def among(columns: Sequence[Any], parameter: str) -> ColumnElement[bool]:
    """Return the criterion for the keys that a statement is given as this parameter when it is run."""
    if len(columns) > 1:
        return tuple_(*columns).in_(bindparam(parameter, expanding=True))
    if isinstance(columns[0].type, _PLAIN):
        return _Among(columns[0], bindparam(parameter, expanding=True, type_=columns[0].type))
    found: ColumnElement[bool] = columns[0].in_(bindparam(parameter, expanding=True))
    return found


class _Among(FunctionElement[bool]):
    """
    A column is one of the keys.

    With an array PostgreSQL has one text for any number of keys, to be prepared once. IN has one for each number, and
    SQLAlchemy renders it anew each time: a tenth of the time of fifty rows with a list each.
    """

    inherit_cache = True
    type = Boolean()
    name = "among"


@compiles(_Among)
def _as_list(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, keys = element.clauses
    assert isinstance(keys, BindParameter)  # noqa: S101 - `among` has made it
    return compiler.process(column.in_(keys), **options)


@compiles(_Among, "postgresql")
def _as_array(element: _Among, compiler: SQLCompiler, **options: Any) -> str:
    column, keys = element.clauses
    assert isinstance(keys, BindParameter)  # noqa: S101 - same
    return compiler.process(column == any_(bindparam(keys.key, type_=ARRAY(column.type))), **options)
