"""
What the error of a driver says: codes, constraint, table, columns, side of a foreign key.

Nothing here reads the value of a row. Where a message holds values beside names, its pattern is bound to the
end of the message: in every language of a server the name comes after the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy.exc import DBAPIError

from fastkit.errors import (
    CannotConnectError,
    CheckError,
    ConcurrencyError,
    ConnectionLostError,
    ConstraintError,
    DeadlockError,
    ExclusionError,
    FastkitError,
    ForeignKeyError,
    InvalidValueError,
    LockTimeoutError,
    NotNullError,
    ReadOnlyError,
    SerializationError,
    StatementTimeoutError,
    UnavailableError,
    UniqueError,
)

Family = Literal["postgresql", "mariadb", "sqlite"]
Kind = type[FastkitError]

_FAMILIES: dict[str, Family] = {
    "asyncpg": "postgresql",
    "psycopg": "postgresql",
    "aiomysql": "mariadb",
    "asyncmy": "mariadb",
    "pymysql": "mariadb",
    "aiosqlite": "sqlite",
    "sqlite3": "sqlite",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    What is known about one error of a driver.

    Attributes:
        family: None if the driver is not known.
        codes: The code of the error and then its class; empty if the driver gave none.
        side: "child" or "parent" of a foreign key, or None.
        info: What the constraint says of itself in the metadata.
    """

    family: Family | None = None
    codes: tuple[str | int, ...] = ()
    constraint: str | None = None
    schema: str | None = None
    table: str | None = None
    columns: tuple[str, ...] = ()
    side: str | None = None
    info: Mapping[Any, Any] = field(default_factory=dict[Any, Any])


def diagnose(error: DBAPIError) -> Diagnosis:
    """Return what the driver says about `error`, without a look at the metadata."""
    driver = driver_error(error)
    family = _FAMILIES.get(type(driver).__module__.partition(".")[0])
    if family == "postgresql":
        return _postgresql(driver)
    if family == "mariadb":
        return _mariadb(driver)
    return _sqlite(driver) if family == "sqlite" else Diagnosis()


def driver_error(error: DBAPIError) -> BaseException:
    """Return what the driver raised; SQLAlchemy loses it where asyncpg finds a prepared statement out of date."""
    try:
        return error.driver_exception
    except ValueError:
        return (error.orig and error.orig.__cause__) or error


# PostgreSQL: psycopg keeps the fields of the server in `diag`, asyncpg on the error itself.

# Bound to the first bracket of the detail: it holds the columns of the key or an expression, never a value.
_PG_KEY = re.compile(r"^[^(]*\(([^()]+)\)=\(")
_PG_KEY_CODES = {"23503", "23505", "23P01"}  # the detail of other codes begins with the values of the row
_PG_STALE_PLAN = "RevalidateCachedQuery"
"""The function of the server that finds a prepared statement out of date, under a code that means much else, 0A000."""
_PG_QUOTE = re.compile(r"[\"“”„«»]")


def _postgresql(driver: Any) -> Diagnosis:
    fields = getattr(driver, "diag", driver)
    code = _postgresql_code(driver, fields)
    column = getattr(fields, "column_name", None)
    side = _postgresql_side(code, getattr(fields, "message_primary", None) or getattr(driver, "message", None))
    detail = getattr(fields, "message_detail", None) or getattr(fields, "detail", None) or ""
    # On the parent side the key is the one of the parent, while table and constraint are those of the child.
    key = _PG_KEY.match(detail) if code in _PG_KEY_CODES and side != "parent" else None
    return Diagnosis(
        family="postgresql",
        codes=(code, code[:2]) if code else (),
        constraint=getattr(fields, "constraint_name", None),
        schema=getattr(fields, "schema_name", None),
        table=getattr(fields, "table_name", None),
        columns=(column,) if column else _split(key[1]) if key else (),
        side=side,
    )


