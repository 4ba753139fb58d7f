"""The scopes of one unit of work: their values, what is lifted, and what its statements and objects get of them."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from weakref import WeakSet

from sqlalchemy import Delete, Executable, Insert, Select, Table, Update
from sqlalchemy.orm import InstanceState, Mapper, Session, object_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.lambdas import StatementLambdaElement
from sqlalchemy.sql.util import surface_expressions

from fastkit.database._scope_check import refuse_uncovered
from fastkit.database._scope_criteria import Criteria, ScopeSet, missing_value
from fastkit.errors import DeclarationError, ScopeError
from fastkit.models import Scope
from fastkit.models.scopes import MISSING

log = logging.getLogger("fastkit.database")

OWN = "fastkit_own"
"""Execution option of what the library itself sends, having seen to the scopes."""


class Scoping:
    """
    The scopes of one unit of work.

    Attributes:
        owner: Which classes they are about.
    """

    def __init__(self, owner: ScopeSet) -> None:
        self.owner = owner
        self._values = {scope: scope.value for scope in owner.scopes if scope.value is not MISSING}
        self._lifted: tuple[Scope[Any], ...] = ()
        self._criteria: Criteria | None = None
        self._may_hold_others = False
        self._as_it_is: WeakSet[InstanceState[Any]] = WeakSet()

    # -- set and lifted

    def set(self, scope: Scope[Any], value: object) -> None:
        """Set the value of a scope, once and for all."""
        self._refuse_unknown(scope)
        if value is None and scope.value is MISSING:
            raise ScopeError(
                f"The value of the scope {scope.name!r} is None: nobody's rows cannot be told.", scope.name
            )
        if self._values.setdefault(scope, value) != value or scope.value is not MISSING:
            raise ScopeError(
                f"The scope {scope.name!r} of this unit of work has a value already: make another unit for another.",
                scope.name,
            )
        self._criteria = None

    @contextmanager
    def lift(self, session: Session, scopes: Sequence[Scope[Any]], reason: str, name: str) -> Generator[None]:
        """Let some of the scopes not hold."""
        if not scopes or not reason.strip():
            raise DeclarationError(
                "unscoped() lifts the scopes that it names, for a reason that is logged: "
                'shop.unscoped(tenant, reason="nightly report").'
            )
        for scope in scopes:
            self._refuse_unknown(scope)
        log.info("%s without %s: %s", name, ", ".join(scope.name for scope in scopes), reason)
        lifted, before = self._lifted, set(_unsent(session))
        self._lifted, self._criteria, self._may_hold_others = (*lifted, *scopes), None, True
        try:
            yield
        finally:
            self._as_it_is.update(state for state in _unsent(session) if state not in before)
            self._lifted, self._criteria = lifted, None

    def _refuse_unknown(self, scope: Scope[Any]) -> None:
        if scope not in self.owner.scopes:
            known = ", ".join(each.name for each in self.owner.scopes)
            raise DeclarationError(
                f"{scope!r} is no scope of this unit of work, which has {known}: name it by the class, "
                "class Shop(UnitOfWork, scopes=[...])."
            )

    def _holding(self, mapper: Mapper[Any]) -> Iterator[Scope[Any]]:
        """Yield the scopes that hold for a mapped class now."""
        for scope, mappers in self.owner.mappers.items():
            if mapper in mappers and scope not in self._lifted:
                yield scope

    # -- statements

    @property
    def criteria(self) -> Criteria | None:
        """Return the option that adds the criteria to a statement; None if no scope holds."""
        if self._criteria is None:
            holding = [scope for scope in self.owner.scopes if scope not in self._lifted and self.owner.mappers[scope]]
            if not holding:
                return None
            self._criteria = Criteria(self.owner, holding, self._values)
        return self._criteria

    def applied(self, statement: Any, parameters: Any, options: Mapping[str, Any]) -> Any:
        """
        Return a statement with the criteria of the scopes that hold.

        Raises:
            ScopeError: The statement would get around one.
        """
        criteria = self.criteria
        if criteria is None or options.get(OWN) or criteria in getattr(statement, "_with_options", ()):
            return statement
        if type(statement) is Select and statement._propagate_attrs.get("compile_state_plugin") == "orm":  # noqa: SLF001 - no public word
            return statement.options(criteria)  # looked at when it is compiled
        if isinstance(statement, Insert | Update | Delete):
            self._refuse_write(statement, parameters, options)
        elif isinstance(statement, Table):
            return statement
        plain = statement._resolved if isinstance(statement, StatementLambdaElement) else statement  # noqa: SLF001 - what it will run as
        refuse_uncovered(plain, criteria.concerned, self.owner.known)
        return (
            statement.options(criteria)
            if isinstance(statement, Executable) and not _is_insert(statement)
            else statement
        )

    def hides(self, mapper: Mapper[Any], *, stale: bool) -> bool:
        """Return whether the session may hold an object of a class that is not there for its scopes any more."""
        return (self._may_hold_others or stale) and any(True for _ in self._holding(mapper))

    def refuse_raw(self, what: str) -> None:
        """Refuse what is sent past the session while a scope holds."""
        if (criteria := self.criteria) is not None:
            name = criteria.key[1][0].name
            raise ScopeError(
                f"{what} is sent past the scope {name!r}: use the session or a repository, or say "
                f"`with shop.unscoped({name}, reason=...)`.",
                name,
            )

    # -- writes

    def stamps(self, mapper: Mapper[Any]) -> dict[str, Any]:
        """
        Return what each new row of a mapped class gets, by attribute.

        Raises:
            ScopeError: A scope has no value.
        """
        found: dict[str, Any] = {}
        for scope in self._holding(mapper):
            if scope.column is not None and scope not in self._values:
                raise missing_value(scope, mapper)
            found |= scope.stamp(self._values.get(scope))
        return found

    def refuse_other(self, mapper: Mapper[Any], name: str) -> NoReturn:
        """Refuse a row with another value than that of the scope."""
        scope = next(each for each in self._holding(mapper) if each.column == name)
        raise ScopeError(
            f"{mapper.class_.__name__}.{name} is not the value of the scope {scope.name!r} of this unit of work: leave "
            f"it out, or write rows of others in `with shop.unscoped({scope.name}, reason=...)`.",
            scope.name,
        )

    def untold(self, mapper: Mapper[Any], names: Sequence[str]) -> Scope[Any] | None:
        """Return a scope that may hide a row which these attributes tell, or None."""
        return next((each for each in self._holding(mapper) if each.column not in names or not each.is_equality), None)

    def deletion(self, mapper: Mapper[Any]) -> dict[str, Any]:
        """Return what is written instead of deleting a row, by attribute; nothing, if it is deleted."""
        return {name: value for scope in self._holding(mapper) for name, value in scope.deletion().items()}

    def hide(self, session: Session, entity: object) -> bool:
        """Mark an object as deleted, and what its relationships delete with it; return False if it is to be deleted."""
        state = instance_state(entity)
        if state.key is None or not self.deletion(state.mapper):
            return False
        session.add(entity)
        for each in (entity, *(found for found, *_ in state.mapper.cascade_iterator("delete", state))):
            for name, value in self.deletion(object_mapper(each)).items():
                if getattr(each, name) is None:
                    setattr(each, name, value)
        self._may_hold_others = True
        return True

    def stamp_new(self, session: Session) -> None:
        """Write into the objects that are new what their scopes say."""
        for state in _unsent(session):
            entity = state.obj()
            self._refuse_orphan(state)
            for name, value in self.stamps(state.mapper).items() if state not in self._as_it_is else ():
                if state.key is not None and name not in state.dict:
                    with session.no_autoflush:
                        getattr(entity, name)  # so that it can be looked at
                elif state.key is None and state.dict.get(name) is None:
                    setattr(entity, name, value)
        self._refuse_others(session)

    def check_written(self, session: Session) -> None:
        """
        Refuse what was written into rows, or with them, that are not those of the scopes.

        Raises:
            ScopeError: A row is another one's, or was made another one's.
        """
        self._refuse_others(session)  # relationships and listeners have had their say, too
        self._as_it_is.clear()

    def _refuse_orphan(self, state: InstanceState[Any]) -> None:
        """Refuse to delete for good what was only taken out of a list."""
        if state.key is not None and self.deletion(state.mapper) and state.mapper._is_orphan(state):  # noqa: SLF001 - no public word
            name = state.mapper.class_.__name__
            self._refuse(state.mapper, f"delete-orphan would delete a {name} for good; delete() it by its repository")

    def _refuse_others(self, session: Session) -> None:
        for state in _unsent(session):
            for name, value in self.stamps(state.mapper).items() if state not in self._as_it_is else ():
                if state.dict.get(name) != value:
                    self.refuse_other(state.mapper, name)

    def _refuse_write(self, statement: Insert | Update | Delete, parameters: Any, options: Mapping[str, Any]) -> None:
        mapper = statement.table._annotations.get("parentmapper")  # noqa: SLF001 - no public word
        if mapper is None:
            return  # of a table, which is looked at as a part of the statement
        stamps, name = self.stamps(mapper), mapper.class_.__name__
        if isinstance(statement, Insert) and stamps:
            self._refuse(mapper, f"insert({name}) does not write the scope; use add(), or bulk.insert()")
        if isinstance(statement, Delete) and self.deletion(mapper):
            self._refuse(mapper, f"delete({name}) would delete rows for good; use bulk.delete(), which hides them")
        if isinstance(statement, Update) and isinstance(parameters, list | tuple):
            self._refuse(mapper, f"update({name}) of rows by their keys gets no criterion; use bulk.update()")
        if isinstance(statement, Update | Delete):
            self._refuse_other_tables(mapper)
        if isinstance(statement, Update):
            self._refuse_update(mapper, statement, parameters or {})

    def _refuse_other_tables(self, mapper: Mapper[Any]) -> None:
        """Refuse rows of which another table tells whose they are: they would be written as often as that has rows."""
        for scope in self._holding(mapper):
            criterion = scope.criterion(mapper.class_, self._values[scope]) if scope in self._values else None
            if criterion is not None and any(each is not mapper.local_table for each in _tables(criterion)):
                self._refuse(
                    mapper, f"Another table than that of {mapper.class_.__name__} tells its scope; use objects"
                )

    def _refuse_update(self, mapper: Mapper[Any], statement: Update, parameters: Mapping[str, Any]) -> None:
        given = {getattr(each, "key", each) for each in statement._values or ()} | parameters.keys()  # noqa: SLF001 - no public word
        for name in self.stamps(mapper):
            if given & {name, mapper.column_attrs[name].columns[0].key}:
                self.refuse_other(mapper, name)

    def _refuse(self, mapper: Mapper[Any], why: str) -> NoReturn:
        scope = next(self._holding(mapper))
        raise ScopeError(f"{why}, or say `with shop.unscoped({scope.name}, reason=...)`.", scope.name)


def _tables(criterion: Any) -> set[Any]:
    """Return the tables that a criterion is about itself."""
    parts: Any = surface_expressions(criterion)  # type: ignore[no-untyped-call]
    columns = (each for each in parts if isinstance(each, ColumnClause))
    return {each.table._deannotate() for each in columns if each.table is not None}  # noqa: SLF001 - no public word


def _is_insert(statement: object) -> bool:
    return isinstance(statement, Insert)


def _unsent(session: Session) -> list[InstanceState[Any]]:
    """Return the states that the next flush writes."""
    found = [*session._new, *session._dirty_states, *session._deleted]  # noqa: SLF001 - no public word
    return [state for state in found if state.obj() is not None]
