"""How long a request took, and how much of that on databases, in the header that browsers show (W3C Server-Timing)."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastkit.database import SPENDING, Spending, count_spending

_TIMED = "fastkit.server_timing"


class ServerTimingMiddleware:
    """
    Tells the client how long its request took, and how much of it on databases; made once, lives as long as the app.

    >>> app.add_middleware(ServerTimingMiddleware, when=is_developer)

    The answer has `Server-Timing: total;dur=12.3, db;dur=4.5;desc="3 statements"`: milliseconds until the first byte,
    and those in which a database was asked, summed over all tasks and threads. The statements are those of all
    databases of fastkit.

    Times tell who asks whether a row exists and what is cached: leave it out in production, or say when.

    Args:
        app: What is inside; `add_middleware` gives it.
        when: Whether to tell who sends this request; without it, everybody is told.

    Source: W3C Server Timing, section 3.
    """

    def __init__(self, app: ASGIApp, *, when: Callable[[Request], bool] | None = None) -> None:
        self.app = app
        self.when = when
        count_spending()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request with a stopwatch running."""
        if scope["type"] != "http" or _TIMED in scope or not (self.when is None or self.when(Request(scope))):
            await self.app(scope, receive, send)
            return
        scope[_TIMED] = True
        token = SPENDING.set(spending := Spending())
        try:
            await self.app(scope, receive, _telling(spending, send))
        finally:
            SPENDING.reset(token)


def _telling(spending: Spending, send: Send) -> Send:
    start = time.perf_counter()

    async def send_with_times(message: Message) -> None:
        if message["type"] == "http.response.start":
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            headers.append("Server-Timing", _written(time.perf_counter() - start, spending))
        await send(message)

    return send_with_times


def _written(total: float, spending: Spending) -> str:
    statements = f"{spending.statements} statement{'' if spending.statements == 1 else 's'}"
    return f'total;dur={total * 1000:.1f}, db;dur={spending.seconds * 1000:.1f};desc="{statements}"'
