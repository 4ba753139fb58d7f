"""The name of a route is the one that was declared, whole, whatever a client asks for."""

from typing import Any

import anyio
import httpx2
import pytest
from deps.apps import client_of
from fastapi import APIRouter, FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from fastkit.deps import DirectRoute
from fastkit.middleware import route_template

pytestmark = pytest.mark.anyio


class Noting:
    """An app that notes the route of each request."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.seen: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on, and look afterwards."""
        before = route_template(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            self.seen += [before, route_template(scope)]


async def names(app: Any, *paths: str, method: str = "GET") -> list[str | None]:
    """Return the names of the routes that serve these paths."""
    noting = Noting(app)
    async with client_of(noting) as client:
        for path in paths:
            await client.request(method, path)

    assert noting.seen[::2] == [None] * len(paths)
    return noting.seen[1::2]


async def one(key: int = 0) -> int:
    """Serve a row."""
    return key


def shop(route_class: Any = None) -> FastAPI:
    """Return an app with included routers and mounted apps."""
    app, books, api, mounted, of_tenant = FastAPI(), APIRouter(prefix="/books"), APIRouter(), FastAPI(), FastAPI()
    if route_class:
        books.route_class = route_class
    books.add_api_route("/{key}", one)
    api.include_router(books, prefix="/v1")
    app.include_router(api, prefix="/api")
    app.include_router(books, prefix="/old")
    app.add_api_route("/", one)
    app.add_api_route("/bug/{key}", lambda key: 1 / 0)
    mounted.add_api_route("/rows/{key}", one)
    of_tenant.add_api_route("/rows/{key}", one)
    mounted.include_router(books, prefix="/in")
    app.mount("/admin", mounted)
    app.mount("/tenants/{tenant}", of_tenant)
    return app


@pytest.mark.parametrize("route_class", [None, DirectRoute])
async def test_a_route_has_its_whole_name(route_class: Any) -> None:
    """With the prefixes of the routers through which this request came, and never with a value."""
    paths = [
        "/",
        "/api/v1/books/7",
        "/old/books/7",
        "/bug/7",
        "/admin/rows/7",
        "/admin/in/books/7",
        "/tenants/a/rows/7",
    ]
    found = await names(shop(route_class), *paths)

    assert found == [
        "/",
        "/api/v1/books/{key}",
        "/old/books/{key}",
        "/bug/{key}",
        "/admin/rows/{key}",
        "/admin/in/books/{key}",
        "/rows/{key}",
    ]


async def test_what_no_route_serves_has_no_name() -> None:
    """A client that asks for what is not there makes no name."""
    assert await names(shop(), "/none", "/api/v1/none/3", "/admin/none") == [None, None, None]


async def test_a_proxys_prefix_is_no_part_of_a_name() -> None:
    """`root_path` of the server is where the proxy has put the app."""
    noting = Noting(shop())
    transport = httpx2.ASGITransport(app=noting, root_path="/behind")
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        for path in ("/behind/old/books/1", "/behind/admin/rows/1"):
            await client.get(path)

    assert noting.seen[1::2] == ["/old/books/{key}", "/admin/rows/{key}"]


async def test_starlette_names_its_routes_too() -> None:
    """Nothing of FastAPI is needed."""

    async def see(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    app = Starlette(routes=[Route("/a/{x}", see), Mount("/m", routes=[Route("/b/{y:int}", see)])])

    assert await names(app, "/a/1", "/m/b/2", "/none") == ["/a/{x}", "/m/b/{y}", None]


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8))
def test_no_client_makes_a_new_name(text: str) -> None:
    """Whatever stands in a path, the names are those that the app declares."""
    found = anyio.run(lambda: names(shop(), f"/api/v1/books/{text}", f"/tenants/{text}/rows/{text}", f"/{text}"))

    assert set(found) <= {"/api/v1/books/{key}", "/rows/{key}", None}
