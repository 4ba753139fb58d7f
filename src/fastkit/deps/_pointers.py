"""Where in a request something is wrong: JSON pointers into its body, and names of its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from fastapi.dependencies.utils import get_flat_params, request_params_to_args
from fastapi.routing import iter_route_contexts
from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo
from sqlalchemy.orm import Mapper, class_mapper
from starlette.requests import HTTPConnection

from fastkit.deps.units import UNITS
from fastkit.uow._declaration import models_of

MAX_POINTER = 1000  # characters; a pointer repeats keys that the client chose, once for every error
MAX_DEPTH = 200  # Pydantic writes 255 levels; the answer may have some around what the client sent
Path = tuple[str | int, ...]
_NO_TEXT = "The text has half of a surrogate pair, which is no character"
_SURROGATE = re.compile("[\ud800-\udfff]")


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer of a path (RFC 6901)."""
    return "".join(_step(part) for part in path)


def _step(part: str | int) -> str:
    return "/" + str(part).replace("~", "~0").replace("/", "~1")


def pointer_into(body: object, path: Sequence[str | int], *, missing: bool) -> str:
    """
    Return the JSON pointer of a Pydantic location.

    A location also names branches of unions, wrapped validators and keys of dicts, which are no places in the
    body; so the body is walked along, and what it does not have is left out, except for a missing key. Where
    there was no body, or a route raised the error without it, the location is all there is.
    """
    told, last = "", len(path) - 1
    node = _UNKNOWN if body is None else body
    for index, part in enumerate(path):
        child = _child(node, part)
        if child is _ABSENT and not (missing and index == last and isinstance(node, Mapping) and isinstance(part, str)):
            continue
        step = _step(part)
        if len(told) + len(step) > MAX_POINTER:
            break
        told, node = told + step, child
    return told


_ABSENT, _UNKNOWN = object(), object()


def _child(node: object, part: str | int) -> object:
    if node is _UNKNOWN:
        return _UNKNOWN
    if isinstance(node, Mapping):
        return node.get(part, _ABSENT)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return _ABSENT


def unwritable(body: object) -> Iterator[tuple[list[str | int], str]]:
    """Yield the places of what Python reads from JSON and nobody can write as JSON, each with what is wrong."""
    path: list[str | int] = []
    below: list[Iterator[tuple[str | int, object]]] = [iter([("", body)])]
    while below:  # no recursion: the body may be as deep as Python allows
        key, node = next(below[-1], (None, None))
        if key is None:
            below.pop()
            del path[-1:]
        elif isinstance(key, str) and _SURROGATE.search(key):
            yield path[1:], _NO_TEXT  # what cannot be written cannot be pointed to
        elif isinstance(node, str) and _SURROGATE.search(node):
            yield [*path, key][1:], _NO_TEXT
        elif isinstance(node, dict | list) and len(path) >= MAX_DEPTH:
            yield [*path, key][1:], "The value is nested too deep"
        elif isinstance(node, dict | list):
            path.append(key)
            below.append(iter(node.items() if isinstance(node, dict) else enumerate(node)))


def places(connection: HTTPConnection, table: str | None, columns: Sequence[str]) -> list[dict[str, str]]:
    """
    Return the place in the request of each column, as the entry of a problem's `errors` tells it.

    A column is looked for under the name of its attribute: in the route's body, then among its parameters. What the
    client cannot have sent, such as the column of a scope, has no place.
    """
    route = route_of(connection)
    names = _attributes(getattr(connection.app.state, UNITS, {}), table, columns)
    found = (_in_body(connection, route, name) or _in_parameters(route, name) for name in names)
    return [place for place in found if place]


def has_body(connection: HTTPConnection) -> bool:
    """Return whether the route of a request reads a body."""
    return getattr(route_of(connection), "body_field", None) is not None


def route_of(connection: HTTPConnection) -> Any:
    """Return the route of a request, as an included one where it is included."""
    route: Any = connection.scope.get("route")
    contexts = (each for each in iter_route_contexts(connection.app.routes) if each.original_route is route)
    return next(contexts, route)


