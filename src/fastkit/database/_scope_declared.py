"""Refuse mapped classes that would get around a scope, before anything is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Column, Select, SelectBase, Table
from sqlalchemy.orm import Mapper
from sqlalchemy.sql.visitors import iterate

from fastkit.database._scope_check import refuse_uncovered
from fastkit.errors import DeclarationError, ScopeError
from fastkit.models import Scope


def refuse_ways_around(mappers: Mapping[Scope[Any], frozenset[Mapper[Any]]], known: frozenset[Mapper[Any]]) -> None:
    """
    Refuse what SQLAlchemy would read past the criteria of scopes because the classes say so.

    Args:
        mappers: Which classes each scope is about.
        known: All mapped classes.

    Raises:
        DeclarationError: A base class without the scope of one below it, a relationship through the table of a class
            that has a scope, an attribute or a default that reads one.
    """
    declared = _Declared(mappers, known)
    for scope, concerned in mappers.items():
        for mapper in concerned:
            _refuse_open_base(scope, mapper, concerned)
    for mapper in known if any(mappers.values()) else ():
        declared.look_at(mapper)


def _refuse_open_base(scope: Scope[Any], mapper: Mapper[Any], concerned: frozenset[Mapper[Any]]) -> None:
    if mapper.inherits is not None and not mapper.concrete and mapper.inherits not in concerned:
        below, above = mapper.class_.__name__, mapper.inherits.class_.__name__
        raise DeclarationError(
            f"{below} has the scope {scope.name!r} and {above} has not, by which its rows can be read as well: "
            f"let the scope be about {above}."
        )


class _Declared:
    """What the mapped classes say."""

    def __init__(self, mappers: Mapping[Scope[Any], frozenset[Mapper[Any]]], known: frozenset[Mapper[Any]]) -> None:
        self._mappers = mappers
        self._known = known
        scoped = [mapper for mapper in known if self._concerned(mapper) is not None]
        self._tables: dict[Any, Mapper[Any]] = {table: mapper for mapper in scoped for table in mapper.tables}

    def _concerned(self, mapper: Mapper[Any]) -> Scope[Any] | None:
        return next((scope for scope, mappers in self._mappers.items() if mapper in mappers), None)

    def look_at(self, mapper: Mapper[Any]) -> None:
        """Look at the relationships, attributes and defaults of a class."""
        for relation in mapper.relationships:
            self._refuse_between(mapper, relation)
            for condition in (relation.primaryjoin, relation.secondaryjoin):
                for query in _queries_in(condition):
                    self._refuse(relation, query, own=mapper)
        for attribute in mapper.column_attrs:
            if not isinstance(attribute.columns[0], Column):
                self._refuse(attribute, Select(attribute.columns[0]))
        for column in mapper.columns:
            for default in (getattr(column, "default", None), getattr(column, "onupdate", None)):
                if default is not None and default.is_clause_element:
                    self._refuse(column, default.arg, own=mapper)

    def _refuse_between(self, mapper: Mapper[Any], relation: Any) -> None:
        between = [self._tables[table] for table in _tables_in(relation.secondary) if table in self._tables]
        if between:
            own, name, other = (each.class_.__name__ for each in (mapper, between[0], relation.mapper))
            raise DeclarationError(
                f"{relation} goes through the table of {name}, which has a scope: rows that it hides would still be "
                f"led through. Relate {own} to {name}, and {name} to {other}."
            )
        for scope in (each for each, mappers in self._mappers.items() if mapper in mappers):
            for table in _tables_in(relation.secondary):
                scope.refuse_between(table, relation)

    def _refuse(self, where: Any, expression: Any, *, own: Mapper[Any] | None = None) -> None:
        try:
            refuse_uncovered(expression, self._concerned, self._known, own=own)
        except ScopeError as error:
            raise DeclarationError(f"{where}: {error}") from error


def _tables_in(secondary: Any) -> Iterator[Any]:
    if secondary is not None:
        yield from (each for each in iterate(secondary) if isinstance(each, Table))


def _queries_in(condition: Any) -> Iterator[Any]:
    if condition is not None:
        yield from (each for each in iterate(condition) if isinstance(each, SelectBase))
