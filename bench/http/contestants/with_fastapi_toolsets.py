"""
FastAPI Toolsets.

As fastapi-toolsets.d3vyce.fr/module/crud has it: `CrudFactory`, `offset_paginate` with `include_total=False` for lists
that count nothing, `cursor_paginate` for the deep page, `schema=` for answers; `Database` of module/db.
"""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any

from bench.http.shop import Book, BookIn, BookOut, BookUpdate, NestedOut, Numbered, Part, Some, disposing, make_engine
from bench.http.workloads import DEEP, DEPTH, EXPORT, PAGES, SIZE, after, asks
from fastapi import Depends, FastAPI
from fastapi_toolsets.crud import CrudFactory
from fastapi_toolsets.db import Database
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

engine = make_engine()
database = Database(engine=engine)
app = FastAPI(lifespan=lambda _: disposing(engine))
database.install(app)
crud: Any = CrudFactory(Book, cursor_column=Book.id)

# What `next_cursor` of the page before would be.
CURSORS = [
    base64.urlsafe_b64encode(json.dumps({"val": str(DEPTH + SIZE * page), "dir": "next"}).encode()).decode().rstrip("=")
    for page in range(PAGES)
]
ASKS = {**asks("items_per_page"), DEEP: after(size="items_per_page", cursors=CURSORS)}
WITHOUT = {EXPORT: "has no stream of its own", "aiosqlite": "its docs say: PostgreSQL only"}

SessionDep = Annotated[AsyncSession, Depends(database)]
Sliced = Annotated[
    dict[str, Any],
    Depends(crud.offset_paginate_params(include_total=False, search=False, filter=False, order=False)),
]
Counted = Annotated[dict[str, Any], Depends(crud.offset_paginate_params(search=False, filter=False, order=False))]
Cursored = Annotated[dict[str, Any], Depends(crud.cursor_paginate_params(search=False, filter=False, order=False))]


@app.get("/books/{book_id}", response_model=BookOut)
async def read_book(book_id: int, session: SessionDep) -> Any:
    """Return a book."""
    return (await crud.get(session, [Book.id == book_id], schema=BookOut)).data


@app.get("/books", response_model=Some[BookOut])
async def read_books(session: SessionDep, query: Sliced) -> Any:
    """Return some books, and whether there are more."""
    found = await crud.offset_paginate(session, **query, schema=BookOut)
    pages = found.pagination
    return Some[BookOut](items=found.data, has_more=pages.has_more, page=pages.page, size=pages.items_per_page)


@app.get("/numbered", response_model=Numbered[BookOut])
async def read_numbered(session: SessionDep, query: Counted) -> Any:
    """Return some books, and how many there are."""
    found = await crud.offset_paginate(session, **query, schema=BookOut)
    pages = found.pagination
    return Numbered[BookOut](items=found.data, total=pages.total_count, page=pages.page, size=pages.items_per_page)


@app.get("/nested", response_model=Some[NestedOut])
async def read_nested(session: SessionDep, query: Sliced) -> Any:
    """Return some books with their authors and newest notes."""
    options = [joinedload(Book.author), selectinload(Book.newest)]
    found = await crud.offset_paginate(session, **query, load_options=options, schema=NestedOut)
    pages = found.pagination
    return Some[NestedOut](items=found.data, has_more=pages.has_more, page=pages.page, size=pages.items_per_page)


@app.get("/deep", response_model=Part[BookOut])
async def read_deep(session: SessionDep, query: Cursored) -> Any:
    """Return the books behind a cursor."""
    found = await crud.cursor_paginate(session, **query, schema=BookOut)
    return Part[BookOut](items=found.data, next_cursor=found.pagination.next_cursor)


@app.post("/books", response_model=BookOut, status_code=201)
async def add_book(new: BookIn, session: SessionDep) -> Any:
    """Add a book; the middleware that `install` adds commits before the answer begins."""
    return (await crud.create(session, new, schema=BookOut)).data


@app.patch("/books/{book_id}", response_model=BookOut)
async def change_book(book_id: int, change: BookUpdate, session: SessionDep) -> Any:
    """Change a book."""
    return (await crud.update(session, change, [Book.id == book_id], schema=BookOut)).data
