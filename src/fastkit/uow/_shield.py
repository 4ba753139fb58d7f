"""Run a coroutine to its end although its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

GRACE = 2.0
"""Seconds that work which missed its deadline gets to give its connection back."""


class DeadlinePassedError(Exception):
    """The work did not end in time; it was cancelled and may be half done."""


async def shielded(work: Coroutine[Any, Any, T], *, deadline: float) -> T:
    """
    Return what *work* returns, waiting at most *deadline* seconds, and deliver a cancellation only afterwards.

    Both shields are needed: the task of its own keeps out `task.cancel()`, which anyio's scope does not, and the scope
    keeps out anyio's cancellation, which would otherwise be delivered again in each turn of the event loop.

    Raises:
        DeadlinePassedError: The work did not end in time.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    end, cancelled = loop.time() + deadline, None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task}, timeout=end - loop.time())
            except asyncio.CancelledError as error:
                cancelled = error
            if not task.done() and loop.time() >= end:
                await _give_up(task)
    if cancelled is not None:
        cancelled.__context__ = None if task.cancelled() else task.exception()
        raise cancelled
    return task.result()


async def _give_up(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=GRACE)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody is left to read it
    raise DeadlinePassedError
