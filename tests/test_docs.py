"""The code in the README and in the docs runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fastkit import Database

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)[^)]*\)")
APP = re.compile(r"<!-- app -->\n```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page: Path, tmp_path, monkeypatch) -> None:
    """The Python blocks of a page, one after the other, raise nothing."""
    monkeypatch.chdir(tmp_path)
    name = f"docs_{page.stem.replace('-', '_')}"
    module = type(sys)(name)
    monkeypatch.setitem(sys.modules, name, module)
    for number, block in enumerate(PYTHON.findall(page.read_text()), 1):
        exec(compile(block, f"{page.name}, block {number}", "exec"), module.__dict__)


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "CHANGELOG.md", *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file or a folder of the repository."""
    dead = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]

    assert dead == []


def test_the_docs_of_fastapi_start(tmp_path, monkeypatch) -> None:
    """The app of the FastAPI page starts: its routes pass the checks of install()."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_fastapi", module := type(sys)("docs_fastapi"))
    for block in PYTHON.findall((ROOT / "docs" / "fastapi.md").read_text()):
        exec(block, module.__dict__)

    async def start() -> None:
        async with module.app.router.lifespan_context(module.app):
            pass

    asyncio.run(start())


@pytest.fixture
def deploying(tmp_path, monkeypatch) -> Any:
    """Return the module that the code of the page on deploying makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_deploying", module := type(sys)("docs_deploying"))
    for block in PYTHON.findall((ROOT / "docs" / "deploying.md").read_text()):
        exec(block, module.__dict__)
    return module


def test_the_app_of_the_deploying_page_runs(deploying: Any) -> None:
    """It stores in two databases, tells whether it is ready, and is not once it was told to stop."""
    app, databases = deploying.app, [deploying.database, deploying.reports]

    async def visit() -> list[httpx2.Response]:
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
            async with app.router.lifespan_context(app):
                for database in databases:
                    await database.create_all(deploying.Author.metadata)
                answers = [await client.post("/authors", params={"name": "Ovid"}), await client.get("/ready")]
            return [*answers, await client.get("/ready"), await client.get("/alive")]

    async def stored(unit: Any, database: Any) -> list[str]:
        async with database, unit.serving(database) as reads:
            return [author.name for author in await reads.authors.all()]

    assert [answer.status_code for answer in asyncio.run(visit())] == [201, 204, 503, 204]
    assert asyncio.run(stored(deploying.Shop, databases[0])) == ["Ovid"]
    assert asyncio.run(stored(deploying.Reports, databases[1])) == ["Ovid"]


def test_what_gunicorn_calls_freezes(deploying: Any) -> None:
    """The collector looks at nothing any more that was imported."""
    before, made = gc.get_freeze_count(), [[] for _ in range(10_000)]
    deploying.when_ready(None)

    assert gc.get_freeze_count() - before >= len(made)


def test_the_table_of_workers_counts_right() -> None:
    """Each row is what the pools open, and stays within ninety connections, which one more connection would not."""
    page = (ROOT / "docs" / "deploying.md").read_text()
    table = [
        [int(cell) for cell in row]
        for row in re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    ]
    made = [Database("postgresql://h/d", pool_size=pool_size).capacity for _, pool_size, _, _ in table]
    larger = [Database("postgresql://h/d", pool_size=row[1] + 1).capacity or 0 for row in table]

    assert len(table) == 5
    assert made == [each for _, _, each, _ in table]
    assert [row[0] * row[2] for row in table] == [row[3] for row in table]
    assert all(row[3] <= 90 < row[0] * more for row, more in zip(table, larger, strict=True))


