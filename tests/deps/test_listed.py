"""`listed`: a list query from the parameters of a request, with 422 for what is not on the list."""

from decimal import Decimal
from typing import Annotated, Any

import pytest
from conftest import World
from deps.apps import answer, app_of, coloured, problem_of
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from pydantic import BaseModel, Field
from repository.scenes import ON_SQLITE
from starlette.datastructures import URL

from bookshop.models import Author, Book
from fastkit.deps import check_routes, install, listed, unit_of_work, windowed
from fastkit.errors import DeclarationError
from fastkit.pages import Page, Slice, Window
from fastkit.repository import Contains, Equals, ListQuery, OneOf, Range, Search, Sort
from fastkit.responses import links
from fastkit.schemas import From

pytestmark = pytest.mark.anyio


class BookQuery(ListQuery[Book]):
    """What a client may ask of books."""

    title: Contains[str] = None
    language: OneOf[str] = None
    price: Range[Decimal] = Field(None, examples=["9.50"])
    author: Annotated[Equals[str], From("author.name")] = Field(
        None, description="Who wrote it.", examples=["Jane Austen"]
    )
    q: Annotated[str | None, Search("title", "author.name")] = None
    sort = Sort("title", "price", default="title")
    max_size = 50


class AuthorQuery(ListQuery[Author]):
    """What a client may ask of authors."""

    name: Contains[str] = None


class BookOut(BaseModel):
    """What is shown."""

    title: str


@pytest.fixture
def app(stocked: World) -> FastAPI:
    """Return an app with a list of books, behind a router that has a parameter of its own, and one where it is used."""
    app = app_of(stocked)

    async def guard(tenant: str = "") -> None: ...

    async def outer_guard(region: str = "") -> None: ...

    async def books(
        shop: Annotated[Any, unit_of_work(stocked.unit)],
        query: Annotated[BookQuery, listed(BookQuery)],
        extra: int = 1,
    ) -> Page[BookOut]:
        found: Page[BookOut] = await shop.books.into(BookOut).page(query)
        return found

    async def feed(
        shop: Annotated[Any, unit_of_work(stocked.unit)],
        query: Annotated[BookQuery, windowed(BookQuery)],
        request: Request,
        response: Response,
    ) -> Window[BookOut]:
        found: Window[BookOut] = await shop.books.into(BookOut).window(query)
        response.headers["Link"] = links(request.url, found)
        return found

    router = APIRouter(prefix="/v1", dependencies=[Depends(guard)])
    router.get("/books")(coloured(stocked, books))
    router.get("/feed")(coloured(stocked, feed))
    app.include_router(router, dependencies=[Depends(outer_guard)])
    check_routes(app)
    return app


@pytest.mark.parametrize(
    ("asked", "titles"),
    [
        ("", ["Emma", "Persuasion"]),
        ("sort=-title", ["Persuasion", "Emma"]),
        ("size=1&page=2", ["Persuasion"]),
        ("title=EMM", ["Emma"]),
        ("language=en&language=de", ["Emma", "Persuasion"]),
        ("language=de", []),
        ("price_min=1&price_max=10", ["Emma", "Persuasion"]),
        ("price_max=9.99", []),
        ("price_max=0", []),
        ("author=Jane+Austen&extra=3&tenant=x&region=y", ["Emma", "Persuasion"]),
        ("q=suasi", ["Persuasion"]),
    ],
)
async def test_what_a_client_may_ask(app: FastAPI, asked: str, titles: list[str]) -> None:
    """Each filter is a parameter, beside those of the route and of its router."""
    response = await answer(app, f"/v1/books?{asked}")

    assert [each["title"] for each in response.json()["items"]] == titles


