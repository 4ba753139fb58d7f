"""Errors wherever they are raised, exceptions of other people, and the id of a request."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from fastkit.errors import DeclarationError, FastkitError, NotFoundError, PoolTimeoutError, UniqueError
from fastkit.responses import Problem, ProblemHandlers, ProblemResponse
from fastkit.responses._request_id import REQUEST_ID

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t-value"
LOGGER = "fastkit.responses.problems"
PROBLEM = "application/problem+json"
Log = Callable[[], list[logging.LogRecord]]


class PaymentDeclined(Exception):  # noqa: N818 - a name of somebody else's library
    """What a library of a bank raises."""


class CardExpired(PaymentDeclined):
    """A kind of it."""


class Named:
    """A middleware that gives each request an id, as one of fastkit's does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request under its id."""
        scope[REQUEST_ID] = ("X-Request-ID", "r-1")
        await self.app(scope, receive, send)


def app_raising(exc: Exception, *middleware: Any, problems: Mapping[Any, Any] | None = None) -> Starlette:
    """Make an app whose only route raises."""

    async def fail(request: Request) -> Response:
        raise exc

    handlers: dict[Any, Any] = ProblemHandlers(problems=problems or {}).table()
    return Starlette(
        routes=[Route("/", fail)], exception_handlers=handlers, middleware=[Middleware(each) for each in middleware]
    )


def raising(exc: Exception) -> Callable[[ASGIApp], ASGIApp]:
    """Return a pure ASGI middleware that raises."""

    def made(app: ASGIApp) -> ASGIApp:
        async def fail(scope: Scope, receive: Receive, send: Send) -> None:
            raise exc

        return fail

    return made


def dispatching(exc: Exception) -> Callable[[ASGIApp], ASGIApp]:
    """Return a middleware of Starlette's own kind that raises."""

    async def fail(request: Request, call_next: Any) -> Response:
        raise exc

    return lambda app: BaseHTTPMiddleware(app, dispatch=fail)


async def ask(app: ASGIApp, path: str = "/", **options: Any) -> httpx2.Response:
    """Send one request to an app."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        return await client.request("GET", path, **options)


def problem(answer: httpx2.Response) -> dict[str, Any]:
    """Return the document, having checked what holds for every problem."""
    told: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == PROBLEM
    assert told["status"] == answer.status_code
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert SECRET not in answer.text
    return told


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    """Return a look at what the handlers have logged."""
    return lambda: [record for record in caplog.records if record.name == LOGGER]


class TestRequestId:
    """A client can name the request that went wrong."""

    @pytest.mark.parametrize(
        "exc",
        [UniqueError("taken"), PoolTimeoutError(SECRET), HTTPException(401), KeyError(SECRET), CardExpired(SECRET)],
        ids=lambda exc: type(exc).__name__,
    )
    async def test_every_problem_names_the_request(self, exc: Exception) -> None:
        """Public and hidden errors, other libraries' and bugs: the member is there, and the length is right."""
        answer = await ask(app_raising(exc, Named, problems={PaymentDeclined: 402}))

        assert problem(answer)["request_id"] == "r-1"

    @pytest.mark.parametrize("exc", [KeyError(SECRET), UniqueError("taken")])
    async def test_an_answer_from_outside_of_the_middleware_has_the_header_once(self, exc: Exception) -> None:
        """Starlette's outermost layer answers past the middleware that sets it; elsewhere that does it alone."""
        outside = await ask(app_raising(exc, Named, raising(exc)))
        inside = await ask(app_raising(UniqueError("taken"), Named))

        assert outside.headers.get_list("x-request-id") == ["r-1"]
        assert "x-request-id" not in inside.headers

    async def test_the_log_names_the_request(self, log: Log) -> None:
        """What is searched for under the one is found under the other; without an id there is no word of one."""
        told = problem(await ask(app_raising(KeyError(SECRET), Named)))
        await ask(app_raising(KeyError(SECRET)))

        first, second = (record.getMessage() for record in log())
        assert first == f"GET '/' answered 500, reference {told['reference']}, request r-1"
        assert "request" not in second

    async def test_one_response_answers_two_requests(self) -> None:
        """A response that is kept names each request by its own id, and keeps its other headers."""
        kept = ProblemResponse(Problem(status=503, members={"shelf": 7}), {"Retry-After": "5"})

        named, plain, again = await ask(Named(kept)), await ask(kept), await ask(Named(kept))

        assert problem(named) == problem(plain) | {"request_id": "r-1"}
        assert problem(again)["request_id"] == "r-1"
        assert "request_id" not in problem(plain)
        assert named.headers["retry-after"] == plain.headers["retry-after"] == "5"

    async def test_what_an_error_says_is_its_id_is_not(self) -> None:
        """No member of an error stands in for the id of the request."""

        class LyingError(FastkitError):
            status = 409
            public = True

            def members(self) -> dict[str, Any]:
                return {"request_id": "r-2"}

        assert problem(await ask(app_raising(LyingError("no"), Named)))["request_id"] == "r-1"

    async def test_a_status_without_a_body_names_nothing(self) -> None:
        """A 304 stays empty."""
        answer = await ask(app_raising(HTTPException(304), Named))

        assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize("made", [raising, dispatching])
