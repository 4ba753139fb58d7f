"""Which replica serves a read-only block, and which are left alone for a while because they did not answer."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Engine, Pool
from sqlalchemy.engine import URL

from fastkit.database._modes import Mode
from fastkit.errors import DeclarationError

log = logging.getLogger("fastkit.database")

PENALTY = 10.0
"""Seconds that a replica is left alone after no connection to it could be made."""


class ServesReads(Protocol):
    """A database that may be a replica."""

    def engine_for(self, mode: Mode) -> Engine:
        """Return the engine whose connections run transactions in this mode."""
        ...

    @property
    def dialect_name(self) -> str:
        """Return the kind of database."""
        ...

    @property
    def pool(self) -> Pool:
        """Return the pool that all its engines share."""
        ...


R = TypeVar("R", bound=ServesReads)
T = TypeVar("T")


def listed(replicas: Sequence[T]) -> Sequence[T]:
    """
    Return the replicas.

    Raises:
        DeclarationError: They are one URL, and not a list of them.
    """
    if isinstance(replicas, str | URL):
        raise DeclarationError("replicas is a list of URLs: replicas=[url].")
    return replicas


class Replicas(Generic[R]):
    """The replicas of a database, taken in turn."""

    def __init__(self, databases: Sequence[R], dialect_name: str = "") -> None:
        self.databases = tuple(databases)
        for each in self.databases:
            if each.dialect_name != dialect_name:
                raise DeclarationError(f"A replica of {dialect_name} is {dialect_name} too, not {each.dialect_name}.")
        self._turn = itertools.count()
        self._back_at = [0.0] * len(self.databases)

    def next(self) -> R | None:
        """Return the replica whose turn it is, or None if there is none that answers."""
        now, count = time.monotonic(), len(self.databases)
        start = next(self._turn) if count else 0
        for offset in range(count):
            if self._back_at[(start + offset) % count] <= now:
                return self.databases[(start + offset) % count]
        return None

    def missing(self, database: R, error: Exception) -> None:
        """Note that a replica could not be opened."""
        log.warning("Replica %s cannot be reached: %s", database, error)
        self._back_at[self.databases.index(database)] = time.monotonic() + PENALTY

    def avoid(self, engine: Engine) -> None:
        """Leave the replica of this engine alone for a while; a no-op for the primary's."""
        for position, database in enumerate(self.databases):
            if database.pool is engine.pool:
                self._back_at[position] = time.monotonic() + PENALTY
                log.warning("No connection to replica %s; it is left alone for %s s.", database, PENALTY)
