"""Bodies that no client should send: each is told what it is, as a problem of the client's."""

import json
import logging
from typing import Annotated, Any

import pytest
from apps import answer, problem_of
from fastapi import Body, FastAPI, File, Form, UploadFile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fastkit.deps import DirectRoute, install
from fastkit.deps._pointers import MAX_DEPTH, unwritable

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
SECRET = "s3cr3t-value"
TEXT = st.text(st.sampled_from("ab\ud800\udfffé"), max_size=3)


class Note(BaseModel):
    """A body with a number, a text and anything."""

    number: int = 0
    text: str = ""
    any: Any = None


@pytest.fixture(params=[None, DirectRoute], ids=["stock", "direct"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """Return an app that gives back what it is sent."""
    app = FastAPI()
    if request.param:
        app.router.route_class = request.param
    install(app, {})

    @app.post("/notes")
    async def note(body: Note) -> Note:
        return body

    @app.post("/sync")
    def sync_note(body: Note) -> Note:
        return body

    @app.post("/dicts")
    async def anything(body: dict[str, Any]) -> dict[str, Any]:
        return body

    @app.post("/raw")
    async def raw(body: Annotated[bytes, Body(media_type="application/octet-stream", max_length=3)]) -> int:
        return len(body)

    @app.post("/forms")
    async def form(number: Annotated[int, Form()]) -> int:
        return number

    @app.post("/files")
    async def upload(file: Annotated[UploadFile, File()]) -> int:
        return file.size or 0

    return app


@pytest.mark.parametrize("path", ["/notes", "/sync", "/dicts"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"any": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
        (b'{"any": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, 400),
        (b'{"any": ' + b"[" * 300 + b"]" * 300 + b"}", 422),
        (b'{"number": ' + b"1" * 5000 + b"}", 400),
        (b'{"any": -' + b"9" * 5000 + b"}", 400),
        (b'{"text": "\xff\xfe"}', 400),
        (b'{"text": "\\ud800"}', 422),
        (b'{"any": [1, {"a": ["\\udfff"]}]}', 422),
        (b'{"text"', 422),
        (b"", 422),
        (b"[]", 422),
        (b"null", 422),
    ],
    ids=lambda each: ascii(each[:20]) if isinstance(each, bytes) else None,
)
async def test_a_body_that_is_no_json_of_ours(app: FastAPI, path: str, body: bytes, status: int) -> None:
    """Depth, length, encoding, half characters: always 4xx, and nothing of the body is told."""
    told = problem_of(await answer(app, path, "POST", content=body, headers=JSON))

    assert told["status"] == status
    assert "reference" not in told


async def test_what_cannot_be_written_is_pointed_to(app: FastAPI) -> None:
    """Every text with half a character has its place; a key with one is told by what it is in."""
    body = b'{"a": [0, "\\ud800", {"b": "x\\udc00"}], "c": {"\\ud800": 1, "d": "fine"}}'

    told = problem_of(await answer(app, "/dicts", "POST", content=body, headers=JSON))

    assert told["type"].endswith(":invalid-request")
    assert [each["pointer"] for each in told["errors"]] == ["/a/1", "/a/2/b", "/c"]


async def test_an_answer_that_cannot_be_written_is_a_bug_of_the_app() -> None:
    """Where the client has sent nothing that is to blame, it is told nothing."""
    app = FastAPI()
    install(app, {})

    @app.post("/own")
    async def own(body: Note) -> Note:
        return Note(text="\ud800")

    assert problem_of(await answer(app, "/own", "POST", json={"text": "fine"}))["status"] == 500


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | TEXT,
        lambda each: st.lists(each, max_size=3) | st.dictionaries(TEXT, each, max_size=3),
        max_leaves=20,
    ),
    st.integers(0, MAX_DEPTH + 3),
)
def test_only_what_cannot_be_written_is_found(body: Any, depth: int) -> None:
    """A value is faultless just if it can be encoded and is not deeper than the limit."""
    whole = body
    for _ in range(depth):
        whole = [whole]
    text = json.dumps(whole, ensure_ascii=False)

    found = list(unwritable(whole))

    if depth + 25 < MAX_DEPTH:
        assert bool(found) == any("\ud800" <= each <= "\udfff" for each in text)
    if depth > MAX_DEPTH:
        assert found == [([0] * MAX_DEPTH, "The value is nested too deep")]


@pytest.mark.parametrize("path", ["/notes", "/sync", "/dicts"])
@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application", "", None])
async def test_a_body_of_another_type_is_a_415(app: FastAPI, path: str, kind: str | None) -> None:
    """A client that forgets the header learns which is wanted: RFC 9110, 15.5.16."""
    headers = {} if kind is None else {"content-type": kind}

    response = await answer(app, path, "POST", content=b'{"text": "a"}', headers=headers)

    assert problem_of(response) == {
        "type": "about:blank",
        "title": "Unsupported Media Type",
        "status": 415,
        "detail": "The body of this request is JSON, and its Content-Type has to say so.",
    }
    assert response.headers["accept"] == "application/json"


@pytest.mark.parametrize("kind", ["json; charset=utf-8", "merge-patch+json", "JSON"])
async def test_any_kind_of_json_is_json(app: FastAPI, kind: str) -> None:
    """What FastAPI reads is not refused."""
    assert (
        await answer(app, "/notes", "POST", content=b'{"text": "a"}', headers={"content-type": f"application/{kind}"})
    ).is_success


async def test_a_body_that_is_bytes_is_never_of_another_type(app: FastAPI) -> None:
    """Where the route takes bytes, too many of them are too many."""
    told = problem_of(await answer(app, "/raw", "POST", content=b"1234", headers={"content-type": "text/plain"}))

    assert told["status"] == 422


async def test_forms(app: FastAPI) -> None:
    """A missing part, a wrong one, and a multipart body that is none."""
    multipart = {"content-type": "multipart/form-data; boundary=x"}

    missing = problem_of(await answer(app, "/forms", "POST", data={}))
    wrong = problem_of(await answer(app, "/forms", "POST", data={"number": SECRET}))
    broken = problem_of(await answer(app, "/files", "POST", content=b"--x\r\nnonsense", headers=multipart))
    boundless = problem_of(
        await answer(app, "/files", "POST", content=b"x", headers={"content-type": "multipart/form-data"})
    )

    assert missing["errors"] == [{"detail": "Field required", "pointer": "/number"}]
    assert [each["pointer"] for each in wrong["errors"]] == ["/number"]
    assert broken["status"] in {400, 422}
    assert boundless["status"] == 400
    assert SECRET not in str(wrong)


@pytest.mark.parametrize("path", ["/x", "/" + "1" * 5000, "/%00", "/%ff", "/nan", "/1e5"])
async def test_a_path_that_is_no_number(path: str) -> None:
    """Whatever is in its place, it is told by the parameter's name and not by its value."""
    app = FastAPI()
    install(app, {})

    @app.get("/{number}")
    async def show(number: int) -> int:
        return number

    told = problem_of(await answer(app, path))

    assert told["status"] == 422
    assert [(each["in"], each["parameter"]) for each in told["errors"]] == [("path", "number")]


async def test_a_405_allows_what_any_route_of_the_path_does() -> None:
    """FastAPI names the methods of the first route alone; RFC 9110 wants those of the resource."""
    app = FastAPI()
    install(app, {})
    for method in ("get", "put", "delete"):
        getattr(app, method)("/notes/{key}")(lambda key: key)
    app.get("/other")(lambda: None)

    wrong, head = await answer(app, "/notes/1", "POST"), await answer(app, "/notes/1", "HEAD")

    assert problem_of(wrong)["status"] == 405
    assert wrong.headers["allow"] == head.headers["allow"] == "DELETE, GET, PUT"
    assert head.content == b""
    assert (await answer(app, "/other", "POST")).headers["allow"] == "GET"


async def test_a_response_that_does_not_fit_shows_its_values_to_nobody(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says where the fault is and in which function, and the server hears nothing of the values either."""
    caplog.set_level(logging.DEBUG)

    @app.get("/wrong", response_model=list[Note])
    async def wrong() -> list[dict[str, Any]]:
        return [{}, {"number": SECRET, "text": 1}]

    told = problem_of(await answer(app, "/wrong"))

    assert told.keys() == {"type", "title", "status", "detail", "reference"}
    assert told["reference"] in caplog.text
    assert (
        "What wrong returned does not fit the response model of GET /wrong: 1.number (int_parsing), 1.text"
        in caplog.text
    )
    assert "test_bad_requests.py" in caplog.text
    assert SECRET not in caplog.text
    assert "Traceback" in caplog.text


async def test_a_body_that_fits_is_not_of_another_type() -> None:
    """Where the body is fine as it is, what is wrong with the query is told."""
    app = FastAPI()
    install(app, {})

    @app.post("/any")
    async def take(number: int, body: Annotated[Any, Body()]) -> None: ...

    told = problem_of(await answer(app, "/any?number=x", "POST", content=b"x", headers={"content-type": "text/plain"}))

    assert (told["status"], told["errors"][0]["parameter"]) == (422, "number")
