"""`DirectRoute`: what a client reads is what it reads of `UnitRoute`, byte for byte."""

import asyncio
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import anyio
import httpx2
import pytest
from conftest import World
from deps.apps import Limited, answer, app_of, client_of, rows, started
from deps.twin_apps import PAGES, BookOut, NewAuthor, app_with, tenant
from fastapi import APIRouter, Body, Depends, FastAPI, Form, routing
from fastapi.routing import APIRoute, iter_route_contexts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import DRIVERS
from sqlalchemy import delete
from starlette.requests import Request

from bookshop.models import Author
from fastkit.deps import DirectRoute, UnitRoute, direct, transaction, unit_of_work
from fastkit.deps.units import _leave_unit, entering
from fastkit.errors import UnitClosedError
from fastkit.pages import Page, PageQuery
from fastkit.repository._projection import Projection
from fastkit.uow import UnitOfWork

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "driver", [each for each in DRIVERS if each.name in {"sqlite+aiosqlite", "postgresql+asyncpg"}], indirect=True
    ),
]

JSON = {"content-type": "application/json"}
READS = [
    *("/books/1", "/books/2", "/books/404", "/books/one", "/books/1?n=1", "/objects/1", "/objects/1?n=10"),
    *(
        "/objects/404?n=10",
        "/objects/404?n=x",
        "/objects/x?n=y",
        "/books",
        "/books?size=1&page=2",
        "/books?page=0&size=x",
    ),
    *("/books?tilte=a", "/books?a=1&b=2&page=x", "/books?title=mma&language=en&language=de", "/books?price_min=x"),
    *("/books?price_min=9&price_max=11&sort=-title", "/books?sort=nothing", "/books?sort=title,title"),
    *("/books?price_min=11&price_max=9", "/pages", "/pages?more=yes", "/pages?more=maybe&size=99", "/windows?size=1"),
    *("/windows?cursor=forged", "/windows?page=1", "/services/1", "/services/404?times=2", "/services/1?times=0"),
    *("/slices", "/slices?size=1", "/slices?page=2&size=1", "/slices?page=9", "/pages?page=9", "/pages?sort=-title"),
    *(f"/pages/{each}" for each in (*PAGES, "shouted")),
    *("/services/x?times=0", "/factory", "/shared/1", "/shared/404", "/books/99999999999999999999", "/books/1%00"),
]
PLAIN = [
    *("/plain/1", "/plain/x?day=never&many=1&many=two", "/plain/1?many=1&many=2&day=2021-02-03T04:05:06Z"),
    *("/request", "/bare", "/wrong/1", "/wrong/x", "/boom", "/text", "/heads", "/nothing", "/nowhere"),
]
STOCK = [
    "tasks",
    "response",
    "class",
    "yields",
    "requests",
    "requests?n=2",
    "connections",
    "secret",
    "uncached",
    "sync",
    "stream",
    "limited",
]
WRITES: list[tuple[str, dict[str, Any]]] = [
    *[
        ("POST", {"json": {"id": 500, "name": "Sappho", "extra": 1}, "params": {"end": end}})
        for end in ("", "raise", "boom", "returned", "refused", "wrong")
    ],
    ("POST", {"json": {"id": "five", "extra": 1}}),
    ("POST", {"json": {"id": 500, "name": "S", "kind": "x"}}),
    ("POST", {"json": {"id": 500, "name": "Jane Austen"}}),
    ("POST", {"json": {"id": 500, "name": "Sappho", "refused": True}}),
    ("POST", {"json": [1]}),
    ("POST", {"json": None}),
    ("POST", {"content": b"{", "headers": JSON}),
    ("POST", {"content": b"\xff\xfe\x00", "headers": JSON}),
    ("POST", {"content": b"[" * 100_000, "headers": JSON}),
    ("POST", {"content": b"", "headers": JSON}),
    ("POST", {}),
    ("POST", {"content": b'{"id": 500, "name": "Sappho"}'}),
    ("POST", {"content": b'{"id": 500, "name": "Sappho"}', "headers": {"content-type": "text/plain"}}),
    ("POST", {"content": b'{"id": 500, "name": "Sappho"}', "headers": {"content-type": "application/vnd.x+json"}}),
    ("POST", {"content": b'{"id": 500, "name": "Sappho"}', "headers": {"content-type": "application/json; charset=a"}}),
    ("POST", {"data": {"id": "500", "name": "Sappho"}}),
    ("PATCH", {}),
    ("PATCH", {"json": {"id": 1, "name": "Ovid"}}),
    ("PATCH", {"content": b"", "headers": JSON}),
]


