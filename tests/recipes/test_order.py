"""The order of middleware: what is on which answer, and which answers are problem documents."""

import asyncio
import gzip
from pathlib import Path
from typing import Annotated, Any

import httpx2
import pytest
from fastapi import Body, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from recipes.page import ORIGIN, client, loaded

from fastkit.errors import NotFoundError
from fastkit.responses._request_id import REQUEST_ID

PROBLEM = "application/problem+json"


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the code of the page makes."""
    return loaded(tmp_path, monkeypatch)


@pytest.fixture
def made(recipes: Any) -> Any:
    """Return the app of the page with endpoints that fail in all ways."""
    app = recipes.create_app()

    @app.get("/missing")
    async def missing() -> None:
        raise NotFoundError("Book")

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("a bug")

    @app.post("/read")
    async def read(body: Annotated[Any, Body()]) -> int:
        return len(body)

    @app.post("/unread")
    async def unread() -> None: ...

    @app.get("/long")
    async def long() -> list[str]:
        return ["row"] * 1000

    @app.get("/long-problem")
    async def long_problem() -> None:
        raise NotFoundError("Book" * 1000)

    recipes.app, recipes.served = app, recipes.around(app)
    return recipes


def ask(app: Any, path: str, method: str = "GET", base_url: str = "https://shop.example", **options: Any) -> Any:
    """Return the answer to one request of a browser on another site."""

    async def visit() -> httpx2.Response:
        async with client(app, base_url) as asking:
            return await asking.request(method, path, **options)

    return asyncio.run(visit())


def is_problem(response: httpx2.Response) -> bool:
    """Return whether an answer is a problem document."""
    return response.headers.get("content-type") == PROBLEM and response.json()["status"] == response.status_code


JSON = {"content-type": "application/json"}
BIG = b'"' + b"x" * 1_000_001 + b'"'
ANSWERS = [
    ("GET", "/missing", {}, 404),
    ("GET", "/nowhere", {}, 404),
    ("POST", "/missing", {}, 405),
    ("POST", "/read", {"content": b"{", "headers": JSON}, 422),
    ("GET", "/bug", {}, 500),
    ("POST", "/read", {"content": BIG, "headers": JSON}, 413),
    ("POST", "/unread", {"content": BIG}, 413),
    ("GET", "/missing", {"headers": {"host": "evil.example"}}, 400),
]


@pytest.mark.parametrize(("method", "path", "options", "status"), ANSWERS)
def test_every_answer_has_its_headers(made: Any, method: str, path: str, options: Any, status: int) -> None:
    """Each error, wherever it is answered, is a problem document with CORS headers and a request id."""
    response = ask(made.served, path, method, **options)

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "X-Request-ID" in response.headers["access-control-expose-headers"]
    assert len(response.headers.get_list("x-request-id")) == 1
    assert is_problem(response)


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [("GET", "/bug", {}), ("POST", "/unread", {"content": BIG})],
)
def test_in_the_list_cors_misses_what_starlette_answers(made: Any, method: str, path: str, options: Any) -> None:
    """That is why it stands around the app."""
    app: FastAPI = made.app
    app.add_middleware(CORSMiddleware, allow_origins=[ORIGIN])
    missing = ask(app, "/missing")
    response = ask(app, path, method, **options)

    assert missing.headers["access-control-allow-origin"] == ORIGIN
    assert "access-control-allow-origin" not in response.headers


def test_in_the_list_the_request_id_is_on_every_answer(made: Any) -> None:
    """Also on what is answered outside of the list: once, and the same as in the document."""
    made.app.add_middleware(made.RequestIdMiddleware)
    answers = [ask(made.app, "/missing"), ask(made.app, "/bug"), ask(made.app, "/unread", "POST", content=BIG)]

    assert [each.status_code for each in answers] == [404, 500, 413]
    assert all(each.headers.get_list("x-request-id") == [each.json()["request_id"]] for each in answers)


def test_a_preflight_is_answered_outside_of_everything(made: Any) -> None:
    """An allowed one is 200 even without TLS; a refused one is 400 in plain text."""
    wanted = {"access-control-request-method": "PUT", "access-control-request-headers": "if-match"}
    allowed = ask(made.served, "/read", "OPTIONS", headers=wanted)
    refused = ask(made.served, "/read", "OPTIONS", headers={**wanted, "origin": "https://evil.example"})

    assert (allowed.status_code, refused.status_code) == (200, 400)
    assert "PUT" in allowed.headers["access-control-allow-methods"]
    assert not is_problem(refused)
    assert refused.headers["content-type"].startswith("text/plain")


def test_the_redirect_keeps_the_method_and_stays_at_home(made: Any) -> None:
    """A plain request goes to the same host with TLS; one that names a foreign host is refused, not redirected."""
    redirected = ask(made.served, "/read?x=1", "POST", base_url="http://api.shop.example", content=b"1")
    refused = ask(made.served, "/", base_url="http://shop.example", headers={"host": "evil.example"})

    assert redirected.status_code == 307
    assert redirected.headers["location"] == "https://api.shop.example/read?x=1"
    assert redirected.headers["access-control-allow-origin"] == ORIGIN
    assert (refused.status_code, "location" in refused.headers) == (400, False)


def test_long_answers_are_compressed_problem_documents_too(made: Any) -> None:
    """Short ones are not."""
    answers = {path: ask(made.served, path) for path in ("/long", "/long-problem", "/missing")}
    encodings = {path: response.headers.get("content-encoding") for path, response in answers.items()}

    assert encodings == {"/long": "gzip", "/long-problem": "gzip", "/missing": None}
    assert is_problem(answers["/long-problem"])
    assert len(gzip.compress(answers["/long"].content)) < 1000


def test_bytes_are_counted_as_they_come(made: Any) -> None:
    """A client that does not say how long its body is cannot send more."""

    async def endless() -> Any:
        for _ in range(30):
            yield b"x" * 100_000

    async def visit() -> httpx2.Response:
        async with client(made.served) as asking:
            return await asking.post("/read", content=endless(), headers={"content-type": "application/json"})

    response = asyncio.run(visit())

    assert response.status_code == 413
    assert is_problem(response)


def test_the_lifespan_passes_through(made: Any) -> None:
    """What stands around the app hands on its start and its end: the database is open in between."""
    sent: list[str] = []

    async def live() -> None:
        incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

        async def receive() -> Any:
            return next(incoming)

        async def send(message: Any) -> None:
            sent.append(message["type"])

        scope: dict[str, Any] = {"type": "lifespan", "state": {}}
        await made.served(scope, receive, send)
        assert REQUEST_ID not in scope

    asyncio.run(live())

    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
