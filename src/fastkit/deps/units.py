"""Units of work as dependencies: one a request and class, its commit real before the first byte of the response."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import cache, partial, wraps
from typing import Any, Generic, TypeVar, overload
from weakref import WeakKeyDictionary

import anyio
from anyio.lowlevel import RunVar, checkpoint_if_cancelled
from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from fastkit.database import REQUEST, AsyncDatabase, Database
from fastkit.database import Request as RequestOwner
from fastkit.errors import DeclarationError, PoolTimeoutError
from fastkit.uow import AsyncBlock, AsyncUnitOfWork, Block, BlockOptions, Status, UnitOfWork

U = TypeVar("U", bound=UnitOfWork | AsyncUnitOfWork)
S = TypeVar("S", bound=UnitOfWork)
A = TypeVar("A", bound=AsyncUnitOfWork)

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


class UnitFactory(Generic[U]):
    """
    Makes units of work on the database that an app installed for their class.

    Called, it makes a unit for one block. `serving()` makes one that reads without a block, and so keeps no connection
    while a slow client reads what it streams, and may open many blocks.
    """

    def __init__(self, unit: type[U], database: Any) -> None:
        self._unit: Any = unit
        self._database = database

    def __call__(self) -> U:
        """Return a unit to be opened: `async with new_shop() as shop:`."""
        made: U = self._unit(self._database)
        return made

    @overload
    def serving(self: UnitFactory[S]) -> AbstractContextManager[S]: ...
    @overload
    def serving(self: UnitFactory[A]) -> AbstractAsyncContextManager[A]: ...
    def serving(self) -> Any:
        """Return the context of a unit that reads without a block: `async with new_shop.serving() as shop:`."""
        return self._unit.serving(self._database)


def unit_factory(unit: type[UnitOfWork | AsyncUnitOfWork]) -> Any:
    """
    Return the dependency that gives a `UnitFactory`, for what outlives the endpoint.

    A streaming body, a WebSocket and a background task go on after the request's unit has ended:

    >>> async def export(new_shop: Annotated[UnitFactory[Shop], unit_factory(Shop)]) -> AsyncIterator[str]:
    ...     async with new_shop.serving() as shop:
    ...         async for book in shop.books.into(BookOut).stream():
    ...             yield book.model_dump_json()
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

        @wraps(handle)
        async def handle_and_look(request: Request) -> Response:
            return self.looked_at(request, await handle(request))

        return handle_and_look

    @staticmethod
    def looked_at(request: Request, response: Response) -> Response:
        """Return a response, after a note in the request if it tells of an error."""
        if response.status_code >= 400:  # noqa: PLR2004 - RFC 9110: client and server errors
            request.scope[_ERROR_RESPONSE] = True
        return response


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
    async def factory(connection: HTTPConnection) -> UnitFactory[Any]:
        return UnitFactory(unit, database_of(connection, unit))

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


def entering(call: Any) -> Callable[..., Any] | None:
    """
    Return how a dependency's unit, or its block, is entered without FastAPI; None if there is none, or a sync one.

    What is returned takes the stack that will end it, then the arguments of the dependency.
    """
    unit: Any = getattr(call, "fastkit_holds", None)
    if unit is None or not issubclass(unit, AsyncUnitOfWork):
        return None
    if call is _provider(unit):
        return partial(_enter_unit, unit)
    return partial(_enter_block, asynccontextmanager(call)) if call is _transaction_provider(unit) else None


async def _enter_unit(unit: Any, stack: AsyncExitStack, connection: HTTPConnection) -> Any:
    database = database_of(connection, unit)
    shared = connection.scope.setdefault(_SHARED, {})
    if (unit, database) not in shared:
        served = shared[unit, database] = unit(database)
        served._serve()  # noqa: SLF001 - as `serving`, without a generator
        stack.push_async_exit(partial(_leave_unit, served))
    return shared[unit, database]


async def _enter_block(block: Callable[..., Any], stack: AsyncExitStack, **arguments: Any) -> Any:
    context = block(**arguments)
    served = await context.__aenter__()
    stack.push_async_exit(partial(_leave, partial(_shielded, context.__aexit__)))
    return served


async def _shielded(leave: Callable[..., Any], *error: Any) -> Any:
    with anyio.CancelScope(shield=True):  # as FastAPI does it, for the hooks after a commit
        return await leave(*error)


async def _leave_unit(served: Any, _: Any, error: BaseException | None, __: Any) -> None:
    has_waited = await served._end_of_owner(error)  # noqa: SLF001 - as `serving`
    if has_waited and error is None:
        await checkpoint_if_cancelled()  # so that no response is sent


async def _leave(leave: Callable[..., Any], *error: Any) -> Any:
    handled = await leave(*error)
    if error[0] is None:
        await checkpoint_if_cancelled()  # so that no response is sent
    return handled


def is_database_for(unit: type[Any], database: object) -> bool:
    """Return whether a unit of work and a database are of the same colour."""
    return isinstance(database, AsyncDatabase if issubclass(unit, AsyncUnitOfWork) else Database)
