"""Hooks: what a unit of work does after its commit, when nothing can be undone any more."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from anyio.lowlevel import checkpoint_if_cancelled

from fastkit._calls import refuse_awaitable
from fastkit.errors import DeclarationError, HookError
from fastkit.events import Handler, check_timeout

log = logging.getLogger("fastkit.uow")

HOOK_TIMEOUT = 10.0
"""Seconds that a hook may take if it does not say so itself."""


@dataclass(frozen=True, slots=True)
class Hook:
    """
    One thing to do after the commit.

    Attributes:
        call: Takes nothing; what it returns is awaited in an async unit, if it can be.
        name: How logs and errors call it.
        timeout: Seconds it may take. A plain function cannot be cut off; that it took longer is told afterwards.
    """

    call: Callable[[], object]
    name: str
    timeout: float


def hook_of(function: Callable[[], object], timeout: float | None, *, is_async: bool) -> Hook:
    """
    Return a hook.

    Raises:
        DeclarationError: Not callable, async although the unit is sync, or not a timeout.
    """
    given: object = function
    if not callable(given):
        if inspect.iscoroutine(given):
            given.close()  # or Python warns that nobody awaited it
        raise DeclarationError(
            f"A hook is a function without parameters, not {type(given).__name__}: pass it uncalled."
        )
    handler = Handler(function)
    if handler.is_async and not is_async:
        raise DeclarationError(f"The hook {handler} is async, and this is a sync unit of work: use a plain function.")
    check_timeout(timeout)
    return Hook(function, str(handler), timeout or HOOK_TIMEOUT)


class HookRun:
    """One run of all hooks of a commit, in order; collects what went wrong."""

    def __init__(self, hooks: list[Hook]) -> None:
        self._left = list(hooks)
        self._cancellations = _cancellations()
        self.errors: list[HookError] = []

    def run(self) -> None:
        """Run them; one that fails does not stop the next."""
        try:
            while self._left:
                hook = self._left.pop(0)
                with _Telling(self, hook):
                    refuse_awaitable(hook.call(), f"The hook {hook.name}")
        finally:
            self.skip_rest("an exit or an interrupt came first; the commit stands.")

    async def run_async(self) -> None:
        """Same as `run`, but awaited; a cancellation stops the rest."""
        try:
            await checkpoint_if_cancelled()  # by an anyio scope, during the commit
            while self._left:
                hook = self._left.pop(0)
                with _Telling(self, hook):
                    async with asyncio.timeout(hook.timeout):
                        if inspect.isawaitable(answer := hook.call()):
                            await answer
                if self.is_cancelled:
                    raise asyncio.CancelledError  # the hook made another error of it
        finally:
            self.skip_rest("the task was cancelled first; the commit stands.")

    @property
    def is_cancelled(self) -> bool:
        """Return whether somebody cancels this task since the run began."""
        return _cancellations() > self._cancellations

    def skip_rest(self, why: str) -> None:
        """Tell of the hooks that will not run."""
        for hook in self._left:
            self._tell(HookError(f"The hook {hook.name} did not run: {why}", hook.name))
        self._left.clear()

    def _tell(self, error: HookError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        log.error("%s", error, exc_info=cause)
        self.errors.append(error)

    def failed(self, hook: Hook, error: BaseException, seconds: float) -> bool:
        """Note that a hook failed; return whether the next one may run."""
        # A hook may await something that was cancelled, though nobody cancels this task.
        of_itself = isinstance(error, asyncio.CancelledError) and not self.is_cancelled
        if not isinstance(error, Exception) and not of_itself:
            self._tell(HookError(f"The hook {hook.name} was cut off. The commit stands.", hook.name), error)
            return False
        took_too_long = isinstance(error, TimeoutError) and seconds >= hook.timeout
        what = f"did not end in {hook.timeout} s" if took_too_long else f"failed with {type(error).__name__}"
        self._tell(HookError(f"The hook {hook.name} {what}. The commit stands.", hook.name), error)
        return True

    def overran(self, hook: Hook, seconds: float) -> None:
        """Note that a hook that cannot be cut off took too long."""
        took = f"took {seconds:.1f} s, more than its {hook.timeout} s"
        self._tell(HookError(f"The hook {hook.name} {took}. The commit stands.", hook.name))


class _Telling:
    """Swallow the failure of one hook, and tell it."""

    def __init__(self, run: HookRun, hook: Hook) -> None:
        self._run = run
        self._hook = hook

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        seconds = time.monotonic() - self._start
        if error is not None:
            return self._run.failed(self._hook, error, seconds)
        if seconds > self._hook.timeout:
            self._run.overran(self._hook, seconds)
        return False


def _cancellations() -> int:
    try:
        task = asyncio.current_task()
    except RuntimeError:  # a thread without an event loop
        return 0
    return task.cancelling() if task is not None else 0
