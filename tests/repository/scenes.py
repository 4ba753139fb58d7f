"""Where a read happens, what it sends, and somebody else who reads and writes the same database."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from conftest import World
from servers import DRIVERS
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

INSIDE, OUTSIDE = "inside a block", "outside a block"
PLACES = (INSIDE, OUTSIDE)
BOOKKEEPING = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "PRAGMA", "START TRANSACTION")
ON_SQLITE = pytest.mark.parametrize(
    "driver", [driver for driver in DRIVERS if driver.server == "SQLite"], indirect=True, ids=lambda driver: driver.id
)
"""What is decided before anything is sent needs both colours, not every driver."""

_SYNC = {"SQLite": "sqlite", "PostgreSQL": "postgresql+psycopg", "MariaDB": "mariadb+pymysql"}


class Scene:
    """A unit of work that reads in one place."""

    def __init__(self, world: World, shop: Any, place: str) -> None:
        self.world = world
        self.shop = shop
        self.place = place

    @property
    def settled(self) -> bool:
        """Return whether the connection is where it should be after a read: kept by a block, else back in the pool."""
        return self.world.checked_out == (1 if self.place == INSIDE else 0)


@asynccontextmanager
async def scene(world: World, place: str) -> AsyncGenerator[Scene]:
    """Make a unit of work that reads inside a block, which leaves nothing behind, or outside of one."""
    async with world.serving() as shop:
        if place == OUTSIDE:
            yield Scene(world, shop, place)
            return
        async with shop:
            yield Scene(world, shop, place)
            await shop.rollback()


def sync_session(shop: Any) -> Session:
    """Return the sync session of a unit of either colour."""
    session = getattr(shop.session, "naked", shop.session)
    found: Session = getattr(session, "sync_session", session)
    return found


@contextmanager
def recorded(world: World) -> Generator[list[str]]:
    """Collect the statements that reach the database, without those that only begin, set up or end a transaction."""
    sent: list[str] = []

    def note(connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        if not statement.startswith(BOOKKEEPING):
            sent.append(statement)

    event.listen(world.sync_engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(world.sync_engine, "before_cursor_execute", note)


@contextmanager
def rival(world: World) -> Generator[Connection]:
    """Connect to the same database without fastkit, as another process would."""
    engine = rival_engine(world)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def rival_engine(world: World) -> Engine:
    """Return a plain sync engine for the same database."""
    return create_engine(world.sync_engine.url.set(drivername=_SYNC[world.server]))


@contextmanager
def meanwhile(world: World, marker: str, act: Callable[[Connection], object]) -> Generator[list[str]]:
    """Let somebody else act and commit, once, right after the first statement that contains *marker*."""
    done: list[str] = []
    with rival(world) as other:

        def interfere(connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
            if marker in statement and not done:
                done.append(statement)
                act(other)
                other.commit()

        event.listen(world.sync_engine, "after_cursor_execute", interfere)
        try:
            yield done
        finally:
            event.remove(world.sync_engine, "after_cursor_execute", interfere)
