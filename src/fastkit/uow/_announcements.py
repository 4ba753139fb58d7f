"""What a unit of work tells others: events to their handlers before the commit, hooks after it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial

from fastkit.errors import EventLoopError
from fastkit.events import EventHandlers
from fastkit.uow._frames import frame_at
from fastkit.uow._state import Phase, UnitState
from fastkit.uow.hooks import HOOK_TIMEOUT, Hook, HookRun, hook_of
from fastkit.uow.outcome import Outcome, Status

GENERATIONS = 32
"""How often handlers may answer events with further events before that is taken for a loop."""


class Announcements(UnitState):
    """What a unit of work does about hooks and events."""

    def after_commit(self, hook: Callable[[], object], *, timeout: float | None = None) -> None:
        """
        Run *hook* after the outermost block has committed; never, if it or the savepoint around this call rolls back.

        Hooks run in order, before `commit()` returns, when the connection is back and no block is open. One that fails
        neither stops the next nor changes the outcome: it is logged and collected in `outcome.hook_errors`. What must
        not be lost when the process dies does not belong in a hook.

        Args:
            hook: A function without parameters; in an async unit it may be async.
            timeout: Seconds it may take, 10 by default.

        Raises:
            DeclarationError: Not callable, async in a sync unit, or not a timeout.
            OutsideBlockError: No block is open.
        """
        self._refuse_unless_open("after_commit()")
        self._transaction.refuse_if_doomed()
        self._hooks.append(hook_of(hook, timeout, is_async=self._is_async))

    # -- events

    def _calls_before_commit(self) -> Iterator[Callable[[], object]]:
        """Yield what must be called, and awaited, before the commit, until nothing new has happened."""
        handlers, told = self._handlers, 0
        if handlers is None:
            return
        for generation in range(GENERATIONS + 1):
            if not self._guarded.is_clean:
                yield self._flush_call  # which may record events, too
            events = list(self._guarded.events[told:])
            if not events:
                return
            if generation == GENERATIONS:
                break
            told += len(events)
            for event in events:
                yield from (partial(handler.call, event, self) for handler in handlers.before(event))
                self._hooks.extend(_hooks_for(handlers, event))
        raise EventLoopError(
            f"Handlers have answered events with new events {GENERATIONS} times: do they call each other in a circle? "
            f"The last one was {type(self._guarded.events[-1]).__name__}."
        )

    @property
    def _flush_call(self) -> Callable[[], object]:
        raise NotImplementedError

    @contextmanager
    def _handling(self) -> Generator[None]:
        """Treat the handlers as a nested block: their commit() flushes, and their errors doom the transaction."""
        self._entered(frame_at())  # a frame that leaves nothing
        try:
            yield
        except BaseException as error:
            if self._transaction is not None:
                self._transaction.doom(error)
            raise
        finally:
            if self._depth:
                self._depth -= 1
                self._frames.pop()

    @property
    def _is_outermost(self) -> bool:
        """Return whether a commit here would be the real one."""
        if self._depth != 1 or self._phase is not Phase.OPEN:
            return False
        return self._transaction.cause_of_doom is None

    # -- hooks

    def _skip_hooks(self) -> None:
        """Tell of the hooks of a commit that nobody waits for any more."""
        if self._hooks and self._phase is not Phase.OPEN and (run := self._hooks_to_run()):
            run.skip_rest("the task was cancelled during the commit, which stands.")
            self._collect(run, self._outcome)

    def _hooks_to_run(self) -> HookRun | None:
        """Return the run of the hooks that are due now, or None; each is due once."""
        hooks = self._hooks
        self._hooks = []
        run = HookRun(hooks)
        if self._outcome.status is Status.COMMITTED:
            return run
        if self._outcome.status is Status.UNKNOWN:
            run.skip_rest("nobody knows whether the commit succeeded.")
            self._collect(run, self._outcome)
        return None

    def _collect(self, run: HookRun, outcome: Outcome) -> None:
        """Tell how the hooks went; a block that one of them opened does not change the outcome."""
        if run.errors or self._outcome is not outcome:
            self._outcome = Outcome(outcome.status, tuple(run.errors))


def _hooks_for(handlers: EventHandlers, event: object) -> Iterator[Hook]:
    for handler in handlers.after(event):
        yield Hook(
            partial(handler.call, event), f"{handler} of {type(event).__name__}", handler.timeout or HOOK_TIMEOUT
        )
