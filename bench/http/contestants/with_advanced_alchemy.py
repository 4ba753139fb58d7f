"""
Advanced Alchemy's services.

As docs.advanced-alchemy.litestar.dev/latest/usage/frameworks/fastapi.html has it: `AdvancedAlchemy`, `provide_service`,
`to_schema` into a Pydantic model, `auto_commit=True`; filters of usage/repositories/filtering.html, `load` of
usage/repositories/basics.html. It has no cursors, so the deep page is `LimitOffset`.
"""

from __future__ import annotations

from typing import Annotated, Any

from advanced_alchemy.extensions.fastapi import (
    AdvancedAlchemy,
    AsyncSessionConfig,
    SQLAlchemyAsyncConfig,
    filters,
    repository,
    service,
)
from bench.http.shop import Book, BookIn, BookOut, BookUpdate, NestedOut, Numbered, Part, Some, disposing, make_engine
from bench.http.workloads import EXPORT, asks
from fastapi import Depends, FastAPI, Query
from sqlalchemy.orm import joinedload, selectinload


class Books(service.SQLAlchemyAsyncRepositoryService[Book]):
    """The service."""

    class Repository(repository.SQLAlchemyAsyncRepository[Book]):
        """Its repository."""

        model_type = Book

    repository_type = Repository


engine = make_engine()
config = SQLAlchemyAsyncConfig(engine_instance=engine, session_config=AsyncSessionConfig(expire_on_commit=False))
app = FastAPI(lifespan=lambda _: disposing(engine))
alchemy = AdvancedAlchemy(config=config, app=app)
ASKS = asks()
WITHOUT = {EXPORT: "has no stream of its own"}

# A count of its own is several times faster here than the window function that is the default.
BooksDep = Annotated[Books, Depends(alchemy.provide_service(Books, count_with_window_function=False))]
PageNumber = Annotated[int, Query(ge=1)]
Size = Annotated[int, Query(ge=1, le=100)]
BY_KEY = filters.OrderBy(field_name="id", sort_order="asc")


@app.get("/books/{book_id}", response_model=BookOut)
async def read_book(book_id: int, books: BooksDep) -> Any:
    """Return a book."""
    return books.to_schema(await books.get(book_id), schema_type=BookOut)


@app.get("/books", response_model=Some[BookOut])
async def read_books(books: BooksDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and whether there are more."""
    found = await books.get_many(filters.LimitOffset(size + 1, (page - 1) * size), BY_KEY)
    items = books.to_schema(found[:size], schema_type=BookOut).items
    return Some[BookOut](items=items, has_more=len(found) > size, page=page, size=size)


@app.get("/numbered", response_model=Numbered[BookOut])
async def read_numbered(books: BooksDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books, and how many there are."""
    limit = filters.LimitOffset(size, (page - 1) * size)
    found, total = await books.get_many_and_count(limit, BY_KEY)
    answer = books.to_schema(found, total, filters=[limit], schema_type=BookOut)
    return Numbered[BookOut](items=answer.items, total=answer.total, page=page, size=size)


@app.get("/nested", response_model=Some[NestedOut])
async def read_nested(books: BooksDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return some books with their authors and newest notes."""
    limit = filters.LimitOffset(size + 1, (page - 1) * size)
    found = await books.get_many(limit, BY_KEY, load=[joinedload(Book.author), selectinload(Book.newest)])
    items = books.to_schema(found[:size], schema_type=NestedOut).items
    return Some[NestedOut](items=items, has_more=len(found) > size, page=page, size=size)


@app.get("/deep", response_model=Part[BookOut])
async def read_deep(books: BooksDep, page: PageNumber = 1, size: Size = 20) -> Any:
    """Return the books of a page."""
    found = await books.get_many(filters.LimitOffset(size + 1, (page - 1) * size), BY_KEY)
    items = books.to_schema(found[:size], schema_type=BookOut).items
    return Part[BookOut](items=items, next_cursor=str(page + 1) if len(found) > size else None)


@app.post("/books", response_model=BookOut, status_code=201)
async def add_book(new: BookIn, books: BooksDep) -> Any:
    """Add a book."""
    return books.to_schema(await books.create(new.model_dump(), auto_commit=True), schema_type=BookOut)


@app.patch("/books/{book_id}", response_model=BookOut)
async def change_book(book_id: int, change: BookUpdate, books: BooksDep) -> Any:
    """Change a book."""
    book = await books.update(change.model_dump(exclude_unset=True), item_id=book_id, auto_commit=True)
    return books.to_schema(book, schema_type=BookOut)
