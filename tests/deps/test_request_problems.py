"""Problem documents and their schema over a FastAPI app, as a client meets them."""

import json
import re
from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import Annotated, Any, Literal
from uuid import UUID

import httpx2
import pytest
from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    WebSocket,
)
from fastapi.exceptions import RequestValidationError
from pydantic import AliasPath, BaseModel, ConfigDict, Field, field_validator
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from fastkit.deps._openapi import document
from fastkit.deps._pointers import MAX_POINTER
from fastkit.deps._problems import MAX_ERRORS, register
from fastkit.errors import DeclarationError, FastkitError, UniqueError
from fastkit.responses import PROBLEM_SCHEMA

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-value"
PROBLEM = "application/problem+json"
ANY = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


class Line(BaseModel):
    """One line of an order."""

    book: str = Field(alias="bookCode", max_length=5)
    quantity: int = Field(gt=0)


class Cash(BaseModel):
    """A way to pay."""

    by: Literal["cash"]
    coins: int


class Card(BaseModel):
    """Another way to pay."""

    by: Literal["card"]
    number: int


class Order(BaseModel):
    """A body with most of what makes locations differ from places."""

    model_config = ConfigDict(extra="forbid")

    lines: list[Line] = []
    paid: Annotated[Cash | Card | None, Field(discriminator="by")] = None
    either: int | list[int] | None = None
    stock: dict[int, int] = {}
    first: int = Field(0, validation_alias=AliasPath("codes", 0))
    ref: UUID | None = None
    pair: tuple[int, int] = (0, 0)
    coupon: str = ""

    @field_validator("coupon")
    @classmethod
    def known(cls, value: str) -> str:
        """Refuse every coupon."""
        if value:
            raise ValueError("unknown coupon")
        return value


def shop() -> FastAPI:
    """Make an app with problem documents and one route for each kind of input."""
    app = FastAPI()
    register(app)

    @app.post("/orders")
    async def order(body: Order) -> None: ...

    @app.post("/embedded")
    async def embedded(order: Order, note: Annotated[int, Body()]) -> None: ...

    @app.get("/books/{book_id}")
    async def book(
        book_id: Annotated[int, Path()],
        size: Annotated[int, Query(le=9)] = 1,
        tag: Annotated[list[int] | None, Query()] = None,
        x_trace: Annotated[int, Header()] = 0,
        seen: Annotated[int, Cookie()] = 0,
    ) -> None: ...

    return app


