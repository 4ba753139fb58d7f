"""What Starlette says in plain text, and what it would raise again: the outermost layer of an installed app."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from apps import PROBLEM, answer, problem_of, served
from fastapi import FastAPI, HTTPException, WebSocket
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastkit.deps import install
from fastkit.errors import UniqueError
from fastkit.responses._request_id import REQUEST_ID

pytestmark = pytest.mark.anyio

LIMIT = 1000
LARGE = b'{"text": "' + b"a" * LIMIT + b'"}'
JSON = {"content-type": "application/json"}


class Named:
    """A middleware that gives each request an id, and answers with it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        scope[REQUEST_ID] = ("X-Request-ID", "r-1")

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", b"r-1")]
            await send(message)

        await self.app(scope, receive, named)


def shop(**options: Any) -> FastAPI:
    """Return an app that takes a body, and one that is not read."""
    app = FastAPI(**options)
    install(app, {})

    @app.post("/notes")
    async def note(body: dict[str, str]) -> str:
        return "ok"

    @app.post("/unread")
    async def unread() -> str:
        return "ok"

    return app


async def in_chunks() -> AsyncIterator[bytes]:
    """Yield a large body whose length nobody has told."""
    for at in range(0, len(LARGE), 100):
        yield LARGE[at : at + 100]


class TestTooLarge:
    """A body beyond the limit, wherever the limit is."""

    @pytest.mark.parametrize("path", ["/notes", "/unread", "/nowhere"])
    async def test_a_length_that_is_told(self, path: str) -> None:
        """Starlette answers in plain text from outside of every handler; the client reads a problem."""
        app = shop(max_body_size=LIMIT)
        app.add_middleware(Named)

        response = await answer(app, path, "POST", content=LARGE, headers=JSON)

        assert problem_of(response) == {
            "type": "about:blank",
            "title": "Content Too Large",
            "status": 413,
            "detail": "Content Too Large",
            "request_id": "r-1",
        }
        assert response.headers.get_list("x-request-id") == ["r-1"]

    async def test_a_length_that_is_not_told(self) -> None:
        """Chunks are counted; the answer is the same."""
        response = await answer(shop(max_body_size=LIMIT), "/notes", "POST", content=in_chunks(), headers=JSON)

        assert problem_of(response)["status"] == 413

    async def test_the_limit_of_a_route(self) -> None:
        """Its answer runs through the middleware, whose headers stay."""
        app = shop()
        app.add_middleware(Named)
        app.add_middleware(CORSMiddleware, allow_origins=["https://shop.example"])

        @app.post("/small", max_body_size=LIMIT)
        async def small(body: dict[str, str]) -> None: ...

        headers = {**JSON, "origin": "https://shop.example"}
        response = await answer(app, "/small", "POST", content=LARGE, headers=headers)

        assert problem_of(response)["request_id"] == "r-1"
        assert response.headers["access-control-allow-origin"] == "https://shop.example"
        assert response.headers.get_list("x-request-id") == ["r-1"]

    async def test_over_a_wire(self) -> None:
        """A real server sends it, with the right length."""
        async with served(shop(max_body_size=LIMIT)) as (_, client):
            response = await client.post("/notes", content=LARGE, headers=JSON)

        assert problem_of(response)["status"] == 413


async def test_the_word_of_a_middleware_of_starlette() -> None:
    """A host that is not trusted is told so in a problem."""
    app = shop()
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["shop.example"])

    told = problem_of(await answer(app, "/notes", "POST", json={}))

    assert (told["status"], told["detail"]) == (400, "The host of this request is not one of this app.")


class TestMounted:
    """What is mounted answers in its own way, unless its way is Starlette's."""

    async def test_files(self, tmp_path: Path) -> None:
        """Static files know only exceptions, which belong to the app around them."""
        (tmp_path / "a.txt").write_text("a")
        app = shop()
        app.mount("/files", StaticFiles(directory=tmp_path))

        assert (await answer(app, "/files/a.txt")).text == "a"
        assert problem_of(await answer(app, "/files/b.txt"))["status"] == 404
        assert problem_of(await answer(app, "/files/a.txt", "POST"))["status"] == 405

    @pytest.mark.parametrize(("path", "method", "status"), [("/x", "GET", 404), ("/", "POST", 405), ("/", "GET", 500)])
    async def test_an_app_without_handlers(self, path: str, method: str, status: int) -> None:
        """Starlette's plain words for a missing path, a wrong method and a crash; Allow stays."""

        async def fail(request: Request) -> Response:
            raise UniqueError("s3cr3t")

        app = shop()
        app.mount("/bare", Starlette(routes=[Route("/", fail)]))

        response = await answer(app, f"/bare{path}", method)

        assert problem_of(response)["status"] == status
        assert "s3cr3t" not in response.text
        allowed = {*response.headers.get("allow", "").split(", ")}
        assert allowed == ({"GET", "HEAD"} if status == 405 else {""})  # in the order of a set

    async def test_an_app_with_fastkit(self) -> None:
        """An app inside of an app, both installed, answers once, also where its middleware fails."""
        inner, outer = shop(), shop()

        @inner.middleware("http")
        async def fail(request: Request, call_next: Any) -> Response:
            raise HTTPException(403, "no entry")

        outer.mount("/inner", inner)

        assert problem_of(await answer(outer, "/inner/notes"))["detail"] == "no entry"
        assert problem_of(await answer(outer, "/inner/notes", "PUT"))["status"] == 403


