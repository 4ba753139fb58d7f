"""What the annotation of a field can hold: one value or several, and whether it is a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import TypeAliasType

_MANY = (Sequence, AbstractSet)  # list, tuple[X, ...], set and frozenset are such


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What a field can hold.

    Attributes:
        schema: The response model in it, or None.
        is_many: Whether it is a list of some kind.
    """

    schema: type[BaseModel] | None
    is_many: bool


def shape_of(annotation: Any) -> Shape:
    """Return what a field with this annotation can hold."""
    found = _unwrapped(annotation)
    element = _element(found)
    inner = found if element is None else _unwrapped(element)
    is_model = isinstance(inner, type) and issubclass(inner, BaseModel)
    return Shape(inner if is_model else None, element is not None)


def is_constant(annotation: Any) -> bool:
    """Return whether the annotation admits one value only: `Literal["book"]`."""
    found = _unwrapped(annotation)
    return get_origin(found) is Literal and len(get_args(found)) == 1


def notes_of(annotation: Any) -> Iterator[Any]:
    """Yield what is noted by Annotated, inside of an alias and of "or None" as well."""
    for layer in _layers(annotation):
        yield from getattr(layer, "__metadata__", ())


def _element(annotation: Any) -> Any:
    """Return what is in the list, or None if it is none."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if not isinstance(origin, type) or not issubclass(origin, _MANY):
        return None
    return arguments[0] if origin is not tuple or arguments[1:] == (Ellipsis,) else None


def _unwrapped(annotation: Any) -> Any:
    """Return the annotation without Annotated, aliases and "or None"."""
    return list(_layers(annotation))[-1]


def _layers(annotation: Any) -> Iterator[Any]:
    """Yield the annotation, what is in its outermost Annotated, alias or "or None", and so on."""
    yield annotation
    arguments = get_args(annotation)
    if isinstance(annotation, TypeAliasType) or hasattr(annotation, "__value__"):
        yield from _layers(annotation.__value__[arguments] if arguments else annotation.__value__)
    elif get_origin(annotation) is Annotated:
        yield from _layers(arguments[0])
    elif get_origin(annotation) in {Union, UnionType}:
        others = [each for each in arguments if each is not NoneType]
        yield from _layers(others[0]) if len(others) == 1 else ()
