"""Which response models are plain: what JSON they become can be told from the types of their values alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import EnumMeta
from functools import cache
from types import NoneType
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter

from fastkit.schemas._building import fields_within

_Core = Mapping[str, Any]

_TYPES = {
    "int": int,
    "str": str,
    "bool": bool,
    "float": float,
    "decimal": Decimal,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
}
_LEAF = {"type", "metadata", "ref", "microseconds_precision"}
_ENUM = {"type", "metadata", "ref", "cls", "members", "sub_type", "missing"}
_FIELD = {"type", "metadata", "schema", "serialization_alias", "validation_alias", "frozen"}
_DEFAULT = {"type", "metadata", "schema", "default", "copy_default"}
_REFERENCE = {"type", "metadata", "ref", "schema_ref"}
_MODEL = {"type", "metadata", "ref", "cls", "config", "custom_init", "root_model", "schema", "generic_origin"}
_CONFIG = {
    *("title", "from_attributes", "frozen", "extra_fields_behavior", "hide_input_in_errors", "strict"),
    *("populate_by_name", "validate_by_name", "validate_by_alias", "serialize_by_alias", "loc_by_alias"),
}


class NotPlainError(Exception):
    """A response model has something that only Pydantic can do; says what."""


@dataclass(frozen=True, slots=True)
class Field:
    """
    What a field of a plain model holds.

    Attributes:
        alias: Its name in JSON.
        types: The exact types of a single value; empty if it is a model, or a list.
        base: A type whose subclasses become the same JSON, or None.
        choices: The only values that it may have; empty if there are others.
        item: What each element of a list is, or None.
        model: The model that it is, or None.
        optional: Whether it may be None.
        default: The value that it has if no row gives it.
    """

    alias: str
    types: frozenset[type] = frozenset()
    base: type | None = None
    choices: frozenset[object] = frozenset()
    item: Field | None = None
    model: type[BaseModel] | None = None
    optional: bool = False
    default: object = NotImplemented


@cache
def fields_of(schema: Any) -> Mapping[str, Field]:
    """
    Return the fields of a plain response model by their names.

    Raises:
        NotPlainError: It has validators, constraints, computed fields, serializers, or types that have many shapes.
    """
    core: Any = TypeAdapter(schema).core_schema
    definitions = {each["ref"]: each for each in core["definitions"]} if core["type"] == "definitions" else {}
    name = schema.__name__
    model = _resolved(core["schema"] if core["type"] == "definitions" else core, definitions, name)
    inner = fields_within(model["schema"]) if model["type"] == "model" else model
    if inner["type"] != "model-fields":
        raise NotPlainError(f"{name} has a validator or a serializer of its own")
    _allow(model, _MODEL, name)
    _allow(model["config"], _CONFIG, f"the configuration of {name}")
    if schema.__new__ is not object.__new__:  # Pydantic calls it
        raise NotPlainError(f"{name} has a __new__ of its own")
    if model["custom_init"] or model["root_model"] or inner.get("computed_fields") or "extras_schema" in inner:
        raise NotPlainError(f"{name} has computed fields or an __init__ of its own")
    found = dict(_fields(schema, inner["fields"], definitions))
    if len({each.alias for each in found.values()}) < len(found):
        raise NotPlainError(f"{name} has one alias twice")
    return found


def _fields(schema: type[BaseModel], fields: _Core, definitions: _Core) -> Iterator[tuple[str, Field]]:
    for name, field in fields.items():
        where = f"{schema.__name__}.{name}"
        _allow(field, _FIELD, where)
        core, known = field["schema"], {"alias": field.get("serialization_alias", name)}
        if core["type"] == "default":
            _allow(core, _DEFAULT, where)
            core, known["default"] = core["schema"], core["default"]
        yield name, _field(core, where, definitions, **known)


def _field(core: _Core, where: str, definitions: _Core, **known: Any) -> Field:
    core = _resolved(core, definitions, where)
    if core["type"] == "nullable":
        _allow(core, {"type", "metadata", "schema"}, where)
        return _field(core["schema"], where, definitions, **{**known, "optional": True})
    if core["type"] == "list":
        _allow(core, {"type", "metadata", "items_schema"}, where)
        return Field(item=_field(core["items_schema"], where, definitions, alias=""), **known)
    if core["type"] == "model":
        _allow(core, _MODEL, where)  # here and not there is what says how this use of it is written
        return Field(model=core["cls"], **known)
    return _single(core, where, **known)


def _single(core: _Core, where: str, **known: Any) -> Field:
    none = {NoneType} if known.get("optional") else set()
    if core["type"] == "enum":
        _allow(core, _ENUM, where)
        if type(core["cls"]) is not EnumMeta or not all(map(_is_usual, core["members"])):
            raise NotPlainError(f"{where} is an enumeration whose members are not written as what they are made of")
        return Field(types=frozenset({core["cls"], *none}), **known)
    if core["type"] == "literal" and {type(each) for each in core["expected"]} <= {str, int}:
        _allow(core, {"type", "metadata", "expected"}, where)
        choices = frozenset(core["expected"])
        return Field(types=frozenset({*map(type, choices), *none}), choices=choices, **known)
    if core["type"] not in _TYPES:
        raise NotPlainError(f"{where} is of a type with many shapes ({core['type']})")
    _allow(core, _LEAF, where)
    exact = _TYPES[core["type"]]
    return Field(types=frozenset({exact, *none}), base=UUID if exact is UUID else None, **known)


def _is_usual(member: Any) -> bool:
    """Return whether a member of an enumeration is written as a text or number, whoever looks at it."""
    value, shown = member._value_, member.value
    itself = value
    if isinstance(member, str | int):  # written as the text or number that it is, or as the one that it names
        itself = str.__str__(member) if isinstance(member, str) else int.__int__(member)
    return type(value) in {str, int} and shown is value and itself == value


def _resolved(core: _Core, definitions: _Core, where: str) -> _Core:
    while core["type"] == "definition-ref":
        _allow(core, _REFERENCE, where)
        core = definitions[core["schema_ref"]]
    return core


def _allow(core: _Core, known: set[str], where: str) -> None:
    if unknown := core.keys() - known:
        raise NotPlainError(f"{where} has {', '.join(sorted(unknown))}")
