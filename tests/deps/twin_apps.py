"""One app of many endpoints, to be made twice: with FastAPI's own handlers, and with direct ones."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from conftest import World
from deps.apps import app_of, refused_payment
from fastapi import APIRouter, BackgroundTasks, Body, Cookie, Depends, FastAPI, Header, HTTPException, Query
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from starlette.background import BackgroundTask
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from bookshop.models import Author, Book
from fastkit.deps import UnitFactory, found, listed, provide, transaction, unit_factory, unit_of_work, windowed
from fastkit.pages import Page, PageQuery, Slice, Window
from fastkit.repository import Contains, ListQuery, OneOf, Range, Sort
from fastkit.service import Service


class BookOut(BaseModel):
    """What is shown of a book."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    title: str = Field(serialization_alias="called")
    price: Decimal


class ShoutedOut(BookOut):
    """The same in capitals."""

    @field_validator("title")
    @classmethod
    def shout(cls, title: str) -> str:
        """Return it in capitals."""
        return title.upper()


class BookQuery(ListQuery[Book]):
    """What a client may ask of books."""

    title: Contains[str] = None
    language: OneOf[str] = None
    price: Range[Decimal] = None
    sort = Sort("title", "price", default="title")
    max_size = 50


class NewAuthor(BaseModel):
    """An author as a client sends one; its validator changes what it is given."""

    id: int
    name: str = Field(min_length=2)
    kind: str = "new"

    @model_validator(mode="before")
    @classmethod
    def without_extras(cls, data: Any) -> Any:
        """Take away what is no field."""
        if isinstance(data, dict):
            data.pop("extra", None)
            if data.pop("refused", False):
                raise ValueError("refused, once")
        return data


async def tenant(x_tenant: Annotated[str, Header(max_length=5)] = "none") -> str:
    """Return who asks; some are not let in."""
    if x_tenant == "evil":
        raise HTTPException(403, "not you", headers={"X-Why": "evil"})
    return x_tenant


TenantDep = Annotated[str, Depends(tenant)]


def app_with(world: World, route_class: Any) -> FastAPI:
    """Return the app whose routes are of this class."""
    app = app_of(world)
    app.router.route_class = route_class
    inner = APIRouter(route_class=route_class, prefix="/inner", dependencies=[Depends(tenant)])
    outer = APIRouter(route_class=route_class, prefix="/outer")
    for each in (app, inner):
        _add_reads(each, world.unit)
        _add_pages(each, world.unit)
    _add_plain(app)
    _add_plain(outer)
    _add_writes(app, world.unit)
    _add_writes(inner, world.unit)
    _add_what_stock_gives(app, world.unit)
    _add_what_stock_solves(app)
    outer.include_router(inner, prefix="/more")
    app.include_router(outer, prefix="/v1", dependencies=[Depends(tenant)])
    app.include_router(inner)
    return app


