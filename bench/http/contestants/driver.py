"""The floor: the driver and orjson in a bare Starlette app; nothing is validated, and SQL is written by hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from bench.http.shop import NEWEST, chunks, url
from bench.http.workloads import DEEP, after, asks
from sqlalchemy.engine import make_url
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

ASKS = {**asks(), DEEP: after("after")}
NAMES = ("id", "title", "language", "price", "stock", "pages", "in_print", "published_at", "author_id")
FIELDS = NAMES[1:]
Row = dict[str, Any]


class Postgres:
    """Asyncpg; its pool sends nothing when a connection comes back, as SQLAlchemy's does not."""

    columns = "id, title, language, price::text AS price, stock, pages, in_print, published_at, author_id"

    async def open(self) -> None:
        """Connect."""
        import asyncpg

        async def leave_as_it_is(_connection: Any) -> None: ...

        dsn = make_url(url()).set(drivername="postgresql").render_as_string(hide_password=False)
        self._pool = await asyncpg.create_pool(dsn, min_size=1, max_size=15, reset=leave_as_it_is)

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """Return what a statement finds."""
        return [dict(row) for row in await self._pool.fetch(sql, *values)]

    async def stream(self, sql: str) -> AsyncIterator[Row]:
        """Return the same in constant memory."""
        async with self._pool.acquire() as connection, connection.transaction():
            async for row in connection.cursor(sql, prefetch=1000):
                yield dict(row)

    async def notes(self, sql: str, keys: Sequence[int]) -> list[Row]:
        """Return the rows of a statement about some keys."""
        return await self.rows(sql.format(keys="= ANY($1)"), keys)


