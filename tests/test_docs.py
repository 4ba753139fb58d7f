"""The code in the README and in the docs runs as it stands, and its links lead somewhere."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

import httpx2
import pytest

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
