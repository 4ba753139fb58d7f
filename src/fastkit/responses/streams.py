"""Rows as a response that goes out while they are read: JSON, a line of JSON for each, CSV; in constant memory."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from functools import partial
from secrets import token_hex
from typing import Any, Protocol, TypedDict, TypeVar
from urllib.parse import quote

import anyio
from anyio.lowlevel import checkpoint
from sqlalchemy import ColumnElement
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from typing_extensions import Unpack

from fastkit.repository import AsyncReader, ListQuery, Reader
from fastkit.repository._json import JsonProjection
from fastkit.repository._projection import Projection
from fastkit.responses._parts import Form, Parts
from fastkit.responses._request_id import request_id_of
from fastkit.responses._tables import CsvProjection

U = TypeVar("U")
U_co = TypeVar("U_co", covariant=True)

PATIENCE = 60.0
"""Seconds that a client may take for a part of a snapshot, which keeps a connection all the while."""

_log = logging.getLogger(__name__)


class Serves(Protocol[U_co]):
    """What makes a unit of work that reads without a block: `UnitFactory`, from `fastkit.deps`."""

    def serving(self) -> AbstractContextManager[U_co] | AbstractAsyncContextManager[U_co]:
        """Return the context of the unit."""
        ...


class StreamOptions(TypedDict, total=False):
    """
    What a stream may be asked for.

    Attributes:
        query: Filters and order that a client asked for; its page is ignored.
        batch: Rows in one statement and one chunk, 1000 unless you say otherwise.
        snapshot: Whether all rows are of one moment. It takes a connection for as long as the client reads, and
            a client that takes more than a minute for one chunk is cut off.
        filename: The name under which a browser saves it.
    """

    query: ListQuery[Any] | None
    batch: int
    snapshot: bool
    filename: str


class CsvOptions(StreamOptions, total=False):
    """
    What a stream of CSV may be asked for besides.

    Attributes:
        bom: Whether the file begins with a mark of UTF-8, without which Excel reads it in another encoding.
        escape_formulas: Whether a text that a spreadsheet would calculate gets an apostrophe in front; it does unless
            you say False.
    """

    bom: bool
    escape_formulas: bool


class CutStreamError(RuntimeError):
    """
    A response was cut after it had begun, so that nobody takes it for whole; the cause is in the log.

    Attributes:
        reference: Finds the cause.
    """

    def __init__(self, reference: str) -> None:
        super().__init__(f"A response was cut after it had begun, reference {reference}.")
        self.reference = reference


class RowStream(StreamingResponse):
    """
    A response whose rows are read while it goes out; made by `stream_json`, `stream_ndjson` or `stream_csv`.

    The first rows are read before the status is sent, so that an error up to there is a problem document. After that
    the connection is cut. When the client goes away, what is being read is cancelled, and the unit ends.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the rows, until they or the client have gone."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_without_client, receive, group.cancel_scope)
            try:
                await self._send_rows(scope, partial(self._send, send, group.cancel_scope))
            except Exception as error:  # noqa: BLE001 - out of the group as it is, for the app's handlers
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if self.background is not None:
            await self.background()

    async def _send_rows(self, scope: Scope, send: Send) -> None:
        chunks: Any = aiter(self.body_iterator)
        async with aclosing(chunks):
            chunk = await anext(chunks, None)
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            try:
                while chunk is not None and scope["method"] != "HEAD":
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    chunk = await anext(chunks, None)
            except Exception as error:  # noqa: BLE001 - whatever it is, the rest is missing
                raise CutStreamError(_logged(scope, error)) from None
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send, work: anyio.CancelScope, message: Message) -> None:
        holds = isinstance(self.body_iterator, Parts) and self.body_iterator.snapshot
        patience = anyio.move_on_after(PATIENCE if holds else None)
        try:
            with patience:
                await send(message)
        except OSError:  # how newer servers say that the client has gone
            work.cancel()
            await checkpoint()
        if patience.cancelled_caught:
            raise TimeoutError("The client took too long for a part of a snapshot, which keeps a connection.")


class JsonStream(RowStream):
    """An array of JSON; as `response_class` of a route, it says so in the OpenAPI schema."""

    media_type = "application/json"


class NdjsonStream(RowStream):
    """A line of JSON for each row, of the media type that FastAPI gives to them; as `response_class` it says so."""

    media_type = "application/jsonl"


class CsvStream(RowStream):
    """A file of comma-separated values (RFC 4180); as `response_class` of a route, it says so in the OpenAPI schema."""

    media_type = "text/csv"


