"""
A route's answer, or 304 to a client that has it: decided when the answer is there, so that nothing is told too early.

Source: RFC 9110, section 13.2.1: a precondition is ignored where the answer without it would be no success.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastkit.responses.etags import Validators, digest_of

MARKS: Final = "fastkit.marks"
"""Key of an ASGI scope: a list, into which a dependency puts what it knows of the state that the answer shows."""

_OF_THE_BODY = ("content-length", "content-type", "content-encoding", "content-language")
_SUCCESS = 200


class Conditional:
    """
    Tells the state of an answer by an ETag, and sends 304 instead of a body that the client has; lives as its app.

    It stands inside of all middleware, next to the routes: the tag is that of what they answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        answer = _Answer(Headers(scope=scope), send)
        scope[MARKS] = answer.marks
        await self._app(scope, receive, answer.send)


class _Answer:
    """The answer to one request; its beginning is held back until its body is there, if its state was told."""

    def __init__(self, headers: Headers, send: Send) -> None:
        self.marks: list[Validators] = []
        self._headers = headers
        self._send = send
        self._start: Message | None = None

    async def send(self, message: Message) -> None:
        """Send a message, or keep it."""
        if message["type"] == "http.response.start" and len(self.marks) == 1 and message["status"] == _SUCCESS:
            self._start = message
            return
        start, self._start = self._start, None
        if start is not None:
            message = self._decided(start, message)
            await self._send(start)
        await self._send(message)

    def _decided(self, start: Message, body: Message) -> Message:
        """Write the state into the headers, and return the body, or none if the client has it."""
        headers = MutableHeaders(raw=start["headers"])
        if body.get("more_body") or "etag" in headers:
            return body
        (mark,) = self.marks
        digest = digest_of(body.get("body", b""))
        validators = mark if mark.tag is None else replace(mark, tag=f"{mark.tag}:{digest}")
        headers.update(validators.headers())
        if validators.are_known_to(self._headers):
            start["status"] = 304
            for name in _OF_THE_BODY:
                del headers[name]
            body = {**body, "body": b""}
        start["headers"] = headers.raw
        return body


def marks_of(scope: Any) -> list[Validators]:
    """Return the list into which the state is told; one that nobody reads where the app has none."""
    found: list[Validators] = scope.get(MARKS, [])
    return found