class TestMiddleware:
    """What is raised outside of the routes is answered as if it were raised in one."""

    @pytest.mark.parametrize(
        ("exc", "status"),
        [
            (HTTPException(403, "no entry", {"X-Why": "tier"}), 403),
            (UniqueError("taken"), 409),
            (PoolTimeoutError(SECRET), 503),
            (CardExpired(SECRET), 402),
            (ExceptionGroup("tasks", [HTTPException(403, "no entry", {"X-Why": "tier"})]), 403),
            (ExceptionGroup("tasks", [UniqueError("a"), UniqueError("b")]), 500),
            (KeyError(SECRET), 500),
        ],
        ids=str,
    )
    async def test_it_has_its_own_status(self, made: Any, exc: Exception, status: int) -> None:
        """The document is that of the same error in a route, its headers included."""
        declined = {PaymentDeclined: 402}
        outside = await ask(app_raising(exc, made(exc), problems=declined))
        inside = await ask(app_raising(exc, problems=declined))

        assert outside.status_code == inside.status_code == status
        assert problem(outside) | {"reference": 0} == problem(inside) | {"reference": 0}
        assert outside.headers.get("x-why") == inside.headers.get("x-why")

    async def test_a_handler_of_the_app_is_asked(self, made: Any) -> None:
        """By class or by status, async or sync, as Starlette would ask it for an error in a route."""

        async def mine(request: Request, exc: Exception) -> Response:
            return JSONResponse("mine", 418)

        def blocking(request: Request, exc: Exception) -> Response:
            return JSONResponse("mine", 418)

        for exc, key, handler in [
            (UniqueError("taken"), FastkitError, mine),
            (HTTPException(404), 404, blocking),
            (LookupError(), LookupError, blocking),
        ]:
            app = app_raising(exc, made(exc))
            app.add_exception_handler(key, handler)

            assert (await ask(app)).status_code == 418

    async def test_a_handler_that_fails_is_a_bug(self, made: Any, log: Log) -> None:
        """There is a problem document all the same, and both errors are in the log."""

        class BrokenError(FastkitError):
            status = 409
            public = True

            def members(self) -> dict[str, Any]:
                raise KeyError(SECRET)

        told = problem(await ask(app_raising(BrokenError(), made(BrokenError("first")))))

        assert told["status"] == 500
        assert [type(record.exc_info[1]).__name__ for record in log() if record.exc_info] == ["KeyError", "BrokenError"]


