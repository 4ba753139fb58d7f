"""What the scopes of a unit of work mean for what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn
from weakref import WeakSet

from sqlalchemy import ClauseElement, Delete, Insert, Update, and_, exists, select
from sqlalchemy.orm import InstanceState, Mapper, Session, UOWTransaction, object_mapper
from sqlalchemy.orm.attributes import instance_state
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.util import surface_expressions

from fastkit.database._scope_check import refuse_uncovered
from fastkit.database._scope_criteria import ScopeSet, missing_value
from fastkit.database._scope_values import ScopeValues, unsent
from fastkit.errors import ScopeError
from fastkit.models import Scope

OWN = "fastkit_own"
_TOKEN = object()
OWN_STATEMENT: Mapping[str, Any] = {OWN: _TOKEN}
"""Execution options of what the library itself sends, having seen to the scopes."""


def is_own(options: Mapping[str, Any]) -> bool:
    """Return whether the library itself sends a statement."""
    return options.get(OWN) is _TOKEN


class ScopeWrites(ScopeValues):
    """What is written into new rows, and what is refused."""

    def __init__(self, owner: ScopeSet) -> None:
        super().__init__(owner)
        self._from_elsewhere: WeakSet[InstanceState[Any]] = WeakSet()
        self._rewritten: set[Mapper[Any]] = set()

    def stamps(self, mapper: Mapper[Any]) -> dict[str, Any]:
        """
        Return what each new row of a mapped class gets, by attribute.

        Raises:
            ScopeError: A scope has no value.
        """
        return {name: value for scope in self.holding(mapper) for name, value in self._stamp(scope, mapper).items()}

    def _stamp(self, scope: Scope[Any], mapper: Mapper[Any]) -> Mapping[str, Any]:
        if scope.column is not None and scope not in self._values:
            raise missing_value(scope, mapper)
        return scope.stamp(self._values.get(scope))

    def refuse_other(self, mapper: Mapper[Any], name: str) -> NoReturn:
        """Refuse a row with another value than that of the scope."""
        scope = next(each for each in self.owner.mappers if each.column == name)
        raise ScopeError(
            f"{mapper.class_.__name__}.{name} is not the value of the scope {scope.name!r} of this unit of work: leave "
            f"it out, or write rows of others in `with shop.unscoped({scope.name}, reason=...)`.",
            scope.name,
        )

    def refuse_expression(self, expression: Any, mapper: Mapper[Any]) -> None:
        """Refuse a SQL expression for a row that would read past a scope."""
        if (criteria := self.criteria) is not None:
            refuse_uncovered(expression, criteria.concerned, self.owner.known, own=mapper)

    def untold(self, mapper: Mapper[Any], names: Sequence[str]) -> Scope[Any] | None:
        """Return a scope that may hide a row which these attributes tell, or None."""
        return next((each for each in self.holding(mapper) if each.column not in names or not each.is_equality), None)

    # -- deletions

    def deletion(self, mapper: Mapper[Any]) -> dict[str, Any]:
        """Return what is written instead of deleting a row, by attribute; nothing, if it is deleted."""
        return {name: value for scope in self.holding(mapper) for name, value in scope.deletion().items()}

    def hide(self, session: Session, entity: object) -> bool:
        """Mark an object as deleted, and what its relationships delete with it; return False if it is to be deleted."""
        state = instance_state(entity)
        if state.key is None or not self.owner.has_deletions:
            return False
        session.add(entity)  # so that what goes with it can be read
        gone = [entity, *(found for found, *_ in state.mapper.cascade_iterator("delete", state))]
        hidden = [each for each in gone if self.deletion(object_mapper(each))]
        moment = self.deletion(state.mapper)
        if hidden and not moment:
            why = f"To delete this {type(entity).__name__} would delete a {type(hidden[0]).__name__} for good"
            self._refuse_deletion(object_mapper(hidden[0]), why)
        for each in hidden:
            for name, value in {**self.deletion(object_mapper(each)), **moment}.items():
                if getattr(each, name) is None:
                    setattr(each, name, value)
        self._may_hold_others = self._may_hold_others or bool(moment)
        return bool(moment)

    def _refuse_orphan(self, state: InstanceState[Any]) -> None:
        """Refuse to delete for good what was only taken out of a list."""
        if state.key is not None and self.deletion(state.mapper) and state.mapper._is_orphan(state):  # noqa: SLF001 - no public word
            name = state.mapper.class_.__name__
            self._refuse_deletion(
                state.mapper, f"delete-orphan would delete a {name} for good; delete() it by its repository"
            )

    def _refuse_deletion(self, mapper: Mapper[Any], why: str) -> NoReturn:
        scope = next(each for each in self.holding(mapper) if each.deletion())
        raise ScopeError(f"{why}, or say `with shop.unscoped({scope.name}, reason=...)`.", scope.name)

    # -- objects

    def note_from_elsewhere(self, state: InstanceState[Any]) -> None:
        """Note an object that this session has not read itself."""
        self._from_elsewhere.add(state)
        self._may_hold_others = True

    def prepare_flush(self, session: Session) -> None:
        """
        Write into the objects that are new what their scopes say, and look at what is to be written.

        Raises:
            ScopeError: A row is another one's, or is made another one's.
        """
        with session.no_autoflush:
            for state in unsent(session):
                self._refuse_orphan(state)
                self._stamp_object(state)
                self._refuse_expressions(state)
            for state in [each for each in self._from_elsewhere if each.session is session]:
                self._refuse_unless_there(session, state)  # a row may come to refer to it
        self._refuse_others(unsent(session))

    def _stamp_object(self, state: InstanceState[Any]) -> None:
        for scope in self.holding_for(state):
            for name, value in self._stamp(scope, state.mapper).items():
                if state.key is not None and name not in state.dict:
                    getattr(state.obj(), name)  # so that it can be looked at
                elif state.key is None and state.dict.get(name) is None:
                    setattr(state.obj(), name, value)

    def _refuse_expressions(self, state: InstanceState[Any]) -> None:
        for value in list(state.dict.values()):
            if isinstance(value, ClauseElement) or hasattr(type(value), "__clause_element__"):
                self.refuse_expression(value, state.mapper)

    def _refuse_unless_there(self, session: Session, state: InstanceState[Any]) -> None:
        """Refuse to write an object from elsewhere whose row is not there for the scopes."""
        mapper, key = state.mapper, state.key
        if key is None or next(self.holding_for(state), None) is None:
            return
        keys = [mapper.get_property_by_column(column).class_attribute for column in mapper.primary_key]
        told = and_(*(column == value for column, value in zip(keys, key[1], strict=True)))
        if not session.scalar(select(exists(select(keys[0]).where(told)))):
            name = mapper.class_.__name__
            self.refuse(mapper, f"This {name} is from elsewhere, and not there for the scopes: read it in this unit")
        self._from_elsewhere.discard(state)

    def check_flushed(self, context: UOWTransaction) -> None:
        """Look again at what was written: relationships and listeners have had their say."""
        written = [
            state for state, (_, is_listed) in context.states.items() if not is_listed and state.obj() is not None
        ]
        self._refuse_others(written)
        for state in written:
            self._excused.pop(state, None)
            self.note_written(state.mapper)

    def note_written(self, mapper: Mapper[Any]) -> None:
        """Note that rows of a class have changed, of which some may be there no more."""
        if any(not scope.is_equality for scope in self.holding(mapper)):
            self._rewritten.add(mapper.base_mapper)

    def _refuse_others(self, states: Sequence[InstanceState[Any]]) -> None:
        holding = [(state, scope) for state in states for scope in self.holding_for(state)]
        for state, scope in holding:
            for name, value in self._stamp(scope, state.mapper).items():
                is_kept = state.key is not None and not scope.is_equality and name not in state.committed_state
                if state.dict.get(name) != value and not is_kept:
                    self.refuse_other(state.mapper, name)

    def hides(self, mapper: Mapper[Any], *, stale: bool) -> bool:
        """Return whether the session may hold an object of a class that is not there for its scopes any more."""
        may_hold = self._may_hold_others or stale or mapper.base_mapper in self._rewritten
        return may_hold and next(self.holding(mapper), None) is not None

    # -- statements

    def refuse_write(self, statement: Insert | Update | Delete, parameters: Any, options: Mapping[str, Any]) -> None:
        """
        Refuse a statement that would write what its scopes do not see.

        Raises:
            ScopeError: It inserts, moves rows, or gets no criteria.
        """
        mapper = statement.table._annotations.get("parentmapper")  # noqa: SLF001 - no public word
        if mapper is None:
            return  # of a table, which is looked at as a part of the statement
        name, stamps = mapper.class_.__name__, self.stamps(mapper)
        if isinstance(statement, Insert):
            if stamps:
                self.refuse(mapper, f"insert({name}) does not write the scope; use add(), or bulk.insert()")
            return
        if next(self.holding(mapper), None) is None:
            return
        how = {**statement.get_execution_options(), **options}.get("dml_strategy", "auto")
        if how not in {"auto", "orm"} or isinstance(parameters, list | tuple):
            self.refuse(mapper, f"A statement about rows of {name} by their keys gets no criterion; use bulk.update()")
        self._refuse_other_tables(mapper)
        self.note_written(mapper)
        if isinstance(statement, Update):
            self._refuse_update(mapper, statement, parameters or {})
        elif self.deletion(mapper):
            self._refuse_deletion(
                mapper, f"delete({name}) would delete rows for good; use bulk.delete(), which hides them"
            )

    def _refuse_other_tables(self, mapper: Mapper[Any]) -> None:
        """Refuse rows of which another table tells whose they are: they would be written as often as that has rows."""
        for scope in self.holding(mapper):
            criterion = scope.criterion(mapper.class_, self._values[scope]) if scope in self._values else None
            if criterion is not None and any(each is not mapper.local_table for each in _tables(criterion)):
                self.refuse(mapper, f"Another table than that of {mapper.class_.__name__} tells its scope; use objects")

    def _refuse_update(self, mapper: Mapper[Any], statement: Update, parameters: Mapping[str, Any]) -> None:
        given = {getattr(each, "key", each) for each in statement._values or ()} | parameters.keys()  # noqa: SLF001 - no public word
        for name in self.stamps(mapper):
            if given & {name, mapper.column_attrs[name].columns[0].key}:
                self.refuse_other(mapper, name)


def _tables(criterion: Any) -> set[Any]:
    """Return the tables that a criterion is about itself."""
    parts: Any = surface_expressions(criterion)  # type: ignore[no-untyped-call]
    columns = (each for each in parts if isinstance(each, ColumnClause))
    return {each.table._deannotate() for each in columns if each.table is not None}  # noqa: SLF001 - no public word
