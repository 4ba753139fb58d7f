"""What a column can be compared with, and sorted by: only what certainly fails is told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, PlainValidator, WrapValidator
from sqlalchemy import TypeDecorator, types
from sqlalchemy.dialects.postgresql import JSONB

_VALIDATORS = (AfterValidator, BeforeValidator, PlainValidator, WrapValidator)
_SIMPLE = (str, int, float, Decimal, dt.date, dt.time, dt.timedelta)
"""What a value is known by; a class that is none of these may be anything for a type of the app's own."""

_HELD: tuple[tuple[tuple[type[Any], ...], tuple[type[Any], ...], str], ...] = (
    ((types.Interval,), (dt.timedelta,), "timedelta"),
    ((types.Date, types.DateTime), (dt.date,), "date or datetime"),
    ((types.Time,), (dt.time,), "time"),
    ((types.Boolean,), (bool, int), "bool"),
    ((types.Integer, types.Numeric, types.Float), (int, float, Decimal), "int, float or Decimal"),
    ((types.String,), (str,), "str"),
)


def mismatch(attribute: Any, annotation: Any) -> str | None:
    """Return what the values of a filter would have to be, if none of them can be compared with the column."""
    held = held_by(getattr(attribute, "type", None))
    given = list(_leaves(annotation))
    if held is None or not given:
        return None
    accepted, told = held
    fits = (not _is_simple(each) or issubclass(each, accepted) for each in given)
    return None if any(fits) else told


def has_no_order(expression: Any) -> bool:
    """Return whether PostgreSQL cannot sort by it."""
    kind = getattr(expression, "type", None)
    kind = kind.impl_instance if isinstance(kind, TypeDecorator) else kind
    kind = getattr(kind, "_variant_mapping", {}).get("postgresql", kind)
    return isinstance(kind, types.JSON) and not isinstance(kind, JSONB)


def held_by(kind: Any) -> tuple[tuple[type[Any], ...], str] | None:
    """Return what a column holds; None if an app's own type, or another one on some database, may decide."""
    if isinstance(kind, types.Enum) or getattr(kind, "_variant_mapping", None):
        return None
    if isinstance(kind, TypeDecorator) and not isinstance(kind, types.Interval):
        return None
    return next(((accepted, told) for kinds, accepted, told in _HELD if isinstance(kind, kinds)), None)


def _is_simple(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, _SIMPLE)


def _leaves(annotation: Any) -> Iterator[Any]:
    """Yield the types of single values; object for what a validator may make of one."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        is_changed = any(isinstance(each, _VALIDATORS) for each in arguments[1:])
        yield from [object] if is_changed else _leaves(arguments[0])
    elif origin is Literal:
        yield from map(type, arguments)
    elif arguments:
        yield from (leaf for each in arguments for leaf in _leaves(each))
    elif annotation is not type(None):
        yield annotation
