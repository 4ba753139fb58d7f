"""The state of a unit of work, and what it refuses in which state."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum, auto
from types import FrameType
from typing import Any, ClassVar

from sqlalchemy import MetaData

from fastkit.database import AsyncDatabase, Database, GuardedSession
from fastkit.errors import (
    ConcurrentUseError,
    DeclarationError,
    OutsideBlockError,
    UncommittedChangesError,
    UnitClosedError,
    UnitOfWorkError,
)
from fastkit.events import EventHandlers
from fastkit.models import Scope
from fastkit.uow._declaration import declare_repositories, metadata_of
from fastkit.uow._scoped import Scoped
from fastkit.uow.hooks import Hook
from fastkit.uow.outcome import Outcome, Status

ACTIVE, COMMITTED, ROLLED_BACK, UNDECIDED = map(Outcome, Status)


_LEFT_OPEN = (
    "A nested block or savepoint is still open here, in a generator that was not finished: close it before, "
    "`async with aclosing(books(shop)) as found:`."
)


class Phase(Enum):
    """Where a unit of work is in its life."""

    NEW = auto()
    """Made by hand, its block not opened yet."""

    OUTSIDE = auto()
    """Served by an owner, no block open."""

    OPEN = auto()
    """A block is open."""

    OVER = auto()
    """commit() or rollback() ended the block, its `with` goes on."""

    CLOSED = auto()
    """Ended for good."""


class UnitState(Scoped):
    """What a unit of work knows of itself; what it does is in the classes above this one."""

    _repository_root: ClassVar[type[Any]]
    _metadata: ClassVar[tuple[MetaData, ...]] = ()
    _handlers: ClassVar[EventHandlers | None] = None
    _confirms_commits: ClassVar[bool] = False
    _is_async: ClassVar[bool]
    _guarded: GuardedSession

    def __init_subclass__(
        cls,
        *,
        events: EventHandlers | None = None,
        confirm_commit: bool | None = None,
        scopes: Sequence[Scope[Any]] = (),
        **options: Any,
    ) -> None:
        super().__init_subclass__(**options)
        cls._declare_scopes(scopes)
        if confirm_commit is not None:
            cls._confirms_commits = confirm_commit
        if events is not None:
            if not isinstance(events, EventHandlers):
                raise DeclarationError(f"{cls.__qualname__}: events is an EventHandlers object, not {events!r}.")
            cls._handlers = events
        if hasattr(cls, "_repository_root"):
            declare_repositories(cls, cls._repository_root, _frame_of_class())
            cls._metadata = metadata_of(cls)
        if cls._handlers is not None and not cls._is_async:
            cls._handlers.serve_sync(cls.__qualname__)

    def __init__(self, database: Database | AsyncDatabase, *, confirm_commit: bool | None = None) -> None:
        self._database = database
        self._confirms = self._confirms_commits if confirm_commit is None else confirm_commit
        if self._confirms:
            refuse_confirmation(database)
        self._scoping = self._new_scoping()
        self._phase = Phase.NEW
        self._at_rest = Phase.CLOSED
        self._depth = 0
        self._owner: object | None = None
        self._outcome = ACTIVE
        self._hooks: list[Hook] = []
        self._savepoints: list[Any] = []
        self._frames: list[FrameType] = []
        self._left_open: list[FrameType] = []

    @classmethod
    def _refuse_database(cls, database: Database | AsyncDatabase) -> None:
        """
        Refuse a database on which these units could not do what their class asks for; told when an app is put together.

        Raises:
            DeclarationError: Commits are to be confirmed, and it cannot be asked; or a scope misses its column.
        """
        if cls._confirms_commits:
            refuse_confirmation(database)
        cls._scope_set_of()

    @property
    def outcome(self) -> Outcome:
        """Return how the latest outermost block ended."""
        return self._outcome

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._phase.name.lower()}, outcome {self._outcome}>"

    # -- what a colour supplies

    def _take_session(self) -> None:
        """Make a session of its own; it connects with its first statement."""
        raise NotImplementedError

    def _me(self) -> object:
        """Return the task or thread that runs now."""
        raise NotImplementedError

    # -- what is refused

    @property
    def _transaction(self) -> Any:
        return self._guarded.open_transaction

    def _refuse_unless_alive(self) -> None:
        if self._phase is Phase.NEW:
            name, opened = type(self).__name__, "async with" if self._is_async else "with"
            raise UnitClosedError(
                f"This {name} was not opened yet: use it inside `{opened} {name}(database) as shop:`."
            )
        if self._phase is Phase.CLOSED:
            raise UnitClosedError(self._closed_for_good())

    @classmethod
    def _closed_for_good(cls) -> str:
        # Of the class, because a session keeps it: one of the unit would make a ring that only the collector frees.
        name = cls.__name__
        return (
            f"This {name} has ended. Its block, or its request, is over: make a new one, {name}(database), "
            f"or take a factory, unit_factory({name}), where work goes on after the request."
        )

    def _refuse_other_task(self, what: str) -> None:
        if self._owner is not None and self._owner is not self._me():
            raise ConcurrentUseError(
                f"Only the task or thread that opened the block may {what}. Give each task a unit of its own."
            )

    def _entered(self, frame: FrameType) -> None:
        self._depth += 1
        self._frames.append(frame)  # itself and not its id, which the next frame may get

    def _leaves(self, frame: FrameType) -> bool:
        """Note that a `with` in *frame* ends; return False if it was given up together with what is around it."""
        if not self._left_open and self._frames and self._frames[-1] is frame:
            self._frames.pop()
            return True  # nearly always
        if frame in self._left_open:
            self._left_open.remove(frame)
            return False
        if frame in self._frames:  # it is not if an ExitStack entered it
            self._give_up_inner(len(self._frames) - 1 - self._frames[::-1].index(frame))
        if self._frames:
            self._frames.pop()
        return True

    def _give_up_inner(self, position: int) -> None:
        """Doom the transaction if blocks or savepoints that were opened inside the one that ends have not ended."""
        inner = self._frames[position + 1 :]
        if not inner:
            return
        del self._frames[position + 1 :]
        self._left_open += inner
        self._depth -= len(inner)
        self._savepoints = [each for each in self._savepoints if each.depth <= self._depth]
        if self._transaction is not None:
            self._transaction.doom(UnitOfWorkError(_LEFT_OPEN), whole=True)

    def _refuse_to_commit_around(self, frame: FrameType) -> None:
        if frame in self._frames and self._frames[-1] is not frame:
            raise UnitOfWorkError(_LEFT_OPEN)

    def _refuse_changes_made_outside(self) -> None:
        if events := self._guarded.events:
            raise UncommittedChangesError(
                f"Events were recorded while no block was open: {names_of(events)}. Record them inside a block."
            )
        if changed := self._guarded.unsaved():
            raise UncommittedChangesError(
                f"Objects were changed while no block was open: {names_of(changed)}. "
                "Change them inside a block, `async with shop:`, and commit() it.",
                changed,
            )

    def _refuse_unless_open(self, call: str) -> None:
        if self._phase is Phase.OVER:
            raise OutsideBlockError(f"{call} was called, but this block was already ended by commit() or rollback().")
        if self._phase is not Phase.OPEN:
            self._refuse_unless_alive()
            raise OutsideBlockError(f"{call} needs an open block: `async with shop:`.")
        self._refuse_other_task(f"call {call}")
        self._guarded.refuse_if_busy()


def _frame_of_class() -> FrameType | None:
    """Return where a class is made: it knows the names in its body; an `__init_subclass__` in between does not."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - there is no public word
    while frame is not None and frame.f_code.co_name == "__init_subclass__":
        frame = frame.f_back
    return frame


def refuse_confirmation(database: Database | AsyncDatabase) -> None:
    """
    Refuse to confirm commits where the database cannot say what became of them.

    Raises:
        DeclarationError: It is MariaDB or MySQL.
    """
    if database.dialect_name in {"mariadb", "mysql"}:
        raise DeclarationError("confirm_commit=True: MariaDB cannot be asked whether a transaction was committed.")


def names_of(objects: Sequence[object]) -> str:
    """Return of which classes objects are and how many of each, such as "2 x Book, 1 x Author"."""
    counts: dict[str, int] = {}
    for entity in objects:
        counts[type(entity).__name__] = counts.get(type(entity).__name__, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counts.items())