class Psycopg(Postgres):
    """Psycopg: one connection, in autocommit."""

    async def open(self) -> None:
        """Connect."""
        from psycopg import AsyncConnection, AsyncRawCursor
        from psycopg.rows import dict_row

        dsn = make_url(url()).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection = await AsyncConnection.connect(
            dsn, autocommit=True, cursor_factory=AsyncRawCursor, row_factory=dict_row
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """Return what a statement finds."""
        cursor = await self._connection.execute(sql.encode(), values)
        found: list[Any] = await cursor.fetchall()
        return found


class SQLite:
    """Aiosqlite: one connection, in autocommit."""

    columns = (
        "id, title, language, printf('%.2f', price) AS price, stock, pages, in_print, "
        "strftime('%Y-%m-%dT%H:%M:%S', published_at) AS published_at, author_id"
    )

    async def open(self) -> None:
        """Connect."""
        import aiosqlite

        path = make_url(url()).database or ""
        self._connection = await aiosqlite.connect(path, isolation_level=None)
        for pragma in ("synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=5000"):
            await self._connection.execute(f"PRAGMA {pragma}")

    async def close(self) -> None:
        """Close the connection."""
        await self._connection.close()

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """Return what a statement finds."""
        async with self._connection.execute(sql.replace("$", "?"), values) as cursor:
            names = [each[0] for each in cursor.description]
            return [self._row(names, row) for row in await cursor.fetchall()]

    async def stream(self, sql: str) -> AsyncIterator[Row]:
        """Return the same in constant memory."""
        async with self._connection.execute(sql) as cursor:
            names = [each[0] for each in cursor.description]
            while rows := await cursor.fetchmany(1000):
                for row in rows:
                    yield self._row(names, row)

    async def notes(self, sql: str, keys: Sequence[int]) -> list[Row]:
        """Return the rows of a statement about some keys."""
        return await self.rows(sql.format(keys=f"IN ({', '.join('?' * len(keys))})"), *keys)

    @staticmethod
    def _row(names: list[str], values: Any) -> Row:
        row = dict(zip(names, values, strict=True))
        if "in_print" in row:
            row["in_print"] = bool(row["in_print"])
        return row


database: Any = {"sqlite+aiosqlite": SQLite, "postgresql+asyncpg": Postgres, "postgresql+psycopg": Psycopg}[
    url().partition(":")[0]
]()
PAGE = f"SELECT {database.columns} FROM shop_book ORDER BY id LIMIT $1 OFFSET $2"
ONE = f"SELECT {database.columns} FROM shop_book WHERE id = $1"
AFTER = f"SELECT {database.columns} FROM shop_book WHERE id > $1 ORDER BY id LIMIT $2"
ALL = f"SELECT {database.columns} FROM shop_book ORDER BY id"
NESTED = (
    f"SELECT book.*, name AS author_name FROM ({PAGE}) AS book JOIN shop_author ON shop_author.id = author_id "
    "ORDER BY book.id"
)
NOTES = (
    "SELECT book_id, id, stars, text FROM (SELECT book_id, id, stars, text, row_number() OVER (PARTITION BY book_id "
    f"ORDER BY id DESC) AS place FROM shop_note WHERE book_id {{keys}}) AS placed WHERE place <= {NEWEST} "
    "ORDER BY book_id, place"
)
ADD = (
    f"INSERT INTO shop_book ({', '.join(FIELDS)}) "
    f"VALUES ({', '.join(f'${number}' for number in range(1, len(FIELDS) + 1))}) RETURNING {database.columns}"
)
CHANGE = f"UPDATE shop_book SET stock = $1 WHERE id = $2 RETURNING {database.columns}"


def _json(found: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(found), status, media_type="application/json")


def _page(request: Request) -> tuple[int, int]:
    return int(request.query_params.get("page", 1)), int(request.query_params["size"])


async def read_book(request: Request) -> Response:
    """Return a book."""
    rows = await database.rows(ONE, int(request.path_params["book_id"]))
    return _json(rows[0]) if rows else _json({"detail": "Book not found"}, 404)


async def read_books(request: Request) -> Response:
    """Return some books, and whether there are more."""
    page, size = _page(request)
    rows = await database.rows(PAGE, size + 1, (page - 1) * size)
    return _json({"items": rows[:size], "has_more": len(rows) > size, "page": page, "size": size})


async def read_numbered(request: Request) -> Response:
    """Return some books, and how many there are."""
    page, size = _page(request)
    total = (await database.rows("SELECT count(*) AS total FROM shop_book"))[0]["total"]
    rows = await database.rows(PAGE, size, (page - 1) * size)
    return _json({"items": rows, "total": total, "page": page, "size": size})


async def read_nested(request: Request) -> Response:
    """Return some books with their authors and newest notes."""
    page, size = _page(request)
    rows = await database.rows(NESTED, size + 1, (page - 1) * size)
    notes: defaultdict[int, list[Row]] = defaultdict(list)
    for note in await database.notes(NOTES, [row["id"] for row in rows[:size]]):
        notes[note.pop("book_id")].append(note)
    for row in rows[:size]:
        row["author"] = {"id": row["author_id"], "name": row.pop("author_name")}
        row["newest"] = notes[row["id"]]
    return _json({"items": rows[:size], "has_more": len(rows) > size, "page": page, "size": size})


async def read_deep(request: Request) -> Response:
    """Return the books behind a key."""
    _, size = _page(request)
    rows = await database.rows(AFTER, int(request.query_params["after"]), size + 1)
    return _json({"items": rows[:size], "next_cursor": str(rows[size - 1]["id"]) if len(rows) > size else None})


def _values(new: Row) -> list[Any]:
    from datetime import datetime
    from decimal import Decimal

    if isinstance(database, SQLite):
        new["price"] = float(new["price"])
        new["published_at"] = f"{datetime.fromisoformat(new['published_at']):%Y-%m-%d %H:%M:%S.%f}"
    else:
        new["price"] = Decimal(new["price"])
        new["published_at"] = datetime.fromisoformat(new["published_at"])
    return [new[name] for name in FIELDS]


async def add_book(request: Request) -> Response:
    """Add a book."""
    return _json((await database.rows(ADD, *_values(orjson.loads(await request.body()))))[0], 201)


async def change_book(request: Request) -> Response:
    """Change a book."""
    change = orjson.loads(await request.body())
    rows = await database.rows(CHANGE, change["stock"], int(request.path_params["book_id"]))
    return _json(rows[0]) if rows else _json({"detail": "Book not found"}, 404)


async def _lines() -> AsyncIterator[bytes]:
    async for row in database.stream(ALL):
        yield orjson.dumps(row)


async def export(_request: Request) -> Response:
    """Return all books, one in a line."""
    return StreamingResponse(chunks(_lines()), media_type="application/x-ndjson")


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    """Connect when the app starts."""
    await database.open()
    try:
        yield
    finally:
        await database.close()


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/books/{book_id:int}", read_book, methods=["GET"]),
        Route("/books/{book_id:int}", change_book, methods=["PATCH"]),
        Route("/books", read_books, methods=["GET"]),
        Route("/books", add_book, methods=["POST"]),
        Route("/numbered", read_numbered),
        Route("/nested", read_nested),
        Route("/deep", read_deep),
        Route("/export", export),
    ],
)
