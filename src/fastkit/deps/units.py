"""Units of work as dependencies: one a request and class, its commit real before the first byte of the response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import RunVar
from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from fastkit.database import REQUEST, AsyncDatabase, Database
from fastkit.database import Request as RequestOwner
from fastkit.errors import DeclarationError, PoolTimeoutError
from fastkit.uow import AsyncBlock, AsyncUnitOfWork, Block, BlockOptions, Status, UnitOfWork

U = TypeVar("U", bound=UnitOfWork | AsyncUnitOfWork)

UNITS = "fastkit_units"
"""Attribute of `app.state` that maps each unit of work to its database."""

_ERROR_RESPONSE = "fastkit.error_response"
_ADMITTED = "fastkit.admitted"
_SHARED = "fastkit.units"
_COMMITS = BlockOptions(commits=True, bound=False)
_limiters: RunVar[WeakKeyDictionary[Database, anyio.CapacityLimiter]] = RunVar("fastkit_limiters")


def unit_of_work(unit: type[UnitOfWork | AsyncUnitOfWork]) -> Any:
    """
    Return the dependency that gives a request its unit of work; the same unit, however many ask for it.

    >>> ShopDep = Annotated[Shop, unit_of_work(Shop)]

    It reads without a block; to write, open one: `async with shop: ...; await shop.commit()`. Nothing is committed
    behind your back, and no connection is held while the response is sent. In tests, `unit_of_work(Shop).dependency`
    is the key for `app.dependency_overrides`.
    """
    kind: Any = unit
    return Depends(_provider(kind), scope="function")


def transaction(unit: type[UnitOfWork | AsyncUnitOfWork]) -> Any:
    """
    Return the dependency that gives a request its unit of work with a block open, and commits it by itself.

    It commits after the endpoint has returned and before the first byte of the response; an exception rolls back.
    An error response that is *returned* rolls back only on a route of class `UnitRoute`.
    """
    kind: Any = unit
    return Depends(_transaction_provider(kind), scope="function")


def unit_factory(unit: type[UnitOfWork | AsyncUnitOfWork]) -> Any:
    """
    Return the dependency that gives a function which makes units, for what outlives the endpoint.

    A streaming body, a WebSocket and a background task go on after the request's unit has ended:

    >>> ShopFactory = Annotated[Callable[[], Shop], unit_factory(Shop)]
    >>> async def export(new_shop: Callable[[], Shop]) -> AsyncIterator[str]:
    ...     async with new_shop() as shop: ...
    """
    kind: Any = unit
    return Depends(_factory_provider(kind))


class UnitRoute(APIRoute):
    """
    A route on which a returned error response (status 400 or above) rolls `transaction(...)` back.

    >>> router = APIRouter(route_class=UnitRoute)
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return FastAPI's own handler, followed by a look at the status of its response."""
        handle = super().get_route_handler()

        async def handle_and_look(request: Request) -> Response:
            response: Response = await handle(request)
            if response.status_code >= 400:  # noqa: PLR2004 - RFC 9110: client and server errors
                request.scope[_ERROR_RESPONSE] = True
            return response

        return handle_and_look


def database_of(connection: HTTPConnection, unit: type[Any]) -> Any:
    """
    Return the database that the app installed for a unit of work.

    Raises:
        DeclarationError: It installed none.
    """
    databases = getattr(connection.app.state, UNITS, {})
    if unit not in databases:
        raise DeclarationError(no_database(unit))
    return databases[unit]


def no_database(unit: type[Any]) -> str:
    """Return the message for a unit of work that no database was installed for."""
    return f"{unit.__name__} has no database in this app: install(app, {{{unit.__name__}: database}})."


