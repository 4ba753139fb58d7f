"""Problem documents over a Starlette app, as a client meets them."""

import json
import logging
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastkit import errors
from fastkit.errors import BrokenRule, DeclarationError, FastkitError
from fastkit.responses import PROBLEM_SCHEMA, Problem, ProblemHandlers, ProblemResponse, problem_type

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-value"
LOGGER = "fastkit.responses.problems"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


def tree(root: type[FastkitError] = FastkitError) -> Iterator[type[FastkitError]]:
    """Yield every error class of fastkit itself."""
    if root.__module__ == errors.__name__:
        yield root
    for child in root.__subclasses__():
        yield from tree(child)


def made(error: type[FastkitError]) -> FastkitError:
    """Make an error whose private parts hold the secret."""
    if issubclass(error, errors.NotFoundError):
        return error("Book", identity=SECRET)
    if issubclass(error, errors.RowMismatchError):
        return error(SECRET, [(SECRET, "decimal_type")])
    if issubclass(error, errors.ScopeError):
        return error(SECRET, SECRET)
    if issubclass(error, errors.MultipleFoundError):
        return error("Book")
    if issubclass(error, errors.RulesBrokenError):
        return error([BrokenRule("unknown book", "/lines/0"), BrokenRule("too late")])
    return error("taken" if error.public else SECRET)


def app_raising(exc: Exception, **options: Any) -> Starlette:
    """Make an app whose only route raises the exception."""

    async def fail(request: Request) -> Response:
        raise exc

    route = Route("/fail", fail, methods=["GET", "HEAD", "POST"])
    return Starlette(routes=[route], exception_handlers=ProblemHandlers().table(), **options)


async def ask(app: ASGIApp, path: str = "/fail", method: str = "GET") -> httpx2.Response:
    """Send one request to an app."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.request(method, path)


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """Return the document, having checked what holds for every problem."""
    document: dict[str, Any] = answer.json()

    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert set(PROBLEM_SCHEMA["required"]) <= document.keys()
    assert SECRET not in answer.text
    return document


async def ask_head(app: ASGIApp) -> list[Message]:
    """Send a HEAD request and return what the app sends; httpx would hide a body."""
    sent: list[Message] = []

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        async def also_keep(message: Message) -> None:
            sent.append(message)
            await send(message)

        await app(scope, receive, also_keep)

    await ask(keep, method="HEAD")
    return sent


async def shake_hands(app: ASGIApp) -> list[Message]:
    """Open a WebSocket and return what the app sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, receive, send)
    return sent


@pytest.mark.parametrize("error", list(tree()))
async def test_every_error_of_the_tree_is_the_problem_its_class_describes(error: type[FastkitError]) -> None:
    """Each class gives status, title, type and Retry-After, and its message only if that is public."""
    exc = made(error)

    answer = await ask(app_raising(exc))

    document = problem(answer)
    assert answer.status_code == error.status
    is_bug = error.status == 500 and not error.public
    assert document["title"] == ("Internal Server Error" if is_bug else error.title)
    assert document["type"] == ("about:blank" if is_bug else problem_type(error))
    assert answer.headers.get("retry-after") == (None if error.retry_after is None else str(error.retry_after))
    assert (document["detail"] == str(exc)) is error.public
    assert exc.members().items() <= document.items()
    assert ("reference" in document) is (not error.public or error.status >= 500)


@pytest.mark.parametrize("error", list(tree()))
async def test_every_reference_is_in_the_log_with_the_traceback(
    error: type[FastkitError], caplog: pytest.LogCaptureFixture
) -> None:
    """What a client cannot read is logged under its reference: 503 as a warning, another 5xx as an error."""
    exc = made(error)

    document = problem(await ask(app_raising(exc)))

    records = [record for record in caplog.records if record.name == LOGGER]
    assert len(records) == ("reference" in document)
    for record in records:
        assert document["reference"] in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[1] is exc
        assert record.levelno == (logging.WARNING if error.status == 503 else logging.ERROR)


