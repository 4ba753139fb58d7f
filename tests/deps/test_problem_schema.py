"""The OpenAPI schema names the problems of an operation: those that are declared, and those that can be derived."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Form
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit import AsyncDatabase, AsyncRepository, AsyncUnitOfWork, Database, Repository, Service, UnitOfWork
from fastkit.deps import DirectRoute, found, install, problems, provide, unit_of_work
from fastkit.errors import DeclarationError, FastkitError, LockTimeoutError, NotFoundError, UniqueError

PROBLEM = "application/problem+json"
REFERENCE = {"$ref": "#/components/schemas/Problem"}


class Base(DeclarativeBase):
    """The tables of this file."""


class Book(Base):
    """A book."""

    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)


class Order(BaseModel):
    """A body."""

    copies: int


class OutOfStockError(FastkitError):
    """Nothing left."""

    status = 409
    title = "Out of stock"


class QuotaError(FastkitError):
    """Enough for today."""

    status = 429
    title = "Quota exceeded"
    type = "https://iana.org/assignments/http-problem-types#quota-exceeded"


class Shop(AsyncUnitOfWork):
    """A unit."""

    books: AsyncRepository[Book]


class SyncShop(UnitOfWork):
    """Its twin."""

    books: Repository[Book]


class PlaceOrder(Service[Shop]):
    """A use case that says what it raises."""

    problems = (OutOfStockError, QuotaError)


class SyncPlaceOrder(Service[SyncShop]):
    """Its twin."""

    problems = PlaceOrder.problems


def shop(unit: Any, service: Any, database: Any, **options: Any) -> FastAPI:
    """Return an app of one colour; its routes are never called."""
    app = FastAPI(**options)
    install(app, {unit: database}, problem_types="https://errors.example.com/")

    @app.get("/books/{book_id}")  # noqa: FAST003 - found() reads it
    async def book(book: Annotated[Book, found(unit.books)]) -> int: ...  # type: ignore[empty-body]

    @app.post("/orders", responses=problems(NotFoundError, UniqueError))
    async def order(body: Order, place: Annotated[Any, provide(service)]) -> int: ...  # type: ignore[empty-body]

    return app


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """Return the async app."""
    return shop(Shop, PlaceOrder, AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}"))


def responses(app: FastAPI, path: str, method: str = "post") -> dict[str, Any]:
    """Return what the schema says of an operation's answers."""
    told: dict[str, Any] = app.openapi()["paths"][path][method]["responses"]
    return told


def test_both_colours_have_the_same_schema(app: FastAPI, tmp_path: Path) -> None:
    """What a client reads does not tell which it is."""
    twin = shop(SyncShop, SyncPlaceOrder, Database(f"sqlite:///{tmp_path / 's.db'}"))

    assert app.openapi() == twin.openapi()


def test_what_is_derived(app: FastAPI) -> None:
    """A row gives 404, a unit 409 and 503, a path 422; a body more, a service what it names."""
    assert [*responses(app, "/books/{book_id}", "get")] == ["200", "422", "404", "409", "503", "default"]
    assert {*responses(app, "/orders")} == {*["200", "400", "404", "409", "415", "422", "429", "503", "default"]}


def test_every_problem_refers_to_one_schema_and_has_one_media_type(app: FastAPI) -> None:
    """Success aside, there is nothing else; the reference resolves."""
    schema = app.openapi()
    told = [
        each
        for path in schema["paths"].values()
        for operation in path.values()
        for status, each in operation["responses"].items()
        if status not in {"200", "201"}
    ]

    assert all(each["content"].keys() == {PROBLEM} for each in told)
    assert all(each["content"][PROBLEM]["schema"] == REFERENCE for each in told)
    assert "Problem" in schema["components"]["schemas"]
    assert "fastkit.Problem" not in json.dumps(schema)


def test_declared_errors_are_examples_with_the_types_of_the_app(app: FastAPI) -> None:
    """Title and type, under the base that was installed; a type of its own stays."""
    told = responses(app, "/orders")

    assert told["404"]["description"] == "Not found"
    assert told["404"]["content"][PROBLEM]["examples"] == {
        "not-found": {
            "summary": "Not found",
            "value": {"type": "https://errors.example.com/not-found", "title": "Not found", "status": 404},
        }
    }
    assert told["409"]["content"][PROBLEM]["examples"].keys() == {"unique"}  # the word of the route goes first
    assert told["429"]["content"][PROBLEM]["examples"]["quota-exceeded"]["value"]["type"] == QuotaError.type


def test_several_errors_of_one_status_are_told_together() -> None:
    """In the order in which they are named."""
    told = problems(OutOfStockError, UniqueError, LockTimeoutError, 402)

    assert [*told] == [402, 409, 503]
    assert told[409]["description"] == "Out of stock, or Conflict"
    assert [*told[409]["content"][PROBLEM]["examples"]] == ["out-of-stock", "unique"]
    assert told[402]["description"] == "Payment Required"
    assert "examples" not in told[402]["content"][PROBLEM]