async def ask(app: ASGIApp, path: str, method: str = "GET", **options: Any) -> httpx2.Response:
    """Send one request to an app."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.request(method, path, **options)


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """Return the document, having checked what holds for every problem."""
    told: dict[str, Any] = answer.json()

    assert answer.headers["content-type"] == PROBLEM
    assert told["status"] == answer.status_code
    assert SECRET not in answer.text
    return told


async def invalid(path: str, method: str = "POST", **options: Any) -> list[dict[str, str]]:
    """Return the errors of a request that is invalid."""
    answer = await ask(shop(), path, method, **options)
    told = problem(answer)

    assert answer.status_code == 422
    assert told["type"] == "urn:fastkit:problem:invalid-request"
    assert told["title"] == "Invalid request"
    errors: list[dict[str, str]] = told["errors"]
    assert all(error.keys() <= {"detail", "pointer", "parameter", "in"} for error in errors)
    return errors


LINE = {"bookCode": "a", "quantity": 1}


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"lines": [LINE, LINE, LINE, LINE | {"quantity": SECRET}]}, ["/lines/3/quantity"]),
        ({"lines": [{"quantity": 1}]}, ["/lines/0/bookCode"]),
        ({"lines": [{"bookCode": SECRET, "quantity": 0}]}, ["/lines/0/bookCode", "/lines/0/quantity"]),
        ({"paid": {"by": "card", "number": SECRET}}, ["/paid/number"]),
        ({"paid": {"by": "card"}}, ["/paid/number"]),
        ({"paid": {"by": SECRET}}, ["/paid"]),
        ({"either": SECRET}, ["/either", "/either"]),
        ({"either": ["1", SECRET]}, ["/either", "/either/1"]),
        ({"either": {}}, ["/either", "/either"]),
        ({"pair": [1]}, ["/pair"]),
        ({"stock": {"x": 1}}, ["/stock/x"]),
        ({"stock": {"1": SECRET}}, ["/stock/1"]),
        ({"codes": [SECRET]}, ["/codes/0"]),
        ({"a/b~c": 1}, ["/a~1b~0c"]),
        ({"lone \ud800": 1}, [""]),
        ([SECRET], [""]),
        (SECRET, [""]),
        (None, [""]),
    ],
)
async def test_an_error_in_the_body_has_a_pointer_to_its_place(body: object, pointers: list[str]) -> None:
    """A pointer leads to the value that is wrong, or to the key that is missing, and to nothing else."""
    errors = await invalid("/orders", content=json.dumps(body), headers={"content-type": "application/json"})

    assert [error["pointer"] for error in errors] == pointers
    assert all(error["detail"] for error in errors)


async def test_an_embedded_body_has_the_name_of_its_parameter_in_the_pointer() -> None:
    """With several body parameters, each is a key of the body."""
    errors = await invalid("/embedded", json={"order": {"lines": [LINE | {"quantity": 0}]}})

    assert [error["pointer"] for error in errors] == ["/order/lines/0/quantity", "/note"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"plain"])
async def test_an_embedded_body_that_is_none_at_all_is_told(content: bytes) -> None:
    """Without an object there is nothing to step into, unless there is no body."""
    errors = await invalid("/embedded", content=content, headers={"content-type": "application/json"})

    pointers = {b"": ["/order", "/note"], b"[1]": ["", ""], b"plain": [""]}
    assert [error["pointer"] for error in errors] == pointers[content]


async def test_a_form_field_has_a_pointer_too() -> None:
    """A form is read as an object of its fields; which of several values of one field is not told."""
    app = shop()

    @app.post("/form")
    async def form() -> None:  # what FastAPI raises for forms, which it reads only with python-multipart
        locations = [("body", "amount"), ("body", "tags", 1), ("body", "name")]
        kinds = ["int_parsing", "int_parsing", "missing"]
        errors = [{"type": kind, "loc": loc, "msg": "no"} for kind, loc in zip(kinds, locations, strict=True)]
        raise RequestValidationError(errors, body=FormData([("amount", SECRET), ("tags", "1"), ("tags", SECRET)]))

    told = problem(await ask(app, "/form", "POST"))

    assert [error["pointer"] for error in told["errors"]] == ["/amount", "/tags", "/name"]


@pytest.mark.parametrize(
    ("path", "headers", "where"),
    [
        (f"/books/{SECRET}", {}, ("path", "book_id")),
        (f"/books/1?size={SECRET}", {}, ("query", "size")),
        (f"/books/1?tag=1&tag={SECRET}", {}, ("query", "tag")),
        ("/books/1", {"x-trace": SECRET}, ("header", "x-trace")),
        ("/books/1", {"cookie": f"seen={SECRET}"}, ("cookie", "seen")),
    ],
)
async def test_an_error_in_a_parameter_names_it(path: str, headers: dict[str, str], where: tuple[str, str]) -> None:
    """A parameter has a name and a kind, and no pointer, for it is not in the body."""
    errors = await invalid(path, "GET", headers=headers)

    assert [(error["in"], error["parameter"]) for error in errors] == [where]
    assert all("pointer" not in error for error in errors)


async def test_a_missing_path_of_an_alias_points_to_what_there_is() -> None:
    """Of a path into a list that was not sent, no step is a place in the body."""
    app = shop()

    class Coded(BaseModel):
        first: int = Field(validation_alias=AliasPath("codes", 0))

    @app.post("/coded")
    async def coded(body: Coded) -> None: ...

    told = problem(await ask(app, "/coded", "POST", json={}))

    assert told["errors"] == [{"detail": "Field required", "pointer": ""}]


async def test_malformed_json_is_told_with_its_position() -> None:
    """Broken JSON is a 422 as in FastAPI, and concerns the whole body."""
    errors = await invalid("/orders", content=f'{{"a": {SECRET}}}', headers={"content-type": "application/json"})

    assert errors == [{"detail": "JSON decode error at character 6", "pointer": ""}]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"paid": {"by": SECRET}}, "Input tag does not match any of the expected tags"),
        ({"ref": SECRET}, "Input should be a valid UUID"),
        ({"coupon": SECRET}, "Value error, unknown coupon"),
    ],
)
async def test_a_message_of_pydantic_that_quotes_the_input_is_replaced(body: object, detail: str) -> None:
    """The words say what was expected, not what was sent; the app's own words stay."""
    errors = await invalid("/orders", json=body)

    assert [error["detail"] for error in errors] == [detail]


