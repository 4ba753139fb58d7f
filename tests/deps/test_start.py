"""What can never work is told when the app starts: every fault, with its route and the remedy."""

import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from conftest import TIMEOUTS, AsyncShop, Shop
from deps.apps import started
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from fastapi.sse import EventSourceResponse

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database, Timeouts
from fastkit.deps import check_routes, found, install, provide, transaction, unit_factory, unit_of_work
from fastkit.errors import CannotConnectError, DeclarationError
from fastkit.service import Service
from fastkit.uow import AsyncUnitOfWork

pytestmark = pytest.mark.anyio


class Stock(AsyncUnitOfWork):
    """A unit of work that no app has a database for."""


class Count(Service[Stock]):
    """A service on it."""


class Recount(Service[AsyncShop]):
    """A service on the shop."""


ShopDep = Annotated[AsyncShop, unit_of_work(AsyncShop)]


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """Return an app on a SQLite file."""
    app = FastAPI()
    install(app, {AsyncShop: AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/shop.db")})
    return app


async def faults(app: FastAPI) -> list[str]:
    """Return what the start of an app tells, one line a fault."""
    with pytest.raises(DeclarationError) as raised:
        async with started(app):
            pytest.fail("the app has started")
    return str(raised.value).splitlines()[1:]


@pytest.mark.parametrize(
    "ask",
    [unit_of_work(Stock), transaction(Stock), unit_factory(Stock), provide(Count)],
    ids=["unit_of_work", "transaction", "unit_factory", "provide"],
)
async def test_c15_a_unit_without_a_database_stops_the_start(app: FastAPI, ask: Any) -> None:
    """Whatever asks for the unit, the message names the route and the call of `install`."""
    remedy = "Stock has no database in this app: install(app, {Stock: database})."

    @app.get("/stock")
    async def stock(shop: Annotated[Any, ask]) -> None: ...

    told = await faults(app)

    assert set(told) == {f"- /stock ({stock.__qualname__}): {remedy}"}
    assert len(told) == 1


async def test_c15_a_route_without_install_starts_and_tells_later() -> None:
    """check_routes() on an app without `install` tells the same."""
    app = FastAPI()

    @app.get("/")
    async def read(shop: ShopDep) -> None: ...

    with pytest.raises(DeclarationError, match=r"install\(app, \{AsyncShop: database\}\)"):
        check_routes(app)


async def test_a_generator_endpoint_cannot_take_a_unit(app: FastAPI) -> None:
    """JSON lines and server-sent events are sent after the unit has ended; a factory is the remedy."""

    @app.get("/lines")
    async def lines(shop: ShopDep) -> AsyncIterator[int]:
        yield 1

    @app.get("/events", response_class=EventSourceResponse)
    def events(shop: Annotated[AsyncShop, transaction(AsyncShop)]) -> Iterator[int]:
        yield 1

    @app.get("/service")
    async def service(recount: Annotated[Recount, provide(Recount)]) -> AsyncIterator[int]:
        yield 1

    told = await faults(app)

    assert [each.split()[1] for each in told] == ["/lines", "/events", "/service"]
    assert all("Take unit_factory(AsyncShop) and open a unit inside the generator." in each for each in told)


async def test_a_generator_endpoint_may_take_a_factory(app: FastAPI) -> None:
    """The remedy starts."""

    @app.get("/lines")
    async def lines(
        new_shop: Annotated[Callable[[], AsyncShop], unit_factory(AsyncShop)],
    ) -> AsyncIterator[int]:
        yield 1

    async with started(app):
        pass


async def test_a_generator_endpoint_may_have_a_guard_that_reads(app: FastAPI) -> None:
    """A dependency that is done before the body begins, such as a login, may use the request's unit."""

    async def user(shop: ShopDep) -> str:
        return "Ada"

    @app.get("/lines")
    async def lines(who: Annotated[str, Depends(user)]) -> AsyncIterator[int]:
        yield 1

    async with started(app):
        pass


async def test_found_without_its_parameter_stops_the_start(app: FastAPI) -> None:
    """The message names the route, the parameter and `path=`, also for a near miss."""

    @app.get("/a/{book}/{book_id_2}")  # noqa: FAST003 - the mistake
    async def a(book: Annotated[Any, found(AsyncShop.books)]) -> None: ...

    @app.get("/b/{book_id:int}")  # noqa: FAST003 - found() reads it
    async def b(book: Annotated[Any, found(AsyncShop.books)]) -> None: ...

    told = await faults(app)

    assert len(told) == 1
    assert told[0].startswith("- /a/{book}/{book_id_2} (")
    assert "found() needs {book_id} in the path; name another one with found(..., path=...)" in told[0]


async def test_every_fault_is_told_at_once(app: FastAPI) -> None:
    """Routes of the app, of included and of nested routers, and WebSockets are all looked at."""
    inner, outer = APIRouter(prefix="/inner"), APIRouter(prefix="/outer")

    @app.get("/one")
    async def one(stock: Annotated[Any, unit_of_work(Stock)]) -> None: ...

    @inner.get("/two")
    async def two(book: Annotated[Any, found(AsyncShop.books)]) -> None: ...

    @outer.websocket("/three")
    async def three(socket: WebSocket, stock: Annotated[Any, unit_of_work(Stock)]) -> None: ...

    outer.include_router(inner)
    app.include_router(outer, prefix="/v1")

    told = await faults(app)

    assert [each.split()[1] for each in told] == ["/one", "/v1/outer/three", "/v1/outer/inner/two"]


async def test_a_mounted_app_is_checked_too(app: FastAPI) -> None:
    """A mounted app with an `install` of its own never starts by itself, so its parent looks at it."""
    sub = FastAPI()
    install(sub, {})

    @sub.get("/stock")
    async def stock(stock: Annotated[Any, unit_of_work(Stock)]) -> None: ...

    app.mount("/sub", sub)

    told = await faults(app)

    assert "Stock has no database in this app" in told[0]


async def test_a_route_that_is_added_after_install_is_checked(app: FastAPI) -> None:
    """The check runs at the start, not at `install`, and once for several calls of it."""
    install(app, {})

    @app.get("/late")
    async def late(stock: Annotated[Any, unit_of_work(Stock)]) -> None: ...

    assert len(await faults(app)) == 1


@pytest.mark.parametrize(
    "ask",
    [unit_of_work(Stock), transaction(Stock), provide(Count)],
    ids=["unit_of_work", "transaction", "provide"],
)
async def test_c15_an_override_needs_no_database(app: FastAPI, ask: Any) -> None:
    """In a test that overrides the unit's dependency, the app starts without a database."""

    @app.get("/")
    async def stock(shop: Annotated[Any, ask]) -> None: ...

    app.dependency_overrides[unit_of_work(Stock).dependency] = lambda: None

    async with started(app):
        pass


async def test_c15_what_an_override_replaces_needs_no_database(app: FastAPI) -> None:
    """A dependency of the app that is overridden is not called, so what it asked for is not needed."""

    async def user(stock: Annotated[Stock, unit_of_work(Stock)]) -> str:
        return "Ada"

    @app.get("/")
    async def read(who: Annotated[str, Depends(user)]) -> None: ...

    app.dependency_overrides[user] = lambda: "Bob"

    async with started(app):
        pass


@pytest.mark.parametrize(("unit", "colour"), [(Shop, AsyncDatabase), (AsyncShop, Database)])
def test_colours_do_not_mix(unit: Any, colour: Any, tmp_path: Path) -> None:
    """`install` tells which unit lives on which database."""
    name = "sqlite+aiosqlite" if colour is AsyncDatabase else "sqlite"

    with pytest.raises(DeclarationError, match="UnitOfWork lives on Database, AsyncUnitOfWork on AsyncData"):
        install(FastAPI(), {unit: colour(f"{name}:///{tmp_path}/shop.db")})


async def test_the_apps_own_lifespan_runs_inside_the_check(tmp_path: Path) -> None:
    """An app that starts opens its database, and closes it when it stops."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    app = FastAPI(lifespan=database.lifespan)
    install(app, {AsyncShop: database})

    async with started(app):
        await database.create_all(Author.metadata)
        async with AsyncShop(database) as shop:
            assert await shop.books.count() == 0
    with pytest.raises(Exception, match="shutting down"):
        async with AsyncShop(database) as shop:
            await shop.books.count()


WRONG = [
    "postgresql+asyncpg://ada:{secret}@127.0.0.1:1/shop",
    "postgresql+psycopg://ada:{secret}@127.0.0.1:1/shop",
    "mariadb+asyncmy://ada:{secret}@127.0.0.1:1/shop",
    "mariadb+pymysql://ada:{secret}@127.0.0.1:1/shop",
    "postgresql+asyncpg://ada:{secret}@127.0.0.1:5432/no_such_database",
    "mariadb+asyncmy://ada:{secret}@127.0.0.1:3306/shop",
    "mariadb+pymysql://ada:{secret}@127.0.0.1:3306/shop",
    "sqlite+aiosqlite:////no/such/{secret}/shop.db",
]


@pytest.mark.parametrize("url", WRONG)
async def test_a_database_that_is_down_stops_the_start(url: str) -> None:
    """The error says what to check, and shows no password, not even in its causes."""
    secret = "s3cr3t"
    kind = Database if "pymysql" in url else AsyncDatabase
    database = kind(url.format(secret=secret), timeouts=Timeouts(connect=2))
    app = FastAPI(lifespan=database.lifespan)
    install(app, {Shop if kind is Database else AsyncShop: database})  # type: ignore[dict-item]  # of one colour

    with pytest.raises(CannotConnectError, match="check that it runs") as raised:
        async with started(app):
            pytest.fail("the app has started")
    await anyio.sleep(0.1)  # the thread of aiosqlite says good-bye to the event loop
    shown = "".join(traceback.format_exception(raised.value)) + repr(database)
    assert "sqlite" in url or secret not in shown


async def test_an_app_starts_again_after_its_database_came_up(tmp_path: Path) -> None:
    """A start that failed leaves nothing that keeps the next one from working."""
    folder = tmp_path / "later"
    database = AsyncDatabase(f"sqlite+aiosqlite:///{folder}/shop.db", timeouts=TIMEOUTS)
    app = FastAPI(lifespan=database.lifespan)
    install(app, {AsyncShop: database})
    with pytest.raises(CannotConnectError):
        async with started(app):
            pytest.fail("the app has started")
    folder.mkdir()

    async with started(app):
        pass