async def test_a_hidden_client_error_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A 4xx whose message is not public has a reference too, and is nobody's emergency."""

    class LockedOutError(FastkitError):
        status = 403

    document = problem(await ask(app_raising(LockedOutError(SECRET))))

    assert document["reference"] in caplog.text
    assert [record.levelno for record in caplog.records if record.name == LOGGER] == [logging.WARNING]


async def test_the_log_holds_no_query_string(caplog: pytest.LogCaptureFixture) -> None:
    """A query string may hold tokens, and a path may hold line breaks."""
    await ask(app_raising(ValueError("x")), f"/fail?token={SECRET}")

    record = next(record for record in caplog.records if record.name == LOGGER)
    assert record.getMessage().startswith("GET '/fail' answered 500")


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("UniqueError", "unique"),
        ("OutOfStockError", "out-of-stock"),
        ("HTTPGatewayError", "http-gateway"),
        ("_Sku2MissingError", "sku2-missing"),
        ("Error", "error"),
        ("Closed_Error", "closed-"),
        ("ÄrgerError", "%C3%A4rger"),
    ],
)
def test_the_type_is_the_name_of_the_class(name: str, slug: str) -> None:
    """A class name becomes kebab-case without "Error", safe in a URI."""
    assert (
        problem_type(type(name, (FastkitError,), {}), "https://errors.example.com/")
        == f"https://errors.example.com/{slug}"
    )


def test_the_default_type_is_a_urn() -> None:
    """Without an address of its own, an app names its problems absolutely all the same."""
    assert problem_type(errors.UniqueError) == "urn:fastkit:problem:unique"


async def test_the_base_can_be_an_address_of_the_app() -> None:
    """The base given to the handlers begins every type."""

    async def fail(request: Request) -> Response:
        raise errors.UniqueError("taken")

    handlers = ProblemHandlers("https://errors.example.com/")
    app = Starlette(routes=[Route("/fail", fail)], exception_handlers=handlers.table())

    assert problem(await ask(app))["type"] == "https://errors.example.com/unique"


@pytest.mark.parametrize("base", ["", "/problems/", "problems", "https://errors.example.com/problems"])
def test_a_base_that_makes_wrong_types_is_refused(base: str) -> None:
    """A relative base, or one without a separator at its end, fails when the app is made."""
    with pytest.raises(DeclarationError, match=r"https://errors\.example\.com/"):
        ProblemHandlers(base)


async def test_members_cannot_replace_standard_members() -> None:
    """What an error adds never changes type, title, status, detail or instance."""

    class LyingError(FastkitError):
        status = 409
        public = True

        def members(self) -> dict[str, Any]:
            return {"type": "x", "title": "x", "status": 200, "detail": "x", "instance": "x", "stock": 3}

    document = problem(await ask(app_raising(LyingError("sold out"))))

    assert document == {
        "type": "urn:fastkit:problem:lying",
        "title": "Conflict",
        "status": 409,
        "detail": "sold out",
        "stock": 3,
    }


def test_a_problem_leaves_out_what_it_does_not_know() -> None:
    """Without a type a problem is about:blank, with the phrase of its status as title."""
    assert Problem(status=404).document() == {"type": "about:blank", "title": "Not Found", "status": 404}
    assert Problem(status=409, instance="/orders/7").document()["instance"] == "/orders/7"


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (413, "Content Too Large"),
        (422, "Unprocessable Content"),
        (460, "Client Error"),
        (599, "Server Error"),
    ],
)
def test_the_title_of_a_status_is_the_same_on_every_python(status: int, title: str) -> None:
    """Phrases are those of RFC 9110, and an unknown status has one too."""
    assert Problem(status=status).document()["title"] == title


def test_members_that_json_does_not_know_do_not_break_the_answer() -> None:
    """Decimals and dates are written as Pydantic would, unknown objects as the name of their class."""

    class Unknown:
        def __repr__(self) -> str:
            return SECRET

    members = {
        "price": Decimal("9.90"),
        "day": date(2026, 1, 2),
        "nan": float("nan"),
        "what": Unknown(),
        "raw": b"\xff",
    }

    response = ProblemResponse(Problem(status=409, detail="lone \ud800", members=MappingProxyType(members)))

    document = json.loads(bytes(response.body))
    assert document.pop("raw")
    assert document == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "lone ?",
        "price": "9.90",
        "day": "2026-01-02",
        "nan": None,
        "what": "Unknown",
    }


