"""The life of a unit of work: every decision about blocks, commit and rollback, once for both colours."""

from __future__ import annotations

import logging
import sys
from enum import Enum, auto
from typing import Any, ClassVar, NoReturn

from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from fastkit.database import AsyncDatabase, Database, GuardedSession, NestedRollback
from fastkit.errors import (
    CannotConnectError,
    CommitUnknownError,
    ConcurrentUseError,
    ConnectionLostError,
    FastkitError,
    OutsideBlockError,
    ReadOnlyError,
    StatementTimeoutError,
    TransactionDoomedError,
    UncommittedChangesError,
    UnitClosedError,
)
from fastkit.uow._declaration import declare_repositories, metadata_of
from fastkit.uow.blocks import BlockOptions
from fastkit.uow.outcome import Outcome, Status

log = logging.getLogger("fastkit.uow")

_UNKNOWN = (
    "The connection was lost, or not answered, while COMMIT was under way: the changes are stored, or they are not. "
    "Read them back before you do the work again."
)


_ACTIVE, _COMMITTED, _ROLLED_BACK, _UNDECIDED = map(Outcome, Status)


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


class UnitLife:
    """
    The state and the decisions of a unit of work.

    The methods that speak to the database are sync; the async face runs them inside `AsyncSession.run_sync`.
    """

    _repository_root: ClassVar[type[Any]]
    _metadata: ClassVar[tuple[MetaData, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "_repository_root"):
            declare_repositories(cls, cls._repository_root, sys._getframe(1))  # noqa: SLF001 - the frame of the class body
            cls._metadata = metadata_of(cls)

    def __init__(self, database: Database | AsyncDatabase) -> None:
        self._database = database
        self._phase = Phase.NEW
        self._at_rest = Phase.CLOSED
        self._depth = 0
        self._owner: object | None = None
        self._outcome = _ACTIVE

    @property
    def outcome(self) -> Outcome:
        """Return how the latest outermost block ended."""
        return self._outcome

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._phase.name.lower()}, outcome {self._outcome}>"

    # -- what a colour supplies

    @property
    def _guarded(self) -> GuardedSession:
        raise NotImplementedError

    def _me(self) -> object:
        """Return the task or thread that runs now."""
        raise NotImplementedError

    # -- opening

    def _refuse_unless_alive(self) -> None:
        name = type(self).__name__
        if self._phase is Phase.NEW:
            raise UnitClosedError(f"This {name} was not opened yet: use it inside `with {name}(database) as shop:`.")
        if self._phase is Phase.CLOSED:
            raise UnitClosedError(self._closed_for_good())

    def _closed_for_good(self) -> str:
        name = type(self).__name__
        return (
            f"This {name} has ended. Its block, or its request, is over: make a new one, {name}(database), "
            f"or take a factory, unit_factory({name}), where work goes on after the request."
        )

    def _enter(self, options: BlockOptions) -> None:
        if self._phase is not Phase.NEW:
            self._refuse_unless_alive()
        if self._phase is Phase.OVER:
            raise OutsideBlockError("commit() or rollback() ended this block: leave its `with` before opening another.")
        if self._phase is Phase.OPEN:
            self._refuse_other_task("open a nested block")
            self._transaction.refuse_if_doomed()
            options.check_joins(self._transaction.mode)
        else:
            self._refuse_changes_made_outside()
            self._guarded.open(options.mode)
            self._phase, self._outcome = Phase.OPEN, _ACTIVE
            self._owner = self._me() if options.bound else None
        self._depth += 1

    @property
    def _transaction(self) -> Any:
        return self._guarded.open_transaction

    def _refuse_other_task(self, what: str) -> None:
        if self._owner is not None and self._owner is not self._me():
            raise ConcurrentUseError(
                f"Only the task or thread that opened the block may {what}. Give each task a unit of its own."
            )

    def _refuse_changes_made_outside(self) -> None:
        if self._phase is not Phase.NEW and (changed := self._guarded.unsaved()):
            raise UncommittedChangesError(
                f"Objects were changed while no block was open: {_names(changed)}. "
                "Change them inside a block, `async with shop:`, and commit() it.",
                changed,
            )

    # -- ending

    def _commit(self) -> None:
        """Commit the outermost block, or flush a nested one."""
        if self._depth > 1:
            self._transaction.refuse_if_doomed()
            self._guarded.flush()
            return
        transaction = self._transaction
        transaction.refuse_if_doomed()
        try:
            self._guarded.commit_open()
        except BaseException as error:  # noqa: BLE001 - also a cancellation must be followed by a rollback
            self._after_failed_commit(error, sent=transaction.commit_sent)
        self._end(_COMMITTED)

    def _after_failed_commit(self, error: BaseException, *, sent: bool) -> NoReturn:
        """Roll back in any case, so that the next user of the connection cannot commit these rows; then tell."""
        unknown = sent and not _says_no(error)
        self._roll_back_after(error)
        if not unknown:
            raise error
        self._end(_UNDECIDED)
        if not isinstance(error, Exception):
            raise error  # a cancellation or an interrupt wins; the outcome says the rest
        raise CommitUnknownError(_UNKNOWN) from error

    def _rollback(self) -> None:
        """Roll back the outermost block, or doom the transaction from a nested one."""
        if self._depth > 1:
            self._transaction.doom(NestedRollback("rollback() was called in a nested block"))
        else:
            self._roll_back()

    def _refuse_unless_open(self, call: str) -> None:
        if self._phase is Phase.OVER:
            raise OutsideBlockError(f"{call} was called, but this block was already ended by commit() or rollback().")
        self._refuse_unless_alive()
        if self._phase is Phase.OUTSIDE:
            raise OutsideBlockError(f"{call} needs an open block: `async with shop:`.")
        self._refuse_other_task(f"call {call}")
        self._guarded.refuse_if_busy()

    def _abandon(self, *, sent: bool, committing: bool) -> None:
        """Tell the outcome of work that missed its deadline; its connection is thrown away."""
        log.error(
            "The database did not answer in %s s; its connection is thrown away.",
            self._database.timeouts.commit,
        )
        if self._outcome.status is Status.ACTIVE:
            self._end(_UNDECIDED if sent else _ROLLED_BACK)
        if committing and self._outcome.status is Status.UNKNOWN:
            raise CommitUnknownError(_UNKNOWN)
        if committing and self._outcome.status is Status.ROLLED_BACK:
            raise StatementTimeoutError("The database did not answer before the commit deadline; nothing was stored.")

    def _end(self, outcome: Outcome) -> None:
        self._phase, self._outcome = Phase.OVER, outcome

    # -- leaving

    def _leave(self, error: BaseException | None, *, commits: bool) -> None:
        """Leave a block; the outermost one rolls back what was not committed."""
        self._depth -= 1
        if self._depth:
            self._leave_nested(error, commits=commits)
            return
        try:
            self._leave_outermost(error, commits=commits)
        finally:
            self._phase, self._owner = self._at_rest, None
            if self._phase is Phase.CLOSED:
                self._guarded.close_for_good(self._closed_for_good)

    def _leave_nested(self, error: BaseException | None, *, commits: bool) -> None:
        if self._transaction is None:
            return
        if error is not None:
            self._transaction.doom(error)
        elif commits:
            self._guarded.flush()

    def _leave_outermost(self, error: BaseException | None, *, commits: bool) -> None:
        if self._phase is Phase.OVER:
            if error is None and self._at_rest is Phase.CLOSED:
                self._refuse_changes_made_outside()
        elif error is not None:
            self._roll_back_after(error)
        elif commits:
            self._commit_or_roll_back()
        else:
            self._roll_back_unless_saved()

    def _commit_or_roll_back(self) -> None:
        try:
            self._transaction.refuse_if_doomed()
        except TransactionDoomedError as doomed:
            self._roll_back_after(doomed)
            raise
        self._commit()

    def _roll_back(self) -> Exception | None:
        """Roll back; a rollback that fails is logged and returned, because the database rolls back by itself."""
        failure = None
        try:
            self._guarded.rollback_open()
        except Exception as error:
            log.exception("A rollback failed; the database rolls back by itself, and the connection is thrown away.")
            failure = error
        self._end(_ROLLED_BACK)
        return failure

    def _roll_back_after(self, error: BaseException) -> None:
        """Roll back; whatever happens, *error* is the exception that the caller sees."""
        if failure := self._roll_back():
            error.add_note(f"The rollback failed too: {type(failure).__name__}")
            error.__context__ = error.__context__ or failure

    def _roll_back_unless_saved(self) -> None:
        transaction, unsaved = self._transaction, self._guarded.unsaved()
        objects = [*unsaved, *transaction.written]
        self._roll_back()
        if unsaved and transaction.mode.read_only:
            raise ReadOnlyError(f"This block is read-only, and {_names(unsaved)} was changed in it.")
        if unsaved or transaction.has_written:
            sent = ", ".join(f"{count} x {what}" for what, count in transaction.writes.items())
            lost = ", ".join(filter(None, [_names(unsaved), sent]))
            hint = " Mark a text that only reads with execution_options(fastkit_reads=True)." if "text" in sent else ""
            raise UncommittedChangesError(
                f"The block ended without commit(), so this was rolled back: {lost}. "
                f"Call commit() to keep it, or rollback() to say that it is meant to go.{hint}",
                objects,
            ) from transaction.cause_of_doom

    # -- being owned by a request

    def _serve(self) -> None:
        """Become a unit that may open many blocks, one after the other, until its owner ends."""
        self._phase = self._at_rest = Phase.OUTSIDE

    def _retire(self, error: BaseException | None) -> None:
        """End the owner: what is left open is rolled back, what was changed outside a block is told."""
        try:
            if self._phase is Phase.OPEN:
                self._roll_back()
            elif error is None:
                self._refuse_changes_made_outside()
        finally:
            self._phase = Phase.CLOSED
            self._guarded.close_for_good(self._closed_for_good)


def _says_no(error: BaseException) -> bool:
    """Return whether the database itself refused, so that it is certain that nothing was stored."""
    if isinstance(error, ConnectionLostError | CannotConnectError):
        return False
    return isinstance(error, FastkitError | DBAPIError)


def _names(objects: list[object]) -> str:
    counts: dict[str, int] = {}
    for entity in objects:
        counts[type(entity).__name__] = counts.get(type(entity).__name__, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counts.items())
