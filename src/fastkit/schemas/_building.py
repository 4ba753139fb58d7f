"""From the schema that Pydantic makes of a model to that of a derived one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from pydantic_core import CoreSchema, PydanticUndefined, core_schema

from fastkit.schemas._absent import MISSING, without_absent
from fastkit.schemas._derivation import Derivation
from fastkit.schemas._mapped import Loaded, mapper_of
from fastkit.schemas._marks import IF_LOADED, READ_ONLY, WRITE_ONLY, refuse, words_of
from fastkit.schemas._rules import loosen

_DONE = "fastkit_derived"


def derived(model: Any, schema: CoreSchema, derivation: Derivation) -> CoreSchema:
    """Return the schema, changed in place, without the fields that are gone and with those that may be absent."""
    node = _model_of(schema)
    if node is None or _DONE in (node.get("metadata") or {}):
        return schema
    holder, fields = _fields_of(node)
    words = {name: words_of(each["schema"]) for name, each in fields["fields"].items()}
    read_only = {name for name, found in words.items() if READ_ONLY.word in found}
    gone = {*derivation.gone, *(read_only & derivation.optional if derivation.is_partial else ())}
    loaded = {name for name, found in words.items() if IF_LOADED.word in found} - gone
    _hide(model, fields, {name for name, found in words.items() if WRITE_ONLY.word in found})
    _leave_out(model, fields, gone)
    if absent := (derivation.optional | loaded) & fields["fields"].keys():
        _let_be_absent(model, fields, absent)
        holder["schema"] = core_schema.no_info_after_validator_function(without_absent, fields)
    if loaded:
        _look_before_reading(holder, fields, loaded)
    node["metadata"] = {**(node.get("metadata") or {}), _DONE: True}
    return schema


def fields_within(schema: Any) -> Any:
    """Return the node of the fields inside of what is added here, or the schema itself if something else is around."""
    inner = schema
    while inner["type"] in {"function-before", "function-after"}:
        function = inner["function"]["function"]
        if function is not without_absent and getattr(function, "func", None) is not _loaded:
            return schema
        inner = inner["schema"]
    return inner


def _model_of(schema: Any) -> Any:
    """Return the node that makes the object, inside of validators of the whole; None for a mere reference to it."""
    while schema is not None and schema["type"] != "model":
        schema = schema.get("schema")
    return schema


def _fields_of(model: Any) -> tuple[Any, Any]:
    """Return the node of the fields, inside of validators of what they are made from, and the one that holds it."""
    holder = model
    while holder["schema"]["type"] != "model-fields":
        holder = holder["schema"]
    return holder, holder["schema"]


def _hide(model: Any, fields: Any, names: set[str]) -> None:
    """Keep fields out of every dump and text, whatever else their Field() says."""
    for name in names:
        info = model.__pydantic_fields__[name]
        info.exclude, info.repr = True, False
        fields["fields"][name]["serialization_exclude"] = True


def _leave_out(model: Any, fields: Any, gone: set[str]) -> None:
    for name in gone:
        fields["fields"].pop(name, None)
        model.__pydantic_fields__.pop(name, None)
    loosen(model, gone)


def _let_be_absent(model: Any, fields: Any, absent: set[str]) -> None:
    """Make fields optional; nothing stands for those that are not given."""
    unchecked: Any = {"validate_default": False} if model.model_config.get("validate_default") else {}
    for name in absent:
        info = model.__pydantic_fields__[name]  # required, for all that would fill in a default by itself
        info.default, info.default_factory = PydanticUndefined, None
        each = fields["fields"][name]
        known = each["schema"]
        inner = known["schema"] if known["type"] == "default" else known
        each["schema"] = core_schema.with_default_schema(inner, default=MISSING, **unchecked)
        if "serialization" in known and inner is not known:
            each["schema"]["serialization"] = known["serialization"]
    if fields.get("computed_fields") or model.model_config.get("extra") == "allow":
        return
    fields["serialization"] = {  # as fields that are all there, Pydantic would not know the object again in a union
        **fields,
        "type": "typed-dict",
        "fields": {
            name: {**each, "type": "typed-dict-field", "required": name not in absent}
            for name, each in fields["fields"].items()
        },
    }


def _look_before_reading(holder: Any, fields: Any, loaded: set[str]) -> None:
    for name in loaded:
        _trust(fields["fields"][name]["schema"])
    read = frozenset(each for name in loaded for each in _read_for(name, fields["fields"][name]))
    holder["schema"] = core_schema.no_info_before_validator_function(partial(_loaded, read), holder["schema"])


def _trust(schema: Any) -> None:
    """Take away what refuses the field in a model that is no `Schema`."""
    while schema["type"] != "function-before" or schema["function"]["function"] is not refuse:
        schema = schema["schema"]
    inner = schema["schema"]
    schema.clear()
    schema.update(inner)


def _read_for(name: str, each: Mapping[str, Any]) -> Iterator[str]:
    """Yield the attributes that Pydantic may read for a field."""
    yield name
    alias = each.get("validation_alias", name)
    paths = [alias] if isinstance(alias, str) else alias
    for path in paths:
        first = path[0] if isinstance(path, list) else path
        if isinstance(first, str):
            yield first


def _loaded(names: frozenset[str], source: Any) -> Any:
    return source if mapper_of(type(source)) is None else Loaded(source, names)
