"""Blocks: what one `with` of a unit of work asks for, in both colours side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from fastkit.database import PLAIN as PLAIN_MODE
from fastkit.database import Isolation, Mode
from fastkit.errors import BlockMismatchError
from fastkit.uow._frames import frame_at

if TYPE_CHECKING:
    from fastkit.uow.unit_of_work import AsyncUnitOfWork, UnitOfWork

U = TypeVar("U", bound="UnitOfWork")
A = TypeVar("A", bound="AsyncUnitOfWork")


@dataclass(frozen=True, slots=True)
class BlockOptions:
    """
    What a block asks for; None asks for nothing.

    Attributes:
        isolation: Isolation level of the transaction.
        read_only: Whether the database refuses every write.
        timeout: Seconds that one statement may take.
        durable: Whether the block must be the outermost one, so that its commit is real.
        primary: Whether the primary serves the block although it only reads.
        commits: Whether a clean exit commits.
        bound: Whether the block belongs to the task or thread that opened it.
        mode: The mode of the transaction that this block opens if it is the outermost one.
    """

    isolation: Isolation | None = None
    read_only: bool | None = None
    timeout: float | None = None
    durable: bool = False
    primary: bool = False
    commits: bool = False
    bound: bool = True
    mode: Mode = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # An unknown isolation level is told where the block is asked for.
        asks = self.isolation is not None or self.read_only or self.timeout is not None
        replica = bool(self.read_only) and not self.primary
        mode = Mode(self.isolation, bool(self.read_only), self.timeout, replica=replica) if asks else PLAIN_MODE
        object.__setattr__(self, "mode", mode)

    def check_joins(self, mode: Mode) -> None:
        """
        Refuse what the open transaction is not, instead of ignoring it.

        Raises:
            BlockMismatchError: The nested block asks for something else, or must not be nested.
        """
        if self.durable:
            raise BlockMismatchError("A durable block must be the outermost one: its commit would not be real here.")
        if self.primary and mode.replica:
            raise BlockMismatchError(
                "This nested block asks for the primary, but a replica may serve the open transaction."
            )
        for name in ("isolation", "read_only", "timeout"):
            asked, given = getattr(self, name), getattr(mode, name)
            if asked is not None and asked != given:
                raise BlockMismatchError(
                    f"This nested block asks for {name}={asked!r}, but the open transaction has {name}={given!r}. "
                    "Ask for it where the outermost block is opened."
                )


PLAIN = BlockOptions()


class Block(Generic[U]):
    """A block that was asked for with options; enter it with `with`."""

    def __init__(self, unit: U, options: BlockOptions) -> None:
        self._unit = unit
        self._options = options

    def __enter__(self) -> U:
        self._unit._enter(self._options, frame_at(1))  # noqa: SLF001 - a block is a part of its unit
        return self._unit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unit._exit(error, frame_at(1), commits=self._options.commits)  # noqa: SLF001 - same


class AsyncBlock(Generic[A]):
    """Same as `Block`, but entered with `async with`."""

    def __init__(self, unit: A, options: BlockOptions) -> None:
        self._unit = unit
        self._options = options

    async def __aenter__(self) -> A:
        self._unit._enter(self._options, frame_at(1))  # noqa: SLF001 - a block is a part of its unit
        return self._unit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._unit._exit(error, frame_at(1), commits=self._options.commits)  # noqa: SLF001 - same


class Savepoint(Generic[U]):
    """A part of a block that can be rolled back alone; enter it with `with`."""

    def __init__(self, unit: U) -> None:
        self._unit = unit

    def __enter__(self) -> U:
        self._unit._enter_savepoint(frame_at(1))  # noqa: SLF001 - a savepoint is a part of its unit
        return self._unit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unit._leave_savepoint(self._unit._take_savepoint(frame_at(1)), error)  # noqa: SLF001 - same


class AsyncSavepoint(Generic[A]):
    """Same as `Savepoint`, but entered with `async with`."""

    def __init__(self, unit: A) -> None:
        self._unit = unit

    async def __aenter__(self) -> A:
        await self._unit._open_savepoint(frame_at(1))  # noqa: SLF001 - a savepoint is a part of its unit
        return self._unit

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._unit._close_savepoint(error, frame_at(1))  # noqa: SLF001 - same
