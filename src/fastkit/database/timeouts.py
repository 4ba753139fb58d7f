"""How long a database may keep an app waiting."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from fastkit.errors import DeclarationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """
    Time limits in seconds; every wait on a database has one.

    Attributes:
        connect: Making a new connection.
        pool: Waiting for a connection to become free.
        statement: Running one statement (PostgreSQL, MariaDB; on SQLite only where a block sets its own).
        lock: Waiting for a row or table lock; on SQLite, for another writer.
        commit: COMMIT and giving the connection back, in an async unit of work; after it the outcome is unknown.
        drain: Waiting at shutdown for the connections that are still in use.
    """

    connect: float = 5.0
    pool: float = 10.0
    statement: float = 30.0
    lock: float = 5.0
    commit: float = 30.0
    drain: float = 10.0

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
                raise DeclarationError(f"The {field.name} timeout is a number of seconds above zero, and finite.")

    @property
    def statement_ms(self) -> int:
        """Return the statement limit in whole milliseconds, at least one."""
        return milliseconds(self.statement)

    @property
    def lock_ms(self) -> int:
        """Return the lock limit in whole milliseconds, at least one."""
        return milliseconds(self.lock)


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, at least one, because zero means "no limit" to most databases."""
    return max(1, round(seconds * 1000))
