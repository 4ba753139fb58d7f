"""
fastkit, in stock FastAPI routes.

As its docs have it: docs/fastapi.md (`unit_of_work`, `found`, what outlives the endpoint), docs/reading.md (`into`),
docs/lists.md (windows).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from bench.http.shop import AuthorOut, Book, BookIn, BookOut, BookUpdate, NoteOut, chunks, url
from bench.http.workloads import DEEP, DEPTH, PAGES, SIZE, Ask, after, asks
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse

from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, From, Page, PageQuery
from fastkit.deps import UnitFactory, found, install, unit_factory, unit_of_work
from fastkit.pages import Slice, Window, WindowQuery


class Shop(AsyncUnitOfWork):
    """The unit of work."""

    books: AsyncRepository[Book]


class NestedOut(BookOut):
    """A book, its author and its newest notes."""

    author: AuthorOut
    newest: Annotated[list[NoteOut], From("notes", order_by="-id", limit=5)]


database = AsyncDatabase(url(), pool_size=10, cursor_keys=["a secret of the benchmark, long enough"])
app = FastAPI(lifespan=database.lifespan)
install(app, {Shop: database})
ASKS = asks()

ShopDep = Annotated[Shop, unit_of_work(Shop)]
PageDep = Annotated[PageQuery, Query()]


@app.get("/books/{book_id}")  # noqa: FAST003 - found() reads it
async def read_book(book: Annotated[BookOut, found(Shop.books, BookOut)]) -> BookOut:
    """Return a book."""
    return book


@app.get("/books")
async def read_books(shop: ShopDep, query: PageDep) -> Slice[BookOut]:
    """Return some books, and whether there are more."""
    return await shop.books.into(BookOut).slice(query)


@app.get("/numbered")
async def read_numbered(shop: ShopDep, query: PageDep) -> Page[BookOut]:
    """Return some books, and how many there are."""
    return await shop.books.into(BookOut).page(query)


@app.get("/nested")
async def read_nested(shop: ShopDep, query: PageDep) -> Slice[NestedOut]:
    """Return some books with their authors and newest notes."""
    return await shop.books.into(NestedOut).slice(query)


@app.get("/deep")
async def read_deep(shop: ShopDep, query: Annotated[WindowQuery, Query()]) -> Window[BookOut]:
    """Return the books behind a cursor."""
    return await shop.books.into(BookOut).window(query)


@app.post("/books", status_code=201)
async def add_book(new: BookIn, shop: ShopDep) -> BookOut:
    """Add a book."""
    async with shop:
        book = shop.books.add(Book(**new.model_dump()))
        await shop.commit()
    return BookOut.model_validate(book)


@app.patch("/books/{book_id}")
async def change_book(book_id: int, change: BookUpdate, shop: ShopDep) -> BookOut:
    """Change a book."""
    async with shop:
        book = await shop.books.get_one(book_id)
        book.stock = change.stock
        await shop.commit()
    return BookOut.model_validate(book)


async def _lines(new_shop: UnitFactory[Shop]) -> AsyncIterator[bytes]:
    async with new_shop.serving() as shop:
        async for book in shop.books.into(BookOut).stream():
            yield book.model_dump_json().encode()


@app.get("/export")
async def export(new_shop: Annotated[UnitFactory[Shop], unit_factory(Shop)]) -> StreamingResponse:
    """Return all books, one in a line."""
    return StreamingResponse(chunks(_lines(new_shop)), media_type="application/x-ndjson")


async def prepare() -> dict[str, Ask]:
    """Walk to the deep page by large windows, and return the requests for the windows there."""
    cursor: str | None = None
    cursors: list[str] = []
    async with Shop.serving(database) as shop:
        for size in (*[10_000] * (DEPTH // 10_000), *[SIZE] * (PAGES - 1)):
            query = WindowQuery.model_construct(cursor=cursor, size=size)
            cursor = (await shop.books.into(BookOut).window(query)).next_cursor
            cursors.append(cursor or "")
    return {DEEP: after(cursors=cursors[-PAGES:])}
