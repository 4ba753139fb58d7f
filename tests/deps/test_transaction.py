"""When the client reads 2xx, the data is committed; when it does not, nothing is."""

from typing import Annotated, Any

import pytest
from conftest import World
from deps.apps import (
    Watched,
    answer,
    app_of,
    author,
    client_of,
    coloured,
    problem_of,
    refused_payment,
    rows,
)
from fastapi import APIRouter, BackgroundTasks, FastAPI, HTTPException
from fastapi.responses import JSONResponse

from bookshop.models import Author, Payment
from fastkit.deps import UnitRoute, transaction, unit_of_work

pytestmark = pytest.mark.anyio


def by_hand(world: World, **options: Any) -> FastAPI:
    """Return an app whose endpoint opens a block and commits."""
    app = app_of(world)

    async def create(shop: Annotated[Any, unit_of_work(world.unit)]) -> str:
        async with shop:
            shop.authors.add(author())
            await shop.commit()
        return "stored"

    app.post("/", status_code=201, **options)(coloured(world, create))
    return app


def by_itself(world: World, end: Any = None, **options: Any) -> FastAPI:
    """Return an app whose endpoint leaves the commit to `transaction` and ends by calling *end*."""
    app = app_of(world)

    async def create(shop: Annotated[Any, transaction(world.unit)]) -> Any:
        shop.authors.add(author())
        return end() if end else "stored"

    app.post("/", status_code=201, **options)(coloured(world, create))
    return app


def fail(error: BaseException) -> Any:
    """Raise an error."""
    raise error


@pytest.mark.parametrize("make", [by_hand, by_itself])
async def test_c14_a_commit_is_real_before_the_first_byte(world: World, make: Any) -> None:
    """Another connection finds the row when the response starts."""
    app = Watched(make(world), lambda: (rows(world, Author), world.checked_out))

    response = await answer(app, method="POST")

    assert response.status_code == 201
    assert app.seen == [(1, 0)]


@pytest.mark.parametrize("dependency", [unit_of_work, transaction])
async def test_c14_a_commit_that_fails_is_a_problem_and_stores_nothing(world: World, dependency: Any) -> None:
    """A deferred constraint fails at COMMIT, and the client reads 409, never 201."""
    app = app_of(world)

    async def pay(shop: Annotated[Any, dependency(world.unit)]) -> str:
        async with shop:
            shop.payments.add(refused_payment())
            await shop.commit()
        return "stored"

    app.post("/", status_code=201)(coloured(world, pay))
    watched = Watched(app, lambda: (rows(world, Payment), world.checked_out))

    problem = problem_of(await answer(watched, method="POST"))

    assert (problem["status"], problem["type"]) == (409, "urn:fastkit:problem:foreign-key")
    assert watched.seen == [(0, 0)]


async def test_c14_transaction_fails_in_its_own_commit(world: World) -> None:
    """The endpoint has returned 201 already; its response and its background tasks are dropped."""
    app, ran = app_of(world), []

    async def pay(shop: Annotated[Any, transaction(world.unit)], tasks: BackgroundTasks) -> str:
        shop.payments.add(refused_payment())
        tasks.add_task(ran.append, "mail")
        return "stored"

    app.post("/", status_code=201)(coloured(world, pay))

    problem = problem_of(await answer(app, method="POST"))

    assert problem["status"] == 409
    assert (rows(world, Payment), ran) == (0, [])