@pytest.fixture
def twins(stocked: World) -> tuple[FastAPI, FastAPI]:
    """Return the app with the routes that are known to be right, and the one that is to answer the same."""
    return app_with(stocked, UnitRoute), app_with(stocked, DirectRoute)


def shown(response: httpx2.Response) -> Any:
    """Return all of a response, but for what differs each time."""
    names = re.compile(rb'"reference":"[0-9a-f]{16}"')
    return response.status_code, response.headers.multi_items(), names.sub(b'"reference":""', response.content)


async def agreed(twins: tuple[FastAPI, FastAPI], path: str, method: str = "GET", **options: Any) -> Any:
    """Return what both apps answer, and check that it is the same."""
    stock, direct = [shown(await answer(app, path, method, **options)) for app in twins]
    assert direct == stock, f"{method} {path} {options}"
    return stock


@contextmanager
def without_stock(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let FastAPI's own handler fail."""

    async def solve(**_: Any) -> None:
        raise AssertionError("this was to be served directly")

    with monkeypatch.context() as patch:
        patch.setattr("fastapi.routing.solve_dependencies", solve)
        yield


def made(app: FastAPI) -> FastAPI:
    """Return an app after its included routes have been made."""
    assert [each.path for each in iter_route_contexts(app.routes)]
    return app


async def test_reads_are_the_same(twins: tuple[FastAPI, FastAPI]) -> None:
    """Whatever is asked, on the app and in included routers, by whoever."""
    for path in READS:
        for prefix in ("", "/inner", "/v1/outer/more/inner"):
            await agreed(twins, prefix + path)
    for headers in ({"x-tenant": "evil"}, {"x-tenant": "too long"}, {"x-tenant": "me"}):
        for path in ("/inner/books/1", "/inner/books/404", "/services/1", "/v1/outer/more/inner/books?tilte=a"):
            await agreed(twins, path, headers=headers)


async def test_a_route_that_is_made_while_another_one_is_included_is_its_own(world: World) -> None:
    """What FastAPI tells about an included route is about that one only."""
    others: list[DirectRoute] = []

    async def inner() -> str:
        return "inner"

    async def outer() -> str:
        return "outer"

    class Making(DirectRoute):
        def get_route_handler(self) -> Any:
            if routing._effective_route_context_var.get() is not None and not others:
                others.append(DirectRoute("/inner", inner))
            return super().get_route_handler()

    app, router = FastAPI(), APIRouter(route_class=Making)
    router.get("/outer")(outer)
    app.include_router(router)
    assert [each.path for each in iter_route_contexts(app.routes)]
    app.router.routes.extend(others)

    assert (await answer(app, "/outer")).json() == "outer"
    assert (await answer(app, "/inner")).json() == "inner"


async def test_whatever_needs_no_unit_is_the_same(twins: tuple[FastAPI, FastAPI]) -> None:
    """Parameters of all kinds, results of all kinds, errors of all kinds."""
    for path in PLAIN:
        for prefix in ("", "/v1/outer"):
            for method in ("GET", "HEAD", "DELETE", "OPTIONS"):
                await agreed(twins, prefix + path, method, headers={"cookie": "session=s; session=t", "x-tenant": "me"})
                await agreed(twins, prefix + path, method)
    for path in STOCK:
        await agreed(twins, f"/stock/{path}", headers={"authorization": "Bearer x"})


@pytest.mark.parametrize("prefix", ["", "/v1/outer/more/inner"])
async def test_writes_are_the_same(stocked: World, twins: tuple[FastAPI, FastAPI], prefix: str) -> None:
    """The answer, and what is stored afterwards."""
    for method, options in WRITES:
        seen = []
        for app in twins:
            seen.append((shown(await answer(app, f"{prefix}/authors", method, **options)), rows(stocked, Author)))
            await forget_authors(stocked)
        assert seen[0] == seen[1], (method, options)
    for body in ({"new": {"id": 1, "name": "Ovid", "extra": 1}, "n": 1}, {"new": {}, "n": "x"}, {"n": 1}, [], None):
        seen = []
        for app in twins:
            seen.append((shown(await answer(app, f"{prefix}/authors/700", "PUT", json=body)), rows(stocked, Author)))
            await forget_authors(stocked)
        assert seen[0] == seen[1], body


async def forget_authors(world: World) -> None:
    """Delete the authors that were made on the way."""
    async with world.shop() as shop:
        await shop.session.execute(delete(Author).where(Author.id >= 100))
        await shop.commit()


async def test_writes_do_what_they_are_to_do(stocked: World, twins: tuple[FastAPI, FastAPI]) -> None:
    """That both are the same says nothing if both are wrong."""
    direct, new = twins[1], {"id": 500, "name": "Sappho"}
    expected = {"raise": 400, "boom": 500, "returned": 400, "refused": 409, "wrong": 500}
    for end, status in expected.items():
        assert (await answer(direct, f"/authors?end={end}", "POST", json=new)).status_code == status
        assert rows(stocked, Author) == 1
    assert (await answer(direct, "/authors", "POST", json=new)).status_code == 201
    assert rows(stocked, Author) == 2
    assert (await answer(direct, "/shared/1")).json() == [True] * 5
    assert stocked.checked_out == 0


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["title", "language", "price_min", "price_max", "sort", "page", "size", "cursor", "x", ""]),
            st.sampled_from(["", "0", "1", "2", "50", "51", "-1", "1e3", "nan", "title", "-price", "a,b", "é", "\x00"])
            | st.text(max_size=4),
        ),
        max_size=5,
    )
)
async def test_lists_are_the_same_for_any_query(
    twins: tuple[FastAPI, FastAPI], parameters: list[tuple[str, str]]
) -> None:
    """Known, unknown and repeated parameters, with values of all kinds."""
    query = urlencode(parameters, errors="replace")
    await agreed(twins, f"/books?{query}")
    await agreed(twins, f"/windows?{query}")


