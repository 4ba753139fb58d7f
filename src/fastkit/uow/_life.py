"""The life of a unit of work: every decision about blocks, commit and rollback, once for both colours."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from sqlalchemy.exc import DBAPIError

from fastkit.database import REQUEST, OpenTransaction
from fastkit.errors import (
    BlockMismatchError,
    CannotConnectError,
    CommitUnknownError,
    ConnectionLostError,
    FastkitError,
    OutsideBlockError,
    ReadOnlyError,
    StatementTimeoutError,
    TransactionDoomedError,
    UncommittedChangesError,
)
from fastkit.repository import AsyncRepository, Repository
from fastkit.uow._announcements import Announcements
from fastkit.uow._savepoints import Savepoints
from fastkit.uow._state import ACTIVE, COMMITTED, ROLLED_BACK, UNDECIDED, Phase, names_of
from fastkit.uow.blocks import BlockOptions
from fastkit.uow.outcome import Outcome, Status

log = logging.getLogger("fastkit.uow")

_UNKNOWN = (
    "The connection was lost, or not answered, while COMMIT was under way: the changes are stored, or they are not. "
    "Read them back before you do the work again."
)

_NOT_STORED = (
    "The connection was lost during COMMIT, and the database says that nothing was stored: run the whole block again."
)


class UnitLife(Savepoints, Announcements):
    """
    The life of a unit of work, from the opening of a block to its end.

    The methods that speak to the database are sync; the async face runs them inside `AsyncSession.run_sync`.
    """

    # -- opening

    def _enter(self, options: BlockOptions, frame: FrameType) -> None:
        if self._phase is not Phase.NEW:
            self._refuse_unless_alive()
        if self._phase is Phase.OVER:
            raise OutsideBlockError("commit() or rollback() ended this block: leave its `with` before opening another.")
        if self._phase is Phase.OPEN:
            self._refuse_other_task("open a nested block")
            self._transaction.refuse_if_doomed()
            options.check_joins(self._transaction.mode)
        else:
            if self._phase is not Phase.NEW:
                self._refuse_changes_made_outside()
            self._guarded.open(options.mode)
            self._phase, self._outcome = Phase.OPEN, ACTIVE
            me = self._me()
            self._owner = me if options.bound else None
            # The thread of an unbound sync block serves others before its end.
            if holder := me if options.bound or self._is_async else REQUEST.get():
                self._database.ledger.opened(self, holder)
        self._entered(frame)

    # -- ending

    def _commit(self) -> None:
        """Commit the outermost block, or flush a nested one."""
        transaction = self._transaction
        transaction.refuse_if_doomed()
        if self._depth > 1:
            self._guarded.flush()
            return
        try:
            self._guarded.commit_open(confirmable=self._confirms)
        except BaseException as error:  # noqa: BLE001 - also a cancellation must be followed by a rollback
            self._after_failed_commit(error, transaction)
        else:
            self._end(COMMITTED)

    def _after_failed_commit(self, error: BaseException, transaction: OpenTransaction) -> None:
        """Roll back in any case, so that the next user of the connection cannot commit these rows; then tell."""
        if transaction.committed:
            self._guarded.finish_committed()
            self._end(COMMITTED)
            raise error  # of a listener of the app, say; what it came after is stored
        was_cut = transaction.committing and not isinstance(error, Exception)
        unknown = (transaction.commit_sent or was_cut) and not _says_no(error)
        if unknown:
            self._guarded.forget_events()
        self._roll_back_after(error, UNDECIDED if unknown else ROLLED_BACK)
        if not unknown:
            raise error
        number = transaction.number
        self._decide(self._database.ledger.ask_whether_committed(number) if number else None, error)

    def _decide(self, was_committed: bool | None, error: BaseException | None) -> None:
        """Tell what became of a COMMIT without an answer: None if nobody knows."""
        self._end({True: COMMITTED, False: ROLLED_BACK, None: UNDECIDED}[was_committed])
        if was_committed:
            log.warning("The connection was lost during COMMIT; the database confirms that it was committed.")
        elif error is not None and not isinstance(error, Exception):
            raise error  # a cancellation or an interrupt wins; the outcome says the rest
        elif was_committed is None:
            raise CommitUnknownError(_UNKNOWN) from error
        else:
            raise ConnectionLostError(_NOT_STORED) from error

    def _rollback(self, place: str) -> None:
        """Roll back the outermost block, or doom what encloses a nested one."""
        if self._depth > 1:
            self._doom_by_rollback(place)
        else:
            self._roll_back()

    def _part_if_abandoned(self) -> None:
        """Leave a block whose end missed its deadline, and the session in which somebody may still be at work."""
        if not self._guarded.is_abandoned:
            return
        self._depth, self._phase, self._owner = 0, self._at_rest, None
        self._left_open += self._frames
        self._frames, self._savepoints = [], []
        self._database.ledger.closed(self)
        if self._phase is not Phase.CLOSED:
            self._start_over()

    def _abandon(self, *, sent: bool) -> None:
        """Tell the outcome of work that missed its deadline; its connection is thrown away."""
        if self._outcome.status is Status.ACTIVE:
            self._end(UNDECIDED if sent else ROLLED_BACK)
        self._guarded.is_abandoned = True

    def _tell_abandoned_commit(self, was_committed: bool | None, cancelled: BaseException | None) -> None:
        if self._outcome.status is Status.UNKNOWN:
            self._decide(was_committed, cancelled)
        elif cancelled is not None:
            raise cancelled
        elif self._outcome.status is Status.ROLLED_BACK:
            raise StatementTimeoutError("The database did not answer before the commit deadline; nothing was stored.")

    def _end(self, outcome: Outcome) -> None:
        self._outcome = outcome
        if self._phase is Phase.OPEN:
            self._phase = Phase.OVER
            self._database.ledger.closed(self)
        if outcome.status is Status.ROLLED_BACK:
            self._hooks = []

    # -- leaving

    def _leave(self, error: BaseException | None, *, commits: bool) -> None:
        """Leave a block; the outermost one rolls back what was not committed."""
        guarded = self._guarded
        if not self._depth:
            return  # given up already: the end of a block inside it missed its deadline
        self._depth -= 1
        if self._depth:
            self._leave_nested(error, commits=commits)
            return
        try:
            self._leave_outermost(error, commits=commits)
        finally:
            if guarded is self._guarded:  # and not given up in the meantime
                self._phase, self._owner = self._at_rest, None
            if self._at_rest is Phase.CLOSED:
                guarded.close_for_good(self._closed_for_good)

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

    def _roll_back(self, outcome: Outcome = ROLLED_BACK) -> Exception | None:
        """Roll back; a rollback that fails is logged and returned, because the database rolls back by itself."""
        failure, transaction = None, self._transaction
        # Told first, because whoever waits for this may give up.
        self._end(COMMITTED if transaction is not None and transaction.committed else outcome)
        try:
            self._guarded.rollback_open()
        except Exception as error:
            log.exception("A rollback failed; the database rolls back by itself, and the connection is thrown away.")
            failure = error
        return failure

    def _roll_back_after(self, error: BaseException, outcome: Outcome = ROLLED_BACK) -> None:
        """Roll back; whatever happens, *error* is the exception that the caller sees."""
        if failure := self._roll_back(outcome):
            error.add_note(f"The rollback failed too: {type(failure).__name__}")
            error.__context__ = error.__context__ or failure

    def _roll_back_unless_saved(self) -> None:
        transaction, unsaved = self._transaction, self._guarded.unsaved()
        if not (unsaved or transaction.has_written or self._hooks or self._guarded.events):
            self._roll_back()
            return
        objects, promises = [*unsaved, *transaction.written], self._promises()
        self._roll_back()
        if unsaved and transaction.mode.read_only:
            raise ReadOnlyError(f"This block is read-only, and {names_of(unsaved)} was changed in it.")
        sent = ", ".join(f"{count} x {what}" for what, count in transaction.writes.items())
        lost = ", ".join(filter(None, [names_of(unsaved), sent, promises]))
        hint = " Mark a text that only reads with execution_options(fastkit_reads=True)." if "text" in sent else ""
        raise UncommittedChangesError(
            f"The block ended without commit(), so this was rolled back: {lost}. "
            f"Call commit() to keep it, or rollback() to say that it is meant to go.{hint}",
            objects,
        ) from transaction.cause_of_doom

    def _promises(self) -> str:
        """Name what was to happen at the commit."""
        hooks = f"{len(self._hooks)} x hook" if self._hooks else ""
        return ", ".join(filter(None, [hooks, names_of(self._guarded.events)]))

    # -- being run again

    @contextmanager
    def _repeating(self) -> Generator[None]:
        """Let a unit made by hand open one block an attempt."""
        if self._phase in {Phase.OPEN, Phase.OVER}:
            raise BlockMismatchError(
                "Asked to retry inside an open block: only a whole transaction can run again. "
                "Ask for it where the outermost block is opened."
            )
        if self._database.ledger.is_held_here():
            raise BlockMismatchError(
                "Another block is open here: this work would run in a transaction of its own, wait for what that block "
                "has locked, and take a second connection while it keeps one. Run it before that block, or after it."
            )
        adopted = self._phase is Phase.NEW
        if adopted:
            self._serve()
        try:
            yield
        finally:
            if adopted:
                self._phase = Phase.CLOSED
                self._guarded.close_for_good(self._closed_for_good)

    @property
    def _is_decided(self) -> bool:
        """Return whether the latest block cannot be run again, because it is stored, or nobody knows."""
        return self._outcome.status is not Status.ROLLED_BACK

    def _start_over(self) -> None:
        """Take a session of its own for the next attempt; whoever kept a repository of the old one is told."""
        self._guarded.close_for_good(
            lambda: "A new attempt has a new session: read the repository from the unit again, shop.books."
        )
        for name in [name for name, each in vars(self).items() if isinstance(each, Repository | AsyncRepository)]:
            del vars(self)[name]
        self._take_session()

    # -- being owned by a request

    def _serve(self) -> None:
        """Become a unit that may open many blocks, one after the other, until its owner ends."""
        self._phase = self._at_rest = Phase.OUTSIDE

    def _retire(self, error: BaseException | None) -> None:
        """End the owner: what is left open is rolled back, what was changed outside a block is told."""
        try:
            if self._phase is Phase.OPEN:
                self._roll_back() if error is not None else self._roll_back_unless_saved()
            elif error is None:
                self._refuse_changes_made_outside()
        finally:
            self._database.ledger.closed(self)
            self._phase = Phase.CLOSED
            self._guarded.close_for_good(self._closed_for_good)


def _says_no(error: BaseException) -> bool:
    """Return whether the database itself refused, so that it is certain that nothing was stored."""
    if isinstance(error, ConnectionLostError | CannotConnectError):
        return False
    return isinstance(error, FastkitError | DBAPIError)
