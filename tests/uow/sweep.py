"""The one place that uses SQLAlchemy's own harness for cancellation; it is not public API of SQLAlchemy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import anyio.to_thread
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.testing.cancellation import sweep


async def cancelled_everywhere(
    make_engine: Callable[[], AsyncEngine], scenario: Callable[[AsyncEngine], Awaitable[None]], *, cancels: int
) -> list[str]:
    """
    Return what went wrong when *scenario* was cancelled at each of its awaits in turn; empty if nothing did.

    The harness waits for every other task of its event loop, so it gets a loop of its own.
    """
    in_a_loop_of_its_own = partial(asyncio.run, sweep(make_engine, scenario, warm=True, cancels=cancels))
    found: list[str] = await anyio.to_thread.run_sync(in_a_loop_of_its_own)
    return found
