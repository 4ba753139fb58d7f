"""The id of a request: on every answer, on every line of the log, and never two of them."""

import asyncio
import logging
import logging.config
import re
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import httpx2
import pytest
from asgi_correlation_id import CorrelationIdMiddleware
from deps.apps import answer, client_of, conversation, served
from fastapi import BackgroundTasks, FastAPI, Header, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from hypothesis import given
from hypothesis import strategies as st
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from fastkit.deps import install
from fastkit.errors import DeclarationError
from fastkit.middleware import RequestIdFilter, RequestIdMiddleware, request_id
from fastkit.responses._request_id import REQUEST_ID, request_id_header

pytestmark = pytest.mark.anyio

HEADER = "x-request-id"
MADE = re.compile(r"[0-9a-f]{32}")


def app_with(*, handler: Any = None, **options: Any) -> FastAPI:
    """Return an app with the middleware, and endpoints that tell what they see."""
    app = FastAPI(exception_handlers={Exception: handler} if handler else None)
    app.add_middleware(RequestIdMiddleware, **options)

    @app.get("/")
    async def see(x_request_id: Annotated[str | None, Header()] = None) -> dict[str, str | None]:
        return {"code": request_id(), "header": x_request_id}

    @app.get("/thread")
    def see_in_thread() -> dict[str, str | None]:
        return {"code": request_id()}

    @app.get("/bug")
    async def bug() -> None:
        raise RuntimeError("a bug")

    return app


def ids(response: httpx2.Response) -> list[str]:
    """Return all ids that an answer has."""
    return response.headers.get_list(HEADER)


async def unhandled(request: Request, exc: Exception) -> Response:
    """Answer as the problem documents do, by the id in the scope."""
    return PlainTextResponse("sorry", 500, request_id_header(request.scope))


async def test_a_request_without_an_id_gets_one() -> None:
    """It is a UUID of version 4, and the same in the code, in the request's header and on the answer."""
    response = await answer(app_with())

    (found,) = ids(response)
    assert MADE.fullmatch(found)
    assert uuid.UUID(found).version == 4
    assert response.json() == {"code": found, "header": found}


async def test_each_request_gets_another_id() -> None:
    """No two requests have the same id."""
    async with client_of(app_with()) as client:
        found = {ids(await client.get("/"))[0] for _ in range(20)}

    assert len(found) == 20


@pytest.mark.parametrize("text", ["a", "A" * 128, "01J8ZQ5S8W3Q", str(uuid.UUID(int=7)), "req:7@eu-1._~+="])
async def test_an_id_of_the_client_is_kept(text: str) -> None:
    """Letters, digits and some punctuation, up to 128 of them."""
    response = await answer(app_with(), headers={HEADER: text})

    assert ids(response) == [text]
    assert response.json() == {"code": text, "header": text}


@pytest.mark.parametrize(
    "text",
    ["", "A" * 129, "a b", "a/b", "a\tb", "<script>", 'a"b', "a,b", "a;b", "a\x7fb", "ümläut", "a%0ab", "{}", "$x"],
)
async def test_what_is_no_id_is_replaced(text: str) -> None:
    """Anything else is neither kept, nor told to the endpoint, nor sent back."""
    response = await answer(app_with(), headers=[(HEADER, text.encode("latin-1"))])

    (found,) = ids(response)
    assert MADE.fullmatch(found)
    assert response.json() == {"code": found, "header": found}


async def test_two_ids_are_none() -> None:
    """Who sends two ids gets a third one: nobody could say which of them counts."""
    response = await answer(app_with(), headers=[(HEADER, "one"), (HEADER, "two")])

    (found,) = ids(response)
    assert MADE.fullmatch(found)
    assert response.json() == {"code": found, "header": found}


async def test_no_client_is_trusted_if_the_app_says_so() -> None:
    """With trusted=False every request gets a new id."""
    response = await answer(app_with(trusted=False), headers={HEADER: "mine"})

    assert MADE.fullmatch(ids(response)[0])
    assert response.json()["header"] == ids(response)[0]


