"""Routes that call their endpoint directly, where everything that it takes is understood."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from types import FunctionType, SimpleNamespace
from typing import Any

import fastapi
from fastapi import params, routing
from fastapi.datastructures import DefaultPlaceholder
from starlette.requests import Request
from starlette.responses import Response

from fastkit.deps._parameters import Read, reader_of
from fastkit.deps.units import UnitRoute, entering
from fastkit.pages import Page, Slice, Window
from fastkit.repository._deferred import DEFERRING, json_of

log = logging.getLogger("fastkit.deps")

_JSON = "application/json"
_NEEDED = {
    "context": ("fastapi.routing", "_effective_route_context_var"),
    "described": ("fastapi.routing", "_extract_endpoint_context"),
    "serialized": ("fastapi.routing", "serialize_response"),
    "body": ("fastapi.dependencies.utils", "request_body_to_args"),
    "has_body": ("fastapi.utils", "is_body_allowed_for_status_code"),
    "telemetry": ("fastapi.telemetry", "get_telemetry_data"),
}
_REPLACED = ("solve_dependencies", "run_endpoint_function", "serialize_response")
_READ_FROM = {
    "path_params": "path_params",
    "query_params": "query_params",
    "header_params": "headers",
    "cookie_params": "cookies",
}
_UNDERSTOOD = {
    *_READ_FROM,
    *("body_params", "dependencies", "name", "call", "path", "scope"),
    *("request_param_name", "http_connection_param_name", "response_param_name"),
}
_USUAL = {"use_cache": True}
"""Fields of a dependant that may have this value only; those not named anywhere, only None or nothing."""

_USUAL_OPTIONS = {
    "include": None,
    "exclude": None,
    "by_alias": True,
    "exclude_unset": False,
    "exclude_defaults": False,
    "exclude_none": False,
}
"""Options of the response model that change nothing."""


class DirectRoute(UnitRoute):
    """
    A route that answers as a `UnitRoute` does, byte for byte, with less work for each request.

    >>> router = APIRouter(route_class=DirectRoute)

    It calls `async def` endpoints without FastAPI's solving of dependencies if all that they take is understood: what
    `fastkit.deps` gives on async units, parameters, a JSON body, the request, and plain `async def` dependencies of
    these that do not take the request. Any other route is left to FastAPI's own handler, as the logger `fastkit.deps`
    tells at level DEBUG; so is a request that is not valid, and every one while there are `dependency_overrides`.

    A `Page`, `Slice` or `Window` that a reader gave, returned by an endpoint that declares it, becomes JSON as by
    `Reader.json`: response models are made of its rows only if somebody looks at them.

    The parameters of all dependencies are read before the first of them is called: what one sets, a validator of the
    app cannot see.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return a handler that calls the endpoint directly, or FastAPI's own."""
        stock = super().get_route_handler()
        try:
            plan = _plan(self, getattr(stock, "__wrapped__", None))
        except (_NotUnderstoodError, AttributeError, ImportError) as why:
            log.debug("FastAPI's own handler serves %s: %s", self.path, why)
            return stock

        async def handle(request: Request) -> Response:
            arguments = await plan.arguments(request)
            if arguments is None:  # nothing has been called yet
                return await stock(request)  # type: ignore[no-any-return]
            return self.looked_at(request, await plan.response(request, arguments))

        return handle


class _NotUnderstoodError(Exception):
    """A route, or a request, is one for FastAPI's own handler."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One call: the endpoint, or a dependency."""

    call: Callable[..., Any]
    enter: Callable[..., Any] | None
    takes: Sequence[tuple[str, int]]
    reads: Sequence[tuple[str, Read]]
    body: Sequence[Any]
    requests: Sequence[str]
    response: str | None


def _plan(route: Any, stock: Any) -> _Plan:
    """
    Return how to serve a route.

    Raises:
        _NotUnderstoodError: Not in a way that is certain to be FastAPI's.
        AttributeError: This FastAPI lacks something that is needed.
        ImportError: Same, a module.
    """
    internals = SimpleNamespace(
        **{name: getattr(import_module(place), each) for name, (place, each) in _NEEDED.items()}
    )
    if not all(map(_is_fastapis, [stock, *(getattr(routing, name) for name in _REPLACED)])):
        raise _NotUnderstoodError("Something is wrapped around it, or around a part of FastAPI.")
    included = internals.context.get()
    if included is not None and included.original_route is route:
        route = included
    if not isinstance(route.response_class, DefaultPlaceholder):
        raise _NotUnderstoodError("It has a response class.")
    if route.body_field is not None and isinstance(route.body_field.field_info, params.Form):
        raise _NotUnderstoodError("It takes a form.")
    steps: dict[Any, _Step] = {}
    _add_steps(route.dependant, steps, is_endpoint=True)
    return _Plan(route, [*steps.values()], internals)


