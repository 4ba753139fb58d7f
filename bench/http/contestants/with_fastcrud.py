"""
FastCRUD.

As benavlabs.github.io/fastcrud/usage/crud has it: `get`, `get_multi`, `create`, `update` with `schema_to_select`, whose
columns are read as dicts that FastAPI makes the response model of; `get_multi_by_cursor` of advanced/crud.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from bench.http.shop import Book, BookIn, BookOut, BookUpdate, Numbered, Part, Some, disposing, make_engine
from bench.http.workloads import DEEP, EXPORT, NESTED, after, asks
from fastapi import Depends, FastAPI, HTTPException, Query
from fastcrud import FastCRUD
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

engine = make_engine()
new_session = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(lifespan=lambda _: disposing(engine))
crud: Any = FastCRUD(Book)
ASKS = {**asks(), DEEP: after()}
WITHOUT = {EXPORT: "has no stream of its own", NESTED: "its joins cannot limit the notes of each book"}


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
    book = await crud.get(session, schema_to_select=BookOut, id=book_id)
    if book is None:
        raise HTTPException(404, "Book not found")
    return book


async def _multi(session: AsyncSession, offset: int, limit: int, *, total: bool = False) -> Any:
    return await crud.get_multi(
        session,
        offset=offset,
        limit=limit,
        schema_to_select=BookOut,
        sort_columns="id",
        return_total_count=total,
    )


@app.get("/books", response_model=Some[BookOut])
async def read_books(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and whether there are more."""
    books = (await _multi(session, (page - 1) * size, size + 1))["data"]
    return {"items": books[:size], "has_more": len(books) > size, "page": page, "size": size}


@app.get("/numbered", response_model=Numbered[BookOut])
async def read_numbered(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and how many there are."""
    found = await _multi(session, (page - 1) * size, size, total=True)
    return {"items": found["data"], "total": found["total_count"], "page": page, "size": size}


@app.get("/deep", response_model=Part[BookOut])
async def read_deep(session: SessionDep, cursor: int, size: Size = 20) -> Any:
    """Return the books behind a key."""
    found = await crud.get_multi_by_cursor(
        session, cursor=cursor, limit=size, schema_to_select=BookOut, sort_column="id"
    )
    return {"items": found["data"], "next_cursor": str(found["next_cursor"])}


@app.post("/books", response_model=BookOut, status_code=201)
async def add_book(new: BookIn, session: SessionDep) -> Any:
    """Add a book."""
    return await crud.create(session, new, schema_to_select=BookOut, return_as_model=True)


@app.patch("/books/{book_id}", response_model=BookOut)
async def change_book(book_id: int, change: BookUpdate, session: SessionDep) -> Any:
    """Change a book: FastCRUD counts, then sends UPDATE ... RETURNING."""
    return await crud.update(session, change, schema_to_select=BookOut, return_as_model=True, id=book_id)
