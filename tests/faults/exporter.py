"""Export many rows in a process of its own, and print what memory that took: python exporter.py URL ROWS FORM."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import Numeric, create_engine, make_url, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.database import AsyncDatabase, Database
from fastkit.deps import UnitFactory
from fastkit.repository import AsyncRepository, Repository
from fastkit.responses import stream_csv, stream_json, stream_ndjson
from fastkit.uow import AsyncUnitOfWork, UnitOfWork

SYNC = {"sqlite+aiosqlite": "sqlite", "postgresql+asyncpg": "postgresql+psycopg"}
FORMS: dict[str, Any] = {"json": stream_json, "ndjson": stream_ndjson, "csv": stream_csv}
NUMBERS = {
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :rows) SELECT i FROM n",
    "postgresql": "SELECT i FROM generate_series(1, :rows) AS n(i)",
}


class Base(DeclarativeBase):
    """The table of this file."""


class Article(Base):
    """A row of about a hundred bytes."""

    __tablename__ = "exported_article"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    stock: Mapped[int]


class ArticleOut(BaseModel):
    """What is exported."""

    id: int
    title: str
    price: Decimal
    stock: int


class AsyncShelf(AsyncUnitOfWork):
    """Async."""

    articles: AsyncRepository[Article]


class Shelf(UnitOfWork):
    """Sync."""

    articles: Repository[Article]


def fill(url: Any, rows: int) -> None:
    """Make the table with so many rows."""
    engine = create_engine(url.set(drivername=SYNC.get(url.drivername, url.drivername)))
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        numbers = NUMBERS[url.get_backend_name()]
        told = "'The title of the article with the number ' || i"
        insert = f"INSERT INTO exported_article SELECT i, {told}, i % 1000 + 0.5, i % 7 FROM ({numbers}) AS numbers"
        connection.execute(text(insert), {"rows": rows})
    engine.dispose()


def memory(name: str) -> float:
    """Return what the system says of the memory of this process, in MB: VmRSS is now, VmHWM the most."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(name))


async def export(app: FastAPI, path: str) -> tuple[int, int]:
    """Take a whole response; return its lines and its bytes."""
    counted = [0, 0]

    async def send(message: Any) -> None:
        assert message.get("status", 200) == 200
        body = message.get("body", b"")
        counted[0] += body.count(b'"id":') or body.count(b"\r\n")
        counted[1] += len(body)

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
    await app({**scope, "asgi": {"version": "3.0", "spec_version": "2.3"}}, asyncio.Event().wait, send)
    return counted[0], counted[1]


async def main(address: str, rows: int, form: str) -> None:
    """Fill the table, export it, and print the figures as JSON."""
    url = make_url(address)
    fill(url, rows)
    is_async = url.get_dialect().is_async or "async" in url.drivername
    database: Any = (AsyncDatabase if is_async else Database)(address)
    factory: Any = UnitFactory(AsyncShelf if is_async else Shelf, database)
    app, stream = FastAPI(), FORMS[form]

    async def everything(most: int) -> Any:
        return stream(factory, lambda shelf: shelf.articles.into(ArticleOut), Article.id <= most)

    app.get("/{most}")(everything)
    await export(app, "/5000")
    Path("/proc/self/clear_refs").write_text("5")  # the most begins anew
    before, began = memory("VmRSS"), time.perf_counter()
    lines, size = await export(app, f"/{rows}")
    figures = {
        "lines": lines,
        "megabytes": round(size / 2**20, 1),
        "seconds": round(time.perf_counter() - began, 2),
        "extra": round(memory("VmHWM") - before, 1),
    }
    await database.close() if is_async else database.close()
    print(json.dumps(figures))  # noqa: T201 - for the test


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
