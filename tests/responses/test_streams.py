"""Rows as a response that goes out while they are read: what a client gets, and what it costs in connections."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import anyio
import pytest
from conftest import World, book
from deps.apps import answer, app_of, client_of, problem_of
from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, computed_field
from sqlalchemy import event

from bookshop.models import Book
from fastkit import From
from fastkit.deps import DirectRoute, listed, unit_factory
from fastkit.errors import DeclarationError, NotFoundError
from fastkit.repository import Equals, ListQuery, Sort
from fastkit.responses import CsvStream, JsonStream, NdjsonStream, stream_csv, stream_json, stream_ndjson

pytestmark = pytest.mark.anyio


class AuthorOut(BaseModel):
    """Related."""

    name: str


class BookOut(BaseModel):
    """A plain model with an alias and a related row, which takes the short way."""

    id: int
    title: str = Field(serialization_alias="bookTitle")
    price: Decimal
    author: AuthorOut


class Shouting(BaseModel):
    """A model that only Pydantic can make."""

    title: str

    @computed_field
    def loud(self) -> str:
        """Return the title in capitals."""
        return self.title.upper()


class Row(BaseModel):
    """Single values."""

    model_config = ConfigDict(frozen=True)

    id: int
    title: str
    author: Annotated[str, From("author.name")]


class BookQuery(ListQuery[Book]):
    """What a client may ask."""

    language: Equals[str] = None
    sort = Sort("title")


@pytest.fixture
async def shelf(stocked: World) -> World:
    """Return a world with five books, ids 1 to 5."""
    async with stocked.shop() as shop:
        austen = await shop.authors.get_one(1)
        more = {3: "Sanditon", 4: "Lady, Susan", 5: 'The "Watsons"'}
        shop.books.add_all([book(key, title, author=austen, language="fr") for key, title in more.items()])
        await shop.commit()
    return stocked


def app_with(world: World, make: Callable[[Any], Any], **options: Any) -> FastAPI:
    """Return an app whose only route streams what the function makes of a factory of units."""
    app = app_of(world, **options)

    async def export(new_shop: Annotated[Any, unit_factory(world.unit)]) -> Any:
        return make(new_shop)

    app.api_route("/", methods=["GET", "HEAD"])(export)
    return app


async def models(world: World, schema: Any) -> list[Any]:
    """Return all books as response models, in the order of their keys."""
    async with world.serving() as shop:
        return list(await shop.books.order_by(Book.id).into(schema).all())


@pytest.mark.parametrize("batch", [1, 2, 5, 6])
@pytest.mark.parametrize("schema", [BookOut, Shouting])
async def test_an_array_is_what_pydantic_makes_of_the_models(shelf: World, batch: int, schema: Any) -> None:
    """Byte by byte, wherever the batches end, for models that are made and for those that need not be."""
    app = app_with(shelf, lambda new: stream_json(new, lambda shop: shop.books.into(schema), batch=batch))

    response = await answer(app)

    assert response.content == TypeAdapter(list[schema]).dump_json(await models(shelf, schema), by_alias=True)
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("schema", [BookOut, Shouting])
async def test_a_line_is_what_pydantic_makes_of_a_model(shelf: World, batch: int, schema: Any) -> None:
    """Each line ends, the last one too."""
    app = app_with(shelf, lambda new: stream_ndjson(new, lambda shop: shop.books.into(schema), batch=batch))

    response = await answer(app)
    lines = [each.model_dump_json(by_alias=True) + "\n" for each in await models(shelf, schema)]

    assert response.text == "".join(lines)
    assert response.headers["content-type"] == "application/jsonl"


async def test_a_table_has_a_line_for_each_row(shelf: World) -> None:
    """With the names in the first line, and quotation marks where RFC 4180 wants them."""
    app = app_with(shelf, lambda new: stream_csv(new, lambda shop: shop.books.into(Row), batch=2))

    response = await answer(app)

    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.text.split("\r\n") == [
        "id,title,author",
        "1,Emma,Jane Austen",
        "2,Persuasion,Jane Austen",
        "3,Sanditon,Jane Austen",
        '4,"Lady, Susan",Jane Austen',
        '5,"The ""Watsons""",Jane Austen',
        "",
    ]


