"""
SQLModel.

As sqlmodel.tiangolo.com/tutorial/fastapi has it: table models, `BookPublic` as response model, `session.exec(select())`
with `offset` and `limit`, `model_validate` of the input, add, commit, refresh, `sqlmodel_update`; with the async
session of `sqlmodel.ext.asyncio.session`, and SQLAlchemy's loader options for relationships.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from bench.http.shop import Numbered, Part, Some, disposing, make_engine
from bench.http.sqlmodels import BookChange, BookCreate, BookPublic, NestedPublic, SQLBook
from bench.http.workloads import EXPORT, asks
from fastapi import Depends, FastAPI, HTTPException, Query
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

engine = make_engine()
app = FastAPI(lifespan=lambda _: disposing(engine))
ASKS = asks()
WITHOUT = {EXPORT: "has no stream of its own"}


async def get_session() -> AsyncIterator[Any]:
    """Give a request its session."""
    async with AsyncSession(engine, expire_on_commit=False) as session:
        yield session


SessionDep = Annotated[AsyncSession, Depends(get_session)]
PageNumber = Annotated[int, Query(ge=1)]
Size = Annotated[int, Query(ge=1, le=100)]


@app.get("/books/{book_id}", response_model=BookPublic)
async def read_book(book_id: int, session: SessionDep) -> Any:
    """Return a book."""
    book = await session.get(SQLBook, book_id)
    if not book:
        raise HTTPException(404, "Book not found")
    return book


@app.get("/books", response_model=Some[BookPublic])
async def read_books(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and whether there are more."""
    statement = select(SQLBook).order_by(col(SQLBook.id)).offset((page - 1) * size).limit(size + 1)
    books = (await session.exec(statement)).all()
    return {"items": books[:size], "has_more": len(books) > size, "page": page, "size": size}


@app.get("/numbered", response_model=Numbered[BookPublic])
async def read_numbered(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and how many there are."""
    total = (await session.exec(select(func.count()).select_from(SQLBook))).one()
    statement = select(SQLBook).order_by(col(SQLBook.id)).offset((page - 1) * size).limit(size)
    books = (await session.exec(statement)).all()
    return {"items": books, "total": total, "page": page, "size": size}


@app.get("/nested", response_model=Some[NestedPublic])
async def read_nested(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books with their authors and newest notes."""
    related: Any = SQLBook
    statement = select(SQLBook).options(joinedload(related.author), selectinload(related.newest))
    statement = statement.order_by(col(SQLBook.id)).offset((page - 1) * size).limit(size + 1)
    books = (await session.exec(statement)).all()
    return {"items": books[:size], "has_more": len(books) > size, "page": page, "size": size}


@app.get("/deep", response_model=Part[BookPublic])
async def read_deep(session: SessionDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return the books of a page."""
    statement = select(SQLBook).order_by(col(SQLBook.id)).offset((page - 1) * size).limit(size + 1)
    books = (await session.exec(statement)).all()
    return {"items": books[:size], "next_cursor": str(page + 1) if len(books) > size else None}


@app.post("/books", response_model=BookPublic, status_code=201)
async def add_book(new: BookCreate, session: SessionDep) -> Any:
    """Add a book."""
    book = SQLBook.model_validate(new)
    session.add(book)
    await session.commit()
    await session.refresh(book)
    return book


@app.patch("/books/{book_id}", response_model=BookPublic)
async def change_book(book_id: int, change: BookChange, session: SessionDep) -> Any:
    """Change a book."""
    book = await session.get(SQLBook, book_id)
    if not book:
        raise HTTPException(404, "Book not found")
    book.sqlmodel_update(change.model_dump(exclude_unset=True))
    session.add(book)
    await session.commit()
    await session.refresh(book)
    return book
