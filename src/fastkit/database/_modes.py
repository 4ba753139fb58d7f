"""How a transaction runs: its isolation level, whether it may write, how long a statement may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict, get_args

from fastkit.errors import DeclarationError

Isolation: TypeAlias = Literal["READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]
"""The isolation levels of the SQL standard. A database may give a stronger one: SQLite is always serializable."""


class Asked(TypedDict, total=False):
    """The options of a block: `block()`, `begin()`, `run()` and `transactional()`."""

    isolation: Isolation | None
    read_only: bool | None
    timeout: float | None
    durable: bool
    primary: bool


@dataclass(frozen=True, slots=True)
class Mode:
    """
    What a transaction is asked to be; a value that can be compared.

    Attributes:
        isolation: Isolation level, or None for the database's default.
        read_only: Whether the database refuses every write.
        timeout: Seconds that one statement may take, or None for the limit of the `Database`.
        replica: Whether a replica may serve it.
        autocommit: Whether each statement is complete in itself; used for single reads outside a block.
        is_checked: Whether the session sees to it that nothing is written, as it does outside a block.
    """

    isolation: Isolation | None = None
    read_only: bool = False
    timeout: float | None = None
    autocommit: bool = False
    replica: bool = False
    is_checked: bool = False

    def __post_init__(self) -> None:
        if self.isolation is not None and self.isolation not in get_args(Isolation):
            levels = ", ".join(get_args(Isolation))
            raise DeclarationError(f"Unknown isolation level {self.isolation!r}: choose one of {levels}.")
        if self.timeout is not None and not isinstance(self.timeout, int | float):
            raise DeclarationError(f"A statement timeout is a number of seconds, not {self.timeout!r}.")
        if self.timeout is not None and not 0.001 <= self.timeout <= 86_400:  # noqa: PLR2004 - a millisecond to a day
            raise DeclarationError(f"A statement timeout is 0.001 to 86400 seconds, not {self.timeout!r}.")


PLAIN = Mode()
SINGLE_READ = Mode(read_only=True, autocommit=True, is_checked=True)
SEVERAL_READS = Mode(isolation="REPEATABLE READ", read_only=True, is_checked=True)