@pytest.mark.parametrize(
    ("stream", "empty"), [(stream_json, b"[]"), (stream_ndjson, b""), (stream_csv, b"id,title,author\r\n")]
)
async def test_no_rows_are_a_whole_body(world: World, stream: Any, empty: bytes) -> None:
    """An array without items, no line, and the names of the columns."""
    response = await answer(app_with(world, lambda new: stream(new, lambda shop: shop.books.into(Row))))

    assert (response.status_code, response.content) == (200, empty)


async def test_query_criteria_and_order_hold(shelf: World) -> None:
    """What a client asks for, what the code asks for besides, and the order of the reader."""
    app = app_of(shelf)

    async def export(
        new_shop: Annotated[Any, unit_factory(shelf.unit)], query: Annotated[BookQuery, listed(BookQuery)]
    ) -> NdjsonStream:
        rows = lambda shop: shop.books.into(Row).order_by(Book.id.desc())
        return stream_ndjson(new_shop, rows, Book.id != 4, query=query, batch=1)

    app.get("/")(export)

    answers = [await answer(app, path) for path in ("/", "/?language=fr", "/?language=fr&sort=title")]

    assert [[json.loads(line)["id"] for line in each.text.splitlines()] for each in answers] == [
        [5, 3, 2, 1],
        [5, 3],
        [3, 5],
    ]
    assert (await answer(app, "/?lang=fr")).status_code == 422


@pytest.mark.parametrize("stream", [stream_json, stream_ndjson, stream_csv])
async def test_a_direct_route_streams_too(shelf: World, stream: Any) -> None:
    """A response is sent as it is, whatever the class of the route."""
    plain = app_with(shelf, make := lambda new: stream(new, lambda shop: shop.books.into(Row)))
    direct = app_of(shelf)
    direct.router.route_class = DirectRoute

    async def export(new_shop: Annotated[Any, unit_factory(shelf.unit)]) -> Any:
        return make(new_shop)

    direct.get("/")(export)

    assert (await answer(direct)).content == (await answer(plain)).content


# -- connections


