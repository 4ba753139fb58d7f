"""Send requests to an app without a client, and look at each answer and at each statement."""

from __future__ import annotations

import json
import re
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from security.grammar import CANARY, Asked
from sqlalchemy import event

ALLOWED = {200, 201, 204, 400, 404, 405, 409, 412, 413, 415, 422, 428}
LARGEST = 30_000
"""Bytes of an answer, besides eight for each byte of the request, of which a pointer or a name may be repeated."""

LEAKS = re.compile(
    rb"Traceback|site-packages|\.py\b|sqlalchemy|asyncpg|aiosqlite|sqlite3|psycopg|greenlet|/(?:usr|tmp|root|home)/"
    rb"|SELECT |INSERT |UPDATE |DELETE |WHERE |s3cr3t|DETAIL|relation \"|column \"|0x[0-9a-f]{8}"
)


async def asked(app: Any, request: Asked) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, headers and body of an answer."""
    sent: list[Any] = []
    parts = [{"type": "http.request", "body": request.body, "more_body": False}]

    async def receive() -> Any:
        return parts.pop() if parts else await _never()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "http",
        "path": unquote_to_bytes(request.path).decode("utf-8", "replace"),
        "raw_path": request.path.encode(),
        "root_path": "",
        "query_string": request.query,
        "headers": [(b"host", b"shop"), *request.headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    body = b"".join(each.get("body", b"") for each in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), body


async def _never() -> Any:
    import asyncio

    await asyncio.Event().wait()


class Statements:
    """The statements that an engine sends, as the shapes that they have."""

    def __init__(self, engine: Any) -> None:
        self.shapes: Counter[str] = Counter()
        self._seen: dict[str, str] = {}
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        shape = self._seen.get(statement)
        if shape is None:
            shape = shape_of(statement)
            if len(self._seen) < 20_000:
                self._seen[statement] = shape
        self.shapes[shape] += 1


_TYPES = "DOUBLE PRECISION|TIMESTAMP WITH(?:OUT)? TIME ZONE|TIME WITHOUT TIME ZONE|[A-Za-z]+"
_CAST = rf"(?:::(?:{_TYPES})(?:\(\d+(?:, \d+)?\))?)"
_PLACE = re.compile(rf"(?:\?|\$\d+|%\(\w+\)s){_CAST}?")
_TOKEN = re.compile(r"'(?:[^']|'')*'|[A-Za-z_][A-Za-z_0-9]*|\d+(?:\.\d+)?|\S")
_WORDS = frozenset(
    re.findall(
        r"\w+",
        "SELECT FROM LEFT OUTER JOIN ON AS WHERE AND OR NOT IN IS NULL LIKE ILIKE ESCAPE EXISTS ORDER BY ASC "
        "DESC NULLS FIRST LAST LIMIT OFFSET INSERT INTO VALUES RETURNING DELETE UPDATE SET DO CONFLICT "
        "excluded count lower min true false CASE WHEN THEN ELSE END CAST BIGINT INTEGER FOR NO KEY OF BEGIN "
        "IMMEDIATE ",
    )
)
_SIGNS = frozenset("()?,.=<>!|*+-")
_LITERALS = frozenset({"'%'", "'/'", "0", "1", "5"})
_ALIAS = re.compile(r"(?:[a-z]+_)+_?\d+")


def shape_of(statement: str) -> str:
    """Return a statement without its parameters, and with lists of one."""
    text = _PLACE.sub("?", " ".join(statement.split()))
    return re.sub(r"\(\?(?:, \?)*\)", "(?)", text)


def strange_in(shape: str, metadata: Any) -> set[str]:
    """
    Return what the allow-list of a shape has not: words of SQL, names of the metadata, aliases, four constants.

    Anything that a client sent would be here if it had come into the text of a statement.
    """
    names = {name for table in metadata.tables.values() for name in (table.name, *table.c.keys())}
    known = _WORDS | _SIGNS | _LITERALS | names
    return {each for each in _TOKEN.findall(shape) if each not in known and not _ALIAS.fullmatch(each)}


@dataclass
class Findings:
    """
    What was seen.

    Attributes:
        statuses: How often each status was answered.
        faults: What should not be, with the request that led to it.
        largest: The largest answer, in bytes for each byte of the request.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[tuple[str, Asked]] = field(default_factory=list)

    async def look(self, app: Any, request: Asked) -> None:
        """Send a request, and note what is wrong with its answer."""
        try:
            status, headers, body = await asked(app, request)
        except Exception as error:
            self.statuses[0] += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            self.faults.append(
                (f"raised {type(error).__name__} at {where.filename}:{where.lineno}: {str(error)[:300]}", request)
            )
            return
        self.statuses[status] += 1
        self.faults += [(fault, request) for fault in faults_of(request, status, headers, body)]


def _loses_a_slash(request: Asked, status: int, headers: dict[bytes, bytes]) -> bool:
    """Return whether an answer is Starlette's redirection to the same path on the same host, without its last slash."""
    is_slashed = unquote_to_bytes(request.path).endswith(b"/")
    return is_slashed and status == 307 and headers[b"location"].startswith(b"http://shop/")


def faults_of(request: Asked, status: int, headers: dict[bytes, bytes], body: bytes) -> list[str]:
    """Return what is wrong with an answer."""
    found, kind = [], headers.get(b"content-type", b"")
    if status not in ALLOWED and not _loses_a_slash(request, status, headers):
        found.append(f"status {status}: {body[:300]!r}")
    if status >= 400 and kind != b"application/problem+json":
        found.append(f"{status} of type {kind!r}")
    names = dict(parse_qsl(request.query.decode("latin-1"), keep_blank_values=True))  # which an answer may repeat
    if status >= 400 and CANARY.encode() in body and not any(CANARY in name for name in names):
        found.append(f"{status} repeats a value: {body[:300]!r}")
    if len(body) > LARGEST + 8 * request.size:
        found.append(f"{status} of {len(body)} bytes to {request.size}")
    if (leak := LEAKS.search(body)) and status >= 400:
        found.append(f"{status} tells {leak[0]!r}: {body[:300]!r}")
    if b"s3cr3t" in body:
        found.append(f"{status} shows what it must not: {body[:300]!r}")
    if body and b"json" in kind:
        try:
            json.loads(body.decode())
        except ValueError as error:
            found.append(f"{status} is no JSON: {error}")
    return found
