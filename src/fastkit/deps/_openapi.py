"""The OpenAPI schema says which problem documents an operation answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts

from fastkit.deps._openapi_conditional import amend as amend_conditional
from fastkit.deps._openapi_conditional import statuses_of, take_merge_patch
from fastkit.deps._responses import CONTENT, REFERENCE, by_status, is_error, response
from fastkit.errors import FastkitError
from fastkit.responses.problems import MEDIA_TYPE, PROBLEM_SCHEMA, TYPE_BASE

Errors = Mapping[int, Sequence[type[FastkitError]]]

_COMPONENTS = "#/components/schemas/"
_FASTAPI_CONTENT = {"application/json": {"schema": {"$ref": f"{_COMPONENTS}HTTPValidationError"}}}

_JSON = "application/json"


def document(app: FastAPI, base: str = TYPE_BASE) -> None:
    """
    Make the OpenAPI schema of an app show its problem documents.

    Every operation gets a `default` response that is a problem, its 422 becomes one, and what a dependency names in
    its attribute `problems` is added: a `frozenset` of statuses and classes of errors. So is what its body and its
    security can lead to. What an app says itself about a status, or about its range such as "4XX", stays. Webhooks
    and callbacks stay as they are: others answer them. A mounted app has a schema, and needs a call, of its own.

    Args:
        app: The app.
        base: What the `type` of a problem begins with.
    """
    if not isinstance(app.openapi, _Documented):
        app.openapi = _Documented(app, app.openapi)  # type: ignore[method-assign]
    app.openapi.base = base


class _Documented:
    """An `app.openapi` that amends what another one generates, once for every schema that is generated."""

    def __init__(self, app: FastAPI, generate: Callable[[], dict[str, Any]]) -> None:
        self.base = TYPE_BASE
        self._app = app
        self._generate = generate
        self._amended: dict[str, Any] | None = None

    def __call__(self) -> dict[str, Any]:
        # FastAPI returns the same object until the routes change; app.openapi_schema is that object.
        schema = self._generate()
        if schema is not self._amended:
            _amend(schema, self._app, self.base)
            self._amended = schema
        return schema


def _amend(schema: dict[str, Any], app: FastAPI, base: str) -> None:
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    problem = _component(schemas, "Problem", PROBLEM_SCHEMA)
    for operation, derived in _operations(schema, app):
        responses = operation.setdefault("responses", {})
        for each in responses.values():
            if each.get("content") == _FASTAPI_CONTENT:
                each["content"] = deepcopy(CONTENT)
        for status, errors in derived.items():
            if not {str(status), f"{status // 100}XX"} & responses.keys():
                responses[str(status)] = deepcopy(response(status, errors))
        responses.setdefault("default", {"description": "Any other problem", "content": deepcopy(CONTENT)})
        for each in responses.values():
            _resolve(each.get("content", {}).get(MEDIA_TYPE, {}), _COMPONENTS + problem, base)
    # A schema goes before what it refers to.
    for name in ("HTTPValidationError", "ValidationError", problem):
        if name in schemas and _COMPONENTS + name not in set(_strings(schema)):
            del schemas[name]
    components["schemas"] = dict(sorted(schemas.items()))


def _resolve(content: dict[str, Any], reference: str, base: str) -> None:
    """Put the name that the schema of problems has in this app, and its base of types, into what stands for them."""
    if content.get("schema") != {"$ref": REFERENCE}:
        return
    content["schema"] = {"$ref": reference}
    for example in content.get("examples", {}).values():
        value = example["value"]
        if value["type"].startswith(TYPE_BASE):
            value["type"] = base + value["type"].removeprefix(TYPE_BASE)


def _component(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> str:
    """Add a schema under its name, or under a free one if the app has such a model; return the name."""
    while schemas.get(name, schema) != schema:
        name = f"Fastkit{name}"
    schemas[name] = deepcopy(schema)
    return name


def _operations(schema: dict[str, Any], app: FastAPI) -> Iterator[tuple[dict[str, Any], Errors]]:
    """Yield each operation of the app's own routes with the problems that can be derived for it."""
    for route in iter_route_contexts(app.routes):
        if not isinstance(route.original_route, APIRoute) or not route.include_in_schema:
            continue
        path = schema.get("paths", {}).get(route.path_format, {})
        calls = [*dependency_calls(route.dependant)]
        named = {each for call in calls for each in _problems(call)}
        limited = [route.max_body_size, app.router.max_body_size, app.max_body_size] != [None] * 3
        for method in route.methods or ():
            if operation := path.get(method.lower()):
                amend_conditional(operation, calls, method, route)
                take_merge_patch(operation, method, route)
                named |= statuses_of(calls, method, str(route.path_format))
                yield (
                    operation,
                    by_status(sorted({*named, *_of_request(operation, limited=limited)}, key=str), str(route.path)),
                )


def _of_request(operation: dict[str, Any], *, limited: bool) -> Iterator[int]:
    """Yield what FastAPI answers by itself to a body or to credentials that it cannot take."""
    if operation.get("security"):
        yield 401
    if body := operation.get("requestBody"):
        yield from (400, 413) if limited else (400,)
        if _JSON in body.get("content", {}):
            yield 415


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


def _problems(call: Callable[..., Any]) -> Iterable[Any]:
    # A class used as a dependency may have an attribute of that name that means something else.
    problems = getattr(call, "problems", None)
    return filter(is_error, problems) if isinstance(problems, frozenset) else ()


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
