"""Requests that clients should not send; `make fuzz` sends a million query strings and a hundred thousand bodies."""

import json
import sys
from collections import Counter
from typing import Any

import pytest
from security.driving import Findings, asked, faults_of, shape_of, strange_in
from security.fuzzing import run_shard
from security.gadgets import Base
from security.grammar import CANARY, Asked, Requests
from security.scenes import SCENES, lab_targets, laboratory
from servers import REQUIRED, missing

from fastkit.deps import listed

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
@pytest.mark.parametrize("scene", SCENES)
def test_no_request_finds_a_fault(scene: str, server: str) -> None:
    """No 500, no exception, no answer that tells too much, no statement with anything of a client in its text."""
    if server == "postgresql" and (why := missing("PostgreSQL")):
        (pytest.fail if REQUIRED else pytest.skip)(f"not found: {why}")
    seen = run_shard(scene, server, (1000, 400), seed=7)

    assert seen["faults"] == []
    assert seen["strangers"] == []
    assert {200, 201, 400, 404, 409, 422} <= {*seen["statuses"]}
    assert sum(seen["statuses"].values()) == 1400


def test_the_requests_are_the_same_for_the_same_seed() -> None:
    """A fault that is found can be found again; and they are of many kinds."""
    first, second = (Requests(lab_targets(), 3) for _ in range(2))
    made = [(first.query(), first.write()) for _ in range(300)]

    assert made == [(second.query(), second.write()) for _ in range(300)]
    assert len({repr(each) for pair in made for each in pair}) > 500


@pytest.mark.parametrize(
    ("status", "kind", "body", "fault"),
    [
        (500, b"application/problem+json", b"{}", "status 500"),
        (503, b"application/problem+json", b"{}", "status 503"),
        (422, b"application/json", b"{}", "of type"),
        (422, b"application/problem+json", b'{"detail":"' + CANARY.encode() + b'"}', "repeats a value"),
        (409, b"application/problem+json", b'{"detail":"SELECT id"}', "tells"),
        (404, b"application/problem+json", b'{"detail":"/usr/lib/x"}', "tells"),
        (422, b"application/problem+json", b'{"detail":NaN1}', "is no JSON"),
        (200, b"application/json", b'"\xff"', "is no JSON"),
        (200, b"application/json", b'"' + b"x" * 40_000 + b'"', "bytes to"),
        (200, b"application/json", b'"s3cr3t-value"', "shows what it must not"),
    ],
)
def test_a_fault_would_be_found(status: int, kind: bytes, body: bytes, fault: str) -> None:
    """Each thing that is looked for is seen if it is there."""
    found = faults_of(Asked("GET", "/"), status, {b"content-type": kind}, body)

    assert any(fault in each for each in found), found


def test_names_may_be_repeated_and_a_slash_lost() -> None:
    """An unknown parameter is told by its name; Starlette leads a path with a slash too many to the one without."""
    problem = {b"content-type": b"application/problem+json"}
    told = b'{"detail":"' + CANARY.encode() + b'"}'

    assert faults_of(Asked("GET", "/", f"{CANARY}=1".encode()), 422, problem, told) == []
    assert faults_of(Asked("GET", "/", f"a={CANARY}".encode()), 422, problem, told)
    assert faults_of(Asked("GET", "/x%2F"), 307, {b"location": b"http://shop/x"}, b"") == []
    assert faults_of(Asked("GET", "/x%2F"), 307, {b"location": b"http://elsewhere/x"}, b"")
    assert faults_of(Asked("GET", "/x"), 307, {b"location": b"http://shop/x"}, b"")


@pytest.mark.parametrize(
    "shape",
    [
        f"SELECT gadget.id FROM gadget WHERE gadget.name = '{CANARY}'",
        "SELECT gadget.id FROM gadget WHERE gadget.big = 17",
        "SELECT gadget.id FROM gadget; DROP TABLE gadget",
        "SELECT gadget.id FROM pg_catalog.pg_user",
        "SELECT gadget.id FROM gadget -- x",
    ],
)
def test_a_strange_statement_would_be_found(shape: str) -> None:
    """A literal, an unknown name, a word that no statement of the app has."""
    assert strange_in(shape, Base.metadata)


