"""Which fields a function of a model reads, found in its bytecode."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any


def fields_read(model: type[Any], function: Any) -> set[str]:
    """Return the attributes of its first argument that a function reads, by itself and by what it calls of *model*."""
    found: set[str] = set()
    todo = [function]
    while todo:
        for name in set(_attributes(todo.pop())) - found:
            found.add(name)
            known = getattr(model, name, None)
            todo.extend(each for each in (known, getattr(known, "fget", None)) if each is not None)
    return found


def _attributes(function: Any) -> Iterator[str]:
    plain = getattr(function, "__func__", function)
    plain = getattr(plain, "func", plain)  # a cached_property
    if isinstance(plain, FunctionType) and plain.__code__.co_argcount:
        yield from _of(plain.__code__, plain.__code__.co_varnames[0])


def _of(code: CodeType, first: str) -> Iterator[str]:
    before: Any = None
    for step in dis.get_instructions(code):
        if step.opname in {"LOAD_ATTR", "LOAD_METHOD"} and before == first:
            yield step.argval
        before = step.argval[-1] if isinstance(step.argval, tuple) else step.argval  # two loads in one, since 3.12
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and first in inner.co_freevars:  # a lambda or a comprehension
            yield from _of(inner, first)
