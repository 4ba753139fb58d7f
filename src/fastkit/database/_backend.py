"""What a kind of database must be able to say; one small class each for SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.engine import URL

from fastkit.database._modes import Mode
from fastkit.database.timeouts import Timeouts

MODE = "fastkit_mode"
"""Execution option that carries the `Mode` of a transaction from its engine to the `begin` event."""

PATIENCE = "fastkit_patience"
"""Execution option that carries the seconds that a transaction may wait for the write lock of SQLite as it begins."""


class Backend(Protocol):
    """
    The decisions that depend on the kind of database.

    Attributes:
        shares_snapshots: Whether several transactions can be shown what one of them sees.
    """

    shares_snapshots: ClassVar[bool] = False

    def engine_options(self, url: URL, timeouts: Timeouts) -> dict[str, Any]:
        """Return keyword arguments for `create_engine`, with limits for connecting, statements and locks."""
        ...

    def joined(self, url: URL, limits: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the app's own arguments of the driver, with the limits added where both are parts of one argument."""
        return own

    def attach(self, engine: Engine, timeouts: Timeouts) -> None:
        """Add the connection events that make transactions in a `Mode` possible."""

    def engine_for(self, engine: Engine, mode: Mode) -> Engine:
        """Return a view of the engine, on the same pool, whose transactions run in this mode."""
        ...

    def cut(self, driver: Any) -> None:
        """Cut the line of a driver's connection, without waiting for anything."""
        ...

    def lock(self, connection: Connection, name: str, seconds: float) -> bool:
        """
        Take a lock on a name that ends when the connection is given back, or before; return whether it was given.

        Zero seconds are no wait. A database may also answer with the error that means `LockTimeoutError`.
        """
        ...

    def number_of(self, connection: Connection) -> str | None:
        """Return what the database calls the open transaction, or None if it has written nothing or has no name."""
        return None

    def was_committed(self, connection: Connection, number: str) -> bool | None:
        """Return what became of a transaction, or None if the database does not say (yet)."""
        return None


def mode_of(connection: Connection) -> Mode | None:
    """Return the mode that this transaction was asked to run in, or None if no unit of work asked for it."""
    mode: Mode | None = connection.get_execution_options().get(MODE)
    return mode
