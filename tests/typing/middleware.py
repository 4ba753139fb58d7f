"""Types of middleware and of traced units of work."""

from typing import assert_type

from fastapi import FastAPI
from opentelemetry.trace import TracerProvider
from starlette.requests import Request

from bookshop.models import Book
from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, Database, Repository, UnitOfWork
from fastkit.middleware import RequestIdMiddleware, ServerTimingMiddleware, request_id, route_template
from fastkit.uow import Traced


class Shop(Traced, UnitOfWork):
    """A traced unit."""

    books: Repository[Book]


class AsyncShop(Traced, AsyncUnitOfWork, confirm_commit=True):
    """Its async twin, with another option of the class line."""

    books: AsyncRepository[Book]


def traced_by(provider: TracerProvider) -> tuple[type[Shop], type[Shop]]:
    """A provider of OpenTelemetry, and nothing else, makes the spans."""

    class Own(Shop, tracer_provider=provider):
        """Traced elsewhere."""

    class Wrong(Shop, tracer_provider="provider"):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportGeneralTypeIssues]
        """No provider."""

    return Own, Wrong


def sync(database: Database) -> None:
    """A traced unit is itself, in blocks of all kinds."""
    with Shop(database) as shop:
        assert_type(shop, Shop)
        assert_type(shop.books.get_one(1), Book)
    with Shop.serving(database) as served, served.begin() as block:
        assert_type(block, Shop)


async def asynchronous(database: AsyncDatabase) -> None:
    """The same, awaited."""
    async with AsyncShop(database) as shop:
        assert_type(shop, AsyncShop)
        assert_type(await shop.books.get_one(1), Book)
        await shop.commit()
    await database.run(AsyncShop, lambda shop: shop.books.get_one(1))


def is_developer(request: Request) -> bool:
    """Say who is told."""
    return request.url.hostname == "localhost"


def added(app: FastAPI) -> None:
    """A misspelt option is told."""
    app.add_middleware(RequestIdMiddleware, header="X-Trace", trusted=False)
    app.add_middleware(ServerTimingMiddleware, when=is_developer)
    app.add_middleware(RequestIdMiddleware, headers="X")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    RequestIdMiddleware(app, "X-Trace")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert_type(request_id(), str | None)
    assert_type(route_template({}), str | None)
