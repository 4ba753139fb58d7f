"""The cells of a CSV file: what a value looks like there, and that none of them is a formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from math import isfinite
from types import NoneType
from typing import Any

from pydantic_core import to_jsonable_python

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""
What a spreadsheet takes for the beginning of a formula; the last four are the wide forms of the first ones.

Source: OWASP, CSV Injection
"""
_SINGLE = {bool, float, int, str, NoneType}
_KEPT = {int, NoneType}
_TEXTS = {str, NoneType}


def cells_of(values: Sequence[Any], *, decimal: bool, escape: bool) -> Sequence[Any]:
    """
    Return the cells of one column: text, integers, and None for an empty one.

    Args:
        values: Values of single types, as they are or as JSON has them.
        decimal: Whether a text that is a number is that of a `Decimal`.
        escape: Whether a text that a spreadsheet would calculate is made a text by an apostrophe.
    """
    kinds = set(map(type, values))
    if Decimal in kinds:
        texts = [None if value is None else str(value) for value in values]
        return [_plain(text) if text and "E" in text else text for text in texts]
    if kinds - _SINGLE:  # by Pydantic, as in JSON
        values = to_jsonable_python(values)
        kinds = set(map(type, values))
    if kinds <= _KEPT:
        return values
    if decimal:
        values = [_plain(value) for value in values]
    if kinds <= _TEXTS:
        return [_escaped(each) if each and each[0] in _FORMULA else each for each in values] if escape else values
    return [_cell(value, escape=escape) for value in values]


def _plain(value: Any) -> Any:
    """Return the text of a number without an exponent."""
    return format(Decimal(value), "f") if type(value) is str and _NUMBER.fullmatch(value) else value


def _escaped(text: str) -> str:
    return text if _NUMBER.fullmatch(text) else f"'{text}"


def _cell(value: Any, *, escape: bool) -> Any:
    if type(value) is str:
        return _escaped(value) if escape and value[:1] in _FORMULA else value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return repr(value) if isfinite(value) else None  # as JSON has null
    return value