class TestWordsOfTheApp:
    """What the app itself answers stays as it is."""

    @pytest.mark.parametrize(
        "made",
        [
            lambda: PlainTextResponse("Not Found, sorry", 404),
            lambda: PlainTextResponse("Content Too Large", 409),
            lambda: PlainTextResponse("Not Found", 200),
            lambda: Response("Not Found", 404, media_type="text/html"),
            lambda: Response(b"", 404),
            lambda: StreamingResponse(iter([b"Not Found", b" here"]), 404, media_type="text/plain"),
        ],
    )
    async def test_it_is_sent_byte_for_byte(self, made: Any) -> None:
        """Other words, another status, another type, more than one piece: none is Starlette's own."""
        app, bare = shop(), FastAPI()
        for each in (app, bare):

            @each.get("/own")
            async def own() -> Response:
                return made()

        installed, stock = await answer(app, "/own"), await answer(bare, "/own")

        assert (installed.status_code, installed.content) == (stock.status_code, stock.content)
        assert installed.headers.raw == stock.headers.raw

    async def test_a_stream_that_fails_before_its_first_word_has_its_status(self) -> None:
        """The start that was held back is sent, and the server breaks the answer off, as without fastkit."""

        async def body() -> AsyncIterator[bytes]:
            raise KeyError("first")
            yield b""

        app, sent = shop(), []

        @app.get("/own")
        async def own() -> Response:
            return StreamingResponse(body(), 404, media_type="text/plain")

        async def send(message: Message) -> None:
            sent.append(message["type"])

        async def receive() -> Message:
            await anyio.sleep_forever()
            raise AssertionError("nothing wakes it")

        scope = {"type": "http", "method": "GET", "path": "/own", "query_string": b"", "headers": []}
        with pytest.raises(KeyError):
            await app(scope, receive, send)

        assert sent == ["http.response.start"]


class TestSettled:
    """A server logs as a crash what an app raises: not what has its answer."""

    async def visit(self, app: FastAPI) -> httpx2.Response:
        """Send a request over a client that raises what the app raises."""
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
            return await client.get("/")

    @pytest.mark.parametrize("exc", [HTTPException(403), UniqueError("taken"), ExceptionGroup("", [UniqueError("x")])])
    async def test_an_error_of_a_middleware_that_has_an_answer_ends(self, exc: Exception) -> None:
        """The 403 of a middleware is an answer, as that of a route is."""

        async def fail(request: Request, call_next: Any) -> Response:
            raise exc

        app = shop()
        app.add_middleware(BaseHTTPMiddleware, dispatch=fail)

        response = await self.visit(app)

        assert (response.status_code, response.headers["content-type"]) in {(403, PROBLEM), (409, PROBLEM)}

    async def test_a_bug_does_not(self) -> None:
        """The server hears of it, and so do the tests of an app."""

        async def fail(request: Request, call_next: Any) -> Response:
            raise KeyError("bug")

        app = shop()
        app.add_middleware(BaseHTTPMiddleware, dispatch=fail)

        with pytest.raises(KeyError):
            await self.visit(app)

    async def test_an_error_after_the_answer_has_begun_does_not(self) -> None:
        """The answer is broken off, so that no client takes it for whole."""

        class Late:
            def __init__(self, app: ASGIApp) -> None:
                self.app = app

            async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
                await send({"type": "http.response.start", "status": 200, "headers": []})
                raise HTTPException(403)

        app = shop()
        app.add_middleware(Late)

        with pytest.raises(HTTPException):
            await self.visit(app)


async def test_a_websocket_passes() -> None:
    """What is no HTTP request is not looked at."""
    app, sent = shop(), []

    @app.websocket("/ws")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(1000)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send)

    assert sent == ["websocket.accept", "websocket.close"]


async def test_installing_twice_wraps_once() -> None:
    """A second call adds units, not layers."""
    app = shop()
    built = app.build_middleware_stack

    install(app, {})

    assert app.build_middleware_stack is built