async def test_the_schema_is_the_same(stocked: World, twins: tuple[FastAPI, FastAPI]) -> None:
    """The OpenAPI document, and the checks when the app starts."""
    assert twins[0].openapi() == twins[1].openapi()
    async with started(twins[1]):
        assert (await answer(twins[1], "/books/1")).status_code == 200


async def test_what_is_understood_is_served_directly(
    monkeypatch: pytest.MonkeyPatch, twins: tuple[FastAPI, FastAPI]
) -> None:
    """FastAPI's own handler is not asked for a valid request, and is for any other."""
    direct = made(twins[1])
    valid = ["/books/1", "/books/404", "/objects/1", "/books?size=1", "/pages", "/windows", "/services/1", "/shared/1"]
    paths = [prefix + path for path in valid for prefix in ("", "/inner", "/v1/outer/more/inner")]
    paths += [
        prefix + path
        for path in ("/plain/1?many=1", "/request", "/bare", "/text", "/heads")
        for prefix in ("", "/v1/outer")
    ]
    with without_stock(monkeypatch):
        for path in paths:
            assert (await answer(direct, path)).status_code < 500, path
        sent = {"id": 500, "name": "Sappho"}
        assert (await answer(direct, "/authors", "POST", json=sent)).status_code == 201
        assert (
            await answer(direct, "/inner/authors/600", "PUT", json={"new": {**sent, "name": "Ovid"}, "n": 1})
        ).is_success
        left = ["/books/x", "/pages?size=x", "/services/1?times=0", *(f"/stock/{each}" for each in STOCK)]
        for path in left:
            response = await answer(direct, path, headers={"authorization": "Bearer x"})
            assert response.status_code == 500, path
        assert (await answer(direct, "/authors", "POST", content=b"{}")).status_code == 500


