"""Connections that rested in the pool are asked whether they are alive; those in use are not."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import World
from sqlalchemy import text

from fastkit.database import _liveness
from fastkit.errors import ConnectionLostError

pytestmark = pytest.mark.anyio

_KILL = {"PostgreSQL": "SELECT pg_terminate_backend({})", "MariaDB": "KILL {}"}
_OWN = {"PostgreSQL": "SELECT pg_backend_pid()", "MariaDB": "SELECT connection_id()"}


@pytest.fixture
def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a connection is asked; skip where there is no server to lose."""
    if world.server == "SQLite":
        pytest.skip("a file does not hang up")
    dialect, found = world.sync_engine.dialect, []
    ping = dialect.do_ping

    def counted(dbapi: Any) -> bool:
        found.append(1)
        return bool(ping(dbapi))

    monkeypatch.setattr(dialect, "do_ping", counted)
    return found


async def read(world: World) -> None:
    async with world.serving() as shop:
        await shop.authors.count()


async def lose(world: World) -> None:
    """Let the server end the only connection that is in the pool."""
    from repository.scenes import rival

    async with world.serving() as shop:
        query = text(_OWN[world.server]).execution_options(fastkit_reads=True)
        number = (await shop.session.execute(query)).scalar()
    with rival(world) as other:
        other.execute(text(_KILL[world.server].format(int(number))))


async def test_what_was_used_just_now_is_trusted(world: World, asked: list[int]) -> None:
    """No round trip before each read."""
    for _ in range(3):
        await read(world)

    assert asked == []


async def test_what_has_rested_is_asked_once(world: World, asked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second, and again only after another."""
    now = [100.0]
    monkeypatch.setattr(_liveness, "monotonic", lambda: now[0])
    await read(world)
    for seconds, pings in ((0.9, 0), (1.1, 1), (0.9, 1), (5, 2)):
        now[0] += seconds
        await read(world)

        assert len(asked) == pings


async def test_what_died_resting_is_replaced_unseen(world: World, asked: list[int], rested: None) -> None:
    """The next read gets a new connection."""
    await lose(world)

    await read(world)

    assert len(asked) == 1


async def test_what_died_in_use_is_told_once(world: World, asked: list[int]) -> None:
    """The first statement finds out; after it the pool is as good as new."""
    await lose(world)

    with pytest.raises(ConnectionLostError):
        await read(world)
    await read(world)