@pytest.mark.parametrize(
    ("count", "detail"),
    [
        (1, "One value of the request is invalid."),
        (2, "2 values of the request are invalid."),
        (MAX_ERRORS, "100 values of the request are invalid."),
        (MAX_ERRORS + 1, "101 values of the request are invalid. The first 100 are listed."),
    ],
)
async def test_the_list_of_errors_is_bounded(count: int, detail: str) -> None:
    """All errors are counted, and at most a hundred are listed."""
    body = {"lines": [LINE | {"quantity": 0}] * count}

    told = problem(await ask(shop(), "/orders", "POST", json=body))

    assert told["detail"] == detail
    assert len(told["errors"]) == min(count, MAX_ERRORS)


async def test_a_pointer_is_bounded() -> None:
    """A key of a megabyte is not sent back a hundred times; the pointer ends at its parent."""
    errors = await invalid("/orders", json={"lines": [LINE | {"quantity": 0}], "x" * MAX_POINTER: 1})

    assert [error["pointer"] for error in errors] == ["/lines/0/quantity", ""]


@pytest.mark.parametrize(
    ("error", "entry"),
    [
        ({"loc": ("body", "a", 0), "msg": "no"}, {"detail": "no", "pointer": "/a/0"}),
        ({"loc": ("query",), "msg": "no"}, {"detail": "no", "in": "query"}),
        ({"loc": ("somewhere", "else"), "msg": "no"}, {"detail": "no"}),
        ({"loc": (), "msg": "no"}, {"detail": "no"}),
        ({}, {"detail": "Invalid value"}),
    ],
)
async def test_an_error_that_the_app_raises_itself_may_be_sparse(error: object, entry: object) -> None:
    """A route may raise RequestValidationError with what it knows."""
    app = shop()

    @app.get("/own")
    async def own() -> None:
        raise RequestValidationError([error])

    assert problem(await ask(app, "/own"))["errors"] == [entry]


async def test_a_response_that_does_not_fit_its_model_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """The server's own mistake is told with a reference, and the values stay here."""
    app = shop()

    @app.get("/wrong", response_model=Line)
    async def wrong() -> dict[str, str]:
        return {"bookCode": SECRET}

    told = problem(await ask(app, "/wrong"))

    assert told["status"] == 500
    assert told["reference"] in caplog.text
    assert "errors" not in told


@pytest.mark.parametrize("detail", [{"status": 1, "code": "x"}, ["a", "b"], 7])
async def test_a_detail_that_is_no_text_is_a_member_of_its_own(detail: object) -> None:
    """FastAPI allows any JSON as detail; a problem's detail is text, so it is found under `details`."""
    app = shop()

    @app.get("/denied")
    async def denied() -> None:
        raise HTTPException(403, detail, {"X-Why": "tier"})

    answer = await ask(app, "/denied")

    assert answer.headers["x-why"] == "tier"
    assert problem(answer) == {"type": "about:blank", "title": "Forbidden", "status": 403, "details": detail}


