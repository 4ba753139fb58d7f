"""Values that a driver would store and nobody could read again: refused as they are bound, before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from sqlalchemy import DateTime, Engine, Float, Numeric
from sqlalchemy.engine import Dialect


def json_text(value: Any) -> str:
    """
    Return a value as JSON.

    Raises:
        UnicodeEncodeError: A text in it has half of a surrogate pair: PostgreSQL's json and SQLite would keep its
            escape, and no answer could show it.
    """
    text = json.dumps(value)
    if "\\ud" in text:  # also the halves of a pair, which are fine
        json.dumps(value, ensure_ascii=False).encode()
    return text


def refuse_unreadable(engine: Engine) -> None:
    """Let the types of an engine refuse what its driver would only find out when it reads."""
    dialect: Any = engine.dialect
    own: dict[Any, Any] = {}
    if dialect.name == "sqlite":
        own = {Numeric: _FiniteNumeric, Float: Float}
    elif dialect.driver == "psycopg":
        known = dialect.colspecs.get(DateTime, DateTime)
        is_done = known.__module__ == __name__  # an engine may be given to several databases
        own = {DateTime: known if is_done else _within_python(known)}
    if not own.items() <= dialect.colspecs.items():
        dialect.colspecs = {**dialect.colspecs, **own}
        vars(dialect).pop("_type_memos", None)  # what the app's own engine remembers of them from before
        engine.clear_compiled_cache()


class _FiniteNumeric(Numeric[Any]):
    """A decimal on SQLite, which stores it as a float: 1e999 would be infinite from then on."""

    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return what makes a float of a decimal."""

        def process(value: Any) -> Any:
            if value is None:
                return None
            number = float(value)
            if not isfinite(number):
                raise OverflowError("SQLite stores decimals as floats, and this one is beyond them.")
            return number

        return process


def _within_python(known: Any) -> Any:
    """Return a type for moments that are in the years 1 to 9999 in UTC, too: psycopg reads no others."""

    class Within(known):  # type: ignore[misc]
        cache_ok = True

        def bind_processor(self, dialect: Dialect) -> Any:
            """Return what lets such moments pass."""
            before = super().bind_processor(dialect)

            def process(value: Any) -> Any:
                if type(value) is datetime and value.tzinfo is not None and value.year in {1, 9999}:
                    value.astimezone(UTC)  # OverflowError
                return value if before is None else before(value)

            return process

    return Within