def test_the_app_of_the_readme_runs(tmp_path, monkeypatch) -> None:
    """Typed from the README, the app stores a book, finds it, and answers a duplicate with the shown document."""
    readme = (ROOT / "README.md").read_text()
    source = APP.search(readme)
    assert source is not None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "readme_app", module := type(sys)("readme_app"))
    exec(source[1], module.__dict__)

    async def visit() -> list[httpx2.Response]:
        app = module.app
        await module.database.create_all(module.Base.metadata)
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
                return [
                    await client.post("/books", params={"title": "Emma"}),
                    await client.get("/books/1"),
                    await client.post("/books", params={"title": "Emma"}),
                    await client.get("/books/2"),
                ]

    stored, found, twice, missing = asyncio.run(visit())

    assert (stored.status_code, stored.json()) == (201, {"title": "Emma", "id": 1})
    assert (found.status_code, found.json()) == (200, {"title": "Emma", "id": 1})
    assert twice.status_code == 409
    assert twice.json() == json.loads(re.findall(r"^```json\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)[0])
    assert missing.status_code == 404


def test_the_routes_of_crud_are_those_of_the_page(tmp_path, monkeypatch) -> None:
    """What `crud_router` makes and the plain routes of its page answer the same, byte for byte, headers included."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_crud", module := type(sys)("docs_crud"))
    for block in PYTHON.findall((ROOT / "docs" / "crud.md").read_text()):
        exec(block, module.__dict__)
    body, owner = {"title": "Emma", "stock": 3}, {"X-User": "7"}

    async def visit(client: httpx2.AsyncClient, place: str) -> list[Any]:
        made = await client.post(place, json=body)
        one = f"{place}/{made.json()['id']}"
        tag = {"If-Match": made.headers["ETag"]}
        asked: list[tuple[str, str, Any, dict[str, str]]] = [
            ("GET", one, None, {}),
            ("GET", one, None, {"If-None-Match": made.headers["ETag"]}),
            ("PATCH", one, {"stock": None}, {}),
            ("PATCH", one, {"stock": 1}, tag),
            ("PUT", one, {"title": "Again"}, tag),
            ("PUT", one, {"title": "Again"}, {}),
            ("GET", f"{place}?sort=-stock&title=gain", None, {}),
            ("GET", f"{place}?colour=red", None, {}),
            ("GET", one, None, {"X-User": "8"}),
            ("DELETE", one, None, {}),
            ("DELETE", one, None, {}),
        ]
        answers = [await client.request(method, path, json=data, headers=more) for method, path, data, more in asked]
        return [(each.status_code, each.content, {**each.headers}) for each in (made, *answers)]

    async def both() -> list[Any]:
        await module.database.create_all(module.Base.metadata)
        async with (
            module.database,
            httpx2.AsyncClient(
                transport=httpx2.ASGITransport(app=module.app), base_url="http://shop", headers=owner
            ) as client,
        ):
            return [await visit(client, place) for place in ("/books", "/plain/books")]

    made, plain = asyncio.run(both())
    schema = module.app.openapi()["paths"]

    assert [each[0] for each in made] == [201, 200, 304, 422, 200, 412, 200, 200, 422, 404, 204, 404]
    assert made == plain
    for path in ("", "/{book_id}"):
        described = [schema[f"{prefix}books{path}"] for prefix in ("/", "/plain/")]
        for method, operation in described[0].items():
            assert operation["responses"].keys() == described[1][method]["responses"].keys()
            assert operation["parameters"] == described[1][method]["parameters"]


def test_an_existing_app_goes_on_while_one_route_is_changed(tmp_path, monkeypatch) -> None:
    """The routes of the page on adopting, old and new, side by side on one engine; errors as the page says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_adopting", module := type(sys)("docs_adopting"))
    for block in PYTHON.findall((ROOT / "docs" / "adopting.md").read_text()):
        exec(block, module.__dict__)

    async def visit() -> list[httpx2.Response]:
        async with module.engine.begin() as connection:
            await connection.run_sync(module.Base.metadata.create_all)
        transport = httpx2.ASGITransport(app=module.app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
            answers = [
                await client.post("/authors", json={"name": "Ovid"}),
                await client.post("/v2/authors", json={"name": "Sappho"}),
                await client.post("/v2/authors", json={"name": "Sappho"}),
                await client.get("/authors/2"),
                await client.get("/v2/authors/1"),
                await client.get("/authors/9"),
                await client.get("/v2/authors/9"),
                await client.get("/authors/x"),
                await client.get("/v2/books"),
            ]
        await module.engine.dispose()
        return answers

    answers = asyncio.run(visit())

    assert [each.status_code for each in answers] == [201, 201, 409, 200, 200, 404, 404, 422, 200]
    assert [each.json().get("name") for each in answers[:5]] == ["Ovid", "Sappho", None, "Sappho", "Ovid"]
    assert answers[2].json()["errors"][0]["pointer"] == "/name"
    assert answers[5].json() == {"detail": "No such author"}
    assert answers[6].json()["type"] == "urn:fastkit:problem:not-found"
    assert isinstance(answers[7].json()["detail"], list)


def test_the_app_of_the_errors_page_answers_as_shown(tmp_path, monkeypatch) -> None:
    """The second book gets the document that the page shows, and a service's own error its members."""
    page = (ROOT / "docs" / "errors.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_errors", module := type(sys)("docs_errors"))
    for block in PYTHON.findall(page):
        exec(block, module.__dict__)

    async def visit() -> list[httpx2.Response]:
        await module.database.create_all(module.Base.metadata)
        async with module.app.router.lifespan_context(module.app):
            transport = httpx2.ASGITransport(app=module.app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://shop") as client:
                await client.post("/books", json={"sku": "EMMA"})
                return [await client.post("/books", json={"sku": "EMMA"}), await client.post("/orders?sku=EMMA")]

    twice, order = asyncio.run(visit())

    assert twice.json() == json.loads(re.findall(r"^```json\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0])
    assert (order.status_code, order.json()["left"]) == (409, 0)