async def test_the_router_answers_with_problems_too() -> None:
    """Unknown paths and wrong methods are problems, also behind an included router, and HEAD has no body."""
    app = shop()
    router = APIRouter(prefix="/in")
    router.add_api_route("/it", lambda: None)
    app.include_router(router)

    missing, wrong, head = (
        await ask(app, "/x"),
        await ask(app, "/in/it", "PUT"),
        await ask(app, "/orders", "HEAD"),
    )

    assert problem(missing)["status"] == 404
    assert problem(wrong)["status"] == 405
    assert wrong.headers["allow"] == "GET"
    assert (head.status_code, head.content, head.headers["allow"]) == (405, b"", "POST")


async def test_fastkit_errors_and_bugs_are_problems() -> None:
    """An error of a dependency's exit code and one of a route reach the client, with the base of the app."""
    app = FastAPI()
    register(app, "https://errors.example.com/")

    async def unit() -> Any:
        yield
        raise UniqueError("taken")

    @app.post("/orders", dependencies=[Depends(unit, scope="function")])
    async def order() -> None: ...

    @app.get("/bug")
    async def bug() -> None:
        raise KeyError(SECRET)

    told, broken = problem(await ask(app, "/orders", "POST")), problem(await ask(app, "/bug"))

    assert (told["type"], told["status"]) == ("https://errors.example.com/unique", 409)
    assert broken["status"] == 500


async def test_a_mounted_app_needs_a_registration_of_its_own() -> None:
    """A mounted app answers before the outer one sees its error, whose words are then all that is told."""
    app, bare, own = shop(), FastAPI(), FastAPI()
    register(own)
    for mounted in (bare, own):

        @mounted.get("/fail")
        async def fail() -> None:
            raise UniqueError("taken")

    app.mount("/bare", bare)
    app.mount("/own", own)

    plain, told = await ask(app, "/bare/fail"), await ask(app, "/own/fail")

    assert problem(plain) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    assert problem(told)["status"] == 409


async def test_an_error_in_a_middleware_is_a_problem() -> None:
    """Outside the routes the outermost layer answers: fastkit's errors with their status, others with 500."""
    app = shop()

    @app.middleware("http")
    async def fail(request: Request, call_next: Callable[..., Any]) -> Response:
        raise UniqueError("taken") if request.url.path == "/a" else KeyError(SECRET)

    assert problem(await ask(app, "/a"))["status"] == 409
    assert problem(await ask(app, "/b"))["status"] == 500


@pytest.mark.parametrize("given", [HTTPException, RequestValidationError, FastkitError, Exception, 500])
async def test_a_handler_of_the_app_stays(given: Any) -> None:
    """Whatever the app was given for a class is not replaced."""

    async def mine(request: Request, exc: Exception) -> Response:
        return JSONResponse({"mine": True}, 418)

    app = FastAPI(exception_handlers={given: mine})
    register(app)

    @app.get("/{kind}")
    async def fail(kind: int) -> None:
        raise {1: HTTPException(404), 2: UniqueError("taken"), 3: KeyError()}[kind]

    statuses = [(await ask(app, f"/{kind}")).status_code for kind in ("x", 1, 2, 3)]

    mine_at = {RequestValidationError: 0, HTTPException: 1, FastkitError: 2, Exception: 3, 500: 3}[given]
    assert statuses == [418 if at == mine_at else status for at, status in enumerate((422, 404, 409, 500))]


async def test_registering_again_takes_the_new_base() -> None:
    """Handlers of an earlier call are replaced, so the last call decides."""
    app = shop()
    register(app, "https://errors.example.com/")

    told = problem(await ask(app, "/books/x"))

    assert told["type"] == "https://errors.example.com/invalid-request"


