"""
Objects of the session and a response model: what everybody is compared with.

As FastAPI's docs have it, fastapi.tiangolo.com/tutorial/sql-databases: a session as dependency, `offset` and `limit`,
add, commit, refresh, and FastAPI makes the response model of the object. Async as SQLAlchemy's docs have it,
docs.sqlalchemy.org/en/21/orm/extensions/asyncio.html, with the response models as return types.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from bench.http.shop import (
    Book,
    BookIn,
    BookOut,
    BookUpdate,
    NestedOut,
    Numbered,
    Part,
    Some,
    chunks,
    disposing,
    make_engine,
)
from bench.http.workloads import DEEP, after, asks
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from sqlalchemy.orm import joinedload, selectinload

engine = make_engine()
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(lifespan=lambda _: disposing(engine))
ASKS = asks()
KEYSET = {DEEP: after("after")}
"""A second way to the deep page, by hand too."""


async def get_session() -> AsyncIterator[AsyncSession]:
    """Give a request its session."""
    async with new_session() as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]
PageNumber = Annotated[int, Query(ge=1)]
Size = Annotated[int, Query(ge=1, le=100)]


@app.get("/books/{book_id}", response_model=BookOut)
async def read_book(book_id: int, session: SessionDep) -> Any:
    """Return a book."""
    book = await session.get(Book, book_id)
    if book is None:
        raise HTTPException(404, "Book not found")
    return book


@app.get("/books", response_model=Some[BookOut])
async def read_books(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and whether there are more."""
    statement = select(Book).order_by(Book.id).offset((page - 1) * size).limit(size + 1)
    books = (await session.scalars(statement)).all()
    return {"items": books[:size], "has_more": len(books) > size, "page": page, "size": size}


@app.get("/numbered", response_model=Numbered[BookOut])
async def read_numbered(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and how many there are."""
    total = await session.scalar(select(func.count()).select_from(Book))
    books = (await session.scalars(select(Book).order_by(Book.id).offset((page - 1) * size).limit(size))).all()
    return {"items": books, "total": total, "page": page, "size": size}


@app.get("/nested", response_model=Some[NestedOut])
async def read_nested(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books with their authors and newest notes."""
    statement = select(Book).options(joinedload(Book.author), selectinload(Book.newest))
    statement = statement.order_by(Book.id).offset((page - 1) * size).limit(size + 1)
    books = (await session.scalars(statement)).all()
    return {"items": books[:size], "has_more": len(books) > size, "page": page, "size": size}


@app.get("/deep", response_model=Part[BookOut])
async def read_deep(session: SessionDep, page: PageNumber = 1, after: int | None = None, size: Size = 20) -> Any:
    """Return the books of a page, or those behind a key."""
    statement = select(Book).order_by(Book.id).limit(size + 1)
    statement = statement.offset((page - 1) * size) if after is None else statement.where(Book.id > after)
    books = (await session.scalars(statement)).all()
    return {"items": books[:size], "next_cursor": str(books[size - 1].id) if len(books) > size else None}


@app.post("/books", response_model=BookOut, status_code=201)
async def add_book(new: BookIn, session: SessionDep) -> Any:
    """Add a book."""
    book = Book(**new.model_dump())
    session.add(book)
    await session.commit()
    await session.refresh(book)
    return book


@app.patch("/books/{book_id}", response_model=BookOut)
async def change_book(book_id: int, change: BookUpdate, session: SessionDep) -> Any:
    """Change a book."""
    book = await session.get(Book, book_id)
    if book is None:
        raise HTTPException(404, "Book not found")
    book.stock = change.stock
    session.add(book)
    await session.commit()
    await session.refresh(book)
    return book


async def _lines() -> AsyncIterator[bytes]:
    async with new_session() as session:
        statement = select(Book).order_by(Book.id).execution_options(yield_per=1000)
        async for book in await session.stream_scalars(statement):
            yield BookOut.model_validate(book).model_dump_json().encode()


@app.get("/export")
async def export() -> StreamingResponse:
    """Return all books, one in a line; "Fetching Large Result Sets with Yield Per" of SQLAlchemy's docs."""
    return StreamingResponse(chunks(_lines()), media_type="application/x-ndjson")
