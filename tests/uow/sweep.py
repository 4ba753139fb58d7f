"""The one place that uses SQLAlchemy's own harness for cancellation; it is not public API of SQLAlchemy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.testing.cancellation import sweep


async def cancelled_everywhere(
    make_engine: Callable[[], AsyncEngine], scenario: Callable[[AsyncEngine], Awaitable[None]], *, cancels: int
) -> list[str]:
    """Return what went wrong when *scenario* was cancelled at each of its awaits in turn; empty if nothing did."""
    found: list[str] = await sweep(make_engine, scenario, warm=True, cancels=cancels)
    return found