async def test_registering_again_keeps_what_is_said_of_exceptions() -> None:
    """A call for another unit neither forgets what others raise, nor leaves it under the old base."""
    app = FastAPI()
    register(app, problems={LookupError: 410, TimeoutError: 504})
    register(app, "https://errors.example.com/", {TimeoutError: 503})

    @app.get("/{kind}")
    async def fail(kind: str) -> None:
        raise {"key": KeyError(SECRET), "time": TimeoutError(SECRET)}[kind]

    gone, late = problem(await ask(app, "/key")), problem(await ask(app, "/time"))

    assert (gone["type"], gone["status"]) == ("https://errors.example.com/lookup", 410)
    assert late["status"] == 503


async def test_an_exception_that_the_app_handles_itself_is_not_registered() -> None:
    """Two answers to one exception are a mistake, which is told where it is made."""

    async def mine(request: Request, exc: Exception) -> Response:
        return JSONResponse({"mine": True}, 418)

    app = FastAPI(exception_handlers={LookupError: mine})

    with pytest.raises(DeclarationError, match="LookupError has a handler"):
        register(app, problems={LookupError: 410})


async def test_what_a_middleware_finds_wrong_with_a_request_is_told_as_in_a_route() -> None:
    """It may raise FastAPI's own error, long before there is a route."""
    app = shop()

    @app.middleware("http")
    async def fail(request: Request, call_next: Callable[..., Any]) -> Response:
        raise RequestValidationError([{"loc": ("header", "x-tenant"), "msg": "Unknown tenant"}], body=b"x")

    told = problem(await ask(app, "/books/1"))

    assert (told["status"], told["errors"][0]["parameter"]) == (422, "x-tenant")


async def test_a_registration_that_comes_too_late_is_refused() -> None:
    """An app that has started would ignore new handlers."""
    app = FastAPI()
    await ask(app, "/")

    with pytest.raises(DeclarationError, match="started"):
        register(app)


# The schema


def dependency(*statuses: int) -> Callable[[], None]:
    """Make a dependency that names its problems."""

    def depend() -> None: ...

    depend.problems = frozenset(statuses)  # type: ignore[attr-defined]
    return depend


def documented(**options: Any) -> FastAPI:
    """Make an app with documented problems and routes at several depths of routers."""
    app = FastAPI(**options)
    document(app)
    found, unit = dependency(404), dependency(409, 503)

    def book(row: Annotated[None, Depends(found)]) -> None: ...

    inner = APIRouter(prefix="/inner", dependencies=[Depends(unit)])
    outer = APIRouter(prefix="/outer")

    @app.get("/plain")
    async def plain() -> Line: ...  # type: ignore[empty-body]

    @app.post("/orders", dependencies=[Depends(book)])
    async def order(body: Order) -> Order: ...  # type: ignore[empty-body]

    @inner.put("/books/{book_id}", dependencies=[Depends(book)])
    @inner.delete("/books/{book_id}")
    async def change(book_id: int) -> None: ...

    outer.include_router(inner)
    app.include_router(outer, prefix="/v1", dependencies=[Depends(dependency(429))])
    return app


def operations(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every operation of the schema's paths."""
    for path in schema["paths"].values():
        yield from path.values()


def contents(operation: dict[str, Any]) -> dict[str, Any]:
    """Return the content of each response by status."""
    return {status: response.get("content") for status, response in operation["responses"].items()}


def assert_sound(schema: dict[str, Any]) -> None:
    """Check that every reference resolves and every component is referred to."""
    names = set(schema.get("components", {}).get("schemas", {}))
    used = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(schema)))

    assert used == names


@pytest.mark.parametrize("separate", [True, False])
def test_every_reference_resolves_and_no_component_dangles(separate: bool) -> None:
    """FastAPI's own validation schemas are gone, and what is used is there."""
    schema = documented(separate_input_output_schemas=separate).openapi()

    assert_sound(schema)
    assert "Problem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in json.dumps(schema)
    assert schema["components"]["schemas"]["Problem"] == PROBLEM_SCHEMA


