"""Rows as COPY takes them: with the defaults that Python makes, converted as in any statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import StatementError

from fastkit.database import CopyFault, copy_rows
from fastkit.errors import DeclarationError
from fastkit.repository._batch import Batch, Held, Values
from fastkit.repository._row_values import RowValues


class _Context:
    """What a default function may ask of the statement that it makes a value for."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.current_parameters = row

    def get_current_parameters(self, isolate_multiinsert_groups: bool = True) -> Mapping[str, Any]:
        """Return the row that the value is for."""
        return self.current_parameters


def check_copy(values: RowValues, batch: Batch, dialect: Dialect) -> None:
    """
    Refuse what only a statement can do.

    Raises:
        DeclarationError: A default is SQL, or a type puts SQL around its values.
    """
    for column in values.table.columns:
        default: Any = None if column in batch.columns else column.default
        if default is not None and not (default.is_scalar or default.is_callable):
            raise DeclarationError(
                f"bulk.insert(copy=True): the default of {column} is SQL, which COPY has no place for: "
                "give the column, make it a server_default, or insert without copy."
            )
        kind = column.type.dialect_impl(dialect)
        if column in batch.columns and kind._has_bind_expression:  # noqa: SLF001 - no public word
            raise DeclarationError(
                f"bulk.insert(copy=True): the type of {column} puts SQL around each value, which COPY has no place "
                "for: insert without copy."
            )


def copied(connection: Connection, values: RowValues, batch: Batch, fault: CopyFault) -> None:
    """Send a batch by COPY."""
    columns, rows = _with_defaults(values, batch)
    rows = _processed(rows, columns, connection.dialect, fault)
    names = [column.name for column in columns]
    if isinstance(rows, Held):
        copy_rows(connection, values.table, names, rows.mappings, make=rows.make, fault=fault)
    else:
        copy_rows(connection, values.table, names, rows, fault=fault)


def _with_defaults(values: RowValues, batch: Batch) -> tuple[tuple[Column[Any], ...], Values]:
    columns, rows = batch.columns, batch.rows
    for column in values.table.columns:
        if column.default is None or column in columns:
            continue
        make = _maker(column, [each.key for each in columns])
        rows = [(*row, make(row)) for row in rows]
        columns = (*columns, column)
    return columns, rows


def _maker(column: Column[Any], keys: list[str]) -> Callable[[tuple[Any, ...]], Any]:
    default: Any = column.default
    if default.is_scalar:
        return lambda row: default.arg
    return lambda row: default.arg(_Context(dict(zip(keys, row, strict=True))))


def _processed(rows: Values, columns: Sequence[Column[Any]], dialect: Dialect, fault: CopyFault) -> Values:
    """Return the rows with each value as the driver takes it."""
    found = [column.type.dialect_impl(dialect).bind_processor(dialect) for column in columns]
    if not any(found):
        return rows
    by_place: list[Any] = list(zip(*rows, strict=True))
    for place, convert in enumerate(found):
        if convert is not None:
            by_place[place] = _converted(by_place[place], convert, columns[place], fault)
    return list(zip(*by_place, strict=True))


def _converted(values: Sequence[Any], convert: Callable[[Any], Any], column: Column[Any], fault: CopyFault) -> Any:
    done: list[Any] = []
    try:
        done.extend(map(convert, values))
    except Exception as error:
        fault.row = len(done)
        raise StatementError(f"a value of {column} could not be converted", None, None, error) from error
    return done
