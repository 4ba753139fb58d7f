"""The events of everything that a session has loaded or added, kept until its transaction ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import ref

from sqlalchemy.orm.attributes import instance_state

from fastkit.errors import DeclarationError, UnitOfWorkError
from fastkit.events import EventHandlers, Recorder, RecordsEvents, exchange, recorded

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class SessionRecorder(Recorder):
    """
    What the entities of one session record; keeps the events, and no entity, alive.

    Attributes:
        events: The events of the open transaction, in order.
    """

    def __init__(self, session: Session, handlers: EventHandlers | None) -> None:
        super().__init__()
        self._session = ref(session)
        self._handlers = handlers
        self._brought: list[tuple[int, ref[RecordsEvents]]] = []

    def serves(self, entity: object) -> bool:
        """Return whether the entity is in the session."""
        session = self._session()
        return session is not None and instance_state(entity).session is session

    def record(self, event: object) -> None:
        """
        Add an event.

        Raises:
            DeclarationError: Nobody handles it.
        """
        self._refuse_unhandled(event)
        super().record(event)

    def refuse_unhandled(self, entity: RecordsEvents) -> None:
        """
        Refuse an entity with events that nobody would hear of.

        Raises:
            DeclarationError: Nobody handles one of its events.
        """
        for event in recorded(entity):
            self._refuse_unhandled(event)

    def take_over(self, entity: RecordsEvents) -> None:
        """
        Receive what the entity recorded before it came, and what it records from now on.

        Raises:
            DeclarationError: Nobody handles one of its events.
        """
        self.refuse_unhandled(entity)
        self._take(entity, exchange(entity, self))

    def take_from(self, entity: RecordsEvents) -> None:
        """
        Receive what an entity recorded that stays outside the session, because it was merged into it.

        Raises:
            DeclarationError: Nobody handles one of its events.
        """
        self.refuse_unhandled(entity)
        if recorded(entity):
            self._take(entity, exchange(entity, Recorder()))

    def _take(self, entity: RecordsEvents, events: Iterable[object]) -> None:
        for event in events:
            self._brought.append((len(self.events), ref(entity)))
            super().record(event)

    def forget(self, since: int = 0, *, rolled_back: bool) -> None:
        """Drop the events since a position; after a rollback, entities get back what they had brought."""
        kept: list[tuple[object, ref[RecordsEvents]]] = []
        for position, entity_ref in self._brought if rolled_back else ():
            entity = entity_ref()
            if position < since or entity is None:
                continue
            if self.serves(entity):  # a savepoint that is rolled back does not detach what was attached in it
                kept.append((self.events[position], entity_ref))
                continue
            own = Recorder()
            own.events = [*recorded(entity), self.events[position]]
            exchange(entity, own)
        self._brought = [(position, each) for position, each in self._brought if position < since]
        del self.events[since:]
        for event, entity_ref in kept:
            self._brought.append((len(self.events), entity_ref))
            super().record(event)

    def _refuse_unhandled(self, event: Any) -> None:
        if self._handlers is None:
            raise DeclarationError(
                f"{type(event).__name__} was recorded in a unit of work without handlers for events: "
                "class Shop(UnitOfWork, events=handlers)."
            )
        self._handlers.refuse_unhandled(type(event))
        session: Any = self._session()
        transaction = session.open_transaction if session is not None else None
        if transaction is not None and transaction.committing:
            raise UnitOfWorkError(
                f"{type(event).__name__} was recorded while the commit was under way, after the handlers have run: "
                "nobody would hear of it. Record it before, or in a before_flush listener."
            )
