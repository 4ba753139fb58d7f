"""
fastkit, by its shortest ways: `DirectRoute`, `json()` and `insert`.

As its docs have it: docs/fastapi.md ("Less work for a request"), docs/reading.md ("Straight to JSON", "A new row"),
docs/lists.md ("Streams").
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from bench.http.shop import AuthorOut, Book, BookIn, BookOut, BookUpdate, NoteOut, url
from bench.http.workloads import DEEP, DEPTH, PAGES, SIZE, Ask, after, asks
from fastapi import FastAPI, Query, Response
from fastapi.responses import StreamingResponse

from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, From, Page, PageQuery
from fastkit.deps import DirectRoute, UnitFactory, install, unit_factory, unit_of_work
from fastkit.pages import Slice, Window, WindowQuery


class Shop(AsyncUnitOfWork):
    """The unit of work."""

    books: AsyncRepository[Book]


class NestedOut(BookOut):
    """A book, its author and its newest notes."""

    author: AuthorOut
    newest: Annotated[list[NoteOut], From("notes", order_by="-id", limit=5)]


class Lines(StreamingResponse):
    """A JSON document in each line."""

    media_type = "application/x-ndjson"


database = AsyncDatabase(url(), pool_size=10, cursor_keys=["a secret of the benchmark, long enough"])
app = FastAPI(lifespan=database.lifespan)
app.router.route_class = DirectRoute
install(app, {Shop: database})
ASKS = asks()

ShopDep = Annotated[Shop, unit_of_work(Shop)]
PageDep = Annotated[PageQuery, Query()]


def answered(content: bytes) -> Response:
    """Return JSON as a response."""
    return Response(content, media_type="application/json")


@app.get("/books/{book_id}", response_model=BookOut)
async def read_book(book_id: int, shop: ShopDep) -> Response:
    """Return a book."""
    return answered(await shop.books.into(BookOut).json().get_one(book_id))


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
        book = await shop.books.into(BookOut).insert(new)
        await shop.commit()
    return book


@app.patch("/books/{book_id}")
async def change_book(book_id: int, change: BookUpdate, shop: ShopDep) -> BookOut:
    """Change a book."""
    async with shop:
        book = await shop.books.get_one(book_id)
        book.stock = change.stock
        await shop.commit()
    return BookOut.model_validate(book)


@app.get("/export", response_class=Lines)
async def export(new_shop: Annotated[UnitFactory[Shop], unit_factory(Shop)]) -> AsyncIterator[bytes]:
    """Return all books, one in a line."""
    async with new_shop.serving() as shop:
        async for lines in shop.books.into(BookOut).json().stream():
            yield lines


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