class TestRegistered:
    """Exceptions of other people become problems by one line."""

    async def test_a_status_shows_nothing(self, log: Log) -> None:
        """The type is the name of the class that was registered; the message stays here, under a reference."""
        told = problem(await ask(app_raising(CardExpired(SECRET), problems={PaymentDeclined: 402})))

        assert told.pop("reference") in log()[0].getMessage()
        assert told == {
            "type": "urn:fastkit:problem:payment-declined",
            "title": "Payment Required",
            "status": 402,
            "detail": "What happened is in the server's log, under this reference.",
        }

    async def test_a_problem_is_told_as_it_is(self, log: Log) -> None:
        """Nothing is logged below 500; from there on there is a reference, and the log has the cause."""
        declined = Problem(status=402, title="Declined", type="https://bank.example/declined", members={"retry": False})
        down = Problem(status=503, title="The bank is closed")

        told = problem(await ask(app_raising(CardExpired(SECRET), problems={PaymentDeclined: declined})))
        hidden = problem(await ask(app_raising(CardExpired(SECRET), problems={PaymentDeclined: down})))

        assert told == declined.document()
        assert hidden.pop("reference") in log()[0].getMessage()
        assert hidden == down.document()
        assert len(log()) == 1

    async def test_a_function_sees_the_exception(self) -> None:
        """What it takes from the exception is what it says, and no more."""

        def told(exc: PaymentDeclined) -> Problem:
            return Problem(status=402, detail=str(exc).removesuffix(SECRET))

        answer = await ask(app_raising(PaymentDeclined(f"no funds{SECRET}"), problems={PaymentDeclined: told}))

        assert problem(answer)["detail"] == "no funds"

    async def test_the_nearest_class_counts(self) -> None:
        """A subclass may be told apart from its parent, whichever was named first."""
        problems = {PaymentDeclined: 402, CardExpired: 409}

        assert (await ask(app_raising(CardExpired(), problems=problems))).status_code == 409
        assert (await ask(app_raising(PaymentDeclined(), problems=problems))).status_code == 402

    async def test_an_error_of_fastkit_can_be_told_otherwise(self) -> None:
        """A subclass of FastkitError may be registered, too."""
        answer = await ask(app_raising(NotFoundError("Book"), problems={NotFoundError: Problem(status=410)}))

        assert problem(answer) == {"type": "about:blank", "title": "Gone", "status": 410}

    @pytest.mark.parametrize("wrong", [Problem(status=200), "no problem", Problem(status=409, members={"status": 1})])
    async def test_a_function_that_makes_no_problem_is_a_bug(self, wrong: Any) -> None:
        """The client reads a 500, as a problem document."""
        answer = await ask(app_raising(PaymentDeclined(), problems={PaymentDeclined: lambda exc: wrong}))

        assert problem(answer)["status"] == 500

    @pytest.mark.parametrize(
        ("error", "told", "why"),
        [
            (PaymentDeclined, 200, "400 to 599"),
            (PaymentDeclined, Problem(status=600), "400 to 599"),
            (PaymentDeclined, Problem(status=402, type="/declined"), "absolute"),
            (PaymentDeclined, Problem(status=402, members={"detail": "x", "title": "y"}), "detail, title"),
            (PaymentDeclined, "402", "says nothing"),
            (Exception, 503, "all"),
            (FastkitError, 503, "all"),
            (KeyboardInterrupt, 503, "classes of exceptions"),
            ("PaymentDeclined", 402, "classes of exceptions"),
        ],
    )
    def test_what_can_be_no_problem_is_refused(self, error: Any, told: Any, why: str) -> None:
        """Where the app is made, with the remedy."""
        with pytest.raises(DeclarationError, match=why):
            ProblemHandlers(problems={error: told})

    @pytest.mark.parametrize("exc", [PaymentDeclined(SECRET), ExceptionGroup("tasks", [PaymentDeclined(SECRET)])])
    async def test_a_websocket_sees_the_exception(self, exc: Exception) -> None:
        """No HTTP response is sent on a WebSocket."""

        async def talk(socket: WebSocket) -> None:
            raise exc

        handlers: dict[Any, Any] = ProblemHandlers(problems={PaymentDeclined: 402}).table()
        app = Starlette(routes=[WebSocketRoute("/ws", talk)], exception_handlers=handlers)

        with pytest.raises(type(exc)):
            await app({"type": "websocket", "path": "/ws", "headers": [], "query_string": b""}, None, None)  # type: ignore[arg-type]


