"""Models that are another one with fewer fields, or with fields that may be absent."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from types import new_class
from typing import Any, TypeVar

from pydantic import BaseModel

from fastkit.schemas._derivation import names_of
from fastkit.schemas.schema import Derivable

M = TypeVar("M", bound=BaseModel)


def partial(model: type[M], *, name: str | None = None) -> type[M]:
    """
    Return a model of the same fields, of which every one may be absent.

    Args:
        model: Any Pydantic model.
        name: The name of the new class, which OpenAPI shows; without it, that of the model and "Patch".
    """
    return _made(model, name or f"{model.__name__}Patch", "partial", None)


def pick(model: type[M], names: Collection[str], *, name: str | None = None) -> type[M]:
    """
    Return a model that has only some of the fields.

    Args:
        model: Any Pydantic model.
        names: Names of fields and of computed fields.
        name: The name of the new class, which OpenAPI shows; without it, that of the model and of the fields.

    Raises:
        DeclarationError: A name is none of the model's.
    """
    return _made(model, name or _named(model, "Only", names), "pick", names_of("pick", names))


def omit(model: type[M], names: Collection[str], *, name: str | None = None) -> type[M]:
    """
    Return a model that lacks some of the fields.

    Args:
        model: Any Pydantic model.
        names: Names of fields and of computed fields.
        name: The name of the new class, which OpenAPI shows; without it, that of the model and of the fields.

    Raises:
        DeclarationError: A name is none of the model's.
    """
    return _made(model, name or _named(model, "Without", names), "omit", names_of("omit", names))


def _named(model: type[BaseModel], word: str, names: Collection[str]) -> str:
    return "".join([model.__name__, word, *(each.title().replace("_", "") for each in sorted(names))])


@cache
def _made(model: type[M], name: str, word: str, names: frozenset[str] | None) -> type[M]:
    """Return the class; the same one each time, so that its objects can be sent to another process."""
    recipe = (model, name, word, names)
    bases = (model,) if issubclass(model, Derivable) else (Derivable, model)
    body = {
        "__module__": model.__module__,
        "__doc__": model.__doc__,
        "__reduce__": lambda self: (_empty, recipe, self.__getstate__()),
    }
    made: Any = new_class(name, bases, {word: True if names is None else names}, lambda space: space.update(body))
    return made  # type: ignore[no-any-return]


def _empty(*recipe: Any) -> BaseModel:
    made: Any = _made(*recipe)
    return made.__new__(made)  # type: ignore[no-any-return]
