"""COPY of PostgreSQL, inside the open transaction, through each of its drivers."""
# ruff: noqa: SLF001 - there is no public word for how SQLAlchemy handles what a driver raises

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from operator import length_hint
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection, Table

from fastkit.database._spending import one_statement

T = TypeVar("T")

_LINE = re.compile(r"^COPY .*?, \D*?(\d+)(?:, |:|$)", re.DOTALL)  # its words are those of the server's language


class CopyFault:
    """
    Where a COPY failed, as far as it is known afterwards.

    Attributes:
        row: The place of the row among those that were given, from 0 on, or None.
    """

    def __init__(self) -> None:
        self.row: int | None = None


def copy_rows(
    connection: Connection,
    table: Table,
    names: Sequence[str],
    rows: Sequence[T],
    *,
    make: Callable[[T], Sequence[Any]] | None = None,
    fault: CopyFault,
) -> None:
    """
    Send rows; what goes wrong is raised as for any statement.

    Args:
        connection: The connection, within a transaction.
        table: Where to.
        names: The columns.
        rows: What the rows are made of, one by one.
        make: Makes the values of one, as the driver takes them; None if that is what the rows are already.
        fault: Takes note of the row that could not be sent.
    """
    schema = connection.schema_for_object(table)
    where = ".".join(map(_quoted, filter(None, (schema, table.name))))
    statement = f"COPY {where} ({', '.join(map(_quoted, names))}) FROM STDIN"
    left = iter(rows)
    try:
        with one_statement():
            _send(connection, statement, (schema, table.name, names), left if make is None else map(make, left))
    except BaseException as error:  # noqa: BLE001 - SQLAlchemy raises it again
        fault.row = _row_of(error, len(rows) - length_hint(left))
        _raise(connection, statement, error)


def _send(connection: Connection, statement: str, place: tuple[str | None, str, Sequence[str]], rows: Any) -> None:
    driver = _driver(connection)
    if connection.dialect.driver == "asyncpg":
        schema, name, names = place

        async def copy(own: Any) -> None:
            if driver._transaction is None:  # SQLAlchemy begins one with the first statement
                await driver._start_transaction()
            await own.copy_records_to_table(name, records=rows, columns=names, schema_name=schema)

        driver.run_async(copy)
    elif connection.dialect.is_async:
        driver.run_async(lambda own: _write_async(own, statement, rows))
    else:
        with driver.cursor() as cursor, cursor.copy(statement) as copying:
            for row in rows:
                copying.write_row(row)


async def _write_async(driver: Any, statement: str, rows: Iterator[Any]) -> None:
    async with driver.cursor() as cursor, cursor.copy(statement) as copying:
        for row in rows:
            await copying.write_row(row)


def _driver(connection: Connection) -> Any:
    """Return the connection of the driver, as SQLAlchemy has adapted it."""
    return connection.connection.dbapi_connection


def _row_of(error: BaseException, taken: int) -> int | None:
    """Return the row that a fault is about: the last one that was taken, unless the server names one."""
    said = getattr(getattr(error, "diag", error), "context", None)
    if isinstance(said, str):
        found = _LINE.match(said)
        return int(found[1]) - 1 if found else None
    is_of_server = getattr(error, "sqlstate", None) is not None or not isinstance(error, Exception)
    return None if is_of_server or not taken else taken - 1


def _raise(connection: Connection, statement: str, error: BaseException) -> NoReturn:
    """Raise what SQLAlchemy makes of a fault."""
    known = _adapted(_driver(connection), error) if connection.dialect.driver == "asyncpg" else error
    connection._handle_dbapi_exception(known, statement, None, None, None)


def _adapted(driver: Any, error: BaseException) -> BaseException:
    """Return a fault of asyncpg as that of SQLAlchemy's adapter."""
    try:
        if isinstance(error, Exception):
            driver._handle_exception(error)
    except Exception as known:  # noqa: BLE001 - it is raised by the caller
        return known
    return error


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
