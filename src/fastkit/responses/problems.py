"""
RFC 9457 problem documents: one shape for all that goes wrong, with nothing in it that clients may not see.

A Starlette app takes them with `Starlette(exception_handlers=ProblemHandlers().table())`; a FastAPI app gets
them from `fastkit.deps.install`. Where an error is raised decides which handler sees it:

- In a route or a dependency: the handler of its class, whose answer runs through the app's middleware.
- In a middleware: Starlette's outermost layer, which knows only `unhandled`. A `FastkitError` still gets its
  own status there, everything else is a 500. The layer raises the error again, so the server logs it too.
- In a mounted app: that app's own handlers. Give them to each mounted app, or its clients read plain text.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import to_jsonable_python
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ExceptionHandler, Message, Receive, Scope, Send

from fastkit.errors import DeclarationError, FastkitError

MEDIA_TYPE: Final = "application/problem+json"

ABOUT_BLANK: Final = "about:blank"
TYPE_BASE: Final = "urn:fastkit:problem:"
"""What the `type` of a problem begins with where an app gives no address of its own for its problem types."""

PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "What went wrong (RFC 9457).",
    "type": "object",
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "Names the kind of problem; about:blank says no more than the status does.",
        },
        "title": {
            "type": "string",
            "description": "The kind of problem in words, the same at every occurrence.",
        },
        "status": {"type": "integer", "minimum": 100, "maximum": 599, "description": "The HTTP status code."},
        "detail": {"type": "string", "description": "What happened this time."},
        "instance": {"type": "string", "format": "uri-reference", "description": "Names this occurrence."},
        "reference": {"type": "string", "description": "Finds the cause in the server's log."},
    },
    "required": ["type", "title", "status"],
    "additionalProperties": True,
}
"""The JSON schema of a problem document."""

_STANDARD = frozenset({"type", "title", "status", "detail", "instance"})
_OWN_HEADERS = frozenset({"content-type", "content-length"})
# The names of RFC 9110; Python before 3.13 tells those of RFC 7231, and a title must not change with Python.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_HIDDEN_DETAIL = "What happened is in the server's log, under this reference."

_log = logging.getLogger(__name__)


def phrase(status: int) -> str:
    """Return the name of a status code: the title of a problem that is about:blank."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Server Error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Client Error"


