"""The one place that uses SQLAlchemy's own harness for cancellation; it is not public API of SQLAlchemy."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial

import anyio.to_thread
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.testing.cancellation import sweep


def only_a_sample(chosen: bool) -> None:
    """Skip a sweep that is not chosen, because it takes long, unless all of them are asked for."""
    if not chosen and not os.environ.get("FASTKIT_SLOW"):
        pytest.skip("a sample of the sweeps runs here; FASTKIT_SLOW=1 runs all, as `make faults` does")


async def cancelled_everywhere(
    make_engine: Callable[[], AsyncEngine], scenario: Callable[[AsyncEngine], Awaitable[None]], *, cancels: int
) -> list[str]:
    """
    Return what went wrong when *scenario* was cancelled at each of its awaits in turn; empty if nothing did.

    The harness waits for every other task of its event loop, so it gets a loop of its own.
    """

    async def swept() -> list[str]:
        before = set(threading.enumerate())
        found: list[str] = await sweep(make_engine, scenario, warm=True, cancels=cancels)
        await _threads_of_aiosqlite(before)
        return found

    return await anyio.to_thread.run_sync(partial(asyncio.run, swept()))


async def _threads_of_aiosqlite(known: set[threading.Thread]) -> None:
    """Wait for connections that were given up while they were opened: their threads speak to this event loop."""
    deadline = time.monotonic() + 5
    while any("connection_worker" in each.name for each in set(threading.enumerate()) - known):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.01)