@pytest.mark.parametrize(
    ("asked", "parameter", "told"),
    [
        ("titel=x", "titel", "No such parameter; did you mean 'title'?"),
        ("zzzzzzz=1", "zzzzzzz", "No such parameter"),
        ("sort=prise", "sort", "The list can be sorted by title, price; did you mean 'price'?"),
        ("sort=id", "sort", "The list can be sorted by title, price"),
        ("size=51", "size", "Input should be less than or equal to 50"),
        ("page=0", "page", "Input should be greater than or equal to 1"),
        ("price_min=cheap", "price_min", "Input should be a valid decimal"),
        ("price_min=NaN", "price_min", "Input should be a finite number"),
        ("price=1", "price", "No such parameter; did you mean"),
        (f"q={'x' * 201}", "q", "String should have at most 200 characters"),
        ("&".join(f"language={n}" for n in range(101)), "language", "List should have at most 100 items"),
    ],
)
async def test_what_a_client_may_not_ask(app: FastAPI, asked: str, parameter: str, told: str) -> None:
    """Is a 422 that names the parameter and what is allowed, and repeats no value."""
    problem = problem_of(await answer(app, f"/v1/books?{asked}"))

    assert problem["status"] == 422
    (error,) = problem["errors"]
    assert (error["in"], error["parameter"]) == ("query", parameter)
    assert error["detail"].startswith(told)


@pytest.mark.parametrize(
    "asked", ["title=%00", "title=%F0%9F%92%A9", "q=%25%5F%2F", "author=%27%3B--", "price_min=1e400"]
)
async def test_odd_values(app: FastAPI, asked: str) -> None:
    """Are never a 500."""
    response = await answer(app, f"/v1/books?{asked}")

    assert response.status_code in {200, 422}


async def test_a_client_goes_on_by_its_cursor(app: FastAPI) -> None:
    """Forward and back, with the filters and the order that it began with; by the fields, or by the links."""
    first = await answer(app, "/v1/feed?size=1&sort=-title&language=en")
    cursor = first.json()["next_cursor"]
    second = await answer(app, f"/v1/feed?size=1&sort=-title&language=en&cursor={cursor}")
    linked = {each.split('rel="')[1][:-1]: each[1 : each.index(">")] for each in second.headers["Link"].split(", ")}
    back = await answer(app, f"/v1/feed{linked['prev']}")

    assert [each.json()["items"] for each in (first, second)] == [[{"title": "Persuasion"}], [{"title": "Emma"}]]
    assert (first.json()["previous_cursor"], second.json()["next_cursor"]) == (None, None)
    assert first.headers["Link"].endswith(f'cursor={cursor}>; rel="next"')
    assert linked.keys() == {"first", "prev"}
    assert back.json()["items"] == first.json()["items"]


@pytest.mark.parametrize("asked", ["cursor=junk", "cursor=%00", "sort=title&cursor={}", "q=emma&cursor={}"])
async def test_a_cursor_that_is_not_of_the_list(app: FastAPI, asked: str) -> None:
    """Is a 400 that says what to do, and repeats nothing."""
    cursor = (await answer(app, "/v1/feed?size=1&sort=-title")).json()["next_cursor"]
    problem = problem_of(await answer(app, f"/v1/feed?size=1&{asked.format(cursor)}"))

    assert (problem["status"], problem["title"]) == (400, "Invalid cursor")
    assert problem["detail"].endswith("start again without one.")


