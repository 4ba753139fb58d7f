"""How a block ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fastkit.errors import HookError


class Status(Enum):
    """What is known about the transaction of a block."""

    ACTIVE = "active"
    """Not decided yet."""

    COMMITTED = "committed"
    """Stored: the database confirmed it."""

    ROLLED_BACK = "rolled back"
    """Nothing was stored."""

    UNKNOWN = "unknown"
    """The connection was lost, or the deadline passed, while COMMIT was under way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    How the latest outermost block of a unit of work ended.

    Attributes:
        status: What is known about its transaction.
        hook_errors: The hooks that failed or did not run after the commit; they change nothing about the status.
    """

    status: Status = Status.ACTIVE
    hook_errors: tuple[HookError, ...] = ()

    def raise_hook_errors(self) -> None:
        """
        Raise what went wrong after the commit, if anything did: for tests.

        Raises:
            ExceptionGroup: All hook errors.
        """
        if self.hook_errors:
            raise ExceptionGroup("hooks failed after the commit", self.hook_errors)

    def __str__(self) -> str:
        return self.status.value
