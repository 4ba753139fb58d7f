"""The OpenAPI schema of the bookshop is true: schemathesis asks for what it promises, and for what it forbids."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest
from fastapi import FastAPI, HTTPException
from schema_run import Run, quiet_until_closed
from servers import DRIVERS, Driver
from starlette.responses import PlainTextResponse, Response

from bookshop.asynchronous import app as asynchronous
from bookshop.synchronous import app as synchronous
from fastkit.deps import install

__all__ = ["quiet_until_closed"]  # a fixture
DOCS = Path(__file__).parents[2] / "docs"
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