def _is_fastapis(function: Any) -> bool:
    """Return whether a function is FastAPI's own, and not what an instrumentation has put in its place."""
    home = fastapi.__file__.removesuffix("__init__.py")
    return isinstance(function, FunctionType) and function.__code__.co_filename.startswith(home)


def _add_steps(dependant: Any, steps: dict[Any, _Step], *, is_endpoint: bool = False) -> int:
    """Add what a dependant calls, in the order of FastAPI; return the place of the last one."""
    key = (dependant.call, dependant.scope)
    if key not in steps:
        enter = entering(dependant.call) if dependant.scope == "function" else None
        _refuse_unless_understood(dependant, enters=enter is not None, is_endpoint=is_endpoint)
        takes = [(each.name, _add_steps(each, steps)) for each in dependant.dependencies]
        names = (dependant.http_connection_param_name, dependant.request_param_name)
        steps[key] = _Step(
            call=dependant.call,
            enter=enter,
            takes=[(name, place) for name, place in takes if name is not None],
            reads=[
                (source, reader_of(given, source))
                for name, source in _READ_FROM.items()
                if (given := getattr(dependant, name))
            ],
            body=dependant.body_params,
            requests=[name for name in names if name is not None],
            response=dependant.response_param_name,
        )
    return [*steps].index(key)


def _refuse_unless_understood(dependant: Any, *, enters: bool, is_endpoint: bool) -> None:
    for name in [each.name for each in fields(dependant) if each.name not in _UNDERSTOOD]:
        value = getattr(dependant, name)
        if value != _USUAL[name] if name in _USUAL else value:
            raise _NotUnderstoodError(f"{dependant.call!r} has {name}.")
    if not (enters or _is_plain(dependant.call)):
        raise _NotUnderstoodError(f"{dependant.call!r} is not a plain `async def`.")
    is_ours = dependant.call.__module__.startswith("fastkit.")
    if (dependant.request_param_name or dependant.http_connection_param_name) and not (is_ours or is_endpoint):
        # It could change what is read from the request after it, and here has been read before it.
        raise _NotUnderstoodError(f"The dependency {dependant.call!r} takes the request.")
    if dependant.response_param_name and not is_ours:  # it could set more than headers
        raise _NotUnderstoodError(f"{dependant.call!r} takes the response.")


def _is_plain(call: Any) -> bool:
    """Return whether FastAPI awaits a call, however it looks at it."""
    return inspect.isroutine(call) and all(map(inspect.iscoroutinefunction, (call, inspect.unwrap(call))))


