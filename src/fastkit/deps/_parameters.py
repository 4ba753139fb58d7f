"""Parameters as FastAPI reads them, with all that is the same for each request looked up once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib import import_module
from inspect import getsource
from types import ModuleType, NoneType
from typing import Any, TypeAlias

from pydantic import ValidationError

utils: Any = import_module("fastapi.dependencies.utils")  # most of it is not for others
Read: TypeAlias = Callable[[Any], dict[str, Any]]
"""Returns the values of parameters by their names, of the query or another part of a request."""

_Value: TypeAlias = Callable[[Mapping[str, Any], Any], Any]
"""Returns the value of one of them, from the last values by name and from the whole."""

_IMMUTABLE = {NoneType, bool, int, float, str}
_PREPARED = {"query_params", "path_params"}

_READ_BY = (
    *("request_params_to_args", "_request_param_model_to_args", "_validate_value_with_model_field", "_get_param_model"),
    *("_get_multidict_value", "_get_multidict_extras", "_get_param_aliases", "_get_model_type", "_is_json_field"),
    *("field_annotation_is_sequence", "get_cached_model_fields", "get_validation_alias", "ModelField"),
)
"""What reads parameters in FastAPI. What is done here was copied from it, and is done where it reads as it did."""

_KNOWN = {"7a03c0b6f641f1963a69d2fa7a481342"}


class InvalidParameterError(Exception):
    """A request lacks a parameter, or has one that is not valid; FastAPI says which and why."""


class _OtherwiseReadError(Exception):
    """A parameter is one that only FastAPI reads."""


def reader_of(fields: Sequence[Any], source: str) -> Read:
    """
    Return what reads parameters from a part of a request.

    Args:
        fields: The parameters, as FastAPI holds them.
        source: The part, an attribute of the request.
    """
    if source not in _PREPARED or not is_known(utils):
        return _as_fastapi(fields)
    try:
        values = [(field.name, _value_of(field, is_query=source == "query_params")) for field in fields]
    except _OtherwiseReadError:
        return _as_fastapi(fields)

    def read(received: Any) -> dict[str, Any]:
        given = dict(received.items())
        try:
            return {name: value(given, received) for name, value in values}
        except ValidationError:
            raise InvalidParameterError from None

    return read


@cache
def is_known(module: ModuleType) -> bool:
    """Return whether FastAPI reads parameters as it did when this was written."""
    return digest_of(module) in _KNOWN


def digest_of(module: ModuleType) -> str | None:
    """Return what changes when FastAPI reads parameters in another way; None if it cannot be told."""
    try:
        told = "".join(getsource(getattr(module, name)) for name in _READ_BY)
    except (AttributeError, OSError, TypeError):
        return None
    return sha256(told.encode()).hexdigest()[:32]


def _as_fastapi(fields: Sequence[Any]) -> Read:
    own = utils.request_params_to_args

    def read(received: Any) -> dict[str, Any]:
        values: dict[str, Any]
        values, errors = own(fields, received)
        if errors:
            raise InvalidParameterError
        return values

    return read


def _value_of(field: Any, *, is_query: bool) -> _Value:
    model = utils._get_param_model(field)  # noqa: SLF001 - as `request_params_to_args` asks
    if model is not None and is_query:
        return _value_of_model(field, model)
    aliases, is_list = _read_as(field)
    if model is not None or (is_list and not is_query):
        raise _OtherwiseReadError
    names = [name for _, name in aliases]
    validated, missing = field._type_adapter.validate_python, _missing(field)  # noqa: SLF001 - as its `validate` does

    def value(given: Mapping[str, Any], received: Any) -> Any:
        for name in names:
            if name in given:
                found = received.getlist(name) if is_list else given[name]
                return missing() if found is None else validated(found, from_attributes=True)  # a convertor gives None
        return missing()

    return value


def _value_of_model(field: Any, model: Any) -> _Value:
    if field.field_info.annotation is not model:
        raise _OtherwiseReadError
    parts = [_read_as(each) for each in utils.get_cached_model_fields(model)]
    validated = field._type_adapter.validate_python  # noqa: SLF001 - as its `validate` does

    def value(given: Mapping[str, Any], received: Any) -> Any:
        found, read = {}, set()
        for aliases, is_list in parts:
            alias, name = next((pair for pair in aliases if pair[1] in given), aliases[0])
            read.add(name)
            if name in given:
                found[alias] = received.getlist(name) if is_list else given[name]
        for name in given:
            if name not in read:
                several = received.getlist(name)
                found[name] = several[0] if len(several) == 1 else several
        return validated(found, from_attributes=True)

    return value


def _read_as(field: Any) -> tuple[Sequence[tuple[str, str]], bool]:
    """Return under which names a parameter may be given, and whether all of its values are taken."""
    if utils._is_json_field(field):  # noqa: SLF001 - as `request_params_to_args` asks
        raise _OtherwiseReadError
    is_list = utils.field_annotation_is_sequence(field.field_info.annotation)
    return utils._get_param_aliases(field), is_list  # noqa: SLF001 - same


def _missing(field: Any) -> Callable[[], Any]:
    """Return what gives a parameter its default."""
    info = field.field_info
    if not info.is_required() and info.default_factory is None and not info.validate_default:
        default = field.default
        if type(default) in _IMMUTABLE:
            return lambda: default

    def missing() -> Any:
        value, errors = utils._validate_value_with_model_field(  # noqa: SLF001 - as `request_params_to_args` asks
            field=field, value=utils.Undefined, values={}, loc=()
        )
        if errors:
            raise InvalidParameterError
        return value

    return missing