def stream_json(
    new_unit: Serves[U],
    rows: Callable[[U], Reader[Any] | AsyncReader[Any]],
    *where: ColumnElement[bool],
    **options: Unpack[StreamOptions],
) -> JsonStream:
    """
    Return a response that is an array of everything that a reader reads, byte by byte that of `response_model=`.

    >>> @app.get("/books.json", response_class=JsonStream)
    ... async def export(new_shop: Annotated[UnitFactory[Shop], unit_factory(Shop)]) -> JsonStream:
    ...     return stream_json(new_shop, lambda shop: shop.books.into(BookOut))

    The unit is made when the body begins, and ends with it. A batch is read at a time, and the next one when the
    client has taken it; no connection is held in between.

    Args:
        new_unit: What makes the unit of work, of either colour.
        rows: Makes the reader, with its options and its order, of the unit.
        where: Criteria.
        options: See `StreamOptions`.
    """
    return JsonStream(_parts(_as_array, new_unit, rows, where, options), headers=_headers(options))


def stream_ndjson(
    new_unit: Serves[U],
    rows: Callable[[U], Reader[Any] | AsyncReader[Any]],
    *where: ColumnElement[bool],
    **options: Unpack[StreamOptions],
) -> NdjsonStream:
    """
    Return a response that is a line of JSON for each row; see `stream_json`.

    A client can read each line as it comes. A connection that was cut tells it that lines are missing.
    """
    return NdjsonStream(_parts(_as_lines, new_unit, rows, where, options), headers=_headers(options))


def stream_csv(
    new_unit: Serves[U],
    rows: Callable[[U], Reader[Any] | AsyncReader[Any]],
    *where: ColumnElement[bool],
    **options: Unpack[CsvOptions],
) -> CsvStream:
    """
    Return a response that is a CSV file, with the fields of the response model as its columns; see `stream_json`.

    >>> return stream_csv(new_shop, lambda shop: shop.books.into(BookRow), query=query, filename="books.csv")

    A cell is the text that the value has in JSON, but a number is never written with an exponent, and null is empty.

    Args:
        new_unit: What makes the unit of work, of either colour.
        rows: Makes the reader, of a response model whose fields are single values; `check_csv` says at import
            whether they are.
        where: Criteria.
        options: See `CsvOptions`.
    """
    form = partial(_as_table, bom=options.get("bom", False), escape=options.get("escape_formulas", True))
    return CsvStream(_parts(form, new_unit, rows, where, options), headers=_headers(options))


def _as_array(projection: Projection[Any]) -> Form:
    return Form(JsonProjection.like(projection).items, b"[", b",", b"]")


def _as_lines(projection: Projection[Any]) -> Form:
    return Form(JsonProjection.like(projection).lines)


def _as_table(projection: Projection[Any], *, bom: bool, escape: bool) -> Form:
    table = CsvProjection.of_rows(projection, escape=escape)
    return Form(table.lines, (b"\xef\xbb\xbf" if bom else b"") + table.head)


def _parts(form: Callable[[Projection[Any]], Form], new_unit: Any, rows: Any, where: Any, options: Any) -> Parts:
    query, batch = options.get("query"), options.get("batch", 1000)
    return Parts(new_unit, rows, form, where, query, batch, options.get("snapshot", False))


def _headers(options: Any) -> dict[str, str]:
    name = options.get("filename")
    return {} if name is None else {"Content-Disposition": attachment(name)}


def attachment(name: str) -> str:
    """
    Return the value of `Content-Disposition` for a file: its name for all browsers, and in ASCII for old ones.

    Source: RFC 6266; RFC 8187
    """
    name = re.sub(r'[\x00-\x1f\x7f"*/:<>?\\|]', "_", name)  # no name of a file has them everywhere
    told = f'attachment; filename="{name.encode("ascii", "replace").decode().replace("?", "_")}"'
    return told if name.isascii() else f"{told}; filename*=UTF-8''{quote(name.encode('utf-8', 'replace'), safe='')}"


async def _cancel_without_client(receive: Receive, work: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    work.cancel()


def _logged(scope: Scope, error: Exception) -> str:
    """Log why a response was cut, and return the reference that finds it; the query string stays out."""
    reference = request_id_of(scope) or token_hex(8)
    _log.error("%s %r was cut, reference %s", scope["method"], scope["path"], reference, exc_info=error)
    return reference
