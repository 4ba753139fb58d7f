"""The page of recipes as a module, and small ways to ask its apps."""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
SITE = "https://shop.example"
ORIGIN = "https://www.shop.example"


def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the code of the page makes, on a database in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    module: Any = type(sys)("docs_recipes")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # annotations are found there
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE), 1):
        exec(compile(block, f"recipes, block {number}", "exec"), module.__dict__)
    return module


def client(app: Any, base_url: str = SITE, **headers: str) -> httpx2.AsyncClient:
    """Return a client of an app that meets errors as answers."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(transport=transport, base_url=base_url, headers={"origin": ORIGIN, **headers})


@asynccontextmanager
async def started(recipes: Any) -> Any:
    """Run the app of the page on a database with its tables."""
    async with recipes.app.router.lifespan_context(recipes.app):
        await recipes.database.create_all(recipes.Base.metadata)
        yield recipes