class Looking:
    """An app with an observer that looks before each chunk leaves."""

    def __init__(self, app: FastAPI, look: Callable[[], int]) -> None:
        self.app, self.look, self.seen = app, look, []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass everything on."""

        async def watching(message: Any) -> None:
            self.seen.append(self.look())
            await send(message)

        await self.app(scope, receive, watching)


@pytest.mark.parametrize(("snapshot", "held"), [(False, 0), (True, 1)])
async def test_a_connection_is_held_for_a_snapshot_only(shelf: World, snapshot: bool, held: int) -> None:
    """Between two batches there is none, unless all rows are to be of one moment; at the last byte in no case."""
    looking = Looking(
        app_with(shelf, lambda new: stream_json(new, lambda shop: shop.books.into(Row), batch=3, snapshot=snapshot)),
        lambda: shelf.checked_out,
    )

    response = await answer(looking)

    assert len(response.json()) == 5
    assert looking.seen == [held, held, held, 0, 0]  # the start, two chunks, the bracket, the end


@pytest.mark.parametrize(("snapshot", "second"), [(False, "Anew"), (True, "Persuasion")])
async def test_a_snapshot_is_of_one_moment(stocked: World, snapshot: bool, second: str) -> None:
    """What others store between two batches is seen, unless a snapshot was asked for."""
    app = app_with(stocked, lambda new: stream_json(new, lambda shop: shop.books.into(Row), batch=1, snapshot=snapshot))

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        async def send_after_a_change(message: Any) -> None:
            if message["type"] == "http.response.start":
                async with stocked.shop() as shop:
                    (await shop.books.get_one(2)).title = "Anew"
                    await shop.commit()
            await send(message)

        await app(scope, receive, send_after_a_change)

    response = await answer(changing)

    assert [each["title"] for each in response.json()] == ["Emma", second]


async def test_a_batch_is_one_statement(shelf: World) -> None:
    """A stream reads with as many statements as it has batches, and one more if the last one is full."""
    statements: list[str] = []
    listener = lambda conn, cursor, statement, *more: statements.append(statement)
    event.listen(shelf.sync_engine, "before_cursor_execute", listener)

    for batch in (2, 5):
        await answer(app_with(shelf, lambda new, b=batch: stream_csv(new, lambda shop: shop.books.into(Row), batch=b)))

    assert len([each for each in statements if "FROM book" in each]) == 3 + 2


# -- errors


async def test_an_error_before_the_first_row_is_a_problem_document(shelf: World) -> None:
    """The status is not sent before the first rows are there, so it is the right one."""

    def missing(shop: Any) -> Any:
        raise NotFoundError("Catalogue")

    class Wrong(BaseModel):
        title: int

    class Unknown(BaseModel):
        titel: str

    makers = [missing, lambda shop: shop.books.into(Wrong), lambda shop: shop.books.into(Unknown), lambda shop: shop]
    for stream in (stream_json, stream_ndjson, stream_csv):
        answers = [await answer(app_with(shelf, lambda new, m=make: stream(new, m))) for make in makers]  # noqa: B023
        assert [problem_of(each)["status"] for each in answers] == [404, 500, 500, 500]
        assert all("Emma" not in each.text for each in answers)


async def test_what_is_no_reader_is_told(shelf: World, caplog: Any) -> None:
    """In the log, with what would be one."""
    await answer(app_with(shelf, lambda new: stream_json(new, lambda shop: shop.books)))

    assert "A stream reads response models: lambda shop: shop.books.into(BookOut)" in caplog.text


async def test_a_batch_of_nothing_is_told_in_the_endpoint(shelf: World) -> None:
    """A declaration that can never work is an error where it is made."""
    with pytest.raises(DeclarationError, match="batch=0"):
        stream_json(shelf, lambda shop: shop.books.into(Row), batch=0)


# -- what else HTTP wants


async def test_a_head_request_has_the_headers_and_no_rows(shelf: World) -> None:
    """And the status of a GET, also if that is an error."""
    app = app_with(shelf, lambda new: stream_csv(new, lambda shop: shop.books.into(Row), filename="books.csv"))
    bad = app_with(shelf, lambda new: stream_csv(new, lambda shop: shop))
    got, head, sent = await answer(app), await answer(app, method="HEAD"), []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:  # because the client of the tests leaves the body out by itself
            sent.append(message.get("body"))
            await send(message)

        await app(scope, receive, sending)

    await answer(watched, method="HEAD")

    assert (head.status_code, sent) == (200, [None, b""])
    assert head.headers == got.headers
    assert (await answer(bad, method="HEAD")).status_code == 500
    assert shelf.checked_out == 0


async def test_the_openapi_schema_says_what_is_sent(shelf: World) -> None:
    """As `response_class`, a stream documents its media type and nothing else."""
    app = app_of(shelf)
    for kind in (JsonStream, NdjsonStream, CsvStream):

        async def export() -> Any:
            """Never called."""

        app.get(f"/{kind.__name__}", response_class=kind)(export)
    paths = app.openapi()["paths"]

    shown = {path: [*paths[path]["get"]["responses"]["200"]["content"]] for path in paths}

    assert shown == {
        "/JsonStream": ["application/json"],
        "/NdjsonStream": ["application/jsonl"],
        "/CsvStream": ["text/csv"],
    }


async def test_a_background_task_runs_after_the_last_byte(shelf: World) -> None:
    """As for every response."""
    app, seen = app_of(shelf), []

    async def export(new_shop: Annotated[Any, unit_factory(shelf.unit)], tasks: BackgroundTasks) -> Any:
        tasks.add_task(lambda: seen.append(shelf.checked_out))
        return stream_json(new_shop, lambda shop: shop.books.into(Row), snapshot=True)

    app.get("/")(export)

    assert len((await answer(app)).json()) == 5
    assert seen == [0]


async def test_streams_run_side_by_side(shelf: World) -> None:
    """More snapshots than connections wait for each other, and all are whole."""
    app = app_with(shelf, lambda new: stream_json(new, lambda shop: shop.books.into(Row), batch=1, snapshot=True))
    found: list[int] = []

    async with client_of(app) as client, anyio.create_task_group() as group:

        async def ask() -> None:
            found.append(len((await client.get("/")).json()))

        for _ in range(12):
            group.start_soon(ask)

    assert found == [5] * 12
    assert shelf.checked_out == 0
