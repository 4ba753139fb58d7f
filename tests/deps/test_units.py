"""One request has one unit per class; it holds no connection that it does not use, and ends with the request."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from colours import awaitable
from conftest import World
from deps.apps import (
    Watched,
    answer,
    app_of,
    author,
    client_of,
    coloured,
    conversation,
    problem_of,
    rows,
    until,
)
from fastapi import BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from bookshop.models import Author, Book
from fastkit.database import AsyncDatabase, Database
from fastkit.deps import found, install, provide, transaction, unit_factory, unit_of_work
from fastkit.errors import UnitClosedError
from fastkit.repository import AsyncRepository, Repository
from fastkit.service import Service
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

pytestmark = pytest.mark.anyio


def naked(unit: Any) -> Any:
    """Return the unit itself, without the dress of the sync colour."""
    return getattr(unit, "naked", unit)


def service_of(world: World) -> Any:
    """Return a service class that does nothing but hold its unit."""

    class Holder(Service[world.unit]):  # type: ignore[name-defined,misc]  # the colour of the world
        pass

    return Holder


async def test_c15_everybody_who_asks_gets_the_same_unit(stocked: World) -> None:
    """Endpoint, sub-dependency, service, `found` and `transaction` share one unit and one session."""
    app, unit, units, sessions = app_of(stocked), stocked.unit, [], []
    holder = service_of(stocked)

    async def see(shop: Annotated[Any, unit_of_work(unit)]) -> Any:
        return naked(shop)

    async def work(
        shop: Annotated[Any, unit_of_work(unit)],
        again: Annotated[Any, unit_of_work(unit)],
        open_one: Annotated[Any, transaction(unit)],
        seen: Annotated[Any, Depends(coloured(stocked, see))],
        service: Annotated[Any, provide(holder)],
        book: Annotated[Any, found(unit.books)],
    ) -> None:
        units.extend(map(naked, (shop, again, open_one, seen, service.uow)))
        sessions.append(naked(shop.books.session))
        assert book in naked(shop.session)

    app.get("/{book_id}")(coloured(stocked, work))

    response = await answer(app, "/1")

    assert response.status_code == 200
    assert len({id(each) for each in units}) == 1
    assert type(units[0]) is unit


async def test_c15_each_request_has_a_unit_of_its_own(world: World) -> None:
    """Two requests never share a unit."""
    app, units = app_of(world), []

    async def work(shop: Annotated[Any, unit_of_work(world.unit)]) -> None:
        units.append(naked(shop))

    app.get("/")(coloured(world, work))

    async with client_of(app) as client:
        for _ in range(2):
            await client.get("/")

    assert units[0] is not units[1]


async def test_c15_an_override_reaches_everybody(stocked: World) -> None:
    """`unit_of_work(Shop).dependency` is the one key, also for `found`, `provide` and `transaction`."""
    app, unit, seen = app_of(stocked), stocked.unit, []
    holder = service_of(stocked)

    async def work(
        shop: Annotated[Any, transaction(unit)],
        service: Annotated[Any, provide(holder)],
        book: Annotated[Any, found(unit.books)],
    ) -> str:
        seen.extend(map(naked, (shop, service.uow)))
        return book.title

    app.get("/{book_id}")(coloured(stocked, work))
    async with stocked.serving() as mine:
        app.dependency_overrides[unit_of_work(unit).dependency] = lambda: naked(mine)
        response = await answer(app, "/1")

        assert response.json() == "Emma"
        assert [each is naked(mine) for each in seen] == [True, True]


async def test_c15_a_unit_has_one_dependency_for_each_class(world: World) -> None:
    """The dependency is memoised by class, so a subclass is another unit."""

    class Other(world.unit):  # type: ignore[name-defined,misc]  # the colour of the world
        pass

    assert unit_of_work(world.unit).dependency is unit_of_work(world.unit).dependency
    assert unit_of_work(world.unit).dependency is not unit_of_work(Other).dependency


async def test_c15_two_units_on_two_databases(world: World, tmp_path: Any) -> None:
    """One request writes to both, each with a commit of its own."""
    is_async = world.driver.is_async
    root, repository = (AsyncUnitOfWork, AsyncRepository) if is_async else (UnitOfWork, Repository)

    class Library(root):  # type: ignore[misc,valid-type]  # the colour of the world
        authors: repository[Author]  # type: ignore[valid-type]

    name = "sqlite+aiosqlite" if is_async else "sqlite"
    other = (AsyncDatabase if is_async else Database)(f"{name}:///{tmp_path}/library.db")
    await awaitable(other).create_all(Author.metadata)
    app = app_of(world)
    install(app, {Library: other})

    async def work(
        shop: Annotated[Any, transaction(world.unit)], library: Annotated[Any, transaction(Library)]
    ) -> bool:
        shop.authors.add(author())
        library.authors.add(author("Somebody else"))
        await library.commit()
        return await shop.authors.exists(Author.name == "Somebody else")

    app.post("/")(coloured(world, work))

    response = await answer(app, method="POST")
    async with awaitable(Library(other)) as library:
        stored = await library.authors.all()
    await awaitable(other).close()

    assert response.json() is False
    assert [each.name for each in stored] == ["Somebody else"]
    assert rows(world, Author) == 1


async def test_c15_a_mounted_app_has_an_install_of_its_own(stocked: World) -> None:
    """A mounted app reads its own state; without `install` it says so, with the remedy."""
    app, sub, bare = app_of(stocked), app_of(stocked), FastAPI()

    async def count(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> int:
        return await shop.books.count()

    for each in (sub, bare):
        each.get("/books")(coloured(stocked, count))
    app.mount("/sub", sub)
    app.mount("/bare", bare)

    async with client_of(app) as client:
        good, bad = await client.get("/sub/books"), await client.get("/bare/books")

    assert good.json() == 2
    assert bad.status_code == 500


async def test_c15_a_websocket_has_a_unit(stocked: World) -> None:
    """An endpoint of a WebSocket reads, opens block after block, and holds no connection in between."""
    app = app_of(stocked)

    async def talk(socket: WebSocket, shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        await socket.accept()
        dressed = awaitable(shop)
        async for name in socket.iter_text():
            async with dressed.begin():
                dressed.authors.add(author(name))
            await socket.send_json([await dressed.authors.count(), stocked.checked_out])

    app.websocket("/")(talk)

    sent = await conversation(app, ["one", "two"])

    assert [json.loads(each["text"]) for each in sent if "text" in each] == [[2, 0], [3, 0]]


@pytest.mark.parametrize("ask", [unit_of_work, transaction])
async def test_c4_no_connection_before_the_first_statement(world: World, ask: Any) -> None:
    """A dependency that was asked for and not used costs nothing, a block that was opened neither."""
    app, seen = app_of(world), []

    async def work(shop: Annotated[Any, ask(world.unit)]) -> None:
        seen.append(world.checked_out)
        async with shop:
            seen.append(world.checked_out)
            await shop.authors.count()
            seen.append(world.checked_out)

    app.get("/")(coloured(world, work))

    response = await answer(app)

    assert response.status_code == 200
    assert seen == [0, 0, 1]


async def test_c4_no_connection_between_two_reads(stocked: World) -> None:
    """Outside a block each read gives its connection back."""
    app, seen = app_of(stocked), []

    async def work(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        await shop.books.all()
        seen.append(stocked.checked_out)
        await shop.books.get_one(1)
        seen.append(stocked.checked_out)

    app.get("/")(coloured(stocked, work))

    await answer(app)

    assert seen == [0, 0]


@pytest.mark.parametrize("ask", [unit_of_work, transaction])
async def test_c4_no_connection_while_the_response_is_sent(stocked: World, ask: Any) -> None:
    """A streaming body and a background task run after the unit has ended."""
    app, seen = app_of(stocked), []

    async def look() -> AsyncIterator[bytes]:
        for _ in range(2):
            seen.append(stocked.checked_out)
            yield b"."

    async def work(shop: Annotated[Any, ask(stocked.unit)], tasks: BackgroundTasks) -> StreamingResponse:
        async with shop.block():
            await shop.books.all()
            tasks.add_task(lambda: seen.append(stocked.checked_out))
            return StreamingResponse(look(), background=tasks)

    app.get("/")(coloured(stocked, work))
    watched = Watched(app, lambda: stocked.checked_out)

    response = await answer(watched)

    assert response.text == ".."
    assert (watched.seen, seen) == ([0], [0, 0, 0])


async def too_late(shop: Any) -> list[str]:
    """Return what a unit answers to each use after its request has ended."""

    async def read() -> None:
        await shop.books.count()

    async def connect() -> None:
        await shop.session.connection()

    errors = []
    for verb in (read, connect, shop.commit):
        with pytest.raises(UnitClosedError) as raised:
            await verb()
        errors.append(str(raised.value))
    return errors


@pytest.mark.parametrize("used_before", [False, True])
@pytest.mark.parametrize("where", ["body", "task"])
async def test_c5_after_the_request_a_unit_refuses_all_use(stocked: World, where: str, used_before: bool) -> None:
    """A streaming body or a background task that reads gets an error that names the factory."""
    app, errors = app_of(stocked), []

    async def late(shop: Any) -> None:
        errors.extend(await too_late(shop))

    async def body(shop: Any) -> AsyncIterator[bytes]:
        yield b""
        await late(shop)

    async def work(shop: Annotated[Any, unit_of_work(stocked.unit)], tasks: BackgroundTasks) -> Any:
        if used_before:
            await shop.books.count()
        if where == "body":
            return StreamingResponse(body(shop))
        tasks.add_task(late, shop)
        return None

    app.get("/")(coloured(stocked, work))

    await answer(app)

    assert len(errors) == 3
    assert all(f"unit_factory({stocked.unit.__name__})" in each for each in errors)


async def test_c4_a_factory_works_after_the_request(stocked: World) -> None:
    """A streaming body opens a unit of its own, and gives its connection back at its end."""
    app, seen = app_of(stocked), []

    async def export(new_shop: Callable[[], Any]) -> AsyncIterator[str]:
        async with awaitable(new_shop()) as shop:
            for book in await shop.books.all():
                seen.append(stocked.checked_out)
                yield f"{book.title} "

    async def work(new_shop: Annotated[Any, unit_factory(stocked.unit)]) -> StreamingResponse:
        return StreamingResponse(export(new_shop))

    app.get("/")(coloured(stocked, work))

    response = await answer(app)

    assert response.text == "Emma Persuasion "
    assert seen == [1, 1]
    assert await until(lambda: stocked.checked_out == 0)


async def test_c5_a_stream_holds_no_connection_between_batches(stocked: World) -> None:
    """On a unit of a factory that reads without a block, however slow its client is."""
    app = app_of(stocked)
    seen: list[int] = []

    async def export(new_shop: Any) -> AsyncIterator[str]:
        if stocked.driver.is_async:
            async with new_shop.serving() as shop:
                async for book in shop.books.stream(batch=1):
                    seen.append(stocked.checked_out)
                    yield f"{book.title} "
        else:
            with new_shop.serving() as shop:
                for book in shop.books.stream(batch=1):
                    seen.append(stocked.checked_out)
                    yield f"{book.title} "

    async def work(new_shop: Annotated[Any, unit_factory(stocked.unit)]) -> StreamingResponse:
        return StreamingResponse(export(new_shop))

    app.get("/")(coloured(stocked, work))

    assert (await answer(app)).text == "Emma Persuasion "
    assert seen == [0, 0]


async def test_c5_one_unit_opens_block_after_block(stocked: World) -> None:
    """What was read before a block is read again in it."""
    app = app_of(stocked)

    async def work(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> list[int]:
        book = await shop.books.get_one(1)
        stocks = [book.stock]
        for _ in range(2):
            async with stocked.shop().begin() as other:
                (await other.books.get_one(1)).stock -= 1
            async with shop.begin():
                (await shop.books.get_one(1)).stock -= 1
            stocks.append(book.stock)
        return stocks

    app.post("/")(coloured(stocked, work))

    response = await answer(app, method="POST")

    assert response.json() == [5, 3, 1]
    assert rows(stocked, Book) == 2


async def test_c15_a_missing_database_is_a_problem(world: World) -> None:
    """An app that was not started is not checked; its first request tells the fault in the log only."""
    app = FastAPI()
    install(app, {})

    async def count(shop: Annotated[Any, unit_of_work(world.unit)]) -> int:
        return await shop.books.count()

    app.get("/")(coloured(world, count))

    problem = problem_of(await answer(app))

    assert (problem["status"], problem["type"]) == (500, "about:blank")


async def test_c15_mixed_dependency_scopes_share_the_unit(stocked: World) -> None:
    """FastAPI calls a dependency twice if it is asked for in two scopes; it is the same unit all the same."""
    app = app_of(stocked)
    provider = unit_of_work(stocked.unit).dependency
    seen: list[Any] = []

    async def work(
        inner: Annotated[Any, unit_of_work(stocked.unit)], outer: Annotated[Any, Depends(provider, scope="request")]
    ) -> int:
        seen.extend([inner, outer])
        return 1

    app.get("/")(work)

    assert (await answer(app)).status_code == 200
    assert seen[0] is seen[1]