async def test_the_header_can_have_another_name() -> None:
    """The header of the app's choice brings the id and takes it back; the usual one means nothing then."""
    response = await answer(app_with(header="X-Trace"), headers={"x-trace": "mine", HEADER: "other"})

    assert response.headers["x-trace"] == "mine"
    assert HEADER not in response.headers
    assert response.json() == {"code": "mine", "header": "other"}


@pytest.mark.parametrize("header", ["", "X Request", "X-Request-ID:", "X\r\nEvil", "Ü"])
def test_a_name_that_no_header_has_is_told_at_the_start(header: str) -> None:
    """The names of headers are tokens."""
    with pytest.raises(DeclarationError, match="write a name such as"):
        RequestIdMiddleware(FastAPI(), header=header)


@given(st.binary(max_size=200))
def test_whatever_is_sent_an_answer_has_one_safe_id(sent: bytes) -> None:
    """The id of any answer is short and made of safe characters, and it is the client's if that one is."""
    scope: dict[str, Any] = {"type": "http", "headers": [(b"x-request-id", sent)]}
    found = RequestIdMiddleware(FastAPI())._id_of(scope)

    assert re.fullmatch(r"[A-Za-z0-9._~:@=+-]{1,128}", found)
    assert scope["headers"] == [(b"x-request-id", found.encode())]
    assert (found.encode() == sent) == bool(re.fullmatch(rb"[A-Za-z0-9._~:@=+-]{1,128}", sent))


