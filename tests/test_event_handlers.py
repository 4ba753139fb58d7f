"""C19: the registry of who handles what, and what an entity records without a database."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fastkit.errors import DeclarationError
from fastkit.events import EventHandlers, RecordsEvents, recorded
from fastkit.uow import AsyncUnitOfWork, UnitOfWork


@dataclass(frozen=True)
class Placed:
    """An event."""


@dataclass(frozen=True)
class PlacedAbroad(Placed):
    """An event of a subclass."""


class Marker:
    """A base that events may share."""


class Both(Placed, Marker):
    """An event of two bases."""


class Unheard:
    """An event that nobody handles."""


def sync(event: Any, shop: Any = None) -> None:
    """Handle an event."""


async def waiting(event: Any, shop: Any = None) -> None:
    """Handle an event, awaited."""


class AsyncCaller:
    """An object whose call must be awaited."""

    async def __call__(self, event: Any, shop: Any = None) -> None:
        """Handle an event, awaited."""

    async def method(self, event: Any, shop: Any = None) -> None:
        """Handle an event, awaited."""


ASYNC = pytest.mark.parametrize(
    "handler",
    [waiting, functools.partial(waiting), AsyncCaller(), AsyncCaller().method],
    ids=["function", "partial", "object", "method"],
)
WHEN = pytest.mark.parametrize("when", ["before_commit", "after_commit"])


def registering(handlers: EventHandlers, when: str) -> Callable[..., Any]:
    """Return before_commit or after_commit."""
    found: Callable[..., Any] = getattr(handlers, when)
    return found


def calls(found: Any) -> list[Any]:
    """Return what would be called."""
    return [handler.call for handler in found]


@WHEN
def test_c19_a_decorator_gives_the_function_back(when: str) -> None:
    """What is registered can still be called, and be registered for another event."""
    handlers = EventHandlers()

    assert registering(handlers, when)(Placed)(sync) is sync
    assert registering(handlers, when)(Unheard)(sync) is sync
    for event in (Placed(), Unheard()):
        assert calls(handlers.before(event)) == ([sync] if when == "before_commit" else [])
        assert calls(handlers.after(event)) == ([sync] if when == "after_commit" else [])


def named(name: str, event: Any, shop: Any) -> None:
    """Do nothing."""


def test_c19_handlers_are_found_in_order() -> None:
    """Those of the class come first, then those of its bases, each in the order of registration."""
    handlers = EventHandlers()
    names = ["base", "own", "marker", "own too", "base too"]
    kinds = [Placed, Both, Marker, Both, Placed]
    made = {name: functools.partial(named, name) for name in names}
    for name, kind in zip(names, kinds, strict=True):
        handlers.before_commit(kind)(made[name])

    def found(event: object) -> list[str]:
        return [handler.call.args[0] for handler in handlers.before(event)]

    assert found(Both()) == ["own", "own too", "base", "base too", "marker"]
    assert found(PlacedAbroad()) == ["base", "base too"]
    assert found(Placed()) == ["base", "base too"]
    assert found(Unheard()) == []


@pytest.mark.parametrize("said", ["before_commit", "after_commit", "ignore"])
def test_c19_an_event_is_heard_by_whoever_names_it_or_a_base(said: str) -> None:
    """A handler of either kind and ignore() are enough; nothing else is."""
    handlers = EventHandlers()
    with pytest.raises(DeclarationError, match=r"Nobody handles Both.*ignore\(Both\)"):
        handlers.refuse_unhandled(Both)
    if said == "ignore":
        handlers.ignore(Marker, PlacedAbroad)
    else:
        for kind in (Marker, PlacedAbroad):
            registering(handlers, said)(kind)(sync)

    handlers.refuse_unhandled(Both)
    handlers.refuse_unhandled(PlacedAbroad)
    with pytest.raises(DeclarationError, match="Nobody handles Placed:"):
        handlers.refuse_unhandled(Placed)


@WHEN
@pytest.mark.parametrize("event", [Placed(), "Placed", None, object, list[Placed]])
def test_c19_handlers_are_for_a_class_of_events(when: str, event: Any) -> None:
    """An event, a name, a generic alias, and object itself, which is every class, are refused."""
    handlers = EventHandlers()
    with pytest.raises(DeclarationError, match="class of events"):
        registering(handlers, when)(event)(sync)
    with pytest.raises(DeclarationError, match="class of events"):
        handlers.ignore(Placed, event)

    with pytest.raises(DeclarationError, match="Nobody handles"):
        handlers.refuse_unhandled(Placed)


@WHEN
@pytest.mark.parametrize("handler", [None, "sync", 1])
def test_c19_a_handler_can_be_called(when: str, handler: Any) -> None:
    """What is no function is refused where it is registered."""
    with pytest.raises(DeclarationError, match="handler of Placed"):
        registering(EventHandlers(), when)(Placed)(handler)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "1"])
def test_c17_a_timeout_of_a_handler_is_a_time(timeout: Any) -> None:
    """What is no number of seconds above zero is refused, and nothing is registered."""
    handlers = EventHandlers()
    with pytest.raises(DeclarationError, match="timeout"):
        handlers.after_commit(Placed, timeout=timeout)(sync)

    assert calls(handlers.after(Placed())) == []


def test_c17_a_timeout_of_a_handler_is_kept() -> None:
    """A handler after the commit has the seconds that it asks for, or none of its own."""
    handlers = EventHandlers()
    handlers.after_commit(Placed, timeout=2.5)(sync)
    handlers.after_commit(Placed)(lambda event: None)

    assert [handler.timeout for handler in handlers.after(Placed())] == [2.5, None]


@WHEN
@ASYNC
def test_c19_an_async_handler_comes_too_late_for_a_sync_unit(when: str, handler: Any) -> None:
    """Once a sync unit uses the handlers, an async one is refused where it is registered, and not kept."""
    handlers = EventHandlers()

    class Shop(UnitOfWork, events=handlers):
        """A sync unit."""

    with pytest.raises(DeclarationError, match=r"is async, and .*Shop is a sync unit"):
        registering(handlers, when)(Placed)(handler)
    assert calls(handlers.before(Placed())) == calls(handlers.after(Placed())) == []


@WHEN
@ASYNC
def test_c19_a_sync_unit_comes_too_late_for_async_handlers(when: str, handler: Any) -> None:
    """Once there is an async handler, the class of a sync unit is refused, and also a subclass with such handlers."""
    handlers = EventHandlers()
    registering(handlers, when)(Placed)(handler)
    with pytest.raises(DeclarationError, match=r"is async, and .*Shop is a sync unit"):

        class Shop(UnitOfWork, events=handlers):
            """A sync unit."""

    class Plain(UnitOfWork, events=EventHandlers()):
        """A sync unit with other handlers."""

    with pytest.raises(DeclarationError, match="is async"):

        class Special(Plain, events=handlers):
            """A sync unit with these handlers."""


@WHEN
def test_c19_handlers_serve_both_colours_while_they_are_plain(when: str) -> None:
    """Plain handlers serve a sync and an async unit; an async unit does not refuse async ones."""
    handlers = EventHandlers()

    class Async(AsyncUnitOfWork, events=handlers):
        """An async unit."""

    registering(handlers, when)(Placed)(sync)

    class Sync(UnitOfWork, events=handlers):
        """A sync unit."""

    with pytest.raises(DeclarationError):
        registering(handlers, when)(Placed)(waiting)

    others = EventHandlers()
    registering(others, when)(Placed)(waiting)

    class Other(AsyncUnitOfWork, events=others):
        """An async unit."""


def test_c19_a_subclass_of_a_unit_has_its_handlers() -> None:
    """A sync subclass is named when it refuses, because it inherits the handlers."""
    handlers = EventHandlers()

    class Base(UnitOfWork, events=handlers):
        """A sync unit."""

    class Shop(Base):
        """A sync unit that says nothing of events."""

    assert Shop._handlers is handlers


@pytest.mark.parametrize("events", [[], {}, "handlers", EventHandlers, sync])
def test_c19_a_unit_names_handlers(events: Any) -> None:
    """What is no EventHandlers object is refused where the class is declared."""
    with pytest.raises(DeclarationError, match=r"Shop: events is an EventHandlers object"):

        class Shop(UnitOfWork, events=events):
            """A unit."""


class Plain(RecordsEvents):
    """A domain object that is not mapped."""

    def __init__(self, name: str) -> None:
        self.name = name


def test_c19_a_pure_domain_object_records() -> None:
    """Without SQLAlchemy and without a unit events are kept, in order, and only read."""
    thing, other = Plain("a"), Plain("b")
    assert recorded(thing) == ()

    for event in (Placed(), Unheard(), Placed()):
        thing.record(event)

    assert [type(event) for event in recorded(thing)] == [Placed, Unheard, Placed]
    assert len(recorded(thing)) == 3
    assert recorded(other) == ()


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_c19_a_clone_has_no_events(clone: Callable[[Plain], Plain]) -> None:
    """Whatever way it is copied, a copy records for itself, and the original keeps what it has."""
    thing = Plain("a")
    thing.record(Placed())
    twin = clone(thing)
    assert (twin.name, recorded(twin)) == ("a", ())
    twin.record(PlacedAbroad())

    assert recorded(thing) == (Placed(),)
    assert recorded(twin) == (PlacedAbroad(),)


@WHEN
def test_c19_a_decorator_without_its_class_is_told(when: str) -> None:
    """It would register nothing."""
    with pytest.raises(DeclarationError, match=r"@handlers.before_commit\(OrderPlaced\)"):
        registering(EventHandlers(), when)(sync)


@pytest.mark.parametrize(
    ("when", "handler"),
    [
        ("before_commit", lambda event: None),
        ("before_commit", lambda event, shop, more: None),
        ("after_commit", lambda event, shop: None),
        ("after_commit", lambda: None),
    ],
)
def test_c19_a_handler_that_cannot_be_called_is_told_when_it_is_registered(when: str, handler: Any) -> None:
    """Before the commit it takes the event and the unit, after it the event."""
    handlers = EventHandlers()
    with pytest.raises(DeclarationError, match=r"is called with \(event.*its parameters are"):
        registering(handlers, when)(Placed)(handler)
    assert calls(handlers.before(Placed())) == calls(handlers.after(Placed())) == []


def test_c19_twice_the_same_is_told() -> None:
    """The same handler would run twice; a class that is ignored has no handler."""
    handlers = EventHandlers()
    handlers.after_commit(Placed)(sync)
    with pytest.raises(DeclarationError, match="has this handler already"):
        handlers.after_commit(Placed)(sync)
    with pytest.raises(DeclarationError, match=r"ignore\(Placed\): it has a handler"):
        handlers.ignore(Placed)
    handlers.ignore(Both)
    with pytest.raises(DeclarationError, match="Both is ignored"):
        handlers.before_commit(Both)(sync)