def _postgresql_code(driver: Any, fields: Any) -> str | None:
    if type(driver).__name__ == "InvalidCachedStatementError":  # asyncpg makes it itself, without a code
        return _PG_STALE_PLAN
    code: str | None = getattr(driver, "sqlstate", None)
    return _PG_STALE_PLAN if getattr(fields, "source_function", None) == _PG_STALE_PLAN else code


def _postgresql_side(code: str | None, message: str | None) -> str | None:
    if code == "23001":
        return "parent"
    if code != "23503" or not message:
        return None
    # Both sides have the same code and the words are translated, but the message of the parent side quotes
    # three names (parent, constraint, child), the one of the child side two.
    return "parent" if len(_PG_QUOTE.findall(message)) > 4 else "child"  # noqa: PLR2004


# MariaDB and MySQL: number and message, nothing else.

_LAST_QUOTED = re.compile(r"'(?:(?P<table>[^'.]+)\.)?(?P<constraint>[^'.]+)'[^']*$")
_FIRST_QUOTED = re.compile(r"^[^']*'(?P<columns>[^']+)'")
_BEHIND_VALUE = re.compile(r"'[^'`]*`(?P<schema>[^`]+)`\.`(?P<table>[^`]+)`\.`(?P<columns>[^`]+)`[^'`]*$")
_FOREIGN_KEY = re.compile(
    r"(?:`(?P<schema>[^`]+)`\.)?`(?P<table>[^`]+)`, CONSTRAINT `(?P<constraint>[^`]+)` "
    r"FOREIGN KEY \((?P<columns>[^)]+)\)"
)
# A check that belongs to one column has no name of its own: the server writes `table.column` instead.
_CHECK = re.compile(
    r"`(?:[^`.]+\.(?P<columns>[^`]+)|(?P<constraint>[^`]+))`[^`]*`(?P<schema>[^`]+)`\.`(?P<table>[^`]+)`"
)
_MYSQL_CHECK = re.compile(r"^[^']*'(?P<constraint>[^']+)'")

_MARIADB_PLACES: dict[int, re.Pattern[str]] = {
    **dict.fromkeys((1048, 1264, 1265, 1364, 1406), _FIRST_QUOTED),
    **dict.fromkeys((1062, 1586), _LAST_QUOTED),
    **dict.fromkeys((1292, 1366), _BEHIND_VALUE),
    **dict.fromkeys((1451, 1452), _FOREIGN_KEY),
    3819: _MYSQL_CHECK,
    4025: _CHECK,
}
_MARIADB_SIDES = {1216: "child", 1452: "child", 1217: "parent", 1451: "parent"}


def _mariadb(driver: Any) -> Diagnosis:
    code = driver.args[0] if driver.args and isinstance(driver.args[0], int) else None
    if not code:  # pymysql raises (0, "") on a closed connection
        return Diagnosis("mariadb")
    place = _MARIADB_PLACES.get(code)
    found = place.search(str(driver.args[-1])) if place else None
    return _placed(Diagnosis("mariadb", (code,), side=_MARIADB_SIDES.get(code)), found)


# SQLite: the extended result code, and names in a message that is never translated.

_SQLITE_UNIQUE = re.compile(r"^UNIQUE constraint failed: (?:index '(?P<constraint>.+)'|(?P<columns>.+))$")
_SQLITE_NOT_NULL = re.compile(r"^NOT NULL constraint failed: (?P<columns>.+)$")
_SQLITE_CHECK = re.compile(r"^CHECK constraint failed: (?P<constraint>.+)$")

_SQLITE_PLACES = {
    275: _SQLITE_CHECK,
    1299: _SQLITE_NOT_NULL,
    **dict.fromkeys((1555, 2067, 2579), _SQLITE_UNIQUE),
}