@ON_SQLITE
async def test_a_window_has_no_number(app: FastAPI) -> None:
    """And a page no cursor; a cursor has an end."""
    for asked in ("feed?page=2", "books?cursor=x", f"feed?cursor={'x' * 5000}"):
        assert (await answer(app, f"/v1/{asked}")).status_code == 422

    schema = (await answer(app, "/openapi.json")).json()["paths"]
    shown = {path: {each["name"] for each in schema[f"/v1/{path}"]["get"]["parameters"]} for path in ("feed", "books")}
    assert shown["feed"] - shown["books"] == {"cursor"}
    assert shown["books"] - shown["feed"] == {"page", "extra"}
    assert "400" in schema["/v1/feed"]["get"]["responses"]
    assert "400" not in schema["/v1/books"]["get"]["responses"]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Page[int](items=[1], total=9, page=1, size=2), {"first": "?a=1&page=1", "next": "?a=1&page=2"}),
        (Page[int](items=[1], total=9, page=5, size=2), {"first": "?a=1&page=1", "prev": "?a=1&page=4"}),
        (Page[int](items=[1], total=4, page=2, size=2), {"first": "?a=1&page=1", "prev": "?a=1&page=1"}),
        (Page[int](items=[], total=9, page=50, size=2), {"first": "?a=1&page=1", "prev": "?a=1&page=5"}),
        (Page[int](items=[], total=0, page=3, size=2), {"first": "?a=1&page=1", "prev": "?a=1&page=1"}),
        (Page[int](items=[], total=0, page=1, size=2), {"first": "?a=1&page=1"}),
        (
            Slice[int](items=[1], has_more=True, page=2, size=2),
            {"first": "?a=1&page=1", "prev": "?a=1&page=1", "next": "?a=1&page=3"},
        ),
        (Slice[int](items=[1], has_more=False, page=1, size=2), {"first": "?a=1&page=1"}),
        (
            Window[int](items=[1], next_cursor="n", previous_cursor=None, size=2),
            {"first": "?a=1", "next": "?a=1&cursor=n"},
        ),
    ],
)
def test_links_lead_to_other_pages(found: Any, expected: dict[str, str]) -> None:
    """With the other parameters as they were; relative, so that they are right behind a proxy."""
    url = URL(
        "http://inside:8000/v1/books?a=1&page=7&cursor=old"
        if not isinstance(found, Window)
        else "http://x/?a=1&cursor=o"
    )
    if not isinstance(found, Window):
        url = url.remove_query_params("cursor")

    told = dict(reversed(each.split("; rel=")) for each in links(url, found).split(", "))
    assert {name.strip('"'): each.strip("<>") for name, each in told.items()} == expected


@ON_SQLITE
async def test_the_schema_shows_each_parameter(app: FastAPI) -> None:
    """With a description and its bounds."""
    schema = (await answer(app, "/openapi.json")).json()
    shown = {each["name"]: each for each in schema["paths"]["/v1/books"]["get"]["parameters"]}

    assert {"page", "size", "sort", "title", "language", "price_min", "price_max", "author", "q"} <= shown.keys()
    assert shown["size"]["schema"]["maximum"] == 50
    assert shown["sort"]["description"] == 'Keys to sort by, separated by commas, "-" for descending: title, price.'
    assert shown["q"]["description"] == "Only where title or author.name contains this, in any case."
    assert all(each["description"] for name, each in shown.items() if name not in {"extra", "tenant", "region"})
    assert shown["author"]["description"] == "Who wrote it."
    examples = {name: each["schema"].get("examples") for name, each in shown.items()}
    assert examples["author"] == ["Jane Austen"]
    assert examples["price_min"] == examples["price_max"] == ["9.50"]
    assert examples["sort"] == ["title", "-title"]
    assert examples["title"] is None
    assert not any(each["required"] for each in shown.values())


@ON_SQLITE
async def test_several_list_queries_in_one_route(stocked: World) -> None:
    """Their parameters stand side by side; what neither knows is refused."""
    app = app_of(stocked)

    async def both(
        books: Annotated[BookQuery, listed(BookQuery)], authors: Annotated[AuthorQuery, listed(AuthorQuery)]
    ) -> list[str | None]:
        return [books.title, authors.name]

    app.get("/both")(both)

    assert (await answer(app, "/both?title=a&name=b&size=3")).json() == ["a", "b"]
    assert problem_of(await answer(app, "/both?nam=b"))["status"] == 422


@ON_SQLITE
async def test_a_path_that_leads_nowhere_stops_the_start(stocked: World) -> None:
    """With the route; and what is no list query is told at once."""

    class Wrong(ListQuery[Book]):
        """A path that only the other model can refuse."""

        author: Annotated[Equals[str], From("author.nme")] = None

    app = app_of(stocked)

    async def books(query: Annotated[Wrong, listed(Wrong)]) -> None: ...

    app.get("/books")(books)
    with pytest.raises(DeclarationError, match=r"/books \(.*books\): Wrong\.author: Author\.nme holds no value"):
        check_routes(app)
    for wrong in (BookOut, ListQuery, "books"):
        with pytest.raises(DeclarationError):
            listed(wrong)  # type: ignore[type-var]


