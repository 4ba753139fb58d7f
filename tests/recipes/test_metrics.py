"""Metrics for Prometheus: routes as they are declared, and the pool; nothing that a client can make up."""

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import APIRouter
from recipes.page import client, loaded, started

from fastkit.deps import transaction

SAMPLE = re.compile(r'http_server_request_seconds_count\{method="(.*?)",route="(.*?)",status="(.*?)"\} (.*)')


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that the code of the page makes."""
    return loaded(tmp_path, monkeypatch)


def counted(text: str) -> dict[tuple[str, str, str], float]:
    """Return how many requests were observed, by their labels."""
    return {(method, route, status): float(count) for method, route, status, count in SAMPLE.findall(text)}


def test_requests_are_counted_by_their_routes(recipes: Any) -> None:
    """Whatever paths and methods clients make up, there are only so many labels."""
    router = APIRouter(prefix="/books")

    @router.get("/{key}")
    async def see(key: str) -> str:
        return key

    @router.get("/{key}/bug")
    async def bug(key: str) -> None:
        raise RuntimeError(key)

    recipes.app.include_router(router, prefix="/v1")

    async def visit() -> str:
        async with started(recipes), client(recipes.served) as asking:
            for n in range(5):
                await asking.get(f"/v1/books/{n}")
                await asking.get(f"/v1/books/{n}/bug")
                await asking.get(f"/made-up-{n}")
                await asking.request(f"M{n}", "/v1/books/1")
            metrics: str = (await asking.get("/metrics/")).text
            return metrics

    assert counted(asyncio.run(visit())) == {
        ("GET", "/v1/books/{key}", "200"): 5,
        ("GET", "/v1/books/{key}/bug", "500"): 5,
        ("GET", "none", "404"): 5,
        ("other", "/v1/books/{key}", "405"): 5,
    }


def test_the_pool_is_told_when_prometheus_asks(recipes: Any) -> None:
    """Connections in use at that moment, and how many there can be."""
    seen: list[str] = []

    async def look(shop: Annotated[Any, transaction(recipes.Shop)]) -> None:
        await shop.authors.count()
        async with client(recipes.served) as asking:
            seen.append((await asking.get("/metrics/")).text)

    recipes.app.add_api_route("/look", look)

    async def visit() -> None:
        async with started(recipes), client(recipes.served) as asking:
            assert (await asking.get("/look")).status_code == 200
            seen.append((await asking.get("/metrics/")).text)

    asyncio.run(visit())
    used = [re.findall(r'database_connections_in_use\{database="shop"\} (.*)', text) for text in seen]
    most = re.findall(r'database_connections_limit\{database="shop"\} (.*)', seen[0])

    assert used == [["1.0"], ["0.0"]]
    assert float(most[0]) == recipes.database.capacity
