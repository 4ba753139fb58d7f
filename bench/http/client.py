"""What asks: one request, straight into the app, as a server would put it; no socket and no HTTP client in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    """A request; the query is percent-encoded, the body is JSON."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""


async def ask(app: Any, request: Request, take: Callable[[bytes], object]) -> int:
    """Send a request into an ASGI app, give each part of the answer's body to *take*, and return the status."""
    path = request.path.encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": path,
        "query_string": request.query.encode(),
        "root_path": "",
        "headers": [
            (b"host", b"127.0.0.1:8000"),
            (b"accept", b"*/*"),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(request.body)).encode()),
        ],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    status, is_sent = 0, False

    async def receive() -> dict[str, Any]:
        nonlocal is_sent
        if is_sent:
            await asyncio.get_running_loop().create_future()  # the client stays
        is_sent = True
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif body := message.get("body"):
            take(body)

    await app(scope, receive, send)
    return status


async def answer(app: Any, request: Request) -> bytes:
    """
    Return the body of an answer.

    Raises:
        AssertionError: Its status is not 2xx.
    """
    parts: list[bytes] = []
    status = await ask(app, request, parts.append)
    if not 200 <= status < 300:  # noqa: PLR2004 - RFC 9110: success
        raise AssertionError(f"{request.method} {request.path}?{request.query}: {status} {b''.join(parts)[:500]!r}")
    return b"".join(parts)
