"""What happened: events that entities record, and the handlers that a unit of work hands them to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fastkit.errors import DeclarationError

E = TypeVar("E")
U = TypeVar("U")
R = TypeVar("R")

_RECORDER = "_fastkit_recorder"


class RecordsEvents:
    """
    Mixin for an entity that says what happened to it; works with every mapped class, also with mapped dataclasses.

    >>> class Order(RecordsEvents, Base):
    ...     def pay(self) -> None:
    ...         self.paid = True
    ...         self.record(OrderPaid(self.id))

    The unit of work that loads or adds the entity takes its events over at once, so they outlive it, and hands them
    to the handlers of its `EventHandlers` when it commits.
    """

    def record(self, event: object) -> None:
        """
        Say that *event* happened; a value, usually a frozen dataclass.

        Raises:
            DeclarationError: The entity is in a unit of work, and nobody handles such an event.
        """
        recorder: Recorder | None = vars(self).get(_RECORDER)
        if recorder is None or not recorder.serves(self):
            recorder = vars(self)[_RECORDER] = Recorder()
        recorder.record(event)

    def __getstate__(self) -> Any:
        state = vars(self).copy()
        state.pop(_RECORDER, None)
        return state


class Recorder:
    """A list of events: of one entity as long as no unit of work has taken them, or of a whole unit."""

    def __init__(self) -> None:
        self.events: list[object] = []

    def __reduce__(self) -> tuple[type[Recorder], tuple[()]]:
        return Recorder, ()  # what was recorded here is told here, and not by a copy

    def serves(self, entity: object) -> bool:
        """Return whether what this entity records belongs here."""
        return True

    def record(self, event: object) -> None:
        """Add an event."""
        self.events.append(event)


def recorded(entity: RecordsEvents) -> tuple[object, ...]:
    """Return the events that an entity recorded and that no unit of work has taken: for tests of a pure domain."""
    recorder: Recorder | None = vars(entity).get(_RECORDER)
    return tuple(recorder.events) if type(recorder) is Recorder else ()


def exchange(entity: RecordsEvents, recorder: Recorder) -> list[object]:
    """Let an entity record into *recorder* from now on; return the events that were still its own."""
    own = recorded(entity)
    vars(entity)[_RECORDER] = recorder
    return list(own)


@dataclass(frozen=True, slots=True)
class Handler:
    """
    What is done about an event.

    Attributes:
        call: Takes the event; before the commit, the unit of work too.
        timeout: Seconds it may take after the commit.
    """

    call: Callable[..., object]
    timeout: float | None = None

    @property
    def is_async(self) -> bool:
        """Return whether it must be awaited."""
        return inspect.iscoroutinefunction(self.call) or inspect.iscoroutinefunction(
            getattr(self.call, "__call__", None)  # noqa: B004 - an object whose __call__ is async
        )

    def __str__(self) -> str:
        name = str(getattr(self.call, "__qualname__", self.call))
        code = getattr(self.call, "__code__", None)
        if code is None or not name.endswith("<lambda>"):
            return name
        return f"{name} in line {code.co_firstlineno} of {getattr(self.call, '__module__', '?')}"


class EventHandlers:
    """
    The registry of who handles what; made once, named by the units that it serves, and filled at import.

    >>> handlers = EventHandlers()
    >>> class Shop(AsyncUnitOfWork, events=handlers): ...
    >>> @handlers.before_commit(OrderPlaced)
    ... async def reserve(event: OrderPlaced, shop: Shop) -> None: ...
    >>> @handlers.after_commit(OrderPlaced)
    ... async def confirm(event: OrderPlaced) -> None: ...

    A handler of a class gets the events of its subclasses too. Plain functions serve units of both colours, `async`
    ones only async units.
    """

    def __init__(self) -> None:
        self._before: dict[type, list[Handler]] = {}
        self._after: dict[type, list[Handler]] = {}
        self._ignored: set[type] = set()
        self._sync_units: list[str] = []

    def before_commit(self, event: type[E]) -> Callable[[Callable[[E, U], R]], Callable[[E, U], R]]:
        """
        Register a function of (event, unit) that runs inside the transaction, just before its commit.

        It may read and write and record further events; an error rolls everything back.

        Raises:
            DeclarationError: Not an event class, not callable, or async although a sync unit is served.
        """
        _check_event_class(event)

        def register(function: Callable[[E, U], R]) -> Callable[[E, U], R]:
            self._register(self._before, event, function)
            return function

        return register

    def after_commit(
        self, event: type[E], *, timeout: float | None = None
    ) -> Callable[[Callable[[E], R]], Callable[[E], R]]:
        """
        Register a function of (event) that runs after the commit, outside the transaction, as a hook does.

        Args:
            event: The class of the events.
            timeout: Seconds it may take; by default as long as a hook.

        Raises:
            DeclarationError: Not an event class, not callable, or async although a sync unit is served.
        """
        _check_event_class(event)
        check_timeout(timeout)

        def register(function: Callable[[E], R]) -> Callable[[E], R]:
            self._register(self._after, event, function, timeout)
            return function

        return register

    def ignore(self, *events: type) -> None:
        """
        Say that nothing is to be done about events of these classes.

        Raises:
            DeclarationError: Not an event class, or one that has a handler.
        """
        for event in events:
            _check_event_class(event)
            if event in self._before or event in self._after:
                raise DeclarationError(f"ignore({event.__name__}): it has a handler already.")
        self._ignored.update(events)

    def before(self, event: object) -> Iterator[Handler]:
        """Yield who handles an event before the commit."""
        return _found(self._before, type(event))

    def after(self, event: object) -> Iterator[Handler]:
        """Yield who handles an event after the commit."""
        return _found(self._after, type(event))

    def refuse_unhandled(self, event: type) -> None:
        """
        Refuse an event that nobody would hear of.

        Raises:
            DeclarationError: It has no handler and is not ignored.
        """
        if not any(kind in table for kind in event.__mro__ for table in (self._before, self._after, self._ignored)):
            raise DeclarationError(
                f"Nobody handles {event.__name__}: register a handler with before_commit({event.__name__}) or "
                f"after_commit({event.__name__}), or say ignore({event.__name__})."
            )

    def serve_sync(self, unit: str) -> None:
        """
        Note that a sync unit of work uses these handlers.

        Raises:
            DeclarationError: One of them is async.
        """
        for handler in (each for table in (self._before, self._after) for found in table.values() for each in found):
            _refuse_async(handler, unit)
        self._sync_units.append(unit)

    def _register(
        self,
        table: dict[type, list[Handler]],
        event: type,
        call: Callable[..., object],
        timeout: float | None = None,
    ) -> None:
        if not callable(call):
            raise DeclarationError(f"A handler of {event.__name__} is a function, not {call!r}.")
        handler, takes = Handler(call, timeout), ("event", "unit of work") if table is self._before else ("event",)
        _check_parameters(handler, takes)
        if event in self._ignored or any(each.call is call for each in table.get(event, ())):
            raise DeclarationError(f"{handler}: {event.__name__} is ignored, or has this handler already.")
        for unit in self._sync_units:
            _refuse_async(handler, unit)
        table.setdefault(event, []).append(handler)


def check_timeout(seconds: object) -> None:
    """
    Refuse what is no time limit.

    Raises:
        DeclarationError: Not a number of seconds above zero.
    """
    if seconds is not None and not (isinstance(seconds, int | float) and seconds > 0):
        raise DeclarationError(f"A timeout is a number of seconds above zero, not {seconds!r}.")


def _check_event_class(event: object) -> None:
    if not isinstance(event, type) or event is object:
        raise DeclarationError(
            f"Handlers are registered for a class of events, not for {event!r}: "
            "write @handlers.before_commit(OrderPlaced) or @handlers.after_commit(OrderPlaced)."
        )


def _check_parameters(handler: Handler, names: tuple[str, ...]) -> None:
    try:
        signature = inspect.signature(handler.call)
    except ValueError:  # of a built-in function, which does not say
        return
    try:
        signature.bind(*names)
    except TypeError:
        raise DeclarationError(
            f"The handler {handler} is called with ({', '.join(names)}), and its parameters are {signature}."
        ) from None


def _refuse_async(handler: Handler, unit: str) -> None:
    if handler.is_async:
        raise DeclarationError(
            f"The handler {handler} is async, and {unit} is a sync unit of work: use a plain function."
        )


def _found(table: dict[type, list[Handler]], event: type) -> Iterator[Handler]:
    return (handler for kind in event.__mro__ for handler in table.get(kind, ()))
