"""The id of a request: taken from the client or made, told to the client, and written on every line of the log."""

from __future__ import annotations

import logging
import re
import sys
import uuid
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastkit.errors import DeclarationError
from fastkit.responses._request_id import REQUEST_ID

MAX_LENGTH = 128

_WELL_FORMED = re.compile(rb"[A-Za-z0-9._~:@=+-]{1,%d}" % MAX_LENGTH)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ANSWERS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})


class _Given:
    """An id while its request is served, and after that for whoever logs why it failed."""

    __slots__ = ("is_over", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_over = False


_given: ContextVar[_Given | None] = ContextVar("fastkit_request_id", default=None)


def request_id() -> str | None:
    """Return the id of the request that is served here, or None outside of requests."""
    given = _given.get()
    return None if given is None else given.text


class RequestIdFilter(logging.Filter):
    """
    Gives each record of the log `request_id`, a dash outside of requests; belongs on a handler, not on a logger.

    >>> handler.addFilter(RequestIdFilter())
    >>> handler.setFormatter(logging.Formatter("%(levelname)s [%(request_id)s] %(name)s: %(message)s"))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True, after the id was written on the record; one that is there already stays."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id() or "-"
        return True


class RequestIdMiddleware:
    """
    Gives each request and WebSocket an id; made once, lives as long as the app.

    >>> app.add_middleware(RequestIdMiddleware)

    The id is `request_id()` in all code that serves the request, in threads and tasks too, and it is on every answer,
    the 500 of an unhandled error included where `fastkit.deps.install` has put its handlers. What stands inside, and
    the endpoint, read the same id in the header of the request. Where another one has given an id already, that stays.

    Args:
        app: What is inside; `add_middleware` gives it.
        header: The header that brings the id and takes it back.
        trusted: Whether an id that a client sends is kept, if it is up to 128 letters, digits and `._~:@=+-`.

    Raises:
        DeclarationError: The name cannot be that of a header; told when the app starts.

    Source: RFC 9110, section 5.1 (names of header fields).
    """

    def __init__(self, app: ASGIApp, *, header: str = "X-Request-ID", trusted: bool = True) -> None:
        if not _FIELD_NAME.fullmatch(header):
            raise DeclarationError(f"RequestIdMiddleware(header={header!r}): write a name such as 'X-Request-ID'.")
        self.app = app
        self.header = header
        self.trusted = trusted
        self._name = header.lower().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        if scope["type"] not in {"http", "websocket"} or REQUEST_ID in scope:
            await self.app(scope, receive, send)
            return
        text = self._id_of(scope)
        scope[REQUEST_ID] = (self.header, text)
        given, before = _Given(text), _given.get()
        token = _given.set(given)
        try:
            await self.app(scope, receive, send if _is_told_by_other(text) else self._telling(text, send))
        except BaseException:
            given.is_over = True
            if before is not None and not before.is_over:
                _given.reset(token)  # a request inside a request; else whoever logs the error needs the id
            raise
        _given.reset(token)

    def _id_of(self, scope: Scope) -> str:
        """Return the client's id if it is one, else a new one, which then stands in the header of the request."""
        sent = [value for name, value in scope["headers"] if name == self._name]
        if self.trusted and len(sent) == 1 and _WELL_FORMED.fullmatch(sent[0]):
            return str(sent[0], "ascii")
        text = uuid.uuid4().hex
        others = [(name, value) for name, value in scope["headers"] if name != self._name]
        scope["headers"] = [*others, (self._name, text.encode())]
        return text

    def _telling(self, text: str, send: Send) -> Send:
        async def send_with_id(message: Message) -> None:
            if message["type"] in _ANSWERS:
                message.setdefault("headers", [])
                MutableHeaders(scope=message)[self.header] = text
            await send(message)

        return send_with_id


def _is_told_by_other(text: str) -> bool:
    """Return whether asgi-correlation-id has given this id and will add the header itself, once more if it is there."""
    other: Any = sys.modules.get("asgi_correlation_id.context")
    return other is not None and other.correlation_id.get() == text
