"""Run a coroutine to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

ABORT_GRACE = 0.5
"""Seconds that work which missed its deadline gets to end by itself when its connection is cut."""

GRACE = 2.0
"""Seconds that it gets to give its connection back when it is cancelled, after that."""


class DeadlinePassedError(Exception):
    """
    The work did not end in time; it was cancelled and may be half done.

    Attributes:
        cancelled: The cancellation of the caller that came in the meantime, to be raised by it.
    """

    def __init__(self, cancelled: asyncio.CancelledError | None) -> None:
        super().__init__()
        self.cancelled = cancelled


async def shielded(work: Coroutine[Any, Any, T], *, deadline: float, abort: Callable[[], None]) -> T:
    """
    Return what *work* returns, waiting at most *deadline* seconds, and deliver a cancellation only afterwards.

    Both shields are needed: the task of its own keeps out `task.cancel()`, which anyio's scope does not, and the scope
    keeps out anyio's cancellation, which would otherwise be delivered again in each turn of the event loop.

    Args:
        work: What nobody may cut in two.
        deadline: Seconds after which it is cut all the same.
        abort: Cuts the connection that it waits for, so that it can end by itself and say how.

    Raises:
        DeadlinePassedError: The work ended neither in time nor soon after it was aborted.
    """
    task = asyncio.get_running_loop().create_task(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        cancelled = await _wait(task, deadline)
        if not task.done():
            abort()
            cancelled = await _wait(task, ABORT_GRACE) or cancelled
        if not task.done():
            task.cancel()
            cancelled = await _wait(task, GRACE) or cancelled
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody is left to read it
            raise DeadlinePassedError(cancelled)
    if cancelled is not None:
        cancelled.__context__ = None if task.cancelled() else task.exception()
        raise cancelled
    return task.result()


async def _wait(task: asyncio.Task[Any], seconds: float) -> asyncio.CancelledError | None:
    """Wait so long at most; return the cancellation of the caller that came in the meantime, if any."""
    loop = asyncio.get_running_loop()
    end, cancelled = loop.time() + seconds, None
    while not task.done() and (left := end - loop.time()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
