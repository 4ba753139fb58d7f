"""The ways in which a task is cancelled, each at the moment when the work has got as far as a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

Work = Coroutine[Any, Any, object]


async def by_task_cancel(work: Work, reached: asyncio.Event) -> None:
    """Cancel the task."""
    task = asyncio.create_task(work)
    await reached.wait()
    task.cancel()
    await task


async def by_task_cancel_twice(work: Work, reached: asyncio.Event) -> None:
    """Cancel the task, and once more while it deals with that."""
    task = asyncio.create_task(work)
    await reached.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.05)
    await task


async def by_timeout(work: Work, reached: asyncio.Event) -> None:
    """Let a timeout of asyncio pass."""
    async with asyncio.timeout(None) as limit:
        await _and_when(reached, lambda: limit.reschedule(asyncio.get_running_loop().time()), work)


async def by_scope(work: Work, reached: asyncio.Event) -> None:
    """Let a scope of anyio time out."""
    with anyio.fail_after(None) as scope:
        await _and_when(reached, lambda: setattr(scope, "deadline", anyio.current_time()), work)


async def by_sibling(work: Work, reached: asyncio.Event) -> None:
    """Let another task of its group fail."""
    async with asyncio.TaskGroup() as group:
        group.create_task(work)
        await reached.wait()
        raise TimeoutError


async def _and_when(reached: asyncio.Event, act: Callable[[], None], work: Work) -> None:
    """Do the work in this task, and *act* from another one as soon as it has got so far."""

    async def wait() -> None:
        await reached.wait()
        act()

    waiting = asyncio.create_task(wait())
    try:
        await work
    finally:
        waiting.cancel()