async def test_threads_tasks_streams_and_background_tasks_know_the_id() -> None:
    """Whatever works for a request has its id, also after the first byte."""
    app, seen = app_with(), {}

    @app.get("/all")
    async def everywhere(later: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            seen["stream"] = request_id()
            yield "x"

        async def note() -> None:
            seen["task"] = request_id()

        later.add_task(lambda: seen.update(background=request_id()))
        seen["worker"] = await anyio.to_thread.run_sync(request_id)
        await asyncio.create_task(note())
        return StreamingResponse(body(), background=later)

    response = await answer(app, "/all", headers={HEADER: "mine"})

    assert ids(response) == ["mine"]
    assert seen == dict.fromkeys(("stream", "task", "background", "worker"), "mine")
    assert (await answer(app, "/thread", headers={HEADER: "mine"})).json() == {"code": "mine"}


async def test_concurrent_requests_keep_their_ids_apart() -> None:
    """Each of many requests at once sees its own id before and after it has waited for the others."""
    app, all_here, waiting = app_with(), anyio.Event(), []

    @app.get("/wait")
    async def wait() -> list[str | None]:
        before = request_id()
        waiting.append(before)
        if len(waiting) == 10:
            all_here.set()
        await all_here.wait()
        return [before, request_id()]

    answers = await asyncio.gather(*(answer(app, "/wait", headers={HEADER: f"r{n}"}) for n in range(10)))

    assert [response.json() for response in answers] == [[f"r{n}"] * 2 for n in range(10)]


async def test_after_a_request_there_is_no_id() -> None:
    """What runs later in the same task, as a test does, has none."""
    assert request_id() is None
    await answer(app_with())

    assert request_id() is None


@pytest.mark.parametrize("path", ["/", "/none"])
async def test_a_request_inside_a_request_has_its_own_id(path: str) -> None:
    """An app that asks another one in the same task gets its own id back, whether that answers or fails."""
    inner, outer = app_with(), app_with()
    failing = RequestIdMiddleware(_failing)

    @outer.get("/outer")
    async def ask() -> list[str | None]:
        other = await answer(inner, path, headers={HEADER: "inner"})
        with pytest.raises(RuntimeError):
            await failing({"type": "http", "headers": []}, None, None)  # type: ignore[arg-type]
        return [*ids(other), request_id()]

    assert (await answer(outer, "/outer", headers={HEADER: "outer"})).json() == ["inner", "outer"]


async def _failing(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("no answer")


async def test_errors_inside_have_the_id() -> None:
    """A 404 of the router, a 405, a 422 and an error that a handler answers, each with one id."""
    app = app_with()

    @app.get("/number")
    async def number(n: int) -> int:
        return n

    install(app, {})
    requests = [("GET", "/none"), ("POST", "/"), ("GET", "/number?n=x")]
    answers = [await answer(app, path, method, headers={HEADER: "mine"}) for method, path in requests]

    assert [(response.status_code, ids(response)) for response in answers] == [
        (404, ["mine"]),
        (405, ["mine"]),
        (422, ["mine"]),
    ]


async def test_a_500_has_the_id_where_the_handler_tells_it() -> None:
    """Starlette answers an unhandled error outside of all middleware; its handler finds the id in the scope."""
    response = await answer(app_with(handler=unhandled), "/bug", headers={HEADER: "mine"})

    assert (response.status_code, ids(response)) == (500, ["mine"])


async def test_a_500_of_install_has_the_id() -> None:
    """The problem document of an unhandled error has the id that its request has."""
    app = app_with()
    install(app, {})
    response = await answer(app, "/bug", headers={HEADER: "mine"})

    assert (response.status_code, ids(response)) == (500, ["mine"])


async def test_around_the_whole_app_a_500_has_the_id_whoever_answers_it() -> None:
    """Wrapped around the app, the middleware is outside of what answers a 500; there is still one id."""
    plain, told = app_with(), app_with(handler=unhandled)
    for app in (plain, told):
        app.user_middleware.clear()
    answers = [await answer(RequestIdMiddleware(app), "/bug", headers={HEADER: "mine"}) for app in (plain, told)]

    assert [(response.status_code, ids(response)) for response in answers] == [(500, ["mine"])] * 2


async def test_twice_is_once() -> None:
    """Installed twice, around a mounted app and around the whole, the outermost gives the id."""
    app, mounted = app_with(), app_with(trusted=False)
    app.mount("/mounted", mounted)
    app.add_middleware(RequestIdMiddleware, header="X-Other")
    response = await answer(RequestIdMiddleware(app), "/mounted/", headers={HEADER: "mine"})

    assert ids(response) == ["mine"]
    assert "x-other" not in response.headers
    assert response.json() == {"code": "mine", "header": "mine"}


async def test_an_endpoint_cannot_send_a_second_id() -> None:
    """A header of the same name that an endpoint sets is replaced."""
    app = app_with()

    @app.get("/own")
    async def own() -> PlainTextResponse:
        return PlainTextResponse("x", headers={"X-Request-Id": "own"})

    assert ids(await answer(app, "/own", headers={HEADER: "mine"})) == ["mine"]


@pytest.mark.parametrize("order", ["outside", "inside"])
@pytest.mark.parametrize("sent", [{}, {HEADER: uuid.UUID(int=7).hex}, {HEADER: "not for asgi-correlation-id"}])
async def test_asgi_correlation_id_and_this_agree(order: str, sent: dict[str, str]) -> None:
    """With asgi-correlation-id outside or inside there is one header, and one id in it and in the code."""
    from asgi_correlation_id.context import correlation_id

    pair = [Middleware(CorrelationIdMiddleware), Middleware(RequestIdMiddleware)]
    app = FastAPI(middleware=pair if order == "outside" else pair[::-1])

    @app.get("/")
    async def see() -> list[str | None]:
        return [request_id(), correlation_id.get()]

    response = await answer(app, headers=sent)

    (found,) = ids(response)
    assert response.json() == [found, found]


async def test_a_websocket_is_told_its_id() -> None:
    """The answer to its handshake has the id, accepted or refused, and code sees it."""
    app, seen = app_with(), []

    @app.websocket("/talk")
    async def talk(socket: WebSocket) -> None:
        seen.append(request_id())
        await socket.accept(headers=[(b"x-own", b"kept")])

    @app.websocket("/refuse")
    async def refuse(socket: WebSocket) -> None:
        await socket.send_denial_response(PlainTextResponse("no", 403))

    accepted = (await conversation(app, [], "/talk"))[0]
    bare = {"type": "websocket", "path": "/refuse", "query_string": b"", "headers": []}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**bare, "extensions": {"websocket.http.response": {}}}, receive, send)

    assert dict(accepted["headers"]) == {b"x-own": b"kept", b"x-request-id": seen[0].encode()}
    assert MADE.fullmatch(dict(sent[0]["headers"])[b"x-request-id"].decode())