def problem_type(error: type[BaseException], base: str = TYPE_BASE) -> str:
    """Return the `type` of an error class: the base and the name of the class, `UniqueError` as `unique`."""
    name = error.__name__.strip("_")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name.removesuffix("Error") or name)
    return base + quote(words.replace("_", "-").lower())


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One problem document, as a value.

    Attributes:
        status: The HTTP status code, in the document and on the wire.
        title: The kind of problem in words; empty means the name of the status.
        type: URI of the kind of problem.
        detail: What happened this time, for the client.
        instance: URI of this occurrence.
        members: Extension members; one with the name of a standard member is left out.

    Example:
        >>> Problem(status=404, detail="No Book matches.").document()
        {'type': 'about:blank', 'title': 'Not Found', 'status': 404, 'detail': 'No Book matches.'}
    """

    status: int
    title: str = ""
    type: str = ABOUT_BLANK
    detail: str | None = None
    instance: str | None = None
    members: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def document(self) -> dict[str, Any]:
        """Return the document; standard members that have no value are left out."""
        standard = {
            "type": self.type,
            "title": self.title or phrase(self.status),
            "status": self.status,
            "detail": self.detail,
            "instance": self.instance,
        }
        extensions = {name: value for name, value in self.members.items() if name not in _STANDARD}
        return {name: value for name, value in standard.items() if value is not None} | extensions


class ProblemResponse(Response):
    """
    A problem document as a response; lives for one answer.

    There is no body for a HEAD request and for a status that allows none. A member that JSON does not know is
    written as Pydantic writes it, and as the name of its class where Pydantic does not know it: the answer to
    an error must not fail.

    Example:
        >>> ProblemResponse(Problem(status=409, title="Sold out"), headers={"Retry-After": "60"}).status_code
        409
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        problem: Problem,
        headers: Mapping[str, str] | None = None,
        background: BackgroundTask | None = None,
    ) -> None:
        if problem.status < HTTPStatus.OK or problem.status in {204, 205, 304}:
            self.media_type = None  # type: ignore[assignment]  # Starlette's own way to say: no content type
        # The body is ours, so are the headers that describe it.
        given = {name: value for name, value in (headers or {}).items() if name.lower() not in _OWN_HEADERS}
        super().__init__(problem, problem.status, given, background=background)

    def render(self, content: Any) -> bytes:
        """Return the problem as UTF-8; a lone surrogate becomes a question mark."""
        if self.media_type is None:
            return b""
        document = to_jsonable_python(
            content.document(),
            inf_nan_mode="null",
            bytes_mode="base64",
            fallback=lambda value: type(value).__name__,
        )
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response; the headers of a HEAD request are those of the GET."""
        await super().__call__(scope, receive, _without_body(send) if scope.get("method") == "HEAD" else send)


def _without_body(send: Send) -> Send:
    async def send_headers_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_headers_only


@dataclass(frozen=True, slots=True)
class ProblemHandlers:
    """
    Exception handlers that answer with problem documents; made once, live as long as the app.

    A WebSocket gets what Starlette gives it: an `HTTPException` refuses the handshake in plain text, every
    other error is raised again.

    Attributes:
        base: What the `type` of a problem begins with, an absolute URI that ends with a separator, such as
            `https://errors.example.com/`.

    Raises:
        DeclarationError: The base is not absolute or ends without a separator.

    Example:
        >>> handlers = ProblemHandlers("https://errors.example.com/").table()
    """

    base: str = TYPE_BASE

    def __post_init__(self) -> None:
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", self.base) or self.base[-1] not in ":/#=":
            raise DeclarationError(
                f"The base of problem types {self.base!r} is no absolute URI that ends with one of ':/#='. "
                "Write for example 'https://errors.example.com/'."
            )

    def table(self) -> dict[type[Exception], ExceptionHandler]:
        """Return the handlers by the class they are for, as Starlette's `exception_handlers` takes them."""
        return {
            FastkitError: self.fastkit_error,
            HTTPException: self.http_exception,
            Exception: self.unhandled,
        }

    async def fastkit_error(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer with what the class says, and with the message only where the class says it is public."""
        if not isinstance(exc, FastkitError) or connection.scope["type"] != "http":
            raise exc
        members = dict(exc.members())
        if not exc.public or exc.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            members["reference"] = _logged(connection, exc, exc.status)
        is_bug = not exc.public and exc.status == HTTPStatus.INTERNAL_SERVER_ERROR
        problem = Problem(
            type=ABOUT_BLANK if is_bug else problem_type(type(exc), self.base),  # whose bug is not for clients
            title="" if is_bug else exc.title,
            status=exc.status,
            detail=(str(exc) or None) if exc.public else _HIDDEN_DETAIL,
            members=members,
        )
        return ProblemResponse(problem, None if exc.retry_after is None else {"Retry-After": str(exc.retry_after)})

    async def http_exception(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer with the status and headers of the exception; a detail that is no text is `details`."""
        if not isinstance(exc, HTTPException):
            raise exc
        given: Any = exc.detail  # FastAPI's subclass takes any JSON here
        text = given if isinstance(given, str) else None
        if connection.scope["type"] != "http":
            return PlainTextResponse(text or phrase(exc.status_code), exc.status_code, exc.headers)
        members = {} if given is None or text is not None else {"details": given}
        return ProblemResponse(Problem(status=exc.status_code, detail=text or None, members=members), exc.headers)

    async def unhandled(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer 500 with a reference that finds the traceback in the log, and nothing of the exception."""
        if isinstance(exc, FastkitError) or connection.scope["type"] != "http":
            return await self.fastkit_error(connection, exc)
        status = HTTPStatus.INTERNAL_SERVER_ERROR.value
        members = {"reference": _logged(connection, exc, status)}
        return ProblemResponse(Problem(status=status, detail=_HIDDEN_DETAIL, members=members))


def _logged(connection: HTTPConnection, exc: Exception, status: int) -> str:
    """Log the error with its traceback and return the reference that finds it; the query string stays out."""
    reference = token_hex(8)
    blameless = status < HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.SERVICE_UNAVAILABLE
    _log.log(
        logging.WARNING if blameless else logging.ERROR,
        "%s %r answered %d, reference %s",
        connection.scope.get("method"),
        connection.scope.get("path"),
        status,
        reference,
        exc_info=exc,
    )
    return reference
