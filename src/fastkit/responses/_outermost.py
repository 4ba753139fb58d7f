"""
What Starlette answers in plain text, as problem documents: the outermost layer of an app.

It is outside of the layer that answers a 500, so it sees what no exception handler and no middleware sees.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastkit.responses._request_id import request_id_header
from fastkit.responses.problems import Problem, ProblemResponse, phrase

_EXCHANGE = "fastkit.exchange"
_PLAIN = b"text/plain; charset=utf-8"
_OF_THE_BODY = {b"content-type", b"content-length"}
_WORDS = {
    (400, b"Invalid host header"): "The host of this request is not one of this app.",
    (404, b"Not Found"): phrase(404),
    (405, b"Method Not Allowed"): phrase(405),
    (413, b"Content Too Large"): phrase(413),
    (500, b"Internal Server Error"): None,
}
"""The answers of Starlette that no exception handler sees: of its layers, and of mounted apps without handlers."""


class Outermost:
    """
    An app whose plain answers to errors are problem documents; lives as long as the app.

    An error that was raised in a middleware, and answered by its own handler, ends here: Starlette would raise it
    again, and the server would log as a crash what was only a 403.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = scope[_EXCHANGE] = _Exchange(scope, receive, send)
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:
            await exchange.flush()
            if error is not exchange.settled:
                raise


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_held", "_receive", "_scope", "_send", "settled", "started")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._held: Message | None = None
        self.started = False
        self.settled: Exception | None = None

    async def send(self, message: Message) -> None:
        """Send a message; the start of what may be plain words of Starlette waits for the words."""
        if message["type"] == "http.response.start":
            self.started = True
            if _may_be_plain(message):
                self._held = message
                return
        elif self._held is not None:
            problem = _problem_in(self._held, message)
            if problem is not None:
                await self._replace(self._held, problem)
                return
            await self.flush()
        await self._send(message)

    async def flush(self) -> None:
        """Send what waits."""
        held, self._held = self._held, None
        if held is not None:
            await self._send(held)

    async def _replace(self, held: Message, problem: Problem) -> None:
        self._held = None
        response = ProblemResponse(problem)
        kept = [(name, value) for name, value in held["headers"] if name not in _OF_THE_BODY]
        response.raw_headers += kept
        response.headers.update(request_id_header(self._scope))
        await response(self._scope, self._receive, self._send)


def _may_be_plain(start: Message) -> bool:
    is_error = start["status"] >= 400  # noqa: PLR2004 - RFC 9110: client and server errors
    return is_error and (b"content-type", _PLAIN) in start["headers"]


def _problem_in(start: Message, message: Message) -> Problem | None:
    words = start["status"], message.get("body", b"")
    if message.get("more_body") or words not in _WORDS:
        return None
    return Problem(status=start["status"], detail=_WORDS[words])


def settle(scope: MutableMapping[str, Any], error: Exception) -> None:
    """Note that an error gets its answer, unless another answer has begun: then the connection has to break."""
    exchange: _Exchange | None = scope.get(_EXCHANGE)
    if exchange is not None and not exchange.started:
        exchange.settled = error
