"""Server-Timing: how long a request took, and how much of it on databases, told to whom the app wants to tell."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from conftest import World
from deps.apps import answer, app_of, author, client_of, coloured, rows
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from sqlalchemy import text

import fastkit.database._spending as counting
from bookshop.models import Author, Book
from fastkit import Database, PageQuery
from fastkit.database import SPENDING, Spending
from fastkit.deps import unit_factory, unit_of_work
from fastkit.middleware import ServerTimingMiddleware
from fastkit.uow import UnitOfWork

pytestmark = pytest.mark.anyio

# W3C Server Timing, section 3: metrics with parameters, of which `dur` is a number and `desc` a quoted string.
METRIC = r'[a-z]+;dur=\d+\.\d(?:;desc="[^"]*")?'


def timed(app: FastAPI, **options: Any) -> FastAPI:
    """Return an app with the middleware."""
    app.add_middleware(ServerTimingMiddleware, **options)
    return app


def times(response: httpx2.Response) -> tuple[float, float, int]:
    """Return the milliseconds of the request and of databases, and the number of statements."""
    (value,) = response.headers.get_list("server-timing")
    assert re.fullmatch(rf"{METRIC}, {METRIC}", value), value
    found = re.fullmatch(r'total;dur=([\d.]+), db;dur=([\d.]+);desc="(\d+) statements?"', value)
    assert found, value
    return float(found[1]), float(found[2]), int(found[3])


async def test_each_statement_of_a_request_is_counted(stocked: World) -> None:
    """Reads outside a block, a page, a block that writes: what is sent, without BEGIN, SET and COMMIT."""
    app, unit = timed(app_of(stocked)), stocked.unit

    async def nothing() -> None:
        """Ask nothing."""

    async def read(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        await shop.books.get(1)
        await shop.books.order_by(Book.id).page(PageQuery(size=1))

    async def write(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        async with shop.block(isolation="SERIALIZABLE"):
            shop.authors.add(author())
            await shop.commit()

    for path, work in {"/nothing": nothing, "/read": read, "/write": write}.items():
        app.add_api_route(path, coloured(stocked, work), methods=["POST"])
    async with client_of(app) as client:
        found = {path: times(await client.post(path)) for path in ("/nothing", "/read", "/write")}

    assert {path: count for path, (_, _, count) in found.items()} == {"/nothing": 0, "/read": 3, "/write": 1}
    assert found["/nothing"][1] == 0
    assert all(0 < database < total for total, database, count in found.values() if count)


async def test_the_time_is_that_of_the_database(stocked: World) -> None:
    """A statement that takes long is in both times, a pause of the endpoint only in that of the request."""
    app, unit = timed(app_of(stocked)), stocked.unit
    slow = {
        "SQLite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 99999) SELECT max(i) FROM n",
        "PostgreSQL": "SELECT pg_sleep(0.03)",
        "MariaDB": "SELECT sleep(0.03)",
    }
    statement = text(slow[stocked.server]).execution_options(fastkit_reads=True)

    async def ask(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        await shop.session.execute(statement)

    async def pause() -> None:
        await anyio.sleep(0.03)

    app.add_api_route("/ask", coloured(stocked, ask))
    app.add_api_route("/pause", pause)
    slow_total, slow_database, _ = times(await answer(app, "/ask"))
    total, database, _ = times(await answer(app, "/pause"))

    assert slow_database > 5
    assert slow_total > slow_database
    assert total >= 29
    assert database == 0


async def test_requests_at_once_are_counted_apart(stocked: World) -> None:
    """Each of several requests that overlap is told its own statements, in threads too."""
    app, unit = timed(app_of(stocked)), stocked.unit

    async def read(shop: Annotated[Any, unit_of_work(unit)], times: int) -> None:
        for _ in range(times):
            await shop.books.all()

    app.add_api_route("/", coloured(stocked, read))
    asked = [n % 5 for n in range(12)]
    answers = await asyncio.gather(*(answer(app, "/", params={"times": n}) for n in asked))

    assert [times(response)[2] for response in answers] == asked


async def test_a_fan_out_is_counted(stocked: World) -> None:
    """What `gather` asks in tasks or threads of its own belongs to the request."""
    app = timed(app_of(stocked))

    async def read(shop: Any) -> int:
        return len(await shop.books.all())

    async def gather() -> list[int]:
        reads = [read if stocked.driver.is_async else lambda shop: len(shop.books.all())] * 4
        return list(await stocked.database.gather(stocked.unit, *reads))

    app.add_api_route("/", coloured(stocked, gather))
    response = await answer(app)

    assert response.json() == [2, 2, 2, 2]
    assert times(response)[2] == 4


async def test_a_failing_statement_and_a_rollback_are_counted(stocked: World) -> None:
    """The answer to a constraint has its header, as every problem document has that a handler makes."""
    app, unit = timed(app_of(stocked)), stocked.unit

    async def twice(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        async with shop:
            shop.authors.add(Author(id=1, name="Jane Austen"))
            await shop.commit()

    app.add_api_route("/", coloured(stocked, twice))
    response = await answer(app)

    assert response.status_code == 409
    assert times(response)[1] > 0
    assert times(response)[2] == 1


async def test_a_copy_counts_as_one(stocked: World) -> None:
    """COPY goes past SQLAlchemy's cursors, and is counted all the same."""
    if stocked.server != "PostgreSQL":
        pytest.skip("COPY is PostgreSQL's")
    app, unit = timed(app_of(stocked)), stocked.unit

    async def load(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        async with shop.begin():
            await shop.authors.bulk.insert([{"id": n, "name": str(n)} for n in range(50, 100)], copy=True)

    app.add_api_route("/", coloured(stocked, load))
    response = await answer(app)

    assert rows(stocked, Author) == 51
    assert times(response)[2] == 1
    assert times(response)[1] > 0


async def test_a_stream_tells_what_was_until_its_first_byte(stocked: World) -> None:
    """Headers go out before the body, so what the body asks is in none."""
    if not stocked.driver.is_async:
        pytest.skip("a stream is the same in both colours")
    app = timed(app_of(stocked))

    @app.get("/")
    async def export(new_shop: Annotated[Any, unit_factory(stocked.unit)]) -> StreamingResponse:
        async with new_shop() as shop:
            await shop.books.all()

        async def body() -> AsyncIterator[str]:
            async with new_shop.serving() as shop:
                for book in await shop.books.all():
                    yield book.title

        return StreamingResponse(body())

    response = await answer(app)

    assert "Emma" in response.text
    assert times(response)[2] == 1


async def test_only_whom_the_app_names_is_told() -> None:
    """Without a yes from `when` there is no header, and nothing is counted."""
    app, counted = timed(FastAPI(), when=lambda request: request.headers.get("x-developer") == "yes"), []

    @app.get("/")
    async def see() -> None:
        counted.append(SPENDING.get() is not None)

    told = await answer(app, headers={"x-developer": "yes"})
    others = [await answer(app, headers={"x-developer": "no"}), await answer(app)]

    assert times(told)[2] == 0
    assert [response.headers.get("server-timing") for response in others] == [None, None]
    assert counted == [True, False, False]


async def test_what_others_tell_stays() -> None:
    """A `Server-Timing` of the endpoint is kept beside this one; installed twice, there is one of this."""
    app = timed(timed(FastAPI()))

    @app.get("/")
    async def see() -> StreamingResponse:
        return StreamingResponse(iter("x"), headers={"Server-Timing": "cache;dur=1.0"})

    values = (await answer(app)).headers.get_list("server-timing")

    assert values[0] == "cache;dur=1.0"
    assert [value[:5] for value in values[1:]] == ["total"]


async def test_after_a_request_nothing_is_counted() -> None:
    """Neither after an answer nor after an error."""
    app = timed(FastAPI())

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("a bug")

    for path in ("/", "/bug"):
        await answer(app, path)

        assert SPENDING.get() is None


async def test_an_answer_without_headers_gets_one() -> None:
    """ASGI lets an app leave them out."""
    sent: list[Any] = []

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})

    async def send(message: Any) -> None:
        sent.append(message)

    await ServerTimingMiddleware(bare)({"type": "http", "headers": []}, None, send)  # type: ignore[arg-type]

    assert [name for name, _ in sent[0]["headers"]] == [b"server-timing"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_end_of_a_transaction_takes_time_and_is_no_statement(end: str, tmp_path: Any) -> None:
    """Waiting for the disk at COMMIT is time on the database."""
    ServerTimingMiddleware(FastAPI())
    database, slow = Database(f"sqlite:///{tmp_path}/shop.db"), threading.Event()
    token = SPENDING.set(spending := Spending())
    getattr(database.dialect, f"do_{end}")(SimpleNamespace(**{end: lambda: slow.wait(0.02)}))
    SPENDING.reset(token)

    assert spending.seconds >= 0.019
    assert spending.statements == 0


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody have asked to count yet."""
    monkeypatch.setattr(counting, "_is_counting", False)


def _sends_itself(database: Any) -> bool:
    return not {"do_execute", "do_commit"} & vars(database.dialect).keys()


def test_nothing_is_put_around_statements_before_the_middleware_is_made(uncounted: None, tmp_path: Any) -> None:
    """A database sends by itself; once the middleware is made, all are counted, those included that come later."""
    early = Database(f"sqlite:///{tmp_path}/early.db")
    assert _sends_itself(early)
    ServerTimingMiddleware(FastAPI())
    later = Database(f"sqlite:///{tmp_path}/later.db")
    found = {}
    for name, database in {"early": early, "later": later}.items():
        token = SPENDING.set(spending := Spending())
        with UnitOfWork.serving(database) as unit:
            unit.session.execute(text("SELECT 1").execution_options(fastkit_reads=True))
        SPENDING.reset(token)
        found[name] = spending.statements
        database.close()

    assert found == {"early": 1, "later": 1}


def test_asked_twice_each_statement_counts_once(uncounted: None, tmp_path: Any) -> None:
    """Several apps in one process, and several databases on one engine, change nothing."""
    first = Database(f"sqlite:///{tmp_path}/shop.db")
    for _ in range(3):
        ServerTimingMiddleware(FastAPI())
    second = Database(first.engine)
    token = SPENDING.set(spending := Spending())
    with UnitOfWork.serving(second) as unit:
        unit.session.execute(text("SELECT 1").execution_options(fastkit_reads=True))
    SPENDING.reset(token)
    first.close()

    assert spending.statements == 1
