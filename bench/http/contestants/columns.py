"""
Columns instead of objects, and a `TypeAdapter` that makes the bytes, in FastAPI: what a careful hand writes.

As docs.sqlalchemy.org/en/21/tutorial/data_select.html selects columns, and as fastapi.tiangolo.com/advanced/
response-directly returns a response of its own, which FastAPI neither validates nor encodes again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Annotated, Any

from bench.http.shop import (
    NEWEST,
    Author,
    Book,
    BookIn,
    BookOut,
    BookUpdate,
    NestedOut,
    Note,
    Numbered,
    Part,
    Some,
    chunks,
    disposing,
    make_engine,
)
from bench.http.workloads import DEEP, after, asks
from fastapi import Depends, FastAPI, HTTPException, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter
from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

engine = make_engine()
app = FastAPI(lifespan=lambda _: disposing(engine))
ASKS = {**asks(), DEEP: after("after")}
COLUMNS = [getattr(Book, name) for name in BookOut.model_fields]
ONE, SOME, NUMBERED = TypeAdapter(BookOut), TypeAdapter(Some[BookOut]), TypeAdapter(Numbered[BookOut])
NESTED, PART = TypeAdapter(Some[NestedOut]), TypeAdapter(Part[BookOut])


async def get_connection() -> AsyncIterator[AsyncConnection]:
    """Give a request its connection."""
    async with engine.connect() as connection:
        yield connection


ConnectionDep = Annotated[AsyncConnection, Depends(get_connection)]
PageNumber = Annotated[int, Query(ge=1)]
Size = Annotated[int, Query(ge=1, le=100)]


def _json(adapter: TypeAdapter[Any], found: Any, status: int = 200) -> Response:
    body = adapter.dump_json(adapter.validate_python(found, from_attributes=True))
    return Response(body, status, media_type="application/json")


@app.get("/books/{book_id}")
async def read_book(book_id: int, connection: ConnectionDep) -> Response:
    """Return a book."""
    row = (await connection.execute(select(*COLUMNS).where(Book.id == book_id))).one_or_none()
    if row is None:
        raise HTTPException(404, "Book not found")
    return _json(ONE, row)


@app.get("/books")
async def read_books(connection: ConnectionDep, page: PageNumber = 1, size: Size = 20) -> Response:
    """Return some books, and whether there are more."""
    statement = select(*COLUMNS).order_by(Book.id).offset((page - 1) * size).limit(size + 1)
    rows = (await connection.execute(statement)).all()
    return _json(SOME, {"items": rows[:size], "has_more": len(rows) > size, "page": page, "size": size})


@app.get("/numbered")
async def read_numbered(connection: ConnectionDep, page: PageNumber = 1, size: Size = 20) -> Response:
    """Return some books, and how many there are."""
    total = await connection.scalar(select(func.count()).select_from(Book))
    statement = select(*COLUMNS).order_by(Book.id).offset((page - 1) * size).limit(size)
    rows = (await connection.execute(statement)).all()
    return _json(NUMBERED, {"items": rows, "total": total, "page": page, "size": size})


@app.get("/nested")
async def read_nested(connection: ConnectionDep, page: PageNumber = 1, size: Size = 20) -> Response:
    """Return some books with their authors and newest notes."""
    statement = select(*COLUMNS, Author.name.label("author_name")).join(Author, Author.id == Book.author_id)
    statement = statement.order_by(Book.id).offset((page - 1) * size).limit(size + 1)
    rows = (await connection.execute(statement)).all()
    place = func.row_number().over(order_by=Note.id.desc(), partition_by=Note.book_id).label("place")
    placed = select(Note.book_id, Note.id, Note.stars, Note.text, place)
    placed_rows = placed.where(Note.book_id.in_([row.id for row in rows[:size]])).subquery()
    newest = select(placed_rows).where(placed_rows.c.place <= NEWEST)
    notes: defaultdict[int, list[Any]] = defaultdict(list)
    for note in await connection.execute(newest.order_by(placed_rows.c.book_id, placed_rows.c.place)):
        notes[note.book_id].append(note)
    items = [
        {
            **row._mapping,  # noqa: SLF001 - named so that no column can be called the same
            "author": {"id": row.author_id, "name": row.author_name},
            "newest": notes[row.id],
        }
        for row in rows[:size]
    ]
    return _json(NESTED, {"items": items, "has_more": len(rows) > size, "page": page, "size": size})


@app.get("/deep")
async def read_deep(connection: ConnectionDep, after: int, size: Size = 20) -> Response:
    """Return the books behind a key."""
    statement = select(*COLUMNS).where(Book.id > after).order_by(Book.id).limit(size + 1)
    rows = (await connection.execute(statement)).all()
    return _json(PART, {"items": rows[:size], "next_cursor": str(rows[size - 1].id) if len(rows) > size else None})


@app.post("/books")
async def add_book(new: BookIn, connection: ConnectionDep) -> Response:
    """Add a book."""
    row = (await connection.execute(insert(Book).values(new.model_dump()).returning(*COLUMNS))).one()
    await connection.commit()
    return _json(ONE, row, 201)


@app.patch("/books/{book_id}")
async def change_book(book_id: int, change: BookUpdate, connection: ConnectionDep) -> Response:
    """Change a book: one statement, because columns need no object."""
    statement = update(Book).where(Book.id == book_id).values(stock=change.stock).returning(*COLUMNS)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise HTTPException(404, "Book not found")
    await connection.commit()
    return _json(ONE, row)


async def _lines() -> AsyncIterator[bytes]:
    async with engine.connect() as connection:
        statement = select(*COLUMNS).order_by(Book.id).execution_options(yield_per=1000)
        async with connection.stream(statement) as found:
            async for row in found:
                yield BookOut.model_validate(row).model_dump_json().encode()


@app.get("/export")
async def export() -> StreamingResponse:
    """Return all books, one in a line."""
    return StreamingResponse(chunks(_lines()), media_type="application/x-ndjson")
