"""The OpenAPI schema says which problem documents an operation answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from fastkit.responses.problems import MEDIA_TYPE, PROBLEM_SCHEMA, phrase

_COMPONENTS = "#/components/schemas/"
_FASTAPI_CONTENT = {"application/json": {"schema": {"$ref": f"{_COMPONENTS}HTTPValidationError"}}}

_ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "detail": {"type": "string", "description": "What is wrong."},
        "pointer": {"type": "string", "description": "JSON pointer into the body (RFC 6901)."},
        "in": {"type": "string", "enum": ["query", "path", "header", "cookie"]},
        "parameter": {"type": "string", "description": "Name of the parameter."},
    },
    "required": ["detail"],
}


def document(app: FastAPI) -> None:
    """
    Make the OpenAPI schema of an app show its problem documents.

    Every operation gets a `default` response that is a problem, its 422 becomes a problem with the place of
    each error, and each status that a dependency names in its attribute `problems` (a `frozenset[int]`) is
    added. What an app says itself about a status, or about its range such as "4XX", stays. Webhooks and
    callbacks stay as they are: others answer them. A mounted app has a schema, and needs a call, of its own.
    """
    if not isinstance(app.openapi, _Documented):
        app.openapi = _Documented(app, app.openapi)  # type: ignore[method-assign]


class _Documented:
    """An `app.openapi` that amends what another one generates, once for every schema that is generated."""

    def __init__(self, app: FastAPI, generate: Callable[[], dict[str, Any]]) -> None:
        self._app = app
        self._generate = generate
        self._amended: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        # FastAPI returns the same object until the routes change; app.openapi_schema is that object.
        schema = self._generate()
        if schema is not self._amended:
            _amend(schema, self._app)
            self._amended = schema
        return schema


def _amend(schema: dict[str, Any], app: FastAPI) -> None:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = _component(schemas, "Problem", PROBLEM_SCHEMA)
    invalid = _component(schemas, "ValidationProblem", _validation_schema(problem))
    for operation, statuses in _operations(schema, app):
        responses = operation.setdefault("responses", {})
        for response in responses.values():
            if response.get("content") == _FASTAPI_CONTENT:
                response["content"] = _content(invalid)
        for status in sorted(statuses):
            if not {str(status), f"{status // 100}XX"} & responses.keys():
                responses[str(status)] = {"description": phrase(status), "content": _content(problem)}
        responses.setdefault("default", {"description": "Any other problem", "content": _content(problem)})
    # A schema goes before what it refers to.
    for name in ("HTTPValidationError", "ValidationError", invalid, problem):
        if name in schemas and _COMPONENTS + name not in set(_strings(schema)):
            del schemas[name]
    components["schemas"] = dict(sorted(schemas.items()))


def _component(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> str:
    """Add a schema under its name, or under a free one if the app has such a model; return the name."""
    while schemas.get(name, schema) != schema:
        name = f"Fastkit{name}"
    schemas[name] = deepcopy(schema)
    return name


def _validation_schema(problem: str) -> dict[str, Any]:
    # `errors` is not required: the database refuses values with 422 too, and does not always tell which.
    return {
        "title": "ValidationProblem",
        "description": "What is wrong with the values of a request, each with its place where that is known.",
        "allOf": [{"$ref": _COMPONENTS + problem}],
        "type": "object",
        "properties": {"errors": {"type": "array", "items": _ERROR_SCHEMA}},
    }


def _content(name: str) -> dict[str, Any]:
    return {MEDIA_TYPE: {"schema": {"$ref": _COMPONENTS + name}}}


def _operations(schema: dict[str, Any], app: FastAPI) -> Iterator[tuple[dict[str, Any], frozenset[int]]]:
    """Yield each operation of the app's own routes with the statuses of its dependencies."""
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute) or not route.include_in_schema:
            continue
        path = schema.get("paths", {}).get(route.path_format, {})
        statuses = frozenset[int]().union(*map(_problems, dependency_calls(route.dependant)))
        for method in route.methods or ():
            if operation := path.get(method.lower()):
                yield operation, statuses


def dependency_calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    """Yield the endpoint and every dependency below it, partials unwrapped."""
    waiting = [dependant]
    while waiting:
        current = waiting.pop()
        call = current.call
        while isinstance(call, partial):
            call = call.func
        if call is not None:
            yield call
        waiting.extend(current.dependencies)


def _problems(call: Callable[..., Any]) -> Iterable[int]:
    # A class used as a dependency may have an attribute of that name that means something else.
    problems = getattr(call, "problems", None)
    return problems if isinstance(problems, frozenset) else ()


def _strings(node: object) -> Iterator[str]:
    """Yield every string of a schema, not only those of `$ref`: discriminators refer by plain strings."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value)
