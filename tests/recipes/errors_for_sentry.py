"""Ask the app of the page for errors of all kinds, and print what would go to Sentry; run in a process of its own."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from sentry_sdk.transport import Transport
from sqlalchemy import text

sys.path[:0] = sys.argv[1:]

from recipes.page import client, loaded, started  # noqa: E402

from bookshop.models import Author  # noqa: E402
from fastkit.deps import transaction, unit_of_work  # noqa: E402
from fastkit.errors import NotFoundError, PoolTimeoutError  # noqa: E402

SECRET = "s3cret-value"


class Kept(Transport):
    """A transport that sends nothing."""

    events: list[Any] = []  # noqa: RUF012 - of the process

    def capture_envelope(self, envelope: Any) -> None:
        """Keep an event."""
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]


def add_routes(recipes: Any) -> None:
    """Add an endpoint for each kind of error."""
    app = recipes.app

    @app.get("/bug/{key}")
    async def bug(key: str) -> None:
        local = SECRET
        raise RuntimeError(f"{key} {local}")

    @app.get("/forgotten/{key}")
    async def forgotten(key: str, shop: Annotated[Any, unit_of_work(recipes.Shop)]) -> None:
        async with shop:
            shop.authors.add(Author(name=key))

    @app.get("/sql/{key}")
    async def sql(key: str, shop: Annotated[Any, unit_of_work(recipes.Shop)]) -> None:
        await shop.session.execute(text(f"SELECT '{key}' FROM nowhere").execution_options(fastkit_reads=True))

    @app.get("/twice/{key}")
    async def twice(key: str, shop: Annotated[Any, transaction(recipes.Shop)]) -> None:
        shop.authors.add_all([Author(name=key), Author(name=key)])

    @app.get("/missing/{key}")
    async def missing(key: str) -> None:
        raise NotFoundError("Row", key)

    @app.get("/busy/{key}")
    async def busy(key: str) -> None:
        raise PoolTimeoutError(key)

    @app.get("/number/{key}")
    async def number(key: int) -> None: ...


async def visit(recipes: Any) -> dict[str, Any]:
    """Return status and events of each path."""
    found = {}
    async with started(recipes), client(recipes.served, authorization=SECRET, cookie=SECRET) as asking:
        for path in ("bug", "forgotten", "sql", "twice", "missing", "busy", "number", "nowhere"):
            Kept.events.clear()
            answer = await asking.get(f"/{path}/{SECRET}?q={SECRET}", headers={"x-request-id": path})
            found[path] = {"status": answer.status_code, "events": list(Kept.events)}
    return found


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        page = loaded(Path.cwd(), patch)
    sys.modules[page.__name__] = page
    page.report_errors("https://key@sentry.example/1", transport=Kept)
    page.app = page.create_app()  # after Sentry has begun
    page.served = page.around(page.app)
    add_routes(page)
    print(json.dumps(asyncio.run(visit(page))))  # noqa: T201 - for the test
