"""What becomes of a sort key on its way to a cursor and back: by the type that the database has."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    Double,
    Float,
    Integer,
    Interval,
    String,
    TypeDecorator,
    column,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.types import NullType

from fastkit.repository._exact import _DOUBLE, _FLOATS_AS_TEXT, _INTERVAL, _PLAIN, exact, kind_of, raw

PSYCOPG: Any = postgresql.psycopg.dialect()
ASYNCPG: Any = postgresql.asyncpg.dialect()
MARIADB: Any = mysql.mariadb.MariaDBDialect()
MYSQL: Any = mysql.dialect()
SQLITE: Any = sqlite.dialect()


class Own(TypeDecorator[Any]):
    """A type of an app."""

    impl = Date
    cache_ok = True


class Twice(TypeDecorator[Any]):
    """One around it."""

    impl = Own
    cache_ok = True


class Varied(TypeDecorator[Any]):
    """One that is something else in each database."""

    impl = String
    cache_ok = True

    def load_dialect_impl(self, dialect: Any) -> Any:
        """Return the type for this one."""
        return dialect.type_descriptor(Float() if dialect.name == "mysql" else Integer())


@pytest.mark.parametrize(
    ("given", "dialect", "kind"),
    [
        (Own(), SQLITE, Date),
        (Twice(), ASYNCPG, Date),
        (Varied(), MYSQL, Float),
        (Varied(), PSYCOPG, Integer),
        (Integer().with_variant(String(), "sqlite"), SQLITE, String),
        (Integer().with_variant(String(), "sqlite"), PSYCOPG, Integer),
        (Interval(), PSYCOPG, INTERVAL),
        (Interval(), SQLITE, DateTime),
    ],
)
def test_the_type_that_a_database_has(given: Any, dialect: Any, kind: Any) -> None:
    """Under what an app has put around it."""
    found = kind_of(given, dialect)
    assert isinstance(found, kind)
    assert not isinstance(found, TypeDecorator)


@pytest.mark.parametrize(
    ("kind", "dialect", "expected"),
    [
        (Float(), MYSQL, _DOUBLE),
        (Float(), MARIADB, _DOUBLE),
        (Double(), MARIADB, _PLAIN),
        (Integer(), MARIADB, _PLAIN),
        (Float(), SQLITE, _PLAIN),
        (Interval(), SQLITE, _PLAIN),
        (Interval(), PSYCOPG, _INTERVAL),
        (INTERVAL(), ASYNCPG, _INTERVAL),
        (Float(), PSYCOPG, _FLOATS_AS_TEXT),
        (Float(), ASYNCPG, _PLAIN),
    ],
)
def test_how_it_goes_out_and_comes_back(kind: Any, dialect: Any, expected: Any) -> None:
    """Only where a driver or a server would lose some of it."""
    assert exact(kind, dialect) is expected


def test_floats_of_psycopg_are_texts() -> None:
    """With all digits; anything else is as it is."""
    assert _FLOATS_AS_TEXT.value(0.1) == "0.1"
    assert _FLOATS_AS_TEXT.value(1) == 1


def test_what_is_written_around_a_value() -> None:
    """An interval is a text on both ways."""
    key = column("span")
    assert str(select(_INTERVAL.out(key)).compile(dialect=PSYCOPG)).startswith("SELECT CAST(span AS TEXT)")
    assert str(_INTERVAL.back(key).compile(dialect=PSYCOPG)) == "CAST(CAST(span AS TEXT) AS INTERVAL)"
    assert str(_DOUBLE.out(key)) == "span + 0e0"


@pytest.mark.parametrize(
    ("element", "told"), [(Column("a", Integer), "a = 1"), (literal_column("a + b"), "(a + b) = 1")]
)
def test_what_is_compared_is_in_brackets_unless_it_is_a_column(element: Any, told: str) -> None:
    """What stands beside it cannot tear it apart; it has no type of Python's."""
    found = raw(element)
    assert str(found == literal_column("1")) == told
    assert isinstance(found.type, NullType)
