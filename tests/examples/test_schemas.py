"""The OpenAPI schema of the bookshop is true: schemathesis asks for what it promises, and for what it forbids."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI, HTTPException
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import shutdown_lifespans
from servers import DRIVERS, Driver
from starlette.responses import PlainTextResponse, Response

from bookshop.asynchronous import app as asynchronous
from bookshop.synchronous import app as synchronous
from fastkit.deps import install

DOCS = Path(__file__).parents[2] / "docs"
CONFIG = {
    "seed": 20260101,
    "generation": {"max-examples": 25, "database": "none", "deterministic": True},
    "continue-on-failure": True,
}
CHOSEN = [driver for driver in DRIVERS if driver.id in {"sqlite", "sqlite-aiosqlite", "postgresql-asyncpg"}]
CHECKS = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
}


class Run:
    """
    What schemathesis found in an app.

    Attributes:
        faults: Each fault, with the request and the answer.
        checks: The checks that looked at an answer.
        phases: The phases that ran.
        cases: How many requests were sent.
    """

    def __init__(self, app: FastAPI) -> None:
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=SchemathesisConfig.from_dict(CONFIG))
        self.faults: list[str] = []
        self.checks: set[str] = set()
        self.phases: set[str] = set()
        self.cases = 0
        for event in from_schema(schema).execute():
            assert not isinstance(event, events.NonFatalError | events.FatalError), vars(event)
            if isinstance(event, events.ScenarioFinished):
                self.phases.add(event.phase.value)
                self.cases += len(event.recorder.cases)
                self.faults += [*self._faults(event.recorder)]

    def _faults(self, recorder: Any) -> Iterator[str]:
        for case, checks in recorder.checks.items():
            answer = getattr(recorder.interactions.get(case), "response", None)
            for check in checks:
                self.checks.add(check.name)
                failed = check.failure_info
                if failed is not None and not excused(check.name, answer):
                    told = answer.content.decode() if answer is not None else ""
                    yield f"{check.name}: {failed.failure.title}\n{failed.code_sample}\n{told}"


def excused(check: str, answer: Any) -> bool:
    """Return whether an answer is right all the same: a precondition goes before the body that is invalid, too."""
    if check == "negative_data_rejection":
        return answer is not None and answer.status_code == 412
    return check == "positive_data_acceptance" and beyond_a_schema(answer)


def beyond_a_schema(answer: Any) -> bool:
    """Return whether what was refused is beyond any schema: rules, versions, the range of a column, decimals."""
    if answer.headers["content-type"] != ["application/problem+json"]:
        return False
    problem = json.loads(answer.content)
    if problem.get("detail", "").startswith("The header If-Match takes"):  # schemathesis tries 0, whatever the pattern
        return True
    if problem["type"].endswith((":rules-broken", ":invalid-value", ":precondition-failed")):
        return True
    return all("decimal" in error["detail"].lower() for error in problem.get("errors", [{"detail": ""}]))


@pytest.fixture
def quiet() -> Iterator[None]:
    """Keep what schemathesis and the apps log to themselves, and close the apps, which it would only do at the end."""
    logging.disable(logging.CRITICAL)
    yield
    shutdown_lifespans()
    logging.disable(logging.NOTSET)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("driver", CHOSEN, indirect=True, ids=lambda driver: driver.id)
def test_the_bookshop_answers_as_its_schema_says(driver: Driver, url: str) -> None:
    """With examples, at the edges, at random and along links from one operation to the next, nothing is found."""
    run = Run((asynchronous if driver.is_async else synchronous).create_app(url))

    assert run.faults == []
    assert run.cases > 800
    assert run.phases == {"examples", "coverage", "fuzzing", "stateful"}
    assert run.checks >= CHECKS


@pytest.mark.usefixtures("quiet")
def test_a_schema_that_lies_is_found_out() -> None:
    """The same run tells of a media type that is none of the schema's, and of a crash."""
    app = FastAPI()
    install(app, {})

    @app.get("/plain/{key}")
    async def plain(key: int) -> str:
        return PlainTextResponse("gone", 410)  # type: ignore[return-value]

    @app.post("/crash")
    async def crash(key: int) -> Response:
        raise HTTPException(500)

    found = {fault.partition(":")[0] for fault in Run(app).faults}

    assert found >= {"content_type_conformance", "not_a_server_error"}


@pytest.mark.usefixtures("quiet")
def test_crud_answers_as_its_schema_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The routes of `crud_router`, and the plain ones beside them, with ETags, filters, scopes and patches."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "schemas_crud", module := type(sys)("schemas_crud"))
    for block in re.findall(r"^```python\n(.*?)^```", (DOCS / "crud.md").read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, "crud.md", "exec"), module.__dict__)

    async def make_tables() -> None:
        async with module.database as database:
            await database.create_all(module.Base.metadata)

    asyncio.run(make_tables())

    run = Run(module.app)

    # Pydantic takes true for 1, and a model without extra="forbid" ignores what it does not know.
    assert [fault for fault in run.faults if not fault.startswith("negative_data_rejection")] == []
    assert run.cases > 300
