"""A migration under a running app: what was prepared for the old tables fails once for each connection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from colours import awaitable
from conftest import World
from deps.apps import finished
from repository.scenes import rival
from servers import DRIVERS
from sqlalchemy import text

from fastkit.errors import ConcurrencyError
from fastkit.uow import Status

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "driver", [each for each in DRIVERS if each.server == "PostgreSQL"], ids=lambda driver: driver.id, indirect=True
    ),
]

READ = text("SELECT * FROM moved").execution_options(fastkit_reads=True)


@pytest.fixture
def prepared(world: World) -> Iterator[World]:
    """Return a world with a table of its own."""
    _alter(world, "CREATE TABLE moved (id integer)")
    yield world
    _alter(world, "DROP TABLE moved")


def _alter(world: World, *statements: str) -> None:
    with rival(world) as other:
        for statement in ("SET lock_timeout = 2000", *statements):
            other.execute(text(statement))
        other.commit()


async def _read_often(world: World) -> None:
    """Let both drivers prepare the statement: psycopg does so after five times."""
    for _ in range(7):
        async with world.shop() as shop:
            await shop.session.execute(READ)
            await shop.commit()  # a rollback forgets what psycopg has prepared


async def test_a_block_that_meets_a_migration_is_told_so(prepared: World) -> None:
    """It has lost against the migration, and stored nothing; the next one works."""
    await _read_often(prepared)
    _alter(prepared, "ALTER TABLE moved ADD COLUMN name text")
    with pytest.raises(ConcurrencyError, match="The tables were changed") as caught:
        async with prepared.shop() as shop:
            await shop.session.execute(READ)
    async with prepared.shop() as again:
        found = (await again.session.execute(READ)).keys()

    assert type(caught.value) is ConcurrencyError
    assert shop.outcome.status is Status.ROLLED_BACK
    assert list(found) == ["id", "name"]


async def test_run_does_the_block_again(prepared: World) -> None:
    """Whoever runs work by run() does not notice the migration."""
    await _read_often(prepared)
    _alter(prepared, "ALTER TABLE moved ADD COLUMN name text")

    async def read(shop: Any) -> list[str]:
        return list((await awaitable(shop).session.execute(READ)).keys())

    work = read if prepared.driver.is_async else lambda shop: finished(read(shop))

    assert await prepared.database.run(prepared.unit, work) == ["id", "name"]


async def test_another_fault_of_the_same_code_is_no_lost_race(prepared: World) -> None:
    """What PostgreSQL does not support is a bug of the app, and is not done again."""
    attempts = []

    async def lock(shop: Any) -> None:
        attempts.append(shop)
        await awaitable(shop).session.execute(text("SELECT DISTINCT id FROM moved FOR UPDATE"))

    work = lock if prepared.driver.is_async else lambda shop: finished(lock(shop))
    with pytest.raises(Exception, match="FOR UPDATE is not allowed with DISTINCT"):
        await prepared.database.run(prepared.unit, work)

    assert len(attempts) == 1
