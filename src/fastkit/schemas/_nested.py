"""Values that are models or hold some: merged with what is there, as RFC 7396 does, or written whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from fastkit.errors import BrokenRule, DeclarationError, RulesBrokenError
from fastkit.schemas._absent import MISSING
from fastkit.schemas._marks import is_read_only


def writable(model: type[BaseModel]) -> list[str]:
    """Return the fields that a model may write, in order."""
    return [name for name, info in model.model_fields.items() if not is_read_only(info)]


def sent(patch: BaseModel) -> dict[str, Any]:
    """Return what was sent and may be written."""
    values = {name: getattr(patch, name) for name in writable(type(patch)) if name in patch.model_fields_set}
    return {name: value for name, value in values.items() if value is not MISSING}


def is_partial(value: Any) -> bool:
    """Return whether a value is a model of which some may be absent."""
    derivation = getattr(value, "__derivation__", None)
    return derivation is not None and derivation.is_partial


def merged(current: Any, patch: BaseModel, at: str) -> Any:
    """
    Return what is there with the changes of a nested patch in it.

    Source: RFC 7396.

    Args:
        current: A model, or the dictionary of a column of JSON.
        patch: The changes.
        at: JSON pointer to the patch.

    Raises:
        RulesBrokenError: Nothing is there, and a part would be all there is.
    """
    model = type(patch)
    if isinstance(current, BaseModel):
        new = {
            name: merged(getattr(current, name, None), value, f"{at}/{name}") if is_partial(value) else value
            for name, value in sent(patch).items()
        }
        return current.model_copy(update=new)
    if not isinstance(current, Mapping):
        raise RulesBrokenError([BrokenRule("has no value of which a part could be changed", at=at)])
    result = dict(current)
    for name, value in sent(patch).items():
        key = model.model_fields[name].serialization_alias or name
        result[key] = merged(current.get(key), value, f"{at}/{name}") if is_partial(value) else jsonable(value)
    return result


def jsonable(value: Any) -> Any:
    """
    Return a value as a column of JSON holds it.

    Raises:
        DeclarationError: Something in it would be lost, or be half of what it should.
        RulesBrokenError: It is nothing that could be told as JSON again: half a character, or too deep.
    """
    for model in _models_in(value):
        if is_partial(model):
            raise DeclarationError(
                f"{type(model).__name__} is partial: in a list or a dictionary it would replace a whole."
            )
        fields = type(model).model_fields
        if hidden := [name for name, info in fields.items() if info.exclude]:
            raise DeclarationError(f"{type(model).__name__}.{hidden[0]} is in no dump: a column of JSON would lose it.")
        if fixed := [name for name, info in fields.items() if is_read_only(info)]:
            raise DeclarationError(
                f"{type(model).__name__}.{fixed[0]} is read-only, and what was sent would be written as a whole: "
                f"name a model without it, as in omit={{{fixed[0]!r}}}."
            )
    found = _checked(partial(to_jsonable_python, value, by_alias=True), PydanticSerializationError)
    _checked(partial(to_json, found))  # what no answer can hold would be in the way of every later one
    return found


def _checked(work: Callable[[], Any], *mistakes: type[Exception]) -> Any:
    """Return what *work* does; an error of a value is one of the client, if it is no mistake of the app."""
    try:
        return work()
    except mistakes:
        raise
    except (ValueError, RecursionError):
        raise RulesBrokenError([BrokenRule("A value has a form that JSON cannot hold")]) from None


def _models_in(value: Any) -> Iterator[BaseModel]:
    inner: Any = ()
    if isinstance(value, BaseModel):
        yield value
        inner = value.__dict__.values()
    elif isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        inner = value
    for each in inner:
        yield from _models_in(each)
