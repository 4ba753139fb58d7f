"""Which of many rows a database has refused, as far as the rows themselves tell; looked for only afterwards."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, Column, Integer, Numeric, SmallInteger, String
from sqlalchemy.engine import Dialect

from fastkit.errors import ConstraintError, InvalidValueError, NotNullError
from fastkit.repository._batch import Batch
from fastkit.repository._comparable import held_by


@contextmanager
def told_row(batch: Batch, dialect: Dialect) -> Generator[None]:
    """Let an error about a row tell its number and column, or else among which rows it is; never a value."""
    try:
        yield
    except (ConstraintError, InvalidValueError) as error:
        error.args = (f"{error.args[0]} {_place(error, batch, dialect)}", *error.args[1:])
        raise


def _place(error: ConstraintError | InvalidValueError, batch: Batch, dialect: Dialect) -> str:
    if isinstance(error, NotNullError | InvalidValueError):
        for column in (each for each in batch.columns if not error.columns or each.name in error.columns):
            refuses = _is_missing if isinstance(error, NotNullError) else _Judge(column, dialect).refuses
            told = zip(batch.numbers, map(refuses, batch.values_of(column)), strict=True)
            number = next((number for number, is_refused in told if is_refused), None)
            if number is not None:
                return f"It is row {number}, column {column.name!r}."
    first, last = min(batch.numbers), max(batch.numbers)
    return f"It is row {first}." if first == last else f"It is one of the rows {first} to {last}."


def _is_missing(value: Any) -> bool:
    return value is None


class _Judge:
    """What a column certainly cannot hold."""

    def __init__(self, column: Column[Any], dialect: Dialect) -> None:
        self._kind = column.type
        self._held = held_by(column.type)
        self._convert = column.type.dialect_impl(dialect).bind_processor(dialect)
        self._dialect_name = dialect.name

    def refuses(self, value: Any) -> bool:
        """Return whether this value was refused."""
        if value is None:
            return False
        try:
            value = value if self._convert is None else self._convert(value)
        except Exception:  # noqa: BLE001 - that is what was looked for
            return True
        return self._is_strange(value) or self._is_too_much(value)

    def _is_strange(self, value: Any) -> bool:
        if self._convert is not None or self._held is None or type(value).__module__ != "builtins":
            return False
        return not isinstance(value, self._held[0])

    def _is_too_much(self, value: Any) -> bool:
        kind = self._kind
        if isinstance(value, str) and isinstance(kind, String):
            return (kind.length is not None and len(value) > kind.length) or "\0" in value
        if isinstance(value, int) and isinstance(kind, Integer):
            bits = 15 if isinstance(kind, SmallInteger) else 63 if isinstance(kind, BigInteger) else 31
            return not -(2**bits) <= value < 2 ** (63 if self._dialect_name == "sqlite" else bits)
        if isinstance(value, int | Decimal) and isinstance(kind, Numeric) and kind.precision is not None:
            return bool(abs(value) >= 10 ** (kind.precision - (kind.scale or 0)))
        return False
