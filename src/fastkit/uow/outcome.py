"""How a block ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
    """

    status: Status = Status.ACTIVE

    def __str__(self) -> str:
        return self.status.value
