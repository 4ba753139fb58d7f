"""Problem documents for a FastAPI app: what the request got wrong, with its place and without its values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError, ResponseValidationError
from fastapi.routing import iter_route_contexts
from pydantic_core import PydanticSerializationError
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, ExceptionHandler

from fastkit.deps._pointers import has_body, invalid_parameters, places, pointer_into, route_of, unwritable
from fastkit.errors import ConstraintError, DeclarationError, FastkitError, InvalidValueError, ScopeError
from fastkit.responses._outermost import Outermost
from fastkit.responses._told import Told
from fastkit.responses.handlers import ProblemHandlers
from fastkit.responses.problems import TYPE_BASE, Problem, ProblemResponse

MAX_ERRORS = 100
_JSON = "application/json"

# Pydantic's messages for these quote the input. `value_error` and `assertion_error` are the app's own words.
_WITHOUT_INPUT = {
    "bytes_invalid_encoding": "Data should be valid in its encoding",
    "datetime_object_invalid": "Input should be a valid datetime",
    "get_attribute_error": "Input could not be read",
    "iteration_error": "Input could not be read",
    "mapping_type": "Input should be a valid mapping",
    "timezone_offset": "Input has the wrong timezone offset",
    "union_tag_invalid": "Input tag does not match any of the expected tags",
    "uuid_parsing": "Input should be a valid UUID",
}
_FASTAPI_DEFAULTS = (None, http_exception_handler, request_validation_exception_handler)


def register(app: FastAPI, base: str = TYPE_BASE, problems: Mapping[type[Exception], Told] | None = None) -> None:
    """
    Answer every error of an app with a problem document, those of its router included.

    A handler that the app was given for one of the classes stays. A mounted app needs a call of its own.

    Args:
        app: The app, before it has served its first request.
        base: What the `type` of a problem begins with; an absolute URI that ends with a separator.
        problems: What exceptions that are not fastkit's are told as.

    Raises:
        DeclarationError: The app has started, the base is no absolute URI with a separator at its end, or what is told
            of an exception is no problem, or has a handler already.
    """
    if app.middleware_stack is not None:
        raise DeclarationError(
            "Problem documents were registered on an app that has started, which would change nothing. "
            "Register them where the app is made."
        )
    handlers = RequestProblemHandlers(base, {**_registered(app), **(problems or {})})
    for error in problems or {}:
        if not _replaceable(app, error):
            raise DeclarationError(
                f"{error.__name__} has a handler in this app already: leave it out of problems={{}}."
            )
    for error, handler in handlers.table().items():
        if _replaceable(app, error):
            app.add_exception_handler(error, handler)
    if not isinstance(app.build_middleware_stack, partial):
        app.build_middleware_stack = partial(_wrapped, app.build_middleware_stack)  # type: ignore[method-assign]


def _wrapped(build: Callable[[], ASGIApp]) -> ASGIApp:
    return Outermost(build())


def _registered(app: FastAPI) -> dict[type[Exception], Told]:
    """Return what an earlier call has said of exceptions."""
    given: Any = app.exception_handlers
    ours = {error: handler for error, handler in given.items() if isinstance(handler, partial) and _is_ours(handler)}
    return {error: handler.keywords["told"] for error, handler in ours.items()}


def _is_ours(handler: Any) -> bool:
    return isinstance(getattr(getattr(handler, "func", handler), "__self__", None), ProblemHandlers)


def _replaceable(app: FastAPI, error: type[Exception]) -> bool:
    if error is Exception and 500 in app.exception_handlers:  # noqa: PLR2004  # Starlette's other name for it
        return False
    given: Any = app.exception_handlers.get(error)
    return given in _FASTAPI_DEFAULTS or _is_ours(given)


class RequestProblemHandlers(ProblemHandlers):
    """The handlers for a FastAPI app: what the request got wrong is told with its place in the request."""

    __slots__ = ()

    def table(self) -> dict[type[Exception], ExceptionHandler]:
        """Return the handlers by the class they are for."""
        return {
            RequestValidationError: self.invalid_request,
            ResponseValidationError: self.invalid_response,
            PydanticSerializationError: self.unwritable_response,
            **super().table(),
        }

    async def fastkit_error(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer as for every other app; a scope that was not set because the request is invalid is a 422."""
        if isinstance(exc, ScopeError) and (errors := invalid_parameters(connection)):
            return await self.invalid_request(connection, RequestValidationError(errors))
        return await super().fastkit_error(connection, exc)

    def told(self, connection: HTTPConnection, exc: FastkitError) -> tuple[str | None, dict[str, Any]]:
        """Return the detail and the members of an error; of columns, in the words and places of the request."""
        detail, members = super().told(connection, exc)
        if not isinstance(exc, ConstraintError | InvalidValueError) or "route" not in connection.scope:
            return detail, members
        members.pop("errors", None)
        if getattr(exc, "side", None) == "parent":  # its columns are of the rows that still point to this one
            return detail, members
        found = places(connection, exc.table, exc.columns)
        detail = exc.worded([place.get("parameter") or place["pointer"].rpartition("/")[2] for place in found])
        own = getattr(exc, "pointer", None)
        if own is not None:
            found = [{"pointer": own}] if has_body(connection) else []
        return detail, members | ({"errors": [{"detail": detail, **place} for place in found]} if found else {})

    async def http_exception(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer as for every other app; a 405 allows what any route of the path does, not only the first."""
        response = await super().http_exception(connection, exc)
        if response.status_code == 405 and "allow" in response.headers:  # noqa: PLR2004 - RFC 9110, 15.5.6
            given = response.headers["allow"].split(", ")
            response.headers["Allow"] = ", ".join(sorted({*given, *_allowed(connection)}))
        return response

    async def invalid_request(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer 422 with the place of each error, or 415 where the body was no JSON."""
        if not isinstance(exc, RequestValidationError) or connection.scope["type"] != "http":
            raise exc
        if _is_of_other_type(exc, connection):
            problem = Problem(
                status=415, detail="The body of this request is JSON, and its Content-Type has to say so."
            )
            return ProblemResponse(problem, {"Accept": _JSON})  # RFC 9110, 15.5.16
        return self._invalid([_entry(error, exc.body) for error in exc.errors()[:MAX_ERRORS]], len(exc.errors()))

    def _invalid(self, entries: Sequence[Mapping[str, str]], count: int) -> Response:
        detail = "One value of the request is invalid." if count == 1 else f"{count} values of the request are invalid."
        problem = Problem(
            type=f"{self.base}invalid-request",
            title="Invalid request",
            status=422,
            detail=detail if count <= MAX_ERRORS else f"{detail} The first {MAX_ERRORS} are listed.",
            members={"errors": entries},
        )
        return ProblemResponse(problem)

    async def invalid_response(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer 500; the log has the place and the kind of each fault, without the values."""
        if not isinstance(exc, ResponseValidationError) or connection.scope["type"] != "http":
            raise exc
        return self.bug(connection, _without_values(exc))

    async def unwritable_response(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer 422 where a client sent what JSON cannot say, and it is in the answer now; else it is a bug."""
        body = getattr(connection, "_json", None)
        found = [*islice(unwritable(body), MAX_ERRORS)]
        if not found:
            raise exc
        entries = [{"detail": why, "pointer": pointer_into(body, path, missing=False)} for path, why in found]
        return self._invalid(entries, len(found))


def _entry(error: Mapping[str, Any], body: object) -> dict[str, str]:
    kind = error.get("type", "")
    detail = _WITHOUT_INPUT.get(kind) or str(error.get("msg", "Invalid value"))
    match tuple(error.get("loc", ())):
        case ("body", int(position)) if kind == "json_invalid":  # an offset into the text, not an index
            return {"detail": f"{detail} at character {position}", "pointer": ""}
        case ("body", *path):
            return {"detail": detail, "pointer": pointer_into(body, path, missing=kind == "missing")}
        case ("query" | "path" | "header" | "cookie" as where, str(name), *_):
            return {"detail": detail, "in": where, "parameter": name}
        case ("query" | "path" | "header" | "cookie" as where, *_):
            return {"detail": detail, "in": where}
        case _:
            return {"detail": detail}


def _allowed(connection: HTTPConnection) -> Iterator[str]:
    """Yield the methods of all routes that have the path of a request."""
    asked = {name: connection.scope.get(name, "") for name in ("type", "method", "path", "root_path")}
    for route in iter_route_contexts(connection.app.routes):
        if route.methods and route.matches({**asked, "headers": []})[0] is not Match.NONE:
            yield from route.methods


def _without_values(exc: ResponseValidationError) -> Exception:
    """Return an error for the log: the message of FastAPI's own shows what the endpoint returned."""
    faults = [
        f"{'.'.join(map(str, error['loc'][1:])) or 'it'} ({error['type']})" for error in exc.errors()[:MAX_ERRORS]
    ]
    return ValueError(
        f"What {exc.endpoint_function} returned does not fit the response model of {exc.endpoint_path}: "
        f"{', '.join(faults)}. It is in {exc.endpoint_file}, line {exc.endpoint_line}."
    ).with_traceback(exc.__traceback__)


def _is_of_other_type(exc: RequestValidationError, connection: HTTPConnection) -> bool:
    """Return whether a body is wrong because it was not read as JSON: FastAPI hands on its bytes."""
    field = getattr(route_of(connection), "body_field", None)
    wants_json = getattr(getattr(field, "field_info", None), "media_type", None) == _JSON
    in_body = any(tuple(error.get("loc", ()))[:1] == ("body",) for error in exc.errors())
    return isinstance(exc.body, bytes) and wants_json and in_body