def test_headers_are_told(app: FastAPI) -> None:
    """When to come back, as whole seconds; who may come in."""
    bearer = HTTPBearer()

    @app.get("/secret", dependencies=[Depends(bearer)])
    async def secret() -> None: ...

    retry = responses(app, "/orders")
    assert retry["503"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
    assert retry["429"]["headers"]["Retry-After"]["schema"] == {"type": "integer"}
    assert "headers" not in retry["409"]
    assert "WWW-Authenticate" in responses(app, "/secret", "get")["401"]["headers"]


@pytest.mark.parametrize("where", ["app", "route", "router", "nowhere"])
def test_a_limit_of_bodies_gives_413(where: str) -> None:
    """Only where there is a limit, and only to operations that take a body."""
    app = FastAPI(**({"max_body_size": 9} if where == "app" else {}))
    install(app, {})
    router = APIRouter(**({"max_body_size": 9} if where == "router" else {}))

    @router.post("/in", **({"max_body_size": 9} if where == "route" else {}))
    async def take(body: Order) -> None: ...

    @router.post("/out")
    async def give() -> None: ...

    app.include_router(router)

    assert ("413" in responses(app, "/in")) is (where != "nowhere")
    assert "413" not in responses(app, "/out")


def test_a_form_has_no_type_that_is_wrong() -> None:
    """FastAPI reads whatever is sent as the form that it wants."""
    app = FastAPI()
    install(app, {})

    @app.post("/form")
    async def form(number: Annotated[int, Form()]) -> None: ...

    assert {*responses(app, "/form")} == {"200", "400", "422", "default"}


@pytest.mark.parametrize("level", ["app", "router", "include", "route"])
def test_problems_are_declared_at_any_level(level: str) -> None:
    """What FastAPI takes as `responses` at each of them."""

    def at(name: str) -> dict[str, Any]:
        return {"responses": problems(OutOfStockError)} if name == level else {}

    app = FastAPI(**at("app"))
    install(app, {})
    router = APIRouter(**at("router"))
    router.get("/a", **at("route"))(lambda: None)
    app.include_router(router, **at("include"))

    told = responses(app, "/a", "get")["409"]

    assert told["description"] == "Out of stock"
    assert told["content"][PROBLEM]["schema"] == REFERENCE


def test_the_app_may_have_a_problem_itself(tmp_path: Path) -> None:
    """A model of that name keeps it; what is declared refers to the other one."""

    class Problem(BaseModel):
        exam: str

    app = FastAPI()
    install(app, {})

    @app.get("/exam", responses=problems(OutOfStockError))
    async def exam() -> Problem: ...  # type: ignore[empty-body]

    assert responses(app, "/exam", "get")["409"]["content"][PROBLEM]["schema"] == {
        "$ref": "#/components/schemas/FastkitProblem"
    }


def test_installing_again_takes_the_new_base() -> None:
    """The last call decides, as for the documents themselves."""
    app = FastAPI()
    install(app, {})
    app.get("/a", responses=problems(OutOfStockError))(lambda: None)
    install(app, {}, problem_types="https://errors.example.com/")

    example = responses(app, "/a", "get")["409"]["content"][PROBLEM]["examples"]["out-of-stock"]
    assert example["value"]["type"] == "https://errors.example.com/out-of-stock"


def test_a_declaration_serves_two_apps() -> None:
    """What one app makes of it, the other does not see."""
    declared = problems(OutOfStockError)
    apps = [FastAPI(), FastAPI()]
    for app, base in zip(apps, ("https://a.example/", "https://b.example/"), strict=True):
        install(app, {}, problem_types=base)
        app.get("/a", responses=declared)(lambda: None)

    told = [responses(app, "/a", "get")["409"]["content"][PROBLEM]["examples"]["out-of-stock"] for app in apps]

    assert [each["value"]["type"] for each in told] == [
        "https://a.example/out-of-stock",
        "https://b.example/out-of-stock",
    ]


@pytest.mark.parametrize("wrong", [KeyError, Exception, 200, 600, "404", OutOfStockError(), None])
def test_what_is_no_error_is_refused(wrong: Any) -> None:
    """Where it is declared, by what was given."""
    with pytest.raises(DeclarationError, match=r"problems\(\.\.\.\) has"):
        problems(NotFoundError, wrong)


def test_a_service_that_names_no_errors_is_refused() -> None:
    """Where it is provided, by its name."""

    class Wrong(Service[Shop]):
        problems = (KeyError,)  # type: ignore[assignment]

    with pytest.raises(DeclarationError, match=r"Wrong\.problems"):
        provide(Wrong)


def test_a_dependency_may_name_classes(tmp_path: Path) -> None:
    """Beside statuses, in its attribute; what is neither is passed over, for it may mean something else."""

    def spend() -> None: ...

    spend.problems = frozenset({QuotaError, 402, 200, "x"})  # type: ignore[attr-defined]
    app = FastAPI()
    install(app, {})
    app.get("/a", dependencies=[Depends(spend)])(lambda: None)

    told = responses(app, "/a", "get")

    assert [*told] == ["200", "402", "429", "default"]
    assert "examples" in told["429"]["content"][PROBLEM]


def test_direct_routes_have_the_same_schema(tmp_path: Path) -> None:
    """The class of a route is nothing to clients."""
    schemas = []
    for kind in (None, DirectRoute):
        app = FastAPI()
        if kind:
            app.router.route_class = kind
        install(app, {Shop: AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")})

        @app.post("/orders", responses=problems(OutOfStockError))
        async def order(body: Order, shop: Annotated[Shop, unit_of_work(Shop)]) -> None: ...

        schemas.append(app.openapi())

    assert schemas[0] == schemas[1]