def invalid_parameters(connection: HTTPConnection) -> list[Any]:
    """Return what is wrong with the parameters of a request: FastAPI calls what does not need them all the same."""
    given: dict[str, Any] = {
        "path": connection.path_params,
        "query": connection.query_params,
        "header": connection.headers,
        "cookie": connection.cookies,
    }
    fields: dict[str, list[Any]] = {place: [] for place in given}
    for field in get_flat_params(route_of(connection).dependant):
        fields[getattr(field.field_info, "in_").value].append(field)  # noqa: B009 - not declared
    return [error for place in given for error in request_params_to_args(fields[place], given[place])[1]]


def _attributes(units: Iterable[type[Any]], table: str | None, columns: Sequence[str]) -> list[str]:
    """Return the names of the attributes that are mapped to columns; a column without one keeps its own."""
    registries = {class_mapper(model).registry for unit in units for model in models_of(unit)}
    mappers = (mapper for registry in registries for mapper in registry.mappers)
    for mapper in mappers:
        if found := _mapped(mapper, table, columns):
            return found
    return list(columns)


def _mapped(mapper: Mapper[Any], table: str | None, columns: Sequence[str]) -> list[str]:
    known = {column.name: column for column in mapper.columns if getattr(column.table, "name", None) == table}
    if not {*columns} <= known.keys():
        return []
    return [mapper.get_property_by_column(known[name]).key for name in columns]


def _in_body(connection: HTTPConnection, route: Any, name: str) -> dict[str, str] | None:
    field = getattr(route, "body_field", None)
    if field is None:
        return None
    body = getattr(connection, "_json", _UNKNOWN)
    models = [*_models(field.field_info.annotation)]
    path = _path(models, name, body)
    if path is None and not models and isinstance(body, Mapping) and name in body:  # a dict, a dataclass
        path = (name,)
    return None if path is None else {"pointer": pointer(path)}


def _path(models: Sequence[type[BaseModel]], name: str, body: object) -> Path | None:
    """Return the way to the field of this name, in the models or in the only one below them that has it."""
    level: list[tuple[Path, type[BaseModel], object]] = [((), model, body) for model in models]
    seen: set[type[BaseModel]] = set()
    while level:
        found = {(*way, *_key(model, name, part)) for way, model, part in level if name in model.model_fields}
        if found:
            return found.pop() if len(found) == 1 else None
        seen.update(model for _, model, _ in level)
        level = [each for way, model, part in level for each in _below(way, model, part) if each[1] not in seen]
    return None


def _below(way: Path, model: type[BaseModel], part: object) -> Iterator[tuple[Path, type[BaseModel], object]]:
    for name, info in model.model_fields.items():
        key = _key(model, name, part)
        inner = part
        for step in key:
            inner = _child(inner, step)
        if inner is not _ABSENT and inner is not None:  # nothing of a part that was not sent
            yield from (((*way, *key), each, inner) for each in _models(info.annotation))


def _key(model: type[BaseModel], name: str, part: object) -> Path:
    """Return what the client calls a field: of several names the one that was sent, or else the first."""
    ways = [*_aliases(model.model_fields[name])]
    if not ways or model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"):
        ways.append((name,))
    return next((way for way in ways if _child(part, way[0]) is not _ABSENT), ways[0])


def _aliases(info: FieldInfo) -> Iterator[Path]:
    alias = info.validation_alias or info.alias
    for each in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        if each is not None:
            yield tuple(each.path) if isinstance(each, AliasPath) else (each,)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a value of this type is one of; those inside of lists and dicts have no one place."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif not isinstance(origin, type) or not issubclass(origin, Iterable):
        for each in get_args(annotation):
            yield from _models(each)


def _in_parameters(route: Any, name: str) -> dict[str, str] | None:
    dependant = getattr(route, "dependant", None)
    for field in get_flat_params(dependant) if dependant is not None else ():
        where = getattr(getattr(field.field_info, "in_", None), "value", None)
        if field.name == name and where is not None:
            return {"in": where, "parameter": field.alias}
    return None
