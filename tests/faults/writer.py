"""
A process that writes through fastkit until it is killed: `python writer.py sync|async URL NAME [HELD]`.

It waits for a line on its standard input. Then it stores one block of three authors after the other, NAME-1-a to
NAME-1-c and so on, and says on its standard output "begun 1", "flushed 1", "committed 1". In block number HELD it waits
for another line after "flushed"; so it stops in the middle of a block until somebody kills it. It ends after 1000.
"""

from __future__ import annotations

import asyncio
import os
import sys

from bookshop.models import Author
from fastkit.database import AsyncDatabase, Database
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow import AsyncUnitOfWork, UnitOfWork


class Shop(UnitOfWork):
    """Only what is written, sync."""

    authors: Repository[Author]


class AsyncShop(AsyncUnitOfWork):
    """Only what is written, async."""

    authors: AsyncRepository[Author]


def say(what: str, number: int) -> None:
    """Tell the parent, past all buffers."""
    os.write(1, f"{what} {number}\n".encode())


def rows(name: str, number: int) -> list[Author]:
    """Return the authors of one block."""
    return [Author(name=f"{name}-{number}-{letter}") for letter in "abc"]


def write(url: str, name: str, held: int) -> None:
    """Write with a sync driver."""
    database = Database(url)
    for number in range(1, 1001):
        say("begun", number)
        with Shop(database) as shop:
            shop.authors.add_all(rows(name, number))
            shop.session.flush()
            say("flushed", number)
            if number == held:
                sys.stdin.readline()
            shop.commit()
        say("committed", number)


async def write_async(url: str, name: str, held: int) -> None:
    """Write with an async driver."""
    database = AsyncDatabase(url)
    for number in range(1, 1001):
        say("begun", number)
        async with AsyncShop(database) as shop:
            shop.authors.add_all(rows(name, number))
            await shop.session.flush()
            say("flushed", number)
            if number == held:
                sys.stdin.readline()
            await shop.commit()
        say("committed", number)


if __name__ == "__main__":
    colour, url, name, *rest = sys.argv[1:]
    held = int(rest[0]) if rest else 0
    sys.stdin.readline()
    if colour == "async":
        asyncio.run(write_async(url, name, held))
    else:
        write(url, name, held)
