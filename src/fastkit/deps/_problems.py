"""Problem documents for a FastAPI app: what the request got wrong, with its place and without its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ExceptionHandler

from fastkit.errors import DeclarationError
from fastkit.responses.problems import TYPE_BASE, Problem, ProblemHandlers, ProblemResponse

MAX_ERRORS = 100
MAX_POINTER = 1000  # characters; a pointer repeats keys that the client chose, once for every error

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


def register(app: FastAPI, base: str = TYPE_BASE) -> None:
    """
    Answer every error of an app with a problem document, those of its router included.

    A handler that the app was given for one of the classes stays. A mounted app needs a call of its own.

    Args:
        app: The app, before it has served its first request.
        base: What the `type` of a problem begins with; an absolute URI that ends with a separator.

    Raises:
        DeclarationError: The app has started, or the base is no absolute URI with a separator at its end.
    """
    if app.middleware_stack is not None:
        raise DeclarationError(
            "Problem documents were registered on an app that has started, which would change nothing. "
            "Register them where the app is made."
        )
    for error, handler in RequestProblemHandlers(base).table().items():
        if _replaceable(app, error):
            app.add_exception_handler(error, handler)


def _replaceable(app: FastAPI, error: type[Exception]) -> bool:
    if error is Exception and 500 in app.exception_handlers:  # noqa: PLR2004  # Starlette's other name for it
        return False
    given = app.exception_handlers.get(error)
    return given in _FASTAPI_DEFAULTS or isinstance(getattr(given, "__self__", None), ProblemHandlers)


class RequestProblemHandlers(ProblemHandlers):
    """The handlers for a FastAPI app: a request that cannot be read is a problem of its own type."""

    __slots__ = ()

    def table(self) -> dict[type[Exception], ExceptionHandler]:
        """Return the handlers by the class they are for."""
        return {**ProblemHandlers.table(self), RequestValidationError: self.invalid_request}

    async def invalid_request(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer 422 with the place of each error: a JSON pointer into the body or the parameter's name."""
        if not isinstance(exc, RequestValidationError) or connection.scope["type"] != "http":
            raise exc
        errors = exc.errors()
        count = len(errors)
        detail = "One value of the request is invalid." if count == 1 else f"{count} values of the request are invalid."
        problem = Problem(
            type=f"{self.base}invalid-request",
            title="Invalid request",
            status=422,
            detail=detail if count <= MAX_ERRORS else f"{detail} The first {MAX_ERRORS} are listed.",
            members={"errors": [_entry(error, exc.body) for error in errors[:MAX_ERRORS]]},
        )
        return ProblemResponse(problem)


def _entry(error: Mapping[str, Any], body: object) -> dict[str, str]:
    kind = error.get("type", "")
    detail = _WITHOUT_INPUT.get(kind) or str(error.get("msg", "Invalid value"))
    match tuple(error.get("loc", ())):
        case ("body", int(position)) if kind == "json_invalid":  # an offset into the text, not an index
            return {"detail": f"{detail} at character {position}", "pointer": ""}
        case ("body", *path):
            return {"detail": detail, "pointer": _pointer(path, body, missing=kind == "missing")}
        case ("query" | "path" | "header" | "cookie" as where, str(name), *_):
            return {"detail": detail, "in": where, "parameter": name}
        case ("query" | "path" | "header" | "cookie" as where, *_):
            return {"detail": detail, "in": where}
        case _:
            return {"detail": detail}


def _pointer(path: Sequence[str | int], body: object, *, missing: bool) -> str:
    """
    Return the JSON pointer (RFC 6901) of a Pydantic location.

    A location also names branches of unions, wrapped validators and keys of dicts, which are no places in the
    body; so the body is walked along, and what it does not have is left out, except for a missing key. Where
    there was no body, or a route raised the error without it, the location is all there is.
    """
    pointer, last = "", len(path) - 1
    node = _UNKNOWN if body is None else body
    for index, part in enumerate(path):
        child = _child(node, part)
        if child is _ABSENT and not (missing and index == last and isinstance(node, Mapping) and isinstance(part, str)):
            continue
        step = "/" + str(part).replace("~", "~0").replace("/", "~1")
        if len(pointer) + len(step) > MAX_POINTER:
            break
        pointer, node = pointer + step, child
    return pointer


_ABSENT, _UNKNOWN = object(), object()


def _child(node: object, part: str | int) -> object:
    if node is _UNKNOWN:
        return _UNKNOWN
    if isinstance(node, Mapping):
        return node.get(part, _ABSENT)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return _ABSENT