class TestOwnWords:
    """What a class of errors says of itself."""

    async def test_a_type_of_its_own(self) -> None:
        """An absolute URI goes out as it is; a subclass with another title is another kind."""

        class QuotaError(FastkitError):
            status = 429
            title = "Quota exceeded"
            type = "https://iana.org/assignments/http-problem-types#quota-exceeded"

        class DailyQuotaError(QuotaError): ...

        class StorageQuotaError(QuotaError):
            title = "Storage is full"

        kinds = [problem(await ask(app_raising(kind())))["type"] for kind in (QuotaError, DailyQuotaError)]

        assert kinds == [QuotaError.type] * 2
        assert problem(await ask(app_raising(StorageQuotaError())))["type"] == "urn:fastkit:problem:storage-quota"

    async def test_a_bug_with_a_type_of_its_own_shows_it(self) -> None:
        """Who names a problem of the server wants it told; its message is hidden all the same."""

        class LicenceError(FastkitError):
            title = "Licence expired"
            type = "https://errors.example.com/licence"

        told = problem(await ask(app_raising(LicenceError(SECRET))))

        assert (told["type"], told["title"], told["status"]) == (LicenceError.type, "Licence expired", 500)

    async def test_headers_of_one_occurrence(self) -> None:
        """A limit of rates knows when its window ends."""

        class TooManyError(FastkitError):
            status = 429
            public = True

            def __init__(self, seconds: int) -> None:
                super().__init__("Slower, please.")
                self.seconds = seconds

            def headers(self) -> dict[str, str]:
                return {"Retry-After": str(self.seconds), "RateLimit": f'"all";r=0;t={self.seconds}'}

        answer = await ask(app_raising(TooManyError(17)))

        assert (answer.headers["retry-after"], answer.headers["ratelimit"]) == ("17", '"all";r=0;t=17')
        assert problem(answer)["status"] == 429

    @pytest.mark.parametrize("status", [200, 304, 600, "409", None])
    def test_a_status_that_is_none_of_an_error_is_refused(self, status: Any) -> None:
        """At import, by name."""
        with pytest.raises(DeclarationError, match=r"WrongError\.status"):
            type("WrongError", (FastkitError,), {"status": status, "title": "x"})

    @pytest.mark.parametrize("uri", ["/relative", "sold-out", "https://with space", 7])
    def test_a_type_that_is_no_absolute_uri_is_refused(self, uri: Any) -> None:
        """At import, by name."""
        with pytest.raises(DeclarationError, match=r"WrongError\.type"):
            type("WrongError", (FastkitError,), {"type": uri})


async def test_an_error_alone_in_a_group_ends_where_one_without_a_group_does() -> None:
    """Its answer runs through the middleware, and the server hears nothing of it."""
    transport = httpx2.ASGITransport(app=app_raising(ExceptionGroup("tasks", [UniqueError("taken")])))
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        answer = await client.get("/")

    assert problem(answer)["status"] == 409


@pytest.mark.parametrize("accept", ["application/json", "text/html", "application/xml;q=0.9", "image/png", "", "*/*"])
@pytest.mark.parametrize("exc", [UniqueError("taken"), HTTPException(404), KeyError(SECRET)])
async def test_what_a_client_accepts_changes_nothing(exc: Exception, accept: str) -> None:
    """A problem is sent to whom would rather have another type: RFC 9110 lets the server, and clients read it."""
    answer = await ask(app_raising(exc), headers={"accept": accept})

    assert "status" in problem(answer)


async def test_an_error_in_the_middle_of_an_answer_breaks_it() -> None:
    """What has begun cannot become a problem, also where the error would have one."""

    async def body() -> Any:
        yield b"half"
        raise HTTPException(403)

    async def stream(request: Request) -> Response:
        return StreamingResponse(body())

    app = Starlette(routes=[Route("/", stream)], exception_handlers=ProblemHandlers().table())
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
        with pytest.raises(RuntimeError, match="already started"):
            await client.get("/")
