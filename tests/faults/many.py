"""Many blocks at once, and what was told about each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aftermath import Lookout, check_told
from conftest import AsyncShop, Shop

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database
from fastkit.uow import Status

Told = tuple[Status, Exception | None]
"""How a block ended, and what it raised."""


async def write(database: Database | AsyncDatabase, name: str) -> Told:
    """Write two authors in one block, a sync one in a thread; return its outcome, and what it raised."""
    if isinstance(database, AsyncDatabase):
        shop = AsyncShop(database)
        try:
            async with shop.begin():
                shop.authors.add(Author(name=f"{name}-a"))
                await shop.session.flush()
                shop.authors.add(Author(name=f"{name}-b"))
        except Exception as error:
            return shop.outcome.status, error
        return shop.outcome.status, None
    return await asyncio.to_thread(_write, database, name)


def _write(database: Database, name: str) -> Told:
    shop = Shop(database)
    try:
        with shop.begin():
            shop.authors.add(Author(name=f"{name}-a"))
            shop.session.flush()
            shop.authors.add(Author(name=f"{name}-b"))
    except Exception as error:
        return shop.outcome.status, error
    return shop.outcome.status, None


class Outcomes(dict[str, Told]):
    """What was told about each block, by its name."""

    def check(self, lookout: Lookout) -> None:
        """Assert that all of it is true: no error means stored, and what is told is what is there."""
        for name, (told, error) in self.items():
            assert (told is Status.COMMITTED) == (error is None), f"{told} with {error!r}"
            check_told(told, lookout, [f"{name}-a", f"{name}-b"])

    @property
    def errors(self) -> list[Exception]:
        """Return what the blocks raised."""
        return [error for _, error in self.values() if error is not None]

    @property
    def stored(self) -> int:
        """Return how many blocks are committed."""
        return len(self) - len(self.errors)


async def keep_writing(
    database: Database | AsyncDatabase, outcomes: Outcomes, who: str, *, until: Callable[[], bool]
) -> None:
    """Write one block after the other."""
    number = 0
    while not until():
        number += 1
        outcomes[f"{who}-{number}"] = await write(database, f"{who}-{number}")