@cache  # one callable a class; the scope holds its unit, because FastAPI calls it again for another dependency scope
def _provider(unit: Any) -> Callable[..., Any]:
    async def async_unit(connection: HTTPConnection) -> AsyncGenerator[Any]:
        database = database_of(connection, unit)
        shared = connection.scope.setdefault(_SHARED, {})
        if (unit, database) in shared:
            yield shared[unit, database]
            return
        async with unit.serving(database) as shared[unit, database]:
            yield shared[unit, database]

    async def sync_unit(connection: HTTPConnection) -> AsyncGenerator[Any]:
        database = database_of(connection, unit)
        shared = connection.scope.setdefault(_SHARED, {})
        if (unit, database) in shared:
            yield shared[unit, database]
            return
        REQUEST.set(REQUEST.get() or RequestOwner())
        async with _admitted(connection, database):
            with unit.serving(database) as shared[unit, database]:
                yield shared[unit, database]

    return _described(async_unit if issubclass(unit, AsyncUnitOfWork) else sync_unit, unit)


@cache
def _transaction_provider(unit: Any) -> Callable[..., Any]:
    async def async_transaction(connection: HTTPConnection, served: Any = unit_of_work(unit)) -> AsyncGenerator[Any]:
        async with AsyncBlock(served, _COMMITS):
            yield served
            if connection.scope.get(_ERROR_RESPONSE) and served.outcome.status is Status.ACTIVE:
                await served.rollback()

    def sync_transaction(connection: HTTPConnection, served: Any = unit_of_work(unit)) -> Generator[Any]:
        with Block(served, _COMMITS):
            yield served
            if connection.scope.get(_ERROR_RESPONSE) and served.outcome.status is Status.ACTIVE:
                served.rollback()

    return _described(async_transaction if issubclass(unit, AsyncUnitOfWork) else sync_transaction, unit, checked=False)


@cache
def _factory_provider(unit: Any) -> Callable[..., Any]:
    async def factory(connection: HTTPConnection) -> Callable[[], Any]:
        database = database_of(connection, unit)
        return lambda: unit(database)

    return _described(factory, unit, holds=False)


def _described(
    provider: Callable[..., Any], unit: Any, *, checked: bool = True, holds: bool = True
) -> Callable[..., Any]:
    """
    Write on a dependency what the checks at start and the OpenAPI schema want to know of it.

    Args:
        provider: The dependency.
        unit: Its unit of work.
        checked: Whether the check for a database starts here, and not at a dependency of this one.
        holds: Whether what it gives ends with the endpoint.
    """
    described: Any = provider
    described.fastkit_unit = unit if checked else None
    described.fastkit_holds = unit if holds else None
    described.problems = frozenset({409, 503})
    described.__qualname__ = f"{provider.__name__}({unit.__qualname__})"
    return provider


@asynccontextmanager
async def _admitted(connection: HTTPConnection, database: Database) -> AsyncGenerator[None]:
    """
    Let in as many requests as the pool has connections; the others wait here, in the event loop, holding no thread.

    Threads that wait for a connection would keep out the very requests that hold one.
    """
    if connection.scope["type"] == "websocket" or database.capacity is None or connection.scope.get(_ADMITTED):
        yield
        return
    sharing = [each for each in getattr(connection.app.state, UNITS).values() if each is database]
    limiter = _limiter(database, max(1, database.capacity // len(sharing)))
    try:
        with anyio.fail_after(database.timeouts.pool):
            await limiter.acquire()
    except TimeoutError:
        raise PoolTimeoutError(
            "This request waited too long for its turn: as many sync requests are served as the pool has connections. "
            "Look for `def` endpoints that take long, or raise pool_size of the Database."
        ) from None
    connection.scope[_ADMITTED] = True
    try:
        yield
    finally:
        connection.scope[_ADMITTED] = False
        limiter.release()


def _limiter(database: Database, capacity: int) -> anyio.CapacityLimiter:
    limiters = _limiters.get(None)
    if limiters is None:
        limiters = WeakKeyDictionary()
        _limiters.set(limiters)
    return limiters.setdefault(database, anyio.CapacityLimiter(capacity))


def is_database_for(unit: type[Any], database: object) -> bool:
    """Return whether a unit of work and a database are of the same colour."""
    return isinstance(database, AsyncDatabase if issubclass(unit, AsyncUnitOfWork) else Database)