def _add_reads(router: Any, unit: Any) -> None:
    class Named(Service[unit]):
        def __init__(self, uow: Any, who: TenantDep, times: Annotated[int, Query(ge=1)] = 1) -> None:
            super().__init__(uow)
            self.said = who * times

    @router.get("/books/{book_id}")
    async def one(book: Annotated[BookOut, found(unit.books, BookOut)]) -> BookOut:
        return book

    @router.get("/objects/{book_id}", response_model_exclude={"price"}, response_model_by_alias=False)
    async def object_of(book: Annotated[Any, found(unit.books)], n: Annotated[int, Query(le=9)] = 1) -> BookOut:
        result: BookOut = book
        return result

    @router.get("/books")
    async def many(shop: Annotated[Any, unit_of_work(unit)], query: Annotated[BookQuery, listed(BookQuery)]) -> Any:
        return await shop.books.into(BookOut).page(query)

    @router.get("/pages")
    async def pages(
        shop: Annotated[Any, unit_of_work(unit)], query: Annotated[BookQuery, listed(BookQuery)], more: bool = False
    ) -> Page[BookOut]:
        found_page: Page[BookOut] = await shop.books.into(BookOut).page(query)
        return found_page

    @router.get("/windows")
    async def windows(
        shop: Annotated[Any, unit_of_work(unit)], query: Annotated[BookQuery, windowed(BookQuery)]
    ) -> Window[BookOut]:
        found_window: Window[BookOut] = await shop.books.into(BookOut).window(query)
        return found_window

    @router.get("/services/{book_id}")
    async def named(book_id: int, service: Annotated[Any, provide(Named)]) -> str:
        return f"{service.said} {(await service.uow.books.get_one(book_id)).title}"

    @router.get("/factory")
    async def factory(new_shop: Annotated[UnitFactory[Any], unit_factory(unit)]) -> int:
        async with new_shop.serving() as shop:
            return int(await shop.books.count())

    @router.get("/shared/{book_id}")
    async def shared(
        request: Request,
        shop: Annotated[Any, unit_of_work(unit)],
        again: Annotated[Any, unit_of_work(unit)],
        service: Annotated[Any, provide(Named)],
        block: Annotated[Any, transaction(unit)],
        book: Annotated[Any, found(unit.books)],
    ) -> list[bool]:
        kept = list(request.scope["fastkit.units"].values())
        return [shop is again, shop is service.uow, shop is block, book in shop.session, kept == [shop]]


def _changed(page: Any) -> Any:
    page.items[0].title = "changed"
    page.total = 7
    return page


PAGES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "given": (Page[BookOut], lambda page: page, {}),
    "changed": (Page[BookOut], _changed, {}),
    "mapped": (Page[BookOut], lambda page: page.map(lambda book: book.model_copy(update={"title": "copied"})), {}),
    "converted": (Page[ShoutedOut], lambda page: page, {}),
    "refused": (Page[NewAuthor], lambda page: page, {}),
    "slice": (Slice[BookOut], lambda page: page, {}),
    "inside": (dict[str, Page[BookOut]], lambda page: {"page": page}, {}),
    "anything": (Any, lambda page: page, {}),
    "names": (Page[BookOut], lambda page: page, {"response_model_by_alias": False}),
    "less": (Page[BookOut], lambda page: page, {"response_model_exclude": {"total"}}),
    "response": (Page[BookOut], lambda page: JSONResponse({"total": page.total}), {}),
}
"""What is declared, what is made of the page of books, and with which options."""


def _add_pages(router: Any, unit: Any) -> None:
    async def first_books(shop: Annotated[Any, unit_of_work(unit)]) -> Page[Any]:
        page: Page[Any] = await shop.books.into(BookOut).page(PageQuery())
        return page

    def endpoint(convert: Any) -> Any:
        async def converted(page: Annotated[Any, Depends(first_books)]) -> Any:
            return convert(page)

        return converted

    for name, (declared, convert, options) in PAGES.items():
        router.get(f"/pages/{name}", response_model=declared, **options)(endpoint(convert))

    @router.get("/pages/shouted", response_model=Page[ShoutedOut])
    async def shouted(shop: Annotated[Any, unit_of_work(unit)]) -> Any:
        return await shop.books.into(ShoutedOut).page(PageQuery())

    @router.get("/slices", status_code=206)
    async def slices(shop: Annotated[Any, unit_of_work(unit)], query: Annotated[PageQuery, Query()]) -> Slice[BookOut]:
        found_slice: Slice[BookOut] = await shop.books.into(BookOut).slice(query)
        return found_slice


