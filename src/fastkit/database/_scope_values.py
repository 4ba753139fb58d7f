"""The values of the scopes of one unit of work, and which of them are lifted."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy.orm import InstanceState, Mapper, Session

from fastkit.database._scope_criteria import Criteria, ScopeSet
from fastkit.errors import DeclarationError, ScopeError
from fastkit.models import Scope
from fastkit.models.scopes import MISSING

log = logging.getLogger("fastkit.database")


class _Lift:
    """
    One `with shop.unscoped(...)`, for the task or thread that entered it and the tasks that it starts.

    Attributes:
        scopes: Which scopes do not hold.
        unit: Whose they are; None once it has ended, for tasks that go on.
        earlier: What was changed before, for which they hold still.
    """

    def __init__(self, scopes: Iterable[Scope[Any]], unit: object, earlier: Iterable[InstanceState[Any]]) -> None:
        self.scopes = frozenset(scopes)
        self.unit: object | None = unit
        self.earlier = WeakSet(earlier)


_LIFTS: ContextVar[tuple[_Lift, ...]] = ContextVar("fastkit_lifts", default=())


class ScopeValues:
    """
    What a unit of work was told of its scopes.

    Attributes:
        owner: Which classes they are about.
    """

    def __init__(self, owner: ScopeSet) -> None:
        self.owner = owner
        self._values = {scope: scope.value for scope in owner.scopes if scope.value is not MISSING}
        self._lifts = 0
        self._criteria: dict[frozenset[Scope[Any]], Criteria | None] = {}
        self._excused: WeakKeyDictionary[InstanceState[Any], frozenset[Scope[Any]]] = WeakKeyDictionary()
        self._may_hold_others = False

    def set(self, scope: Scope[Any], value: object) -> None:
        """Set the value of a scope, once and for all."""
        self._refuse_unknown(scope)
        if value is None:
            raise ScopeError(f"The value of the scope {scope.name!r} is None, which is nobody.", scope.name)
        if scope.value is not MISSING:
            raise ScopeError(f"The scope {scope.name!r} is the same for all units: it takes no value.", scope.name)
        self.owner.check_value(scope, value)
        if self._values.setdefault(scope, value) != value:
            raise ScopeError(
                f"The scope {scope.name!r} of this unit of work has a value already: make another unit for another.",
                scope.name,
            )
        self._criteria.clear()

    @contextmanager
    def lift(self, session: Session, scopes: Sequence[Scope[Any]], reason: str, name: str) -> Generator[None]:
        """Let some of the scopes not hold, for this task or thread."""
        if not scopes or not reason.strip():
            raise DeclarationError(
                "unscoped() lifts the scopes that it names, for a reason that is logged: "
                'shop.unscoped(tenant, reason="nightly report").'
            )
        for scope in scopes:
            self._refuse_unknown(scope)
        log.info("%s without %s: %s", name, ", ".join(scope.name for scope in scopes), reason)
        lift = _Lift(scopes, self, unsent(session))
        _LIFTS.set((*_LIFTS.get(), lift))
        self._lifts += 1
        self._may_hold_others = True
        try:
            yield
        finally:
            lift.unit = None
            _LIFTS.set(tuple(each for each in _LIFTS.get() if each is not lift))
            self._lifts -= 1
            for state in unsent(session):
                if state not in lift.earlier:
                    self._excused[state] = self._excused.get(state, frozenset()) | lift.scopes

    def _refuse_unknown(self, scope: Scope[Any]) -> None:
        if scope not in self.owner.scopes:
            known = ", ".join(each.name for each in self.owner.scopes)
            raise DeclarationError(
                f"{scope!r} is no scope of this unit of work, which has {known}: name it by the class, "
                "class Shop(UnitOfWork, scopes=[...])."
            )

    @property
    def lifted(self) -> frozenset[Scope[Any]]:
        """Return the scopes that do not hold now, for who asks."""
        return frozenset(scope for lift in self._open_lifts for scope in lift.scopes)

    @property
    def _open_lifts(self) -> Sequence[_Lift]:
        return [lift for lift in _LIFTS.get() if lift.unit is self] if self._lifts else ()

    def holding(self, mapper: Mapper[Any], but: frozenset[Scope[Any]] | None = None) -> Iterator[Scope[Any]]:
        """Yield the scopes that hold for a mapped class now, or those that are not among these."""
        if mapper not in self.owner.known:
            self.owner.refuse_stranger(mapper)
        lifted = self.lifted if but is None else but
        for scope, mappers in self.owner.mappers.items():
            if mapper in mappers and scope not in lifted:
                yield scope

    def holding_for(self, state: InstanceState[Any]) -> Iterator[Scope[Any]]:
        """Yield the scopes that hold for what was changed of an object: those that held when it was changed."""
        excused = self._excused.get(state, frozenset())
        for lift in self._open_lifts:
            if state not in lift.earlier:
                excused |= lift.scopes
        return self.holding(state.mapper, excused)

    @property
    def criteria(self) -> Criteria | None:
        """Return the option that adds the criteria to a statement; None if no scope holds."""
        lifted = self.lifted
        if lifted not in self._criteria:
            holding = [scope for scope in self.owner.scopes if scope not in lifted and self.owner.mappers[scope]]
            self._criteria[lifted] = Criteria(self.owner, holding, self._values) if holding else None
        return self._criteria[lifted]

    def refuse(self, mapper: Mapper[Any], why: str) -> NoReturn:
        """Raise `ScopeError` about a mapped class, with the way around it."""
        names = [scope.name for scope in self.holding(mapper)]
        raise ScopeError(f"{why}, or say `with shop.unscoped({', '.join(names)}, reason=...)`.", names[0])


def unsent(session: Session) -> list[InstanceState[Any]]:
    """Return the states that the next flush writes."""
    found = [*session._new, *session._dirty_states, *session._deleted]  # noqa: SLF001 - no public word
    return [state for state in found if state.obj() is not None]
