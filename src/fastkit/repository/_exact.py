"""How the value of a sort key goes out into a cursor and comes back, so that it compares equal to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Double, Float, Interval, Text, cast, literal_column
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ColumnClause, Grouping, TypeCoerce
from sqlalchemy.types import NullType, TypeDecorator, TypeEngine


@dataclass(frozen=True, slots=True)
class Exact:
    """
    What happens to a value between the database and the cursor, and on its way back.

    Attributes:
        out: What is selected.
        value: The parameter that is given back.
        back: What is written around it.
    """

    out: Callable[[ColumnElement[Any]], ColumnElement[Any]] = lambda raw: raw
    value: Callable[[Any], Any] = lambda value: value
    back: Callable[[ColumnElement[Any]], ColumnElement[Any]] = lambda parameter: parameter


_PLAIN = Exact()
_DOUBLE = Exact(out=lambda raw: raw + literal_column("0e0"))
"""A FLOAT of MariaDB is shown with fewer digits than it has."""

_INTERVAL = Exact(out=lambda raw: cast(raw, Text), back=lambda parameter: cast(cast(parameter, Text), INTERVAL()))
"""Drivers take a year for 365 days, and PostgreSQL for 360."""

_FLOATS_AS_TEXT = Exact(value=lambda value: repr(value) if isinstance(value, float) else value)
"""PostgreSQL reads a text as what it is compared with, be it of four bytes or of eight."""


def kind_of(given: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    """Return the type that a column has in this database, under what an app made of it."""
    kind = given.dialect_impl(dialect)
    return kind_of(kind.load_dialect_impl(dialect), dialect) if isinstance(kind, TypeDecorator) else kind


def raw(element: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return the expression without its type, in brackets where what stands beside it might tear it apart."""
    is_column = isinstance(element, ColumnClause) and not element.is_literal
    return TypeCoerce(element if is_column else Grouping(element), NullType())


def exact(kind: TypeEngine[Any], dialect: Dialect) -> Exact:
    """Return how a value goes out and comes back to the last digit."""
    if dialect.name in {"mariadb", "mysql"}:
        return _DOUBLE if isinstance(kind, Float) and not isinstance(kind, Double) else _PLAIN
    if dialect.name != "postgresql":
        return _PLAIN
    if isinstance(kind, Interval | INTERVAL):
        return _INTERVAL
    return _FLOATS_AS_TEXT if dialect.driver.startswith("psycopg") else _PLAIN
