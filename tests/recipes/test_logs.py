"""Structured logs: one line for each request with its id, route, status and outcome; never a value."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
import structlog
from recipes.page import client, loaded, started
from sqlalchemy import text

from bookshop.models import Author
from fastkit.deps import unit_of_work
from fastkit.errors import NotFoundError

SECRET = "s3cret-value"


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the code of the page makes."""
    return loaded(tmp_path, monkeypatch)


@pytest.fixture
def lines(recipes: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Return where the configured logs go; afterwards, everything is as before."""
    root, stream = logging.getLogger(), io.StringIO()
    before, level = list(root.handlers), root.level
    monkeypatch.setattr("sys.stderr", stream)
    root.handlers.clear()
    recipes.configure_logs()
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("httpx2").setLevel(logging.NOTSET)
    structlog.reset_defaults()


def events(lines: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged; every line is JSON."""
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def wrapped(recipes: Any) -> Any:
    """Return the app as the page says."""
    app = recipes.app

    @app.post("/authors/{name}")
    async def add(name: str, shop: Annotated[Any, unit_of_work(recipes.Shop)]) -> None:
        async with shop.begin():
            shop.authors.add(Author(id=1, name=name))

    @app.get("/rows/{key}")
    async def missing(key: str) -> None:
        raise NotFoundError("Row", key)

    @app.get("/bugs/{key}")
    async def bug(key: str, shop: Annotated[Any, unit_of_work(recipes.Shop)]) -> None:
        try:
            int(key)  # a message that quotes the value
        except ValueError as error:
            raise RuntimeError(f"cannot read {key}") from error

    @app.get("/sql/{key}")
    async def sql(key: str, shop: Annotated[Any, unit_of_work(recipes.Shop)]) -> None:
        await shop.session.execute(
            text("SELECT * FROM nowhere WHERE x = :key").execution_options(fastkit_reads=True), {"key": key}
        )

    return recipes.RequestIdMiddleware(recipes.AccessLogMiddleware(recipes.CORSMiddleware(app)))


def test_one_line_for_each_request_and_no_values(recipes: Any, lines: io.StringIO) -> None:
    """Path, query, body, headers and rows hold a secret; the lines of all answers hold none."""
    app = wrapped(recipes)
    paths = ["rows", "nowhere", "bugs", "sql"]

    async def visit() -> None:
        async with started(recipes), client(app, authorization=SECRET) as asking:
            for n, path in enumerate(paths):
                await asking.get(f"/{path}/{SECRET}?q={SECRET}", headers={"x-request-id": f"r{n}"})
            for n in (4, 5):
                await asking.post(f"/authors/{SECRET}", content=SECRET, headers={"x-request-id": f"r{n}"})

    asyncio.run(visit())
    found = {each["request_id"]: each for each in events(lines) if each["event"] == "request"}
    kept = {n: [each.get(name) for name in ("method", "route", "status", "outcome")] for n, each in found.items()}

    assert kept == {
        "r0": ["GET", "/rows/{key}", 404, "answered"],
        "r1": ["GET", None, 404, "answered"],
        "r2": ["GET", "/bugs/{key}", 500, "failed"],
        "r3": ["GET", "/sql/{key}", 500, "failed"],
        "r4": ["POST", "/authors/{name}", 200, "answered"],
        "r5": ["POST", "/authors/{name}", 409, "answered"],
    }
    assert all(each["ms"] >= 0 and each["level"] == "info" for each in found.values())


def test_no_value_gets_into_the_logs(recipes: Any, lines: io.StringIO) -> None:
    """Neither by our line nor by the tracebacks of fastkit's own log; the path of an error is what is left of it."""
    app = wrapped(recipes)

    async def visit() -> None:
        async with started(recipes), client(app, authorization=SECRET, cookie=SECRET) as asking:
            for path in ("rows", "nowhere", "sql"):
                await asking.get(f"/{path}/x?q={SECRET}", headers={"x-request-id": SECRET * 20})
            await asking.get("/bugs/x", params={"q": SECRET})
            for _ in range(2):
                await asking.post("/authors/x", content=SECRET)

    asyncio.run(visit())
    errors = [each for each in events(lines) if each["level"] == "error"]

    assert len(errors) == 2
    assert SECRET not in lines.getvalue()
    assert "cannot read" not in lines.getvalue()
    assert "invalid literal" not in lines.getvalue()


def test_an_error_is_told_by_classes_and_places(recipes: Any, lines: io.StringIO) -> None:
    """The line of an unhandled error has its request's id and reference, and every class of the chain."""
    app = wrapped(recipes)

    async def visit() -> Any:
        async with started(recipes), client(app) as asking:
            return await asking.get("/bugs/7x", headers={"x-request-id": "mine"})

    response = asyncio.run(visit())
    (error,) = [each for each in events(lines) if each["level"] == "error"]

    assert error["request_id"] == "mine"
    assert response.json()["reference"] in error["event"]
    assert [each["class"] for each in error["exceptions"]] == ["RuntimeError", "ValueError"]
    assert error["exceptions"][1]["places"][-1].endswith("in bug")
    assert "exc_info" not in error


def test_a_client_that_goes_away_is_told(recipes: Any, lines: io.StringIO) -> None:
    """A request that is cancelled has no status, and was cut off."""
    inside = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        inside.set()
        await asyncio.Event().wait()

    async def visit() -> None:
        task = asyncio.create_task(recipes.AccessLogMiddleware(app)({"type": "http", "method": "GET"}, None, None))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(visit())
    (line,) = events(lines)

    assert (line["status"], line["outcome"], line["route"]) == (None, "cut off", None)