async def test_an_http_exception_keeps_its_status_detail_and_headers() -> None:
    """The challenge of a 401 reaches the client; headers that describe another body do not."""
    headers = {"WWW-Authenticate": "Bearer", "Content-Type": "text/html", "content-length": "1"}

    answer = await ask(app_raising(HTTPException(401, "Who are you?", headers)))

    assert answer.headers["www-authenticate"] == "Bearer"
    assert problem(answer) == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "Who are you?",
    }


async def test_an_http_exception_without_detail_has_the_phrase() -> None:
    """Starlette fills in the phrase of the status."""
    assert problem(await ask(app_raising(HTTPException(418))))["detail"] == "I'm a Teapot"


@pytest.mark.parametrize("status", [204, 205, 304])
async def test_a_status_without_a_body_has_none(status: int) -> None:
    """Such a response has neither a document nor a media type."""
    answer = await ask(app_raising(HTTPException(status, headers={"ETag": '"1"'})))

    assert answer.status_code == status
    assert answer.content == b""
    assert "content-type" not in answer.headers
    assert answer.headers["etag"] == '"1"'


@pytest.mark.parametrize("exc", [errors.UniqueError("taken"), HTTPException(409), ValueError(SECRET)])
async def test_head_gets_the_headers_without_the_body(exc: Exception) -> None:
    """A HEAD request is told the media type and length that GET would have."""
    got = await ask(app_raising(exc))

    start, body = await ask_head(app_raising(exc))

    assert body == {"type": "http.response.body", "body": b""}
    assert start["status"] == got.status_code
    assert start["headers"] == got.headers.raw


async def test_one_response_can_answer_head_and_get() -> None:
    """A response that is kept for many requests keeps its document."""
    response = ProblemResponse(Problem(status=503))

    [_, body], answer = await ask_head(response), await ask(response)

    assert body["body"] == b""
    assert problem(answer)["status"] == 503


async def test_the_router_answers_with_problems_too() -> None:
    """An unknown path is a 404, a wrong method a 405 that tells the allowed ones."""
    app = app_raising(ValueError())

    missing, wrong = await ask(app, "/nowhere"), await ask(app, method="DELETE")

    assert problem(missing)["title"] == "Not Found"
    assert problem(wrong)["title"] == "Method Not Allowed"
    assert {"GET", "POST"} <= set(wrong.headers["allow"].split(", "))


async def test_an_unhandled_error_tells_only_its_reference(caplog: pytest.LogCaptureFixture) -> None:
    """The document has nothing of the exception; the log has it under the reference."""
    exc = KeyError(SECRET)

    document = problem(await ask(app_raising(exc)))

    record = next(record for record in caplog.records if record.name == LOGGER)
    assert document["reference"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is exc
    assert document.pop("reference")
    assert document == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "What happened is in the server's log, under this reference.",
    }


async def test_two_errors_have_two_references() -> None:
    """A reference names one occurrence."""
    app = app_raising(ValueError())

    assert problem(await ask(app))["reference"] != problem(await ask(app))["reference"]


def failing_middleware(app: ASGIApp, exc: Exception) -> ASGIApp:
    """Make a middleware that raises."""

    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise exc

    return fail


@pytest.mark.parametrize(
    ("exc", "status", "kind"),
    [
        (errors.PoolTimeoutError(SECRET), 503, "urn:fastkit:problem:pool-timeout"),
        (HTTPException(403, "no entry"), 403, "about:blank"),
        (
            ExceptionGroup("tasks", [ExceptionGroup("more", [errors.UniqueError("taken")])]),
            409,
            "urn:fastkit:problem:unique",
        ),
        (ExceptionGroup("tasks", [errors.UniqueError(SECRET), HTTPException(403, SECRET)]), 500, "about:blank"),
        (ValueError(SECRET), 500, "about:blank"),
    ],
)
async def test_an_error_in_a_middleware_is_a_problem(exc: Exception, status: int, kind: str) -> None:
    """Outside the routes an error keeps its status, also alone in a group; two errors are a bug."""
    app = app_raising(ValueError(), middleware=[Middleware(failing_middleware, exc=exc)])

    answer = await ask(app)

    assert answer.status_code == status
    assert problem(answer)["type"] == kind


