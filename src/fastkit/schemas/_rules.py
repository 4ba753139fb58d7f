"""Validators and computed fields of a derived model: those about fields that are gone, or that may be absent."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from pydantic import BaseModel

from fastkit.errors import DeclarationError
from fastkit.schemas._absent import MISSING, AbsentError
from fastkit.schemas._derivation import Derivation
from fastkit.schemas._reading import fields_read

_SKIPS = "__skips_what_is_absent__"


def fit(model: Any, derivation: Derivation) -> None:
    """
    Leave out what is about fields that are gone, and let no validator of a partial model fail for what is absent.

    Raises:
        DeclarationError: Something is about a field that is gone and about another one too.
    """
    decorators = model.__pydantic_decorators__
    if derivation.gone:
        for rules in (decorators.computed_fields, decorators.model_validators):
            for name in rules.keys() & derivation.gone.keys():
                del rules[name]
            _leave_out(model, rules, derivation)
        _check(model, decorators.model_serializers, derivation)
        _check(model, decorators.field_serializers, derivation)
    if derivation.is_partial:
        decorators.computed_fields.clear()  # a dump is what was sent
        for rules in (decorators.model_validators, decorators.field_validators):
            rules.update({name: _skipping(rule) for name, rule in rules.items()})
        if model.__pydantic_post_init__ and not hasattr(model.model_post_init, _SKIPS):
            model.model_post_init = _skipped(model.model_post_init, lambda *_: None)


def loosen(model: Any, gone: Iterable[str]) -> None:
    """Let validators name fields that are gone: nobody calls them for those."""
    decorators, missing = model.__pydantic_decorators__, set(gone)
    for rules in (decorators.validators, decorators.field_validators, decorators.field_serializers):
        for rule in rules.values():
            if not missing.isdisjoint(rule.info.fields):
                rule.info.check_fields = False


def _leave_out(model: type[BaseModel], rules: dict[str, Any], derivation: Derivation) -> None:
    for name in list(rules):
        read = fields_read(model, _function(rules[name])) & (derivation.gone.keys() | model.model_fields.keys())
        missing = read & derivation.gone.keys()
        if missing and (missing < read or name in derivation.picked):
            raise _mixed(model, name, missing, derivation)
        if missing:
            del rules[name]


def _check(model: type[BaseModel], rules: dict[str, Any], derivation: Derivation) -> None:
    for name, rule in rules.items():
        fields = set(getattr(rule.info, "fields", ()))
        missing = fields_read(model, _function(rule)) & derivation.gone.keys()
        if missing and (not fields or fields - derivation.gone.keys()):
            raise _mixed(model, name, missing, derivation)


def _mixed(model: type[BaseModel], name: str, missing: set[str], derivation: Derivation) -> DeclarationError:
    names = ", ".join(map(repr, sorted(missing)))
    where = derivation.gone[min(missing)]
    return DeclarationError(
        f"{model.__name__}.{name} reads {names}, which {where} leaves out. Keep what it reads, or write it anew in "
        f"{where}, or leave it out as well if it is a computed field or a validator: omit={{{name!r}}}."
    )


def _function(rule: Any) -> Any:
    return getattr(rule.func, "fget", rule.func)


def _skipping(rule: Any) -> Any:
    if hasattr(rule.func, _SKIPS) or rule.info.mode == "plain":
        return rule
    if rule.info.mode == "wrap":
        return dataclasses.replace(rule, func=_skipped(rule.func, lambda value, handler, *_: handler(value)))
    return dataclasses.replace(rule, func=_skipped(rule.func, lambda value, *_: value))


def _skipped(function: Callable[..., Any], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, which does nothing if it reads what is absent."""

    @wraps(function)
    def asked(*arguments: Any) -> Any:
        known = [_Sent(each) if _is_info(each) else each for each in arguments]
        try:
            return function(*known)
        except AbsentError:
            return otherwise(*arguments)

    setattr(asked, _SKIPS, True)
    return asked


def _is_info(argument: Any) -> bool:
    return type(argument).__name__ == "ValidationInfo"  # Pydantic's own, which it does not export


class _Sent:
    """What Pydantic tells a validator, with the fields that were sent alone in its `data`."""

    def __init__(self, info: Any) -> None:
        self._info = info

    @property
    def data(self) -> dict[str, Any]:
        return _Data({name: value for name, value in self._info.data.items() if value is not MISSING})

    def __getattr__(self, name: str) -> Any:
        return getattr(self._info, name)


class _Data(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise AbsentError(name)
