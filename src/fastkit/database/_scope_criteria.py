"""Which mapped classes the scopes of a unit of work are about, and how a statement gets their criteria."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, Column, Select, bindparam, event
from sqlalchemy.orm import Mapper, class_mapper
from sqlalchemy.orm.interfaces import CriteriaOption
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.visitors import ExtendedInternalTraversal, InternalTraversal, iterate
from sqlalchemy.types import NullType, TypeDecorator

from fastkit.database._scope_check import refuse_uncovered
from fastkit.database._scope_declared import refuse_ways_around
from fastkit.errors import DeclarationError, ScopeError
from fastkit.models import Scope, soft_delete
from fastkit.models.scopes import MISSING

_configured = [0]


@event.listens_for(Mapper, "after_configured")
def _note_new_mappers() -> None:
    _configured[0] += 1


class ScopeSet:
    """
    The scopes of a class of units of work, and which mapped classes each of them is about.

    Attributes:
        scopes: The scopes.
        mappers: The mapped classes of each.
        known: All mapped classes that were looked at.
        has_deletions: Whether rows of one of the classes are hidden instead of deleted.
        constant: Those of the scopes whose criteria are the same for all units.
    """

    def __init__(self, scopes: Iterable[Scope[Any]], mappers: frozenset[Mapper[Any]]) -> None:
        self.scopes = tuple(scopes)
        self.known = mappers
        self.mappers = {scope: frozenset(each for each in mappers if _concerns(scope, each)) for scope in self.scopes}
        self.constant = frozenset(scope for scope in self.scopes if _is_constant(scope, self.mappers[scope]))
        self.has_deletions = any(mappers and scope.deletion() for scope, mappers in self.mappers.items())
        self._generation = _configured[0]
        refuse_ways_around(self.mappers, self.known)

    @classmethod
    def of(cls, scopes: Iterable[Scope[Any]], models: Iterable[type[Any]]) -> ScopeSet:
        """
        Return the scopes of units of these models, that of soft deletion among them.

        Raises:
            DeclarationError: A class of the models' registry should have a column, or be exempt; or it would read
                another one past its scope.
        """
        registries = {class_mapper(model).registry for model in models}
        mappers = frozenset(mapper for registry in registries for mapper in registry.mappers)
        return cls(dict.fromkeys((*scopes, soft_delete)), mappers)

    def check_value(self, scope: Scope[Any], value: object) -> None:
        """
        Refuse a value that no row of the scope can have.

        Raises:
            ScopeError: It is of another type than the column.
        """
        for mapper in self.mappers[scope] if scope.is_equality else ():
            held = _python_type(mapper.column_attrs[str(scope.column)].columns[0])
            if held is not None and not isinstance(value, held):
                raise ScopeError(
                    f"The value of the scope {scope.name!r} is a {type(value).__name__}, and "
                    f"{mapper.class_.__name__}.{scope.column} holds {held.__name__}: convert it first.",
                    scope.name,
                )

    def refuse_stranger(self, mapper: Mapper[Any]) -> None:
        """
        Refuse a mapped class that was not looked at.

        Raises:
            ScopeError: A scope is about it.
        """
        for scope in self.scopes:
            try:
                is_about_it = scope.concerns(mapper)
            except DeclarationError:
                continue  # of a class without the column in another registry
            if is_about_it:
                raise ScopeError(
                    f"{mapper.class_.__name__} is in no registry of this unit's models, so the scope {scope.name!r} is "
                    "not added to it: declare a repository of it in the unit.",
                    scope.name,
                )

    @property
    def is_current(self) -> bool:
        """Return whether no class was mapped since."""
        return self._generation == _configured[0]

    @property
    def is_empty(self) -> bool:
        """Return whether none of the scopes is about anything."""
        return not any(self.mappers.values())


def _python_type(column: Any) -> type[Any] | None:
    """Return the type of a column's values, if SQLAlchemy knows it."""
    try:
        found: type[Any] = column.type.python_type
    except NotImplementedError:
        return None
    return None if found is object or isinstance(column.type, TypeDecorator) else found


def _concerns(scope: Scope[Any], mapper: Mapper[Any]) -> bool:
    if not scope.concerns(mapper):
        return False
    if scope.column is not None and not isinstance(mapper.column_attrs[scope.column].columns[0], Column):
        raise DeclarationError(
            f"{mapper.class_.__name__}.{scope.column} is no column of a table, so the scope {scope.name!r} cannot "
            "write it: give the class a column, or a scope of its own with where= and models=."
        )
    return True


def _is_constant(scope: Scope[Any], mappers: Iterable[Mapper[Any]]) -> bool:
    """Return whether the criteria of a scope hold no value, which might be another one when they are made again."""
    if scope.value is MISSING:
        return False
    criteria = (scope.criterion(mapper.class_, scope.value) for mapper in mappers)
    return not any(isinstance(part, BindParameter) for criterion in criteria for part in iterate(criterion))