async def test_pages_are_json_already(monkeypatch: pytest.MonkeyPatch, twins: tuple[FastAPI, FastAPI]) -> None:
    """No response model is made of a row where the route declares the page that it returns, and nobody looks at it."""
    direct = made(twins[1])
    given = ["/pages", "/pages?title=mma", "/slices?size=1", "/windows?size=1", "/pages/given", "/pages/response"]
    looked_at = ["/pages/changed", "/pages/converted", "/pages/slice", "/pages/inside", "/pages/mapped", "/pages/names"]
    with monkeypatch.context() as patch:
        patch.setattr(Projection, "_made", None)
        for path in given:
            for prefix in ("", "/inner"):
                assert (await answer(direct, prefix + path)).is_success, path
        for path in looked_at:
            assert (await answer(direct, path)).status_code == 500, path


async def test_a_task_that_outlives_the_request_reads_as_ever(stocked: World) -> None:
    """Though it has the context of the endpoint that started it."""
    app, answered, tasks = app_of(stocked), asyncio.Event(), []
    app.router.route_class = DirectRoute

    async def later() -> Any:
        await answered.wait()
        async with stocked.serving() as shop:
            return await shop.books.into(BookOut).page(PageQuery())

    @app.get("/pages")
    async def start(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> Page[BookOut]:
        tasks.append(asyncio.create_task(later()))
        page: Page[BookOut] = await shop.books.into(BookOut).page(PageQuery())
        return page

    assert (await answer(app, "/pages")).is_success
    answered.set()
    assert type(await tasks[0]) is Page


async def test_overrides_are_honoured(stocked: World, twins: tuple[FastAPI, FastAPI]) -> None:
    """On the app, in included routers, and no longer when they are gone."""

    async def other() -> str:
        return "other"

    for app in twins:
        app.dependency_overrides[tenant] = other
    for path in ("/plain/1", "/v1/outer/plain/1", "/inner/services/1"):
        assert b"other" in (await agreed(twins, path, headers={"x-tenant": "evil"}))[2]
    for app in twins:
        app.dependency_overrides.clear()
    assert (await agreed(twins, "/plain/1", headers={"x-tenant": "evil"}))[0] == 403


def replaced(name: str) -> Any:
    """Return a change of FastAPI such as an instrumentation makes."""

    def change(patch: pytest.MonkeyPatch) -> None:
        original = getattr(routing, name)

        async def instrumented(*args: Any, **kwargs: Any) -> Any:
            return await original(*args, **kwargs)

        patch.setattr(routing, name, instrumented)

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(replaced(each) for each in ("solve_dependencies", "run_endpoint_function", "serialize_response")),
        *(
            lambda patch, each=each: patch.setitem(direct._NEEDED, each, ("fastapi.utils", "gone"))
            for each in direct._NEEDED
        ),
        lambda patch: patch.setattr(routing, "serialize_response", partial(routing.serialize_response)),
        lambda patch: patch.setitem(direct._NEEDED, "telemetry", ("fastapi.gone", "get_telemetry_data")),
        lambda patch: patch.setattr(direct, "_UNDERSTOOD", direct._UNDERSTOOD - {"path_params"}),
    ],
)
async def test_another_fastapi_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stocked: World, change: Any
) -> None:
    """Where a name is missing, or new, or something is in its place, FastAPI's own handler serves; the log says so."""
    app = app_of(stocked)
    app.router.route_class = DirectRoute
    with monkeypatch.context() as patch, caplog.at_level(logging.DEBUG, "fastkit.deps"):
        change(patch)
        app.get("/{n}")(show_number)

    assert "FastAPI's own handler serves /{n}: " in caplog.text
    assert (await answer(app, "/1")).content == b"1"
    with without_stock(monkeypatch):
        assert (await answer(app, "/1")).status_code == 500


