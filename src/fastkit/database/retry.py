"""When a transaction that lost against another one runs again, and how long it waits before."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from fastkit.database._translate import translate
from fastkit.errors import CommitUnknownError, ConcurrencyError, DeclarationError, LockTimeoutError

log = logging.getLogger("fastkit.database")

MOST_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class Retry:
    """
    How often work is done again after a serialization failure, a deadlock, or a busy SQLite.

    The pause before attempt n is random between zero and `delay * 2 ** (n - 2)`, at most `max_delay`.

    Args:
        attempts: How often in all; 1 is no repetition.
        deadline: Seconds after which no further attempt begins.
        delay: Longest pause in seconds before the second attempt.
        max_delay: Longest pause in seconds before any attempt.

    Raises:
        DeclarationError: A number that cannot be meant.

    Source: "Exponential Backoff And Jitter" (full jitter), AWS Architecture Blog, 2015.
    """

    attempts: int = 10
    deadline: float = field(default=15.0, kw_only=True)
    delay: float = field(default=0.02, kw_only=True)
    max_delay: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if not isinstance(attempts, int) or not 1 <= attempts <= MOST_ATTEMPTS:
            raise DeclarationError(
                f"Retry(attempts={self.attempts!r}): it counts all attempts, so it is 1 to {MOST_ATTEMPTS}; "
                "1 means that nothing is repeated."
            )
        for name in ("deadline", "delay", "max_delay"):
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not seconds > 0:
                raise DeclarationError(f"Retry({name}={seconds!r}): it is a number of seconds above zero.")


class Attempts:
    """The count of one piece of work that is done again and again until it succeeds or is given up."""

    def __init__(self, retry: Retry, *, lock_timeouts: bool) -> None:
        given: object = retry
        if not isinstance(given, Retry):
            raise DeclarationError(f"retry={given!r}: write Retry(attempts=...); Retry(1) repeats nothing.")
        self._retry = retry
        self._lock_timeouts = lock_timeouts
        self._start = time.monotonic()
        self._made = 1
        self._handled_before = sys.exception()

    def next_pause(self, error: BaseException) -> float | None:
        """Return the seconds to wait before the next attempt, or None if *error* is to be raised."""
        if not self._may_help(error):
            return None
        longest = min(self._retry.max_delay, self._retry.delay * 2.0 ** (self._made - 1))
        pause = random.uniform(0, longest)  # noqa: S311 - jitter, not a secret
        spent = time.monotonic() - self._start
        if self._made >= self._retry.attempts or spent + pause > self._retry.deadline:
            error.add_note(f"Given up after {self._made} attempt(s) in {spent:.2f} s.")
            return None
        self._made += 1
        log.info("A race was lost (%s): attempt %d begins in %.3f s.", type(error).__name__, self._made, pause)
        return pause

    def _may_help(self, error: BaseException) -> bool:
        if not isinstance(error, Exception):
            return False  # a cancellation or an interrupt, whatever was being handled when it came
        found = list(_everything_in(error, but=self._handled_before))
        if any(isinstance(each, CommitUnknownError) for each in found):
            return False
        return any(self._is_lost_race(each) for each in found)

    def _is_lost_race(self, error: BaseException) -> bool:
        said = translate(error) if isinstance(error, DBAPIError) else error
        if isinstance(said, LockTimeoutError):
            return self._lock_timeouts
        return isinstance(said, ConcurrencyError) and said.retryable


def _everything_in(error: BaseException, *, but: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, what it came from, what it came after *but* that one, and the members of groups, each once."""
    seen = {id(but)}
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
