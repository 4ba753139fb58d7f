"""A session as its unit of work sees it: opened, committed, rolled back, and asked what is unsaved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NoReturn, Protocol

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import InstanceState, PassiveFlag, Session, SessionTransaction
from sqlalchemy.orm.attributes import instance_state

from fastkit.database._guard import Guard
from fastkit.database._ledger import Ledger
from fastkit.database._modes import Mode
from fastkit.database._pins import Pins
from fastkit.database._recorder import SessionRecorder
from fastkit.database._refresh import read_again
from fastkit.database._scoping import Scoping
from fastkit.database._transaction import OpenTransaction
from fastkit.database.timeouts import Timeouts
from fastkit.errors import (
    CannotConnectError,
    ConnectionLostError,
    DatabaseClosedError,
    OutsideBlockError,
    UnitClosedError,
    UnitOfWorkError,
)
from fastkit.events import EventHandlers
from fastkit.pages import Signer

OPEN_A_BLOCK = "Writes need an open block: `async with shop:` (without async: `with shop:`) around them, and commit()."
READ_ONLY = "This block is read-only: open one without read_only=True to write."

_of_parents: list[object] = []


class Engines(Protocol):
    """Where a session gets its engine from: a `Database` or an `AsyncDatabase`."""

    timeouts: Timeouts
    is_async: ClassVar[bool]
    ledger: Ledger
    signer: Signer | None

    @property
    def dialect(self) -> Dialect:
        """Return what SQLAlchemy knows of the kind of database."""
        ...

    def avoid(self, engine: Engine) -> None:
        """Note that no connection to this engine could be made."""
        ...

    def engine_for(self, mode: Mode) -> Engine:
        """Return the engine whose connections run transactions in this mode."""
        ...


class SessionLife(Session):
    """
    The part of a guarded session that belongs to its unit of work.

    Attributes:
        open_transaction: The notes of the open transaction, or None outside a block.
        scoping: The scopes of the unit of work, or None if there is none.
        is_abandoned: Whether work that missed its deadline may still be going on in it.
        pins: The objects that may only be written in one version, or None if there never was one.
    """

    def __init__(
        self,
        *,
        engines: Engines,
        metadata: Sequence[MetaData] = (),
        handlers: EventHandlers | None = None,
        scoping: Scoping | None = None,
        **ignored: Any,
    ) -> None:
        super().__init__(expire_on_commit=False, autoflush=False)
        self.scoping = scoping
        self._handlers = handlers
        self._recorder: SessionRecorder | None = None
        self.is_abandoned = False
        self.pins: Pins | None = None
        self._engines = engines
        self._be_of_this_pool()
        self._engine: Engine | None = None
        self._reading: Connection | None = None
        self.open_transaction: OpenTransaction | None = None
        self._closed: Callable[[], str] | None = None
        self._guard = Guard(metadata)

    def _be_of_this_pool(self) -> None:
        self._age, self._forks = self._engines.ledger.age, self._engines.ledger.forks

    @property
    def engines(self) -> Engines:
        """Return the database."""
        return self._engines

    @property
    def _is_of_parent(self) -> bool:
        """Return whether the process was forked since the block was opened, so that its connection is the parent's."""
        return self._engines.ledger.forks != self._forks

    def refuse_new_pool(self) -> NoReturn:
        """Refuse to go on where the connection was: in another process, or in a pool that was closed."""
        if self._is_of_parent:
            raise UnitClosedError(
                "This block was opened before the process was forked: its connection is the parent's."
            )
        raise DatabaseClosedError("The database was closed while this block was open.")

    def pin(self, state: InstanceState[Any], version: object) -> None:
        """Let the row of an object be written in this version only, until that is committed."""
        self.pins = self.pins or Pins()
        self.pins.pin(state, version)

    @property
    def recorder(self) -> SessionRecorder:
        """Return where the entities of this session record their events."""
        if self._recorder is None:
            self._recorder = SessionRecorder(self, self._handlers)
        return self._recorder

    @property
    def events(self) -> Sequence[object]:
        """Return the events of the open transaction, in order."""
        return self._recorder.events if self._recorder is not None else ()

    def open(self, mode: Mode) -> OpenTransaction:
        """Let writes in; the connection is taken by the first statement."""
        self.refuse_if_busy()
        self._be_of_this_pool()
        self._engine = self._engines.engine_for(mode)
        self.open_transaction = self._guard.transaction = OpenTransaction(mode, self.identity_map.all_states())
        self.autoflush = True
        return self.open_transaction

    def commit_open(self, *, confirmable: bool = False) -> None:
        """Flush, commit and give the connection back; the caller rolls back if this raises."""
        transaction = self.open_transaction
        if self._engines.ledger.age != self._age:
            self.refuse_new_pool()
        with self._guard:
            if not self._is_clean():
                self.flush()
            if transaction is not None:
                self._refuse_other_transaction(transaction)
                if confirmable and self.in_transaction():
                    transaction.number = self._engines.ledger.number_of(super().connection())
                transaction.committing = True
            super().commit()
        self._end(rolled_back=False)

    def _refuse_other_transaction(self, transaction: OpenTransaction) -> None:
        if transaction.root is not None and self.get_transaction() is not transaction.root:
            transaction.doom(UnitOfWorkError("its transaction was ended through the session"), whole=True)
            transaction.refuse_if_doomed()

    def finish_committed(self) -> None:
        """Give everything back after an error that came when COMMIT had been confirmed."""
        try:
            with suppress(Exception):
                self._give_back()
        finally:
            self._end(rolled_back=False)

    def rollback_open(self) -> None:
        """Roll back and give the connection back; objects are detached with the values that they had."""
        transaction = self.open_transaction
        try:
            if self._is_of_parent:
                _of_parents.append(self._transaction)  # kept, because letting go of it would send a ROLLBACK
                self._transaction = None
            elif self.is_busy:
                self._part_from_busy_connection()
            if transaction is not None and (transaction.has_written or transaction.committing):
                self.detach_all()  # here too: if the ROLLBACK fails, SQLAlchemy expires without an event
                super().rollback()  # what was inserted can be added again
            else:
                self._give_back()
        finally:
            self._end()

    def open_savepoint(self) -> SessionTransaction:
        """Flush, and begin the part that can be rolled back alone; SAVEPOINT is sent with its first statement."""
        transaction = self.transaction_for("savepoint()")
        self.flush()
        with self._guard:
            savepoint = super().begin(nested=True)
        transaction.open_savepoint()
        return savepoint

    def release_savepoint(self, savepoint: SessionTransaction) -> None:
        """Flush and keep what was done since; the caller rolls back if this raises."""
        transaction = self.transaction_for("savepoint()")
        if self._engines.ledger.age != self._age:
            self.refuse_new_pool()
        self.flush()
        try:
            with self._guard:
                savepoint.commit()
        except BaseException as error:
            transaction.doom(error, whole=True)  # SQLAlchemy sends no ROLLBACK TO after a RELEASE that failed
            raise
        transaction.close_savepoint(rolled_back=False)

    def rollback_to(self, savepoint: SessionTransaction, events: int) -> None:
        """Undo what was done since, keeping so many events; objects that were changed in it are read again."""
        transaction = self.open_transaction
        if transaction is None:
            return
        gone = (instance_state(entity) for entity in transaction.gone)
        loaded = {state: set(state.dict) for state in (*self.identity_map.all_states(), *gone)}
        lost = transaction.cause_of_doom is not None and not transaction.in_savepoint
        try:
            if self._is_of_parent:
                self.refuse_new_pool()
            if not savepoint.is_active:
                self._forget_changes()
            with self._guard:
                savepoint.rollback()  # also if all is lost: SQLAlchemy makes what was added transient again
        except BaseException as error:
            transaction.doom(error, whole=True)
            if not (lost and isinstance(error, Exception)):
                raise
        finally:
            transaction.close_savepoint(rolled_back=True)
            self.read_afresh()
            if self._recorder is not None:
                self._recorder.forget(events, rolled_back=True)
        if transaction.cause_of_doom is None:
            read_again(self, loaded)

    def read_afresh(self) -> None:
        """Let each object be read again when it is next asked for: what was read may not hold any more."""
        if self.open_transaction is not None:
            states = (state for state in self.identity_map.all_states() if not state.expired)
            self.open_transaction.read_all_afresh(states)

    def _forget_changes(self) -> None:
        """Take back changes that were made after a flush had failed, of which SQLAlchemy would warn."""
        for state in list(self._new):
            if state in self._new:  # an expunge takes others with it
                self.expunge(state.obj())
        for state in list(self._dirty_states):
            self.expire(state.obj())
        for state in list(self._deleted):
            super().add(state.obj())

    def transaction_for(self, call: str) -> OpenTransaction:
        """Return the open transaction that a call needs, if anything more may happen in it."""
        if self.open_transaction is None:
            self._refuse_outside(f"{call} needs an open block: `async with shop:`.")
        self.open_transaction.refuse_if_doomed()
        return self.open_transaction

    def forget_events(self) -> None:
        """Let go of the events without giving any back: nobody knows whether they are stored."""
        if self._recorder is not None:
            self._recorder.forget(rolled_back=False)

    def detach_all(self) -> None:
        """Take the objects out before SQLAlchemy expires them, so that they keep the values that they had."""
        for entity in self.open_transaction.gone if self.open_transaction is not None else ():
            if instance_state(entity).session is self:
                self.expunge(entity)
        self.expunge_all()

    def _give_back(self) -> None:
        """Roll back what has only read: the same ROLLBACK, without a search for what to undo."""
        transaction = self.get_transaction()
        try:
            super().close()
        except BaseException:
            if transaction is not None:
                transaction.close()  # its connection goes back although its ROLLBACK failed
            raise

    @property
    def connections(self) -> frozenset[Connection]:
        """Return the connections that the open transaction has taken."""
        transaction = self.get_transaction()
        return transaction.connections if transaction is not None else frozenset()

    @property
    def is_busy(self) -> bool:
        """Return whether another task or thread is at work here."""
        return self._guard.is_held_elsewhere

    def refuse_if_busy(self) -> None:
        """Raise `ConcurrentUseError` if another task or thread is at work here."""
        if self._guard.holder is not None and self._guard.is_held_elsewhere:
            self._guard.refuse()

    @property
    def is_settling(self) -> bool:
        """Return whether somebody else is at work where nothing can be cut off: getting a connection, or a read."""
        transaction = self.get_transaction()
        has_connection = transaction is not None and bool(transaction.connections)
        return self.is_busy and (self.open_transaction is None or not has_connection)

    def _part_from_busy_connection(self) -> None:
        """Somebody else's statement is under way: no ROLLBACK may be sent between its packets."""
        if not self._engines.is_async:
            self._guard.wait(self._engines.timeouts.statement)
        elif self.get_bind().dialect.name != "sqlite":  # whose thread takes one statement after the other
            super().invalidate()

    def _end(self, *, rolled_back: bool = True) -> None:
        if self._recorder is not None:
            self._recorder.forget(rolled_back=rolled_back)
        if self.open_transaction is not None and self.open_transaction.mode.replica:
            self._tell_of_replica(self.open_transaction.cause_of_doom)
        if self.pins is not None and self.open_transaction is not None and not rolled_back:
            self.pins.unpin(self.open_transaction.settled)
        self.open_transaction = self._guard.transaction = None
        self._engine = None
        self.autoflush = False

    def _tell_of_replica(self, fault: BaseException | None) -> None:
        if isinstance(fault, CannotConnectError | ConnectionLostError) and self._engine is not None:
            self._engines.avoid(self._engine)

    def close_for_good(self, why: Callable[[], str]) -> None:
        """Give everything back, and answer every later use with `UnitClosedError` and the reason."""
        self._closed = why
        if self.is_abandoned:
            return
        if self.is_busy and not self._engines.is_async:
            self._guard.wait(self._engines.timeouts.statement)  # for other tasks the async unit has waited
        if self._new or self.in_transaction() or len(self.identity_map):
            super().close()

    @property
    def is_clean(self) -> bool:
        """Return whether a flush would do nothing, without asking what has really changed."""
        return bool(self._is_clean())

    def unsaved(self) -> list[object]:
        """Return the objects that differ from the database."""
        if self._is_clean():
            return []
        found = (state.obj() for _, states in self.pending() for state in states)
        return [entity for entity in found if entity is not None]

    def pending(self) -> Iterator[tuple[str, Collection[InstanceState[Any]]]]:
        """Yield the states that a flush would write, or that the flush under way writes, after the verb."""
        if self._new:
            yield "added", self._new
        if self.identity_map.check_modified():
            yield "changed", [each for each in self._dirty_states if each not in self._deleted and _is_modified(each)]
        if self._deleted:
            yield "deleted", self._deleted

    def _refuse_outside(self, why: str = OPEN_A_BLOCK) -> NoReturn:
        if self._closed:
            raise UnitClosedError(self._closed())
        raise OutsideBlockError(why)


def _is_modified(state: InstanceState[Any]) -> bool:
    """Same as `Session.is_modified`, but looking only at the attributes that were touched."""
    for key in state.committed_state:
        added, _, deleted = state.manager[key].impl.get_history(state, state.dict, PassiveFlag.NO_CHANGE)
        if added or deleted:
            return True
    return False
