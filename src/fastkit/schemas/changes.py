"""Changes that a request asks for, written to an object."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from functools import cache
from inspect import getattr_static
from types import FunctionType
from typing import Any

from pydantic import BaseModel, ValidationError
from typing_extensions import Format, get_annotations

from fastkit.errors import BrokenRule, DeclarationError, RulesBrokenError
from fastkit.schemas._absent import MISSING
from fastkit.schemas._derivation import nearest
from fastkit.schemas._mapped import is_json, is_loaded, is_relationship, is_version, mapper_of
from fastkit.schemas._nested import is_partial, jsonable, merged, sent, writable


def apply(target: object, patch: BaseModel) -> frozenset[str]:
    """
    Write what was sent to an object, all of it or nothing, and return the names of what it has changed.

    Only fields that the model of *patch* declares are written, and of these those that were sent, are not read-only
    and differ. A rule about several fields, a `model_validator`, is asked about the whole as it will be.

    >>> with shop.begin():
    ...     apply(book, patch)

    Args:
        target: A mapped object, or any other; its attributes are named as the fields.
        patch: A partial model for PATCH, a whole one for PUT.

    Raises:
        DeclarationError: The object can never have a field of the model, whether or not that was sent.
        RulesBrokenError: Together with what stays as it is, the changes break a rule of the model.
    """
    kind: Any = type(target)
    given: object = patch
    if not isinstance(given, BaseModel):
        raise TypeError(f"apply(target, patch) takes an object and a Pydantic model, not {type(given).__name__}.")
    check_writes(kind, type(patch), getattr(target, "__dict__", ()))
    values = {name: _written(target, name, value) for name, value in sent(patch).items()}
    changes = {name: value for name, value in values.items() if _current(target, name) != value}
    if changes:
        _check_whole(target, patch)
        _write(target, changes)
    return frozenset(changes)


def check_writes(kind: Any, model: Any, attributes: Container[str] = ()) -> None:
    """
    Check, at import or in a test, that each field of a model can be written to objects of a class.

    Args:
        kind: The class.
        model: The model.
        attributes: What an object of it has that the class does not name.

    Raises:
        DeclarationError: One cannot.
    """
    strange = [name for name in _without_place(kind, model) if name not in attributes]
    if strange:
        raise _refusal(kind, model, f"{kind.__name__} has no attribute {strange[0]!r}{nearest(strange[0], dir(kind))}")


@cache
def _without_place(kind: type[Any], model: type[BaseModel]) -> list[str]:
    """Return the fields that no class attribute is for; refuse those whose attribute nobody may set."""
    known = {name for each in kind.__mro__ for name in get_annotations(each, format=Format.FORWARDREF)}
    unplaced = []
    for name in writable(model):
        attribute = getattr_static(kind, name, None)
        if is_relationship(kind, name):
            raise _refusal(kind, model, f"{name!r} is a relationship: write its key, or apply() to the related object")
        if is_version(kind, name):
            raise _refusal(kind, model, f"{name!r} is the version of a row: what writes it undoes what it protects")
        if isinstance(attribute, FunctionType | classmethod | staticmethod):
            raise _refusal(kind, model, f"{name!r} is a method")
        if getattr(attribute, "fset", attribute) is None and attribute is not None:
            raise _refusal(kind, model, f"{name!r} is a property without a setter")
        if attribute is None and name not in known:
            unplaced.append(name)
    return unplaced


def _refusal(kind: type[Any], model: type[BaseModel], why: str) -> DeclarationError:
    return DeclarationError(
        f"apply() of {model.__name__} to {kind.__name__}: {why}. Leave it out of the model, as in omit={{...}}, or "
        "mark it ReadOnly[...]."
    )


def _written(target: object, name: str, value: Any) -> Any:
    """Return what the attribute is to hold."""
    if is_partial(value):
        return merged(getattr(target, name, None), value, f"/{name}")
    return jsonable(value) if is_json(type(target), name) else value


def _current(target: object, name: str) -> Any:
    """Return the value of an attribute, or that it is missing: nothing is queried for it."""
    if mapper_of(type(target)) is not None and not is_loaded(target, name):
        return MISSING
    return getattr(target, name, MISSING)


def _write(target: object, changes: Mapping[str, Any]) -> None:
    before: list[tuple[str, Any]] = []
    try:
        for name, value in changes.items():
            before.append((name, _current(target, name)))
            setattr(target, name, value)
    except BaseException:
        for name, value in reversed(before[:-1]):
            if value is not MISSING:
                setattr(target, name, value)
        raise


def _check_whole(target: object, patch: BaseModel) -> None:
    """Ask the rules of a partial model again, which had only what was sent to look at."""
    model = type(patch)
    rules = model.__pydantic_decorators__.model_validators.values()
    if not is_partial(patch) or all(rule.info.mode == "before" for rule in rules):
        return
    values = {name: _current(target, name) for name in model.model_fields}
    values = {name: value for name, value in values.items() if value is not MISSING}
    try:
        model.model_validate(model.model_construct(**{**values, **sent(patch)}))
    except ValidationError as error:
        raise RulesBrokenError(list(_broken(error))) from None


def _broken(error: ValidationError) -> Iterator[BrokenRule]:
    for each in error.errors(include_input=False, include_url=False):
        detail = each.get("ctx", {}).get("error", each["msg"])
        yield BrokenRule(str(detail), at="".join(f"/{part}" for part in each["loc"]) or None)
