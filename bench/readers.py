"""
Readers against the same answer written by hand: `python bench/readers.py`.

Get one, list 100, and a nested list of 50 rows with a related row and five in a list each, from the database to the
bytes of the answer, outside a block. By hand: SQLAlchemy's entities with eager loads and Pydantic's `from_attributes`,
as FastAPI's docs have it, and SQLAlchemy's columns with a `TypeAdapter`.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.contestants import FASTKIT, HAND  # noqa: E402 - found through the line above
from bench.measure import Timing, measure, once, run, spread  # noqa: E402 - same
from bench.report import facts  # noqa: E402 - same
from bench.shop import DRIVERS, Driver, store  # noqa: E402 - same
from pydantic import TypeAdapter  # noqa: E402 - same
from sqlalchemy import ForeignKey, String, insert, select  # noqa: E402 - same
from sqlalchemy.ext.asyncio import AsyncSession  # noqa: E402 - same
from sqlalchemy.orm import (  # noqa: E402 - same
    DeclarativeBase,
    Mapped,
    Session,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)

from fastkit import (  # noqa: E402 - same
    AsyncDatabase,
    AsyncRepository,
    AsyncUnitOfWork,
    Database,
    PageQuery,
    Repository,
    Schema,
    UnitOfWork,
)

CORE = "columns by hand"
JSON = "fastkit, json()"
OPERATIONS = ("get one", "list 100", "nested 50 x (1 + 5)")


class Base(DeclarativeBase):
    """The declarative base."""


class Writer(Base):
    """The related row."""

    __tablename__ = "writer"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))


class Volume(Base):
    """The row."""

    __tablename__ = "volume"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(200))
    language: Mapped[str] = mapped_column(String(3))
    year: Mapped[int]
    cents: Mapped[int]
    stock: Mapped[int]
    writer_id: Mapped[int] = mapped_column(ForeignKey("writer.id"))
    writer: Mapped[Writer] = relationship()
    notes: Mapped[list[Note]] = relationship(order_by="Note.id")


class Note(Base):
    """The row of a list."""

    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    volume_id: Mapped[int] = mapped_column(ForeignKey("volume.id"), index=True)
    stars: Mapped[int]
    text: Mapped[str] = mapped_column(String(200))


class VolumeOut(Schema):
    """Every column."""

    id: int
    title: str
    language: str
    year: int
    cents: int
    stock: int
    writer_id: int


class WriterOut(Schema):
    """The related row."""

    id: int
    name: str


class NoteOut(Schema):
    """A row of the list."""

    id: int
    stars: int
    text: str


class Nested(VolumeOut):
    """All of it."""

    writer: WriterOut
    notes: list[NoteOut]


class Shelf(UnitOfWork):
    """The unit of work of `def` code."""

    volumes: Repository[Volume]


class AsyncShelf(AsyncUnitOfWork):
    """The unit of work of `async def` code."""

    volumes: AsyncRepository[Volume]


FLAT, NESTED = TypeAdapter(list[VolumeOut]), TypeAdapter(list[Nested])
Ask = Callable[[Session, int], bytes]


def _by_hand(operation: str) -> Ask:
    def get(session: Session, number: int) -> bytes:
        found = session.get(Volume, number % 500 + 1)
        return VolumeOut.model_validate(found).model_dump_json().encode()

    def listed(session: Session, number: int) -> bytes:
        rows = session.scalars(select(Volume).order_by(Volume.id).limit(101).offset(100 * (number % 5))).all()
        return FLAT.dump_json(FLAT.validate_python(rows[:100], from_attributes=True))

    def nested(session: Session, number: int) -> bytes:
        statement = select(Volume).options(joinedload(Volume.writer), selectinload(Volume.notes))
        rows = session.scalars(statement.order_by(Volume.id).limit(51).offset(50 * (number % 5))).all()
        return NESTED.dump_json(NESTED.validate_python(rows[:50], from_attributes=True))

    return dict(zip(OPERATIONS, (get, listed, nested), strict=True))[operation]


def _columns(operation: str) -> Ask | None:
    columns = [getattr(Volume, name) for name in VolumeOut.model_fields]

    def get(session: Session, number: int) -> bytes:
        row = session.execute(select(*columns).where(Volume.id == number % 500 + 1)).one()
        return VolumeOut.model_validate(row).model_dump_json().encode()

    def listed(session: Session, number: int) -> bytes:
        rows = session.execute(select(*columns).order_by(Volume.id).limit(101).offset(100 * (number % 5))).all()
        return FLAT.dump_json(FLAT.validate_python(rows[:100], from_attributes=True))

    return {"get one": get, "list 100": listed}.get(operation)


def _contestants(operation: str, databases: list[Any], driver: Driver) -> dict[str, Any]:
    def in_session(ask: Ask, database: Any) -> Any:
        def run(number: int) -> bytes:
            with Session(database.engine, expire_on_commit=False) as session:
                return ask(session, number)

        async def run_async(number: int) -> bytes:
            async with AsyncSession(database.engine, expire_on_commit=False) as session:
                return await session.run_sync(ask, number)

        return run_async if driver.is_async else run

    found = {HAND: in_session(_by_hand(operation), databases[0])}
    if columns := _columns(operation):
        found[CORE] = in_session(columns, databases[1])
    found[FASTKIT] = (_readers_async if driver.is_async else _readers)(operation, databases[2])
    found[JSON] = (_json_async if driver.is_async else _json)(operation, databases[2])
    return found


def _json(operation: str, database: Database) -> Any:
    def run(number: int) -> bytes:
        with Shelf.serving(database) as shelf:
            if operation == "get one":
                return shelf.volumes.into(VolumeOut).json().get_one(number % 500 + 1)
            schema, size = (VolumeOut, 100) if operation == "list 100" else (Nested, 50)
            return _items(shelf.volumes.into(schema).json().slice(_query(number, size)))

    return run


def _json_async(operation: str, database: AsyncDatabase) -> Any:
    async def run(number: int) -> bytes:
        async with AsyncShelf.serving(database) as shelf:
            if operation == "get one":
                return await shelf.volumes.into(VolumeOut).json().get_one(number % 500 + 1)
            schema, size = (VolumeOut, 100) if operation == "list 100" else (Nested, 50)
            return _items(await shelf.volumes.into(schema).json().slice(_query(number, size)))

    return run


def _items(content: bytes) -> bytes:
    """Return the list in a slice, which is what the others answer."""
    return content[len(b'{"items":') : content.rindex(b',"has_more"')]


def _query(number: int, size: int) -> PageQuery:
    return PageQuery(page=number % 5 + 1, size=size)


def _readers(operation: str, database: Database) -> Any:
    def get(number: int) -> bytes:
        with Shelf.serving(database) as shelf:
            return shelf.volumes.into(VolumeOut).get_one(number % 500 + 1).model_dump_json().encode()

    def listed(number: int) -> bytes:
        with Shelf.serving(database) as shelf:
            return FLAT.dump_json(list(shelf.volumes.into(VolumeOut).slice(_query(number, 100)).items))

    def nested(number: int) -> bytes:
        with Shelf.serving(database) as shelf:
            return NESTED.dump_json(list(shelf.volumes.into(Nested).slice(_query(number, 50)).items))

    return dict(zip(OPERATIONS, (get, listed, nested), strict=True))[operation]


def _readers_async(operation: str, database: AsyncDatabase) -> Any:
    async def get(number: int) -> bytes:
        async with AsyncShelf.serving(database) as shelf:
            return (await shelf.volumes.into(VolumeOut).get_one(number % 500 + 1)).model_dump_json().encode()

    async def listed(number: int) -> bytes:
        async with AsyncShelf.serving(database) as shelf:
            found = await shelf.volumes.into(VolumeOut).slice(_query(number, 100))
            return FLAT.dump_json(list(found.items))

    async def nested(number: int) -> bytes:
        async with AsyncShelf.serving(database) as shelf:
            found = await shelf.volumes.into(Nested).slice(_query(number, 50))
            return NESTED.dump_json(list(found.items))

    return dict(zip(OPERATIONS, (get, listed, nested), strict=True))[operation]


def _fill(engine: Any) -> None:
    Base.metadata.create_all(engine)
    volumes = [
        {
            "id": key,
            "title": f"The {key}th voyage",
            "language": "en",
            "year": 1900,
            "cents": key,
            "stock": 3,
            "writer_id": key % 50 + 1,
        }
        for key in range(1, 1001)
    ]
    with engine.begin() as connection:
        connection.execute(insert(Writer), [{"id": key, "name": f"Writer {key}"} for key in range(1, 51)])
        connection.execute(insert(Volume), volumes)
        notes = [{"volume_id": key % 1000 + 1, "stars": key % 5 + 1, "text": "Great, again."} for key in range(5000)]
        connection.execute(insert(Note), notes)


async def _driver(driver: Driver, url: str, asked: argparse.Namespace) -> list[tuple[str, str, dict[str, Timing]]]:
    make: Any = AsyncDatabase if driver.is_async else Database
    databases, cells, shuffle = [make(url) for _ in range(3)], [], random.Random(1)
    for operation in OPERATIONS:
        if asked.only not in f"{driver.label}: {operation}":
            continue
        contestants = _contestants(operation, databases, driver)
        answers = {name: [await once(run, number) for number in (1, 2, 1)] for name, run in contestants.items()}
        if any(answer != answers[HAND] for answer in answers.values()):
            raise AssertionError(f"{driver.label}: {operation}: the answers differ.")
        cells.append((driver.label, operation, await measure(contestants, seconds=asked.seconds, shuffle=shuffle)))
    for database in databases:
        closing = database.close()
        if closing is not None:
            await closing
    return cells


def _faster(timings: dict[str, Timing], name: str) -> str:
    """Return how many times faster than by hand a contestant is, if it ran."""
    return f"**{1 / spread(timings[name].wall, timings[HAND].wall).median:.1f}**" if name in timings else ""


def _markdown(cells: list[tuple[str, str, dict[str, Timing]]], known: dict[str, Any]) -> str:
    lines = [
        "# Readers against answers written by hand",
        "",
        "Time in relation to hand-written entities with `response_model`; microseconds of the best round.",
        "",
        f"| driver | read | by hand, us | fastkit, us | fastkit / by hand | times faster | {JSON} | {CORE} |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for driver, operation, timings in cells:
        ratio = spread(timings[FASTKIT].wall, timings[HAND].wall)
        json, core = (_faster(timings, name) for name in (JSON, CORE))
        best = [f"{min(timings[name].wall):.0f}" for name in (HAND, FASTKIT)]
        lines.append(f"| {' | '.join([driver, operation, *best, str(ratio), _faster(timings, FASTKIT), json, core])} |")
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in known.items()), ""])


def main() -> None:
    """Run every cell, print the table and, after a full run, keep it."""
    parser = argparse.ArgumentParser(description="Compare readers with what is written by hand.")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each driver and read")
    parser.add_argument("--quick", action="store_true", help="only see that it works; keep no result")
    parser.add_argument("--only", default="", help="cells whose 'driver: read' has this in it; keep no result")
    asked = parser.parse_args()
    asked.seconds = min(asked.seconds, 0.3) if asked.quick else asked.seconds
    load, servers, cells = os.getloadavg(), dict[str, str](), []
    with tempfile.TemporaryDirectory() as folder:
        for driver in DRIVERS:
            with store(driver, Path(folder)) as found:
                if found is None:
                    print(f"not measured, because its server does not answer: {driver.label}", file=sys.stderr)
                    continue
                servers["PostgreSQL" if driver.is_server else "SQLite"] = found.version
                _fill(found.observer)
                cells += run(_driver(driver, found.url, asked))
    text = _markdown(cells, facts(servers, load))
    print(text)
    if not (asked.quick or asked.only):
        (HERE / "results" / "readers.md").write_text(text)


if __name__ == "__main__":
    main()