class Criteria(CriteriaOption):
    """
    The criteria of all scopes that hold, as one option of a statement.

    SQLAlchemy's own `with_loader_criteria` takes one option for each class, which each statement pays for. This one is
    told from others by the scopes and their values, and makes the criteria when the statement is compiled.
    """

    __slots__ = ("_made", "_scopes", "_values", "key", "values")

    propagate_to_loaders = False  # each statement of the session gets it, those of loaders too
    _traverse_internals = [  # noqa: RUF012 - read by SQLAlchemy
        ("key", ExtendedInternalTraversal.dp_plain_obj),
        ("values", InternalTraversal.dp_clauseelement_tuple),
    ]

    def __init__(self, owner: ScopeSet, scopes: Sequence[Scope[Any]], values: Mapping[Scope[Any], Any]) -> None:
        self._scopes = {scope: owner.mappers[scope] for scope in scopes}
        self._values: dict[Scope[Any], BindParameter[Any]] = {}
        self._made: dict[tuple[Scope[Any], Mapper[Any]], Any] = {}
        given: list[Any] = []
        missing = tuple(scope for scope in scopes if scope not in values)
        for scope in scopes:
            if scope in missing or scope in owner.constant:
                continue
            if scope.is_equality:
                self._values[scope] = bindparam(None, values[scope], type_=NullType(), unique=True)
                given.append(self._values[scope])
            else:
                for mapper in sorted(owner.mappers[scope], key=lambda each: each.class_.__qualname__):
                    self._made[scope, mapper] = scope.criterion(mapper.class_, values[scope])
                    given.append(self._made[scope, mapper])
        self.key = (owner, tuple(scopes), missing)
        self.values = tuple(given)

    def process_compile_state(self, compile_state: Any) -> None:
        """Add the criteria to a query that is compiled, if SQLAlchemy puts them wherever they belong."""
        if isinstance(statement := getattr(compile_state, "select_statement", None), Select):
            refuse_uncovered(statement, self.concerned, self.key[0].known)
        self.get_global_criteria(compile_state.global_attributes)

    def process_compile_state_replaced_entities(self, compile_state: Any, mapper_entities: Any) -> None:
        """Same as `process_compile_state`."""
        self.process_compile_state(compile_state)

    def get_global_criteria(self, attributes: dict[Any, Any]) -> None:
        """Add the criteria to a statement that is compiled."""
        for scope, mappers in self._scopes.items():
            for mapper in mappers:
                attributes.setdefault(("additional_entity_criteria", mapper), []).append(self._criterion(scope, mapper))

    def _criterion(self, scope: Scope[Any], mapper: Mapper[Any]) -> LoaderCriteriaOption:
        if scope in self.key[2]:
            return _Refusal(mapper.class_, missing_value(scope, mapper))
        criterion = self._made.get((scope, mapper))
        if criterion is None:
            criterion = scope.criterion(mapper.class_, self._values.get(scope, scope.value))
        return _Criterion(mapper.class_, criterion, include_aliases=True)

    def concerned(self, mapper: Mapper[Any]) -> Scope[Any] | None:
        """
        Return the first of the scopes that is about a mapped class.

        Raises:
            ScopeError: The class was not looked at, and a scope is about it.
        """
        if mapper not in self.key[0].known:
            self.key[0].refuse_stranger(mapper)
        return next((scope for scope, mappers in self._scopes.items() if mapper in mappers), None)


class _Criterion(LoaderCriteriaOption):
    """A criterion that is about the alias where a class is joined under one, which SQLAlchemy's own is not."""

    __slots__ = ()

    def _resolve_where_criteria(self, ext_info: Any) -> Any:
        criterion = super()._resolve_where_criteria(ext_info)
        return ext_info._adapter.traverse(criterion) if ext_info.is_aliased_class else criterion  # noqa: SLF001 - same


class _Refusal(LoaderCriteriaOption):
    """What stands for the criterion of a scope that has no value."""

    __slots__ = ("_error",)

    def __init__(self, model: type[Any], error: ScopeError) -> None:
        super().__init__(model, lambda _: True, include_aliases=True)  # type: ignore[arg-type, return-value]
        self._error = error

    def _resolve_where_criteria(self, ext_info: Any) -> Any:
        raise self._error


def missing_value(scope: Scope[Any], mapper: Mapper[Any]) -> ScopeError:
    """Return the error that tells which scope has no value."""
    return ScopeError(
        f"{mapper.class_.__name__} has the scope {scope.name!r}, and this unit of work was not told its value: call "
        f"shop.scoped({scope.name}, value) first, in a dependency for instance.",
        scope.name,
    )