def test_every_operation_has_a_default_problem_and_problems_for_422() -> None:
    """A 422 has the media type of problems and no other."""
    for operation in operations(documented().openapi()):
        told = contents(operation)

        assert told["default"] == ANY
        assert told.get("422", ANY) == ANY


def test_statuses_come_from_the_dependencies_at_every_depth() -> None:
    """Dependencies of dependencies, of routers and of includes all count."""
    paths = documented().openapi()["paths"]

    assert contents(paths["/plain"]["get"]).keys() == {"200", "default"}
    assert contents(paths["/orders"]["post"]).keys() == {*("200", "400", "404", "415", "422", "default")}
    assert contents(paths["/v1/outer/inner/books/{book_id}"]["put"]).keys() == {
        *("200", "404", "409", "422", "429", "503", "default")
    }
    assert contents(paths["/v1/outer/inner/books/{book_id}"]["delete"]).keys() == {
        *("200", "409", "422", "429", "503", "default")
    }
    assert paths["/orders"]["post"]["responses"]["404"] == {"description": "Not Found", "content": ANY}


def test_a_wrapped_dependency_still_names_its_problems() -> None:
    """Partials and functools.wraps are looked through; an attribute that is no frozenset is not meant."""
    app, found = FastAPI(), dependency(404)
    document(app)

    @wraps(found)
    def wrapped() -> None: ...

    class Exam:
        problems = [404]  # noqa: RUF012

    app.add_api_route("/a", lambda: None, dependencies=[Depends(partial(found))])
    app.add_api_route("/b", lambda: None, dependencies=[Depends(wrapped)])
    app.add_api_route("/c", lambda: None, dependencies=[Depends(Exam)])
    paths = app.openapi()["paths"]

    assert [("404" in paths[path]["get"]["responses"]) for path in ("/a", "/b", "/c")] == [True, True, False]


def test_what_the_app_says_itself_stays() -> None:
    """A response that was given for a status, for its range or as default is the app's word."""

    class Mine(BaseModel):
        code: int

    app = FastAPI()
    document(app)
    given: dict[int | str, dict[str, Any]] = {
        404: {"model": Mine},
        422: {"model": Mine},
        "5XX": {"description": "x"},
    }

    @app.get("/a/{key}", responses=given, dependencies=[Depends(dependency(404, 422, 409, 503))])
    async def a(key: int) -> None: ...

    @app.get("/b/{key}", responses={"default": {"description": "mine"}})
    async def b(key: int) -> None: ...

    schema = app.openapi()
    told = schema["paths"]["/a/{key}"]["get"]["responses"]

    mine = {"application/json": {"schema": {"$ref": "#/components/schemas/Mine"}}}
    assert told.keys() == {"200", "404", "409", "422", "5XX", "default"}
    assert told["404"]["content"] == told["422"]["content"] == mine
    assert told["5XX"] == {"description": "x"}
    assert schema["paths"]["/b/{key}"]["get"]["responses"].keys() == {"200", "default"}
    assert schema["paths"]["/b/{key}"]["get"]["responses"]["default"] == {"description": "mine"}
    assert_sound(schema)


def test_a_model_of_the_app_may_be_called_problem() -> None:
    """The app's model keeps its name, and the component takes another."""

    class Problem(BaseModel):
        exam: str

    app = FastAPI()
    document(app)

    @app.get("/exam")
    async def exam() -> Problem: ...  # type: ignore[empty-body]

    schema = app.openapi()

    assert "exam" in schema["components"]["schemas"]["Problem"]["properties"]
    assert contents(schema["paths"]["/exam"]["get"])["default"] == {
        PROBLEM: {"schema": {"$ref": "#/components/schemas/FastkitProblem"}}
    }
    assert_sound(schema)


