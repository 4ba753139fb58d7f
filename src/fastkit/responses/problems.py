"""RFC 9457 problem documents: one shape for all that goes wrong, with nothing in it that clients may not see."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from pydantic_core import to_jsonable_python
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from fastkit.errors import FastkitError
from fastkit.responses._request_id import request_id_of

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
        "errors": {
            "type": "array",
            "description": "What is wrong with the values of the request.",
            "items": {
                "type": "object",
                "properties": {
                    "detail": {"type": "string", "description": "What is wrong."},
                    "pointer": {"type": "string", "description": "JSON pointer into the body (RFC 6901)."},
                    "in": {"type": "string", "enum": ["query", "path", "header", "cookie"]},
                    "parameter": {"type": "string", "description": "Name of the parameter."},
                },
                "required": ["detail"],
            },
        },
        "reference": {"type": "string", "description": "Finds the cause in the server's log."},
        "request_id": {"type": "string", "description": "Names the request, in the server's log and in its header."},
    },
    "required": ["type", "title", "status"],
    "additionalProperties": True,
}
"""The JSON schema of a problem document."""

STANDARD_MEMBERS = frozenset({"type", "title", "status", "detail", "instance"})
_OWN_HEADERS = frozenset({"content-type", "content-length"})
# The names of RFC 9110; Python before 3.13 tells those of RFC 7231, and a title must not change with Python.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def phrase(status: int) -> str:
    """Return the name of a status code: the title of a problem that is about:blank."""
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Server Error" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "Client Error"


def problem_type(error: type[BaseException], base: str = TYPE_BASE) -> str:
    """Return the `type` of an error class: its own, or the base and its name, `UniqueError` as `unique`."""
    if issubclass(error, FastkitError) and error.type:
        return error.type
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
        extensions = {name: value for name, value in self.members.items() if name not in STANDARD_MEMBERS}
        return {name: value for name, value in standard.items() if value is not None} | extensions


class ProblemResponse(Response):
    """
    A problem document as a response; lives for one answer.

    There is no body for a HEAD request and for a status that allows none. A request that has an id is told it, in
    the member `request_id`. A member that JSON does not know is written as Pydantic writes it, and as the name of
    its class where Pydantic does not know it: the answer to an error must not fail.

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
        self._problem = problem
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
        told = self._naming(request_id_of(scope))
        await Response.__call__(told, scope, receive, _without_body(send) if scope.get("method") == "HEAD" else send)

    def _naming(self, request_id: str | None) -> ProblemResponse:
        """Return the response to the request of this id; one response may answer many requests."""
        if request_id is None:
            return self
        told, members = copy(self), {**self._problem.members, "request_id": request_id}
        told.body = self.render(replace(self._problem, members=members))
        length = b"content-length", str(len(told.body)).encode()
        told.raw_headers = [length if name == length[0] else (name, value) for name, value in self.raw_headers]
        return told


def _without_body(send: Send) -> Send:
    async def send_headers_only(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_headers_only