def test_a_statement_is_known_by_its_shape() -> None:
    """However many parameters it has, and however the driver writes them."""
    shapes = {
        shape_of(each)
        for each in (
            "SELECT a\nFROM b WHERE c IN (?, ?, ?)",
            "SELECT a FROM b WHERE c IN ($1::INTEGER, $2::INTEGER)",
            "SELECT a FROM b WHERE c IN (%(c_1)s::NUMERIC(10, 2))",
        )
    }

    assert shapes == {"SELECT a FROM b WHERE c IN (?)"}


async def test_an_exception_would_be_found() -> None:
    """One that the app lets through is a fault with its place."""

    async def broken(*call: Any) -> None:
        raise LookupError("gone")

    findings = Findings()
    await findings.look(broken, Asked("GET", "/"))

    assert findings.statuses == Counter({0: 1})
    assert "raised LookupError" in findings.faults[0][0]


@pytest.fixture
async def lab(tmp_path: Any) -> Any:
    """Return the laboratory on SQLite."""
    async with laboratory(f"sqlite+aiosqlite:///{tmp_path}/lab.db") as scene:
        yield scene


async def problem(scene: Any, path: str, query: str) -> tuple[int, dict[str, Any]]:
    """Return status and document of an answer."""
    status, _, body = await asked(scene.app, Asked("GET", path, query.encode()))
    return status, json.loads(body)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("sort=secret", 422),
        ("sort=data", 422),
        ("sort=maker.name", 422),
        ("secret=x", 422),
        ("secret_min=x", 422),
        ("data=x", 422),
        ("size=51", 422),
        ("size=0", 422),
        ("page=0", 422),
        ("page=1000000001", 422),
        ("page=1000000000", 200),
        ("&".join(f"id={each}" for each in range(101)), 422),
        ("&".join(f"id={each}" for each in range(100)), 200),
        ("&".join(f"id={each}" for each in range(10_000)), 422),
        ("name=" + "a" * 201, 422),
        ("q=" + "a" * 201, 422),
        ("q=" + "%25" * 200, 200),
        ("sort=" + "name," * 50, 422),
        ("ratio_min=nan", 200),
        ("price_min=nan", 422),
        ("price_min=Infinity", 422),
        ("name=%00", 200),
        ("maker=%00", 200),
        ("name=%ED%A0%80", 200),
        ("howMany_min=99999999999999999999", 422),
        ("exactly=99999999999999999999", 422),
        ("seenAt_min=9999-12-31T23:59:59-23:59", 200),
    ],
)
async def test_what_is_not_on_the_list_is_refused(lab: Any, query: str, status: int) -> None:
    """Filters and sort keys that are not named, pages that are too large, values too many or too long."""
    assert (await problem(lab, "/gadgets", query))[0] == status


async def test_ten_thousand_unknown_names_are_refused_at_once(lab: Any, monkeypatch: Any) -> None:
    """No more than ten of them are compared with those that are known, which takes time."""
    compared: list[str] = []
    module = sys.modules[listed.__module__]
    monkeypatch.setattr(module, "nearest", lambda name, known: compared.append(name) if known else "")

    status, document = await problem(lab, "/gadgets", "&".join(f"a{each}=1" for each in range(10_000)))

    assert (status, len(compared)) == (422, 10)
    assert len(document["errors"]) == 100


async def test_a_statement_has_nothing_of_a_request_in_it(lab: Any) -> None:
    """Each value goes as a parameter, in each kind of filter."""
    values = ["name", "first", "q", "maker", "makers"]
    lab.statements.shapes.clear()
    for name in values:
        assert (await problem(lab, "/gadgets", f"{name}={CANARY}' OR 1=1 --"))[0] == 200

    assert len(lab.statements.shapes) >= len(values)
    assert lab.strangers == {}
    assert not any(CANARY in shape for shape in lab.statements.shapes)
