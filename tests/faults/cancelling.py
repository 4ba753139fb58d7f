"""Cancel a piece of work at a chosen await, in each of the ways that a server, a timeout or a sibling does it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import anyio

Canceller = Callable[["Steps"], Awaitable[None]]


class Steps:
    """
    Some work, and what is done when it has been suspended so many times.

    Attributes:
        taken: How many times it was suspended.
    """

    def __init__(self, work: Awaitable[Any], at: set[int]) -> None:
        self._work = work
        self._at = at
        self.act: Callable[[], object] = lambda: None
        self.taken = 0

    def __await__(self) -> Generator[Any, None, Any]:
        inner = self._work.__await__()
        error: BaseException | None = None
        while True:
            try:
                waits_for = inner.throw(error) if error is not None else next(inner)
            except StopIteration as stop:
                return stop.value
            self.taken += 1
            if self.taken in self._at:
                self.act()
            error = None
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown


async def by_task_cancel(steps: Steps) -> None:
    """Call `task.cancel()`, as uvicorn does at a forced shutdown."""
    task = asyncio.create_task(_awaited(steps))
    steps.act = task.cancel
    await asyncio.wait({task})
    if not task.cancelled() and task.exception() is not None:
        await task


async def by_timeout(steps: Steps) -> None:
    """Let an `asyncio.timeout` expire."""
    try:
        async with asyncio.timeout(None) as limit:
            steps.act = lambda: None if limit.expired() else limit.reschedule(asyncio.get_running_loop().time())
            await steps
    except TimeoutError:
        pass


async def by_scope(steps: Steps) -> None:
    """Cancel an anyio scope, as Starlette does when a client goes away."""
    with anyio.CancelScope() as scope:
        steps.act = scope.cancel
        await steps


class SiblingError(Exception):
    """What the other task of a group fails with."""


async def by_sibling(steps: Steps) -> None:
    """Let another task of the same TaskGroup fail."""
    fails = asyncio.Event()
    steps.act = fails.set

    async def sibling() -> None:
        await fails.wait()
        raise SiblingError

    async def work() -> None:
        await steps
        other.cancel()

    try:
        async with asyncio.TaskGroup() as group:
            other = group.create_task(sibling())
            group.create_task(work())
    except* SiblingError:
        pass


async def _awaited(steps: Steps) -> Any:
    return await steps


CANCELLERS: tuple[Canceller, ...] = (by_task_cancel, by_timeout, by_scope, by_sibling)