def _add_plain(router: Any) -> None:
    @router.get("/plain/{n}")
    async def plain(
        n: int,
        who: TenantDep,
        many: Annotated[list[int], Query()] = [],  # noqa: B006 - FastAPI copies it
        day: datetime = datetime(2020, 1, 1, tzinfo=UTC),
        session: Annotated[str | None, Cookie()] = None,
    ) -> dict[str, Any]:
        return {"n": n, "who": who, "many": many, "day": day, "session": session}

    @router.get("/request", status_code=203)
    async def request_of(request: Request) -> str:
        return f"{request.method} {request.url.path} {request.scope['route'].path}"

    @router.get("/bare")
    async def bare():  # type: ignore[no-untyped-def]
        return {"now": datetime(2020, 1, 1, tzinfo=UTC), "of": Decimal("1.50")}

    @router.get("/wrong/{n}")
    async def wrong(n: int) -> BookOut:
        return {"id": n, "price": "much"}  # type: ignore[return-value]

    @router.get("/boom")
    async def boom() -> None:
        raise RuntimeError("boom")

    @router.get("/text")
    async def text() -> Response:
        return PlainTextResponse("text", 202, background=BackgroundTask(lambda: None))

    @router.delete("/nothing", status_code=204)
    async def nothing() -> None: ...

    @router.api_route("/heads", methods=["GET", "HEAD"], include_in_schema=False)
    async def heads() -> str:
        return "heads"


def _add_writes(router: Any, unit: Any) -> None:
    @router.post("/authors", status_code=201)
    async def create(shop: Annotated[Any, transaction(unit)], new: NewAuthor, end: str = "") -> NewAuthor:
        shop.authors.add(Author(id=new.id, name=new.name))
        if end == "raise":
            raise HTTPException(400, "no")
        if end == "boom":
            raise RuntimeError("boom")
        if end == "returned":
            return JSONResponse({"no": True}, 400)  # type: ignore[return-value]
        if end == "refused":
            shop.payments.add(refused_payment())
        return {"id": new.id} if end == "wrong" else new  # type: ignore[return-value]

    @router.put("/authors/{key}")
    async def both(
        key: int, request: Request, shop: Annotated[Any, unit_of_work(unit)], new: NewAuthor, n: Annotated[int, Body()]
    ) -> dict[str, Any]:
        async with shop:
            shop.authors.add(Author(id=key, name=new.name))
            await shop.commit()
        return {"n": n, "seen": await request.json()}

    @router.patch("/authors")
    async def optional(new: Annotated[NewAuthor | None, Body()] = None) -> str:
        return str(new)


def _add_what_stock_gives(router: Any, unit: Any) -> None:
    @router.get("/stock/tasks")
    async def tasks(background: BackgroundTasks) -> str:
        background.add_task(lambda: None)
        return "tasks"

    @router.get("/stock/response")
    async def response_of(response: Response, shop: Annotated[Any, unit_of_work(unit)]) -> int:
        response.status_code, response.headers["X-Books"] = 206, "2"
        return int(await shop.books.count())

    @router.get("/stock/class", response_class=PlainTextResponse)
    async def classed() -> str:
        return "class"

    @router.get("/stock/sync")
    def sync() -> str:
        return "sync"

    @router.get("/stock/stream")
    async def stream() -> AsyncIterator[int]:
        for each in range(3):
            yield each


def _add_what_stock_solves(router: Any) -> None:
    async def yields() -> AsyncIterator[str]:
        yield "given"

    async def takes_the_request(request: Request) -> str:
        return request.url.path

    async def takes_the_connection(connection: HTTPConnection) -> str:
        return connection.url.path

    @router.get("/stock/connections")
    async def connections(path: Annotated[str, Depends(takes_the_connection)]) -> str:
        return path

    @router.get("/stock/yields")
    async def yielded(given: Annotated[str, Depends(yields)]) -> str:
        return given

    @router.get("/stock/requests")
    async def requests(path: Annotated[str, Depends(takes_the_request)], n: int = 1) -> str:
        return path * n

    @router.get("/stock/secret")
    async def secret(token: Annotated[Any, Depends(HTTPBearer())]) -> str:
        return str(token.credentials)

    @router.get("/stock/uncached")
    async def uncached(who: Annotated[str, Depends(tenant, use_cache=False)]) -> str:
        return who

    @router.get("/stock/limited")
    async def limited(who: Annotated[str, Depends(tenant, max_concurrency=1)]) -> str:
        return who
