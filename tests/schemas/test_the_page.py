"""The app of the page on schemas does what its table says."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from deps.apps import client_of

from bookshop.models import Author, Base, Book

PAGE = Path(__file__).parents[2] / "docs" / "schemas.md"


@pytest.fixture
def page(tmp_path, monkeypatch) -> Any:
    """Return the module that the code of the page makes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "docs_schemas", module := type(sys)("docs_schemas"))
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(block, module.__dict__)
    return module


def test_the_table(page: Any) -> None:
    """Each row, and the list."""
    page.database.create_all(Base.metadata)
    with page.Shop(page.database) as shop:
        emma = {"sku": "E", "title": "E.", "year": 1815, "language": "en", "price": 200, "stock": 5}
        shop.books.add(Book(id=1, author=Author(id=1, name="Jane Austen"), **emma))
        shop.commit()
    payloads: list[Any] = [{"title": "Emma"}, {}, {"title": None}, {"id": 7}, {"is_admin": True}, {"stock": 5000}]

    async def visit() -> list[httpx2.Response]:
        async with page.app.router.lifespan_context(page.app), client_of(page.app) as client:
            headers = {"content-type": "application/merge-patch+json"}
            answers = [await client.patch("/books/1", json=payload, headers=headers) for payload in payloads]
            return [*answers, await client.get("/books")]

    *answers, found = asyncio.run(visit())

    assert [each.status_code for each in answers] == [200, 200, 422, 422, 422, 422]
    assert answers[1].json() == {
        "title": "Emma",
        "author_id": 1,
        "year": 1815,
        "language": "en",
        "price": "200.00",
        "stock": 5,
        "id": 1,
    }
    assert answers[5].json()["errors"] == [{"detail": "more than 1000 copies may cost 100 at most"}]
    assert found.json()["items"] == [{"title": "Emma", "id": 1}]