async def test_routes_of_a_mount_are_covered() -> None:
    """A mount of routes belongs to the app and its handlers."""

    async def fail(request: Request) -> Response:
        raise errors.UniqueError("taken")

    app = Starlette(routes=[Mount("/api", routes=[Route("/fail", fail)])], exception_handlers=ProblemHandlers().table())

    assert problem(await ask(app, "/api/fail"))["type"] == "urn:fastkit:problem:unique"


async def test_a_mounted_app_needs_handlers_of_its_own() -> None:
    """A mounted app answers before the outer handlers see the error: in plain text or with own problems."""

    async def fail(request: Request) -> Response:
        raise errors.UniqueError("taken")

    routes, handlers = [Route("/fail", fail)], ProblemHandlers().table()
    bare, own = Starlette(routes=routes), Starlette(routes=routes, exception_handlers=handlers)
    app = Starlette(routes=[Mount("/bare", bare), Mount("/own", own)], exception_handlers=handlers)

    plain, told = await ask(app, "/bare/fail"), await ask(app, "/own/fail")

    assert (plain.status_code, plain.text) == (500, "Internal Server Error")
    assert problem(told)["status"] == 409


async def test_a_response_that_has_started_is_not_replaced() -> None:
    """An error in the middle of a stream cannot become a problem any more."""

    async def body() -> Any:
        yield b"half"
        raise errors.UniqueError("taken")

    async def stream(request: Request) -> Response:
        return StreamingResponse(body())

    app = Starlette(routes=[Route("/fail", stream)], exception_handlers=ProblemHandlers().table())

    answer = await ask(app)

    assert (answer.status_code, answer.text) == (200, "half")


def socket_app(exc: Exception, *, accepted: bool = False) -> Starlette:
    """Make an app whose WebSocket raises."""

    async def talk(socket: WebSocket) -> None:
        if accepted:
            await socket.accept()
        raise exc

    return Starlette(routes=[WebSocketRoute("/ws", talk)], exception_handlers=ProblemHandlers().table())


@pytest.mark.parametrize(
    ("exc", "accepted"),
    [
        (errors.UniqueError("taken"), True),
        (HTTPException(403), True),
        (ValueError(SECRET), True),
        (ValueError(SECRET), False),
    ],
)
async def test_an_error_on_an_open_websocket_is_left_to_the_server(exc: Exception, accepted: bool) -> None:
    """No HTTP response is sent on a WebSocket that is open, nor for a bug; the server sees the error and closes."""
    with pytest.raises(type(exc)) as caught:
        await shake_hands(socket_app(exc, accepted=accepted))

    assert caught.value is exc


@pytest.mark.parametrize("exc", [HTTPException(403, "Members only"), errors.NotFoundError("Book")])
async def test_a_handshake_is_refused_with_a_problem(exc: Any) -> None:
    """Status, media type and document are those of an HTTP request."""
    sent = await shake_hands(socket_app(exc))
    answer = await ask(app_raising(exc))

    start, body = sent
    assert start["type"] == "websocket.http.response.start"
    assert (start["status"], (b"content-type", b"application/problem+json") in start["headers"]) == (
        answer.status_code,
        True,
    )
    assert json.loads(body["body"]) == answer.json()


@pytest.mark.parametrize("handler", ["fastkit_error", "http_exception"])
async def test_a_handler_raises_what_it_is_not_for(handler: str) -> None:
    """A handler that was registered for the wrong class hides nothing."""
    exc = KeyError("x")

    with pytest.raises(KeyError) as caught:
        await getattr(ProblemHandlers(), handler)(Request({"type": "http"}), exc)

    assert caught.value is exc