async def test_a_request_that_is_traced_is_left_alone(monkeypatch: pytest.MonkeyPatch, stocked: World) -> None:
    """FastAPI's telemetry sees the dependencies, the endpoint and the values as they are."""
    app, traced = app_of(stocked), [object(), None]
    app.router.route_class = DirectRoute
    with monkeypatch.context() as patch:
        patch.setattr("fastapi.telemetry.get_telemetry_data", traced.pop)
        app.get("/{n}")(show_number)
    with without_stock(monkeypatch):
        assert [(await answer(app, "/1")).status_code for _ in range(2)] == [200, 500]


async def show_number(n: int) -> int:
    """Return a number."""
    return n


async def test_a_wrapped_handler_is_used(stocked: World) -> None:
    """A class below and one above each see every request."""
    seen = []

    class Looking(APIRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def looking(request: Any) -> Any:
                seen.append(type(self))
                return await handle(request)

            return looking

    class Below(DirectRoute, Looking): ...

    class Above(Looking, DirectRoute): ...

    app = app_of(stocked)
    for route_class in (Below, Above):
        app.router.route_class = route_class
        app.get(f"/{route_class.__name__}")(tenant)
        assert (await answer(app, f"/{route_class.__name__}")).json() == "none"
    assert seen == [Below, Above]


async def test_a_request_of_another_class_is_left_alone(monkeypatch: pytest.MonkeyPatch, stocked: World) -> None:
    """A route class of the app may read the body in its own way."""

    class Shouted(Request):
        async def body(self) -> bytes:
            return (await super().body()).upper()

    class Shouting(DirectRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def shouting(request: Any) -> Any:
                return await handle(Shouted(request.scope, request.receive))

            return shouting

    app = app_of(stocked)
    app.router.route_class = Shouting

    @app.post("/")
    async def echo(said: dict[str, str]) -> dict[str, str]:
        return said

    assert (await answer(app, "/", "POST", json={"a": "b"})).json() == {"A": "B"}
    with without_stock(monkeypatch):
        assert (await answer(app, "/", "POST", json={"a": "b"})).status_code == 500


async def test_a_unit_that_outlives_the_response_is_left_alone(monkeypatch: pytest.MonkeyPatch, stocked: World) -> None:
    """Without the scope of a function, it is FastAPI that ends it, later."""
    app, unit = app_of(stocked), unit_of_work(stocked.unit).dependency
    app.router.route_class = DirectRoute

    @app.get("/")
    async def count(shop: Annotated[Any, Depends(unit)]) -> int:
        return int(await shop.books.count())

    assert (await answer(app, "/")).json() == 2
    with without_stock(monkeypatch):
        assert (await answer(app, "/")).status_code == 500


async def test_a_form_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stocked: World
) -> None:
    """Whatever a client says that it sends."""
    monkeypatch.setattr("fastapi.dependencies.utils.ensure_multipart_is_installed", lambda: None)
    app = app_of(stocked)
    app.router.route_class = DirectRoute

    async def create(name: Annotated[str, Form()]) -> str:
        return name

    with caplog.at_level(logging.DEBUG, "fastkit.deps"):
        app.post("/form")(create)
    assert "FastAPI's own handler serves /form: It takes a form." in caplog.text


async def test_one_function_in_two_scopes_is_called_as_often(stocked: World) -> None:
    """As by FastAPI, which keeps what it gave for each scope."""
    calls: list[Any] = []

    async def called() -> int:
        calls.append(True)
        return len(calls)

    answers = []
    for route_class in (UnitRoute, DirectRoute):
        app = app_of(stocked)
        app.router.route_class = route_class

        @app.get("/")
        async def numbers(
            one: Annotated[int, Depends(called)],
            again: Annotated[int, Depends(called)],
            other: Annotated[int, Depends(called, scope="function")],
        ) -> list[int]:
            return [one, again, other]

        answers.append((await answer(app, "/")).json())
        calls.clear()
    assert answers[0] == answers[1]


async def test_a_dependency_that_is_added_later_is_called(stocked: World) -> None:
    """Some libraries add to a route that exists."""
    app = app_of(stocked)
    app.router.route_class = DirectRoute
    app.get("/plain")(show_number)
    app.get("/other", dependencies=[Depends(tenant)])(show_number)
    plain, other = (each for each in app.routes if isinstance(each, APIRoute))
    plain.dependant.dependencies.extend(other.dependant.dependencies)

    assert (await answer(app, "/plain?n=1", headers={"x-tenant": "evil"})).status_code == 403


async def test_a_body_that_is_shared_with_a_dependency(monkeypatch: pytest.MonkeyPatch, stocked: World) -> None:
    """Each takes a field of it, and none the whole."""
    app = app_of(stocked)
    app.router.route_class = DirectRoute

    async def number(n: Annotated[int, Body()]) -> int:
        return n

    @app.post("/")
    async def create(new: dict[str, Any], n: Annotated[int, Depends(number)]) -> list[Any]:
        return [new, n]

    with without_stock(monkeypatch):
        assert (await answer(app, "/", "POST", json={"new": {"a": 1}, "n": 2})).json() == [{"a": 1}, 2]
    assert (await answer(app, "/", "POST", json={"a": 1})).status_code == 422


async def test_a_sync_unit_is_left_alone(stocked: World) -> None:
    """It waits for its turn, and is made in a thread."""

    class Plain(UnitOfWork): ...

    assert [entering(each(Plain).dependency) for each in (unit_of_work, transaction)] == [None, None]
    assert None not in [entering(each(stocked.unit).dependency) for each in (unit_of_work, transaction)]


async def test_an_endpoint_that_is_replaced_later_is_called(stocked: World) -> None:
    """As an instrumentation does it."""
    app = app_of(stocked)
    app.router.route_class = DirectRoute
    app.get("/")(show_number)
    (route,) = (each for each in app.routes if isinstance(each, APIRoute))

    async def replaced(n: int) -> int:
        return -n

    route.dependant.call = replaced
    assert (await answer(app, "/?n=1")).json() == -1


@pytest.mark.parametrize("limit", [anyio.move_on_after, asyncio.timeout])
@pytest.mark.parametrize("dependency", [unit_of_work, transaction])
async def test_a_cancelled_request_gives_its_connection_back(stocked: World, dependency: Any, limit: Any) -> None:
    """A request that takes too long, as timeout middleware ends it, stores nothing and keeps nothing."""
    app = app_of(stocked)
    app.router.route_class = DirectRoute

    @app.post("/")
    async def create(shop: Annotated[Any, dependency(stocked.unit)]) -> None:
        async with shop.begin():
            shop.authors.add(Author(id=500, name="Sappho"))
            await shop.session.flush()
            await anyio.sleep(5)

    for _ in range(3):
        await Limited(app, lambda: limit(0.2))(scope_of(), said(b"", "http.request"), swallow)
    assert stocked.checked_out == 0
    assert rows(stocked, Author) == 1


@pytest.mark.parametrize("route_class", [UnitRoute, DirectRoute])
async def test_a_cancellation_waits_for_the_hooks_after_a_commit(stocked: World, route_class: Any) -> None:
    """What is to happen after a commit happens, and the response is not sent to whoever has gone."""
    app, done, sent = app_of(stocked), [], []
    app.router.route_class = route_class

    async def slowly() -> None:
        await anyio.sleep(0.5)
        done.append(True)

    @app.post("/")
    async def create(shop: Annotated[Any, transaction(stocked.unit)]) -> None:
        shop.authors.add(Author(id=500, name="Sappho"))
        shop.after_commit(slowly)

    async def send(message: Any) -> None:
        sent.append(message)

    await Limited(app, lambda: anyio.move_on_after(0.2))(scope_of(), said(b"", "http.request"), send)
    assert (done, sent) == ([True], [])
    assert rows(stocked, Author) == 2


async def test_a_client_that_goes_while_it_sends_is_the_same(twins: tuple[FastAPI, FastAPI]) -> None:
    """The body is read once, and what happens then is what happens to FastAPI's own handler."""
    answers = []
    for app in twins:
        sent: list[Any] = []

        async def send(message: Any, sent: list[Any] = sent) -> None:
            sent.append(message)

        await app(scope_of("/authors"), said(b"{", "http.request", "http.disconnect"), send)
        answers.append(sent)
    assert answers[0] == answers[1]
    assert answers[0][0]["status"] == 400


async def test_a_body_that_is_too_large_is_the_same(stocked: World) -> None:
    """FastAPI's limit answers 413, whoever reads."""
    answers = []
    for route_class in (UnitRoute, DirectRoute):
        app = app_of(stocked, max_body_size=10)
        app.router.route_class = route_class

        @app.post("/")
        async def create(new: NewAuthor) -> str:
            return new.name

        async def chunks() -> Any:
            yield b'{"id": 1, '
            yield b'"name": "Sappho"}'

        answers.append(shown(await answer(app, "/", "POST", content=chunks(), headers=JSON)))
        answers.append(shown(await answer(app, "/", "POST", json={"id": 1, "name": "Sappho"})))
    assert answers[:2] == answers[2:]
    assert answers[0][0] == 413


async def test_many_at_once_hold_no_connection(stocked: World, twins: tuple[FastAPI, FastAPI]) -> None:
    """Requests side by side have units of their own."""
    async with client_of(twins[1]) as client, anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(client.get, "/objects/1")
    assert stocked.checked_out == 0


def scope_of(path: str = "/") -> Any:
    """Return a POST of JSON."""
    headers = [(b"content-type", b"application/json")]
    return {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "root_path": ""}


def said(body: bytes, *kinds: str) -> Any:
    """Return what gives these messages, the first with a part of a body, and nothing more."""
    messages = iter([{"type": kind, "body": body, "more_body": len(kinds) > 1} for kind in kinds])

    async def receive() -> Any:
        for message in messages:
            return message
        pytest.fail("there is nothing more to read")

    return receive


async def swallow(message: Any) -> None:
    """Send nothing to nobody."""


@pytest.mark.parametrize("route_class", [APIRoute, UnitRoute, DirectRoute])
@pytest.mark.parametrize("ends", ["well", "badly"])
async def test_a_unit_ends_with_its_request(stocked: World, route_class: Any, ends: str) -> None:
    """What was left open is rolled back, its connection is given back, and the unit refuses all use."""
    app, units = app_of(stocked), []
    app.router.route_class = route_class

    async def leave_open(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        units.append(shop)
        await shop.begin().__aenter__()
        await shop.authors.get_one(1)
        assert stocked.checked_out == 1
        if ends == "badly":
            raise LookupError

    app.get("/")(leave_open)

    response = await answer(app)

    assert response.status_code == (200 if ends == "well" else 500)
    assert stocked.checked_out == 0
    with pytest.raises(UnitClosedError):
        await units[0].authors.get(1)


@pytest.mark.parametrize("route_class", [APIRoute, UnitRoute, DirectRoute])
async def test_what_was_changed_outside_a_block_is_told(stocked: World, route_class: Any) -> None:
    """It would be lost, and the client would be told that all is well."""
    app = app_of(stocked)
    app.router.route_class = route_class

    async def change(shop: Annotated[Any, unit_of_work(stocked.unit)]) -> None:
        (await shop.authors.get_one(1)).name = "Somebody"

    app.get("/")(change)

    assert (await answer(app)).status_code == 500
    assert stocked.checked_out == 0


@pytest.mark.parametrize("waited", [True, False])
async def test_no_response_after_an_end_that_was_cancelled(stocked: World, waited: bool) -> None:
    """The end of a unit is shielded: if it waited, the cancellation arrives after it, before the response is sent."""

    class Served:
        async def _end_of_owner(self, _: BaseException | None) -> bool:
            return waited

    arrived = True
    with anyio.CancelScope() as scope:
        scope.cancel()
        await _leave_unit(Served(), None, None, None)
        arrived = False
    assert arrived is waited