class _Plan:
    """How to serve the requests of one route, as an included one where it is included."""

    def __init__(self, route: Any, steps: Sequence[_Step], internals: Any) -> None:
        self._dependant = route.dependant
        self._planned = (route.dependant.call, [*route.dependant.dependencies])
        self._app = route.dependency_overrides_provider
        self._steps = steps
        self._internals = internals
        self._sets_headers = any(step.response is not None for step in steps)
        self._has_body = route.body_field is not None
        self._embeds = route._embed_body_fields  # noqa: SLF001 - looked up guardedly, as all of FastAPI's
        self._field = route.response_field
        self._status = {"status_code": route.status_code} if route.status_code else {}
        self._response_class = route.response_class.value
        options = ("include", "exclude", "by_alias", "exclude_unset", "exclude_defaults", "exclude_none")
        self._options = {name: getattr(route, f"response_model_{name}") for name in options}
        self._page = page_of(route.response_model) if self._options == _USUAL_OPTIONS else None

    # -- reading the request

    async def arguments(self, request: Request) -> list[dict[str, Any]] | None:
        """Return what each step takes from the request, or None if FastAPI's own handler is to serve it."""
        if not self._serves(request):
            return None
        try:
            body = await _json_of(request) if self._has_body else None
            arguments = [self._read(step, request) for step in self._steps]
            if self._has_body:
                for step, values in zip(self._steps, arguments, strict=True):
                    await self._add_body(step, body, values)
        except Exception:  # noqa: BLE001 - whatever it is: FastAPI's own handler meets it again, in its own order
            vars(request).pop("_json", None)  # a validator may have changed it
            return None
        return arguments

    def _serves(self, request: Request) -> bool:
        scope, dependant = request.scope, self._dependant
        call, dependencies = self._planned
        return (
            type(request) is Request
            and not getattr(self._app, "dependency_overrides", None)
            and dependant.call is call
            and dependant.dependencies == dependencies
            and isinstance(scope.get("fastapi_function_astack"), AsyncExitStack)
            and isinstance(scope.get("fastapi_middleware_astack"), AsyncExitStack)
            and self._internals.telemetry() is None
        )

    @staticmethod
    def _read(step: _Step, request: Request) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for source, read in step.reads:
            values.update(read(getattr(request, source)))
        for name in step.requests:
            values[name] = request
        return values

    async def _add_body(self, step: _Step, body: Any, values: dict[str, Any]) -> None:
        if step.body:
            read, errors = await self._internals.body(step.body, body, self._embeds)
            if errors:
                raise _NotUnderstoodError
            values.update(read)

    # -- serving it

    async def response(self, request: Request, arguments: list[dict[str, Any]]) -> Response:
        """Make all calls and return the response; units end when FastAPI ends what is of the scope of a function."""
        stack: AsyncExitStack = request.scope["fastapi_function_astack"]
        headers = self._response() if self._sets_headers else None
        results: list[Any] = []
        deferring = [] if self._page is None else [True]
        token = DEFERRING.set(deferring)
        try:
            for step, values in zip(self._steps, arguments, strict=True):
                for name, place in step.takes:
                    values[name] = results[place]
                if step.response is not None:
                    values[step.response] = headers
                calling = step.call(**values) if step.enter is None else step.enter(stack, **values)
                results.append(await calling)
        finally:
            DEFERRING.reset(token)
            deferring.clear()
        result = results[-1]
        if isinstance(result, Response):
            return result
        response = await self._rendered(request, result)
        if headers is not None:
            response.headers.raw.extend(headers.headers.raw)
        return response

    @staticmethod
    def _response() -> Response:
        """Return what dependencies write headers into, as FastAPI makes it."""
        made = Response()
        del made.headers["content-length"]
        return made

    async def _rendered(self, request: Request, result: Any) -> Response:
        if self._page is not None and (json := json_of(result, *self._page)) is not None:
            return Response(content=json, media_type=_JSON, **self._status)
        dumps = self._field is not None
        content = await self._internals.serialized(
            field=self._field,
            response_content=result,
            endpoint_ctx=self._context(request),
            dump_json=dumps,
            **self._options,
        )
        if dumps:
            return Response(content=content, media_type=_JSON, **self._status)
        response: Response = self._response_class(content, **self._status)
        if not self._internals.has_body(response.status_code):
            response.body = b""
        return response

    def _context(self, request: Request) -> Any:
        context = self._internals.described(self._dependant.call)
        if self._dependant.path:
            mount = request.scope.get("root_path", "").rstrip("/")
            context["path"] = f"{request.method} {mount}{self._dependant.path}"
        return context


def page_of(response_model: Any) -> tuple[Any, Any] | None:
    """Return the kind of page and the model of its items, if it is one of pages."""
    generic = getattr(response_model, "__pydantic_generic_metadata__", {"origin": None})
    return (generic["origin"], *generic["args"]) if generic["origin"] in {Page, Slice, Window} else None


async def _json_of(request: Request) -> Any:
    """
    Return the body of a request that says that it is JSON, and nothing else.

    Raises:
        Exception: It is for FastAPI's own handler to read it.
    """
    if request.headers.get("content-type") != _JSON:
        raise _NotUnderstoodError
    try:
        body = await request.body()
    except Exception as error:
        request.body = partial(_fail_again, error)  # type: ignore[method-assign]  # what is read is read
        raise
    value = await request.json() if body else None
    if "_json" not in vars(request):
        raise _NotUnderstoodError
    return value


async def _fail_again(error: Exception) -> bytes:
    raise error