def _sqlite(driver: Any) -> Diagnosis:
    code: int | None = getattr(driver, "sqlite_errorcode", None)
    if code is None:
        return Diagnosis("sqlite")
    place = _SQLITE_PLACES.get(code)
    said = _placed(Diagnosis("sqlite", (code, code & 0xFF)), place.search(str(driver)) if place else None)
    pairs = [column.rpartition(".") for column in said.columns]
    return replace(said, table=pairs[0][0], columns=tuple(pair[2] for pair in pairs)) if pairs else said


def _placed(said: Diagnosis, found: re.Match[str] | None) -> Diagnosis:
    names: dict[str, Any] = {name: value for name, value in found.groupdict().items() if value} if found else {}
    if "columns" in names:
        names["columns"] = _split(names["columns"])
    return replace(said, **names)


def _split(columns: str) -> tuple[str, ...]:
    return tuple(column.strip().strip('"`') for column in columns.split(","))


# Which code is which error.

# Source: postgresql.org/docs/current/errcodes-appendix.html. Two characters stand for the rest of a class.
_POSTGRESQL: Mapping[Kind | None, str] = {
    UniqueError: "23505",
    ForeignKeyError: "23001 23503",
    ExclusionError: "23P01",
    NotNullError: "23502",
    CheckError: "23514 44000",
    ConstraintError: "23",
    InvalidValueError: "22 54000",
    None: "22012",  # division by zero: the expression is wrong, not a value
    ConcurrencyError: _PG_STALE_PLAN,
    SerializationError: "40001",
    DeadlockError: "40P01",
    LockTimeoutError: "55P03",
    StatementTimeoutError: "57014",
    ConnectionLostError: "08 25P03 25P04 57P01 57P02 57P04 57P05",
    CannotConnectError: "08001 08004 28000 28P01 3D000 53300 57P03",
    UnavailableError: "53 58030",
    ReadOnlyError: "25006",
}
# Source: mariadb.com/kb/en/mariadb-error-codes; 3024, 3058, 3572, 3819 and 4031 come from MySQL 8.
_MARIADB: Mapping[Kind | None, str] = {
    UniqueError: "1022 1062 1586",
    ForeignKeyError: "1216 1217 1451 1452",
    NotNullError: "1048 1364",
    CheckError: "1369 3819 4025",
    ConstraintError: "1761 1762 1859",
    InvalidValueError: "1153 1264 1265 1292 1300 1366 1367 1406 1411 1690",
    SerializationError: "1020",
    DeadlockError: "1213 3058",
    LockTimeoutError: "1205 3572",
    StatementTimeoutError: "1317 1969 3024",
    ConnectionLostError: "1053 1927 2006 2013 2055 4031",
    CannotConnectError: "1040 1045 1129 1130 1203 1226 1698 2002 2003 2005",
    UnavailableError: "1021 1030 1041 1114",
    ReadOnlyError: "1036 1290 1792 1836",
}
# Source: sqlite.org/rescode.html. Codes below 256 stand for the rest of their class.
_SQLITE: Mapping[Kind | None, str] = {
    UniqueError: "1555 2067 2579",
    ForeignKeyError: "787",
    NotNullError: "1299",
    CheckError: "275",
    ConstraintError: "19",
    InvalidValueError: "18 20 3091",
    SerializationError: "517",  # the snapshot is old; waiting, as for the rest of SQLITE_BUSY, would not help
    LockTimeoutError: "5 6",
    StatementTimeoutError: "9",
    CannotConnectError: "14 26",
    UnavailableError: "7 10 11 13",
    ReadOnlyError: "8",
}
_KINDS: dict[tuple[str, str], Kind | None] = {
    (family, code): kind
    for family, table in (("postgresql", _POSTGRESQL), ("mariadb", _MARIADB), ("sqlite", _SQLITE))
    for kind, codes in table.items()
    for code in codes.split()
}


def coded(said: Diagnosis) -> Kind | None:
    """Return the error that the codes of `said` stand for, the most precise code first."""
    known = [(said.family or "", str(code)) for code in said.codes]
    return next((_KINDS[key] for key in known if key in _KINDS), None)
