"""Functions of the app that are called in one colour or the other, and a clear word where they are of the wrong one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable
from typing import TypeVar

from fastkit.errors import DeclarationError

T = TypeVar("T")


def refuse_awaitable(answer: T, name: str) -> T:
    """
    Return what a function of a sync unit of work returned, unless somebody would have to await it.

    Raises:
        DeclarationError: It would never have run.
    """
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that nobody awaited it
        raise DeclarationError(
            f"{name} returned an awaitable, which nobody awaits in a sync unit of work: use a plain function."
        )
    return answer


async def awaited(answer: Awaitable[T], name: str) -> T:
    """
    Await what a function of an async unit of work returned.

    Raises:
        DeclarationError: It is a plain function, which could only block the event loop.
    """
    given: object = answer
    if not inspect.isawaitable(given):
        raise DeclarationError(f"{name} returned nothing to await, and the unit of work is async: write `async def`.")
    return await answer