async def test_an_answer_without_headers_gets_one() -> None:
    """ASGI lets an app leave them out."""
    sent: list[Any] = []

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})

    async def send(message: Any) -> None:
        sent.append(message)

    await RequestIdMiddleware(bare)({"type": "http", "headers": [(b"x-request-id", b"mine")]}, None, send)  # type: ignore[arg-type]

    assert sent[0]["headers"] == [(b"x-request-id", b"mine")]


async def test_the_lifespan_has_no_id() -> None:
    """The start of an app is no request."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([request_id(), REQUEST_ID in scope])

    await RequestIdMiddleware(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    assert seen == [None, False]


class Lines(logging.Handler):
    """Keeps formatted records."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(request_id)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as text."""
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Any:
    """Return the lines that are logged, from all loggers."""
    handler, root = Lines(), logging.getLogger()
    handler.addFilter(RequestIdFilter())
    root.addHandler(handler)
    yield handler.lines
    root.removeHandler(handler)


async def test_each_line_of_the_log_has_the_id(log: list[str]) -> None:
    """Lines from the endpoint, from threads and from outside of requests; a record that has an id keeps it."""
    app, logger = app_with(), logging.getLogger("shop")

    @app.get("/log")
    def endpoint() -> None:
        logger.warning("inside")
        logger.warning("of another", extra={"request_id": "other"})

    await answer(app, "/log", headers={HEADER: "mine"})
    logger.warning("outside")

    assert log == ["mine inside", "other of another", "- outside"]


async def test_the_line_of_an_unhandled_error_has_the_id(log: list[str]) -> None:
    """What is logged outside of all middleware, by the handler of install and by the server, has the right id."""
    app = app_with()
    install(app, {})
    async with served(app) as (_, client):
        statuses = [(await client.get("/bug", headers={HEADER: f"r{n}"})).status_code for n in range(2)]

    handler = [line.split(" '")[0] for line in log if "answered 500" in line]
    server = [line.split("\n")[0] for line in log if "Exception in ASGI" in line]
    assert statuses == [500, 500]
    assert handler == ["r0 GET", "r1 GET"]
    assert server == ["r0 Exception in ASGI application", "r1 Exception in ASGI application"]


async def test_errors_one_after_the_other_in_one_task_are_logged_under_their_own_ids(log: list[str]) -> None:
    """As in a test, which calls its app in its own task: the id of an earlier failure does not come back."""
    app = app_with()
    install(app, {})
    for n in range(3):
        await answer(app, "/bug", headers={HEADER: f"r{n}"})

    assert [line.split(" '")[0] for line in log if "answered 500" in line] == ["r0 GET", "r1 GET", "r2 GET"]


def test_the_filter_can_be_named_in_a_configuration() -> None:
    """It takes no arguments, so that dictConfig can make it."""
    settings = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": "fastkit.middleware.RequestIdFilter"}},
        "handlers": {"null": {"class": "logging.NullHandler", "filters": ["request_id"]}},
        "loggers": {"shop.configured": {"handlers": ["null"]}},
    }
    logging.config.dictConfig(settings)
    (handler,) = logging.getLogger("shop.configured").handlers

    assert isinstance(handler.filters[0], RequestIdFilter)