def test_webhooks_and_callbacks_stay_as_they_are() -> None:
    """Others answer them, so fastkit promises nothing; what they refer to stays."""
    app, calls = FastAPI(), APIRouter()
    document(app)

    @calls.post("{$request.body#/url}")
    async def paid(body: Line) -> None: ...

    @app.post("/orders", callbacks=calls.routes)
    async def order(body: Line) -> None: ...

    @app.webhooks.post("sold")
    async def sold(body: Line) -> None: ...

    schema = app.openapi()

    theirs = {"application/json": {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}
    assert schema["webhooks"]["sold"]["post"]["responses"].keys() == {"200", "422"}
    assert contents(schema["webhooks"]["sold"]["post"])["422"] == theirs
    [callback] = schema["paths"]["/orders"]["post"]["callbacks"]["paid"].values()
    assert contents(callback["post"])["422"] == theirs
    assert contents(schema["paths"]["/orders"]["post"])["422"] == ANY
    assert_sound(schema)


def test_an_app_without_operations_has_no_components() -> None:
    """Nothing is added that nothing refers to."""
    app = FastAPI()
    document(app)

    assert_sound(app.openapi())
    assert "Problem" not in json.dumps(app.openapi())


def test_hidden_routes_and_websockets_are_passed_over() -> None:
    """Only operations that are in the schema are described."""
    app = FastAPI()
    document(app)

    @app.get("/both")
    async def shown() -> None: ...

    @app.get("/both", include_in_schema=False, dependencies=[Depends(dependency(404))])
    async def hidden() -> None: ...

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None: ...

    [operation] = operations(app.openapi())
    assert operation["responses"].keys() == {"200", "default"}


def test_the_schema_is_made_once_and_again_when_routes_change() -> None:
    """The result is cached where FastAPI caches it, and what an app edits there stays until then."""
    app = documented()
    first = app.openapi()
    del first["paths"]["/plain"]["get"]["responses"]["default"]

    again = app.openapi()
    assert "default" not in again["paths"]["/plain"]["get"]["responses"]

    app.add_api_route("/late/{key}", lambda key: key)
    late = app.openapi()

    assert again is first
    assert late is not first
    assert late is app.openapi_schema
    assert contents(late["paths"]["/late/{key}"]["get"])["default"] == ANY
    assert_sound(late)


def test_documenting_twice_is_documenting_once() -> None:
    """A second call changes nothing."""
    app = documented()
    once = app.openapi

    document(app)

    assert app.openapi is once


def test_a_schema_of_the_app_is_amended() -> None:
    """An app that generates its schema itself keeps what it adds."""
    app = FastAPI()
    app.add_api_route("/book/{key}", lambda key: key)
    usual = app.openapi
    app.openapi = lambda: usual() | {"x-mine": True}  # type: ignore[method-assign]
    document(app)

    schema = app.openapi()

    assert schema["x-mine"] is True
    assert contents(schema["paths"]["/book/{key}"]["get"]) == {"200": {"application/json": {"schema": {}}}} | {
        "422": ANY,
        "default": ANY,
    }


async def test_a_mounted_app_has_a_schema_of_its_own() -> None:
    """Both apps serve their schemas, each with its own operations."""
    app, mounted = documented(), documented()
    app.mount("/sub", mounted)

    outer, inner = (await ask(app, "/openapi.json")).json(), (await ask(app, "/sub/openapi.json")).json()

    assert outer["paths"].keys() == inner["paths"].keys()
    assert_sound(outer)
    assert_sound(inner)


async def test_what_is_sent_is_what_the_schema_says() -> None:
    """The members of a validation problem are those of its schema."""
    app = shop()
    document(app)
    components = app.openapi()["components"]["schemas"]

    told = problem(await ask(app, "/books/x", "GET"))

    assert told.keys() <= components["Problem"]["properties"].keys()
    item = components["Problem"]["properties"]["errors"]["items"]
    assert told["errors"][0].keys() <= item["properties"].keys()
    assert set(item["required"]) <= told["errors"][0].keys()