async def test_c14_a_failed_commit_leaves_nothing_for_the_next_request(stocked: World) -> None:
    """The next request on the same connection commits its own row, and not the failed one."""
    app = app_of(stocked)

    async def pay(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        async with shop:
            shop.payments.add(refused_payment())
            await shop.commit()

    async def write(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        async with shop.begin():
            shop.authors.add(author())

    app.post("/pay")(coloured(stocked, pay))
    app.post("/write")(coloured(stocked, write))

    async with client_of(app) as client:
        statuses = [(await client.post(path)).status_code for path in ["/pay", "/write"] * 3]

    assert statuses == [409, 200, 409, 409, 409, 409]  # the same author again is a conflict too
    assert (rows(stocked, Author), rows(stocked, Payment)) == (2, 0)


async def test_c14_a_duplicate_is_a_conflict(stocked: World) -> None:
    """A unique constraint answers 409 in the problem document's words, without the value."""
    app = app_of(stocked)

    async def create(shop: Annotated[Any, transaction(stocked.unit)]) -> None:
        shop.authors.add(author("Jane Austen"))

    app.post("/")(coloured(stocked, create))

    response = await answer(app, method="POST")

    assert problem_of(response)["type"] == "urn:fastkit:problem:unique"
    assert response.status_code == 409
    assert "Austen" not in response.text


async def test_c14_the_unit_commits_nothing_by_itself(world: World) -> None:
    """An endpoint that forgets commit() answers 500, and nothing is stored."""
    app = app_of(world)

    async def forget(shop: Annotated[Any, unit_of_work(world.unit)]) -> str:
        async with shop:
            shop.authors.add(author())
        return "stored?"

    app.post("/", status_code=201)(coloured(world, forget))

    problem = problem_of(await answer(app, method="POST"))

    assert problem["type"] == "about:blank"
    assert problem["status"] == 500
    assert rows(world, Author) == 0


async def test_c14_a_change_outside_any_block_is_told(stocked: World) -> None:
    """An endpoint that changes what it read, and opens no block, answers 500 instead of losing it."""
    app = app_of(stocked)

    async def forget(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> str:
        (await shop.authors.get_one(1)).name = "Somebody else"
        return "stored?"

    app.post("/")(coloured(stocked, forget))

    problem = problem_of(await answer(app, method="POST"))

    assert (problem["status"], problem["type"]) == (500, "about:blank")


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (lambda: fail(ValueError("no")), 500),
        (lambda: fail(HTTPException(418, "no")), 418),
        (lambda: fail(SystemError("no")), 500),
    ],
)
async def test_c14_transaction_rolls_back_on_an_exception(world: World, end: Any, status: int) -> None:
    """A bug and an HTTPException both leave nothing behind."""
    problem = problem_of(await answer(by_itself(world, end), method="POST"))

    assert problem["status"] == status
    assert rows(world, Author) == 0


async def test_c14_transaction_rolls_back_when_the_response_is_not_valid(world: World) -> None:
    """A response that does not fit its model is a 500, so its transaction is not stored either."""
    response = await answer(by_itself(world, lambda: "text", response_model=int), method="POST")

    assert response.status_code == 500
    assert rows(world, Author) == 0


async def test_c14_transaction_rolls_back_when_the_request_is_not_valid(world: World) -> None:
    """A value of the request that is refused stores nothing, although another dependency wrote."""
    app = app_of(world)

    async def create(shop: Annotated[Any, transaction(world.unit)], year: int) -> None:
        shop.authors.add(author())

    app.post("/")(coloured(world, create))

    response = await answer(app, "/?year=MDCCC", "POST")

    assert response.status_code == 422
    assert rows(world, Author) == 0


@pytest.mark.parametrize(("route_class", "stored"), [(None, 1), (UnitRoute, 0)])
async def test_c14_a_returned_error_response_rolls_back_only_on_unit_route(
    world: World, route_class: Any, stored: int
) -> None:
    """Starlette takes a returned 400 for a success; `UnitRoute` does not."""
    router = APIRouter(route_class=route_class) if route_class else APIRouter()

    async def create(shop: Annotated[Any, transaction(world.unit)]) -> JSONResponse:
        shop.authors.add(author())
        return JSONResponse({}, 400)

    router.post("/")(coloured(world, create))
    app = app_of(world)
    app.include_router(router)

    response = await answer(app, method="POST")

    assert response.status_code == 400
    assert rows(world, Author) == stored


async def test_c14_unit_route_commits_a_good_response(world: World) -> None:
    """A route of class `UnitRoute` is an ordinary route as long as all is well."""
    app = app_of(world)
    app.router.route_class = UnitRoute

    async def create(shop: Annotated[Any, transaction(world.unit)]) -> None:
        shop.authors.add(author())

    app.post("/", status_code=201)(coloured(world, create))

    response = await answer(app, method="POST")

    assert response.status_code == 201
    assert rows(world, Author) == 1


@pytest.mark.parametrize(("verb", "stored"), [("commit", 1), ("rollback", 0)])
async def test_c14_unit_route_leaves_alone_what_the_endpoint_ended(world: World, verb: str, stored: int) -> None:
    """An endpoint that ends its block by hand and then returns an error gets its error, not a 500."""
    app = app_of(world)
    app.router.route_class = UnitRoute

    async def create(shop: Annotated[Any, transaction(world.unit)]) -> JSONResponse:
        shop.authors.add(author())
        await getattr(shop, verb)()
        return JSONResponse({}, 409)

    app.post("/")(coloured(world, create))

    response = await answer(app, method="POST")

    assert rows(world, Author) == stored
    assert response.status_code == 409


async def test_c14_a_service_joins_transaction(world: World) -> None:
    """A block inside `transaction` joins: its commit() flushes, and a later error takes it back."""
    app = app_of(world)

    async def create(shop: Annotated[Any, transaction(world.unit)]) -> None:
        async with shop:
            shop.authors.add(author())
            await shop.commit()
        raise HTTPException(418)

    app.post("/")(coloured(world, create))

    response = await answer(app, method="POST")

    assert response.status_code == 418
    assert rows(world, Author) == 0