@ON_SQLITE
async def test_a_list_query_is_taken_by_a_dependency(stocked: World) -> None:
    """FastAPI alone would read it as a body, or without what `listed` does."""
    app = app_of(stocked)

    async def body(query: BookQuery) -> None: ...

    async def parameters(query: Annotated[BookQuery, Query()]) -> None: ...

    app.post("/body")(body)
    app.get("/parameters")(parameters)
    with pytest.raises(DeclarationError) as caught:
        check_routes(app)
    told = "query is a list query: take Annotated[BookQuery, listed(BookQuery)]."
    assert str(caught.value).count(told) == 2


@ON_SQLITE
async def test_a_window_without_keys_stops_the_start(stocked: World) -> None:
    """Its first request would be a 500."""
    kind: Any = type(stocked.naked)
    database = kind(stocked.naked.engine.url.render_as_string(hide_password=False))
    app = FastAPI()
    install(app, {stocked.unit: database})

    async def feed(
        shop: Annotated[Any, unit_of_work(stocked.unit)], query: Annotated[BookQuery, windowed(BookQuery)]
    ) -> None: ...

    app.get("/feed")(coloured(stocked, feed))
    with pytest.raises(DeclarationError, match=r"/feed .* windowed\(\) needs keys to sign cursors with"):
        check_routes(app)


@ON_SQLITE
async def test_what_is_returned_is_what_is_read(stocked: World) -> None:
    """A page of a query that reads a cursor, or a window of one that reads a page, stops the start."""
    app = app_of(stocked)

    async def feed(query: Annotated[BookQuery, listed(BookQuery)]) -> Window[BookOut]: ...
    async def books(query: Annotated[BookQuery, windowed(BookQuery)]) -> Page[BookOut]: ...
    async def some(query: Annotated[BookQuery, windowed(BookQuery)]) -> Slice[BookOut]: ...
    async def right(query: Annotated[BookQuery, windowed(BookQuery)]) -> Window[BookOut]: ...
    async def others(query: Annotated[BookQuery, listed(BookQuery)]) -> list[BookOut]: ...
    async def both(
        query: Annotated[BookQuery, listed(BookQuery)], other: Annotated[BookQuery, windowed(BookQuery)]
    ) -> Page[BookOut]: ...

    for work in (feed, books, some, right, others, both):
        app.get(f"/{work.__name__}")(coloured(stocked, work))
    with pytest.raises(DeclarationError) as caught:
        check_routes(app)
    _, *told = str(caught.value).splitlines()
    assert len(told) == 3
    assert told[0].endswith(
        "it returns a Window and takes listed(BookQuery), which reads no cursor: take windowed(BookQuery)."
    )
    assert told[1].endswith("a Page and takes windowed(BookQuery), which reads no page: take listed(BookQuery).")
    assert told[2].endswith("a Slice and takes windowed(BookQuery), which reads no page: take listed(BookQuery).")


@ON_SQLITE
async def test_the_verb_is_that_of_the_dependency(stocked: World, caplog: pytest.LogCaptureFixture) -> None:
    """Told by the first request, not by the second page; the log says what to take."""
    app = app_of(stocked)
    shops = Annotated[Any, unit_of_work(stocked.unit)]

    async def paged(shop: shops, query: Annotated[BookQuery, windowed(BookQuery)]) -> None:
        await shop.books.into(BookOut).page(query)

    async def sliced(shop: shops, query: Annotated[BookQuery, windowed(BookQuery)]) -> None:
        await shop.books.slice(query)

    async def window(shop: shops, query: Annotated[BookQuery, listed(BookQuery)]) -> None:
        await shop.books.into(BookOut).window(query)

    for work in (paged, sliced, window):
        app.get(f"/{work.__name__}")(coloured(stocked, work))
        caplog.clear()
        assert problem_of(await answer(app, f"/{work.__name__}"))["status"] == 500
        remedy = "take windowed(BookQuery)" if work is window else "or take listed(BookQuery)"
        assert any(each.exc_info and remedy in str(each.exc_info[1]) for each in caplog.records)
