"""Find what a statement reads or writes past the criteria of scopes, which SQLAlchemy adds to classes alone."""
# ruff: noqa: SLF001 - there is no public word for what a statement is made of

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from sqlalchemy import Delete, Insert, Select, Table, TextClause, Update, inspect
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.orm.util import _ORMJoin
from sqlalchemy.sql.elements import ColumnClause
from sqlalchemy.sql.selectable import (
    Alias,
    AliasedReturnsRows,
    CompoundSelect,
    FromClause,
    FromGrouping,
    Join,
    SelectBase,
    Subquery,
    TableSample,
    TextualSelect,
)
from sqlalchemy.sql.util import extract_first_column_annotation, surface_expressions

from fastkit.errors import ScopeError
from fastkit.models import Scope

Concerned: TypeAlias = Callable[[Mapper[Any]], Scope[Any] | None]
"""Returns the scope that is about a mapped class, or None."""

_HARMLESS = re.compile(r"\*|[\w.\"`]+|'[\w\s.:+-]*'")


def refuse_uncovered(statement: Any, concerned: Concerned, known: AbstractSet[Mapper[Any]]) -> None:
    """
    Refuse a statement of which a part would be read or written without the criterion of its scope.

    SQLAlchemy adds criteria where a class is selected, joined or compared. It adds none to tables, to SQL in texts, and
    where a class is only sorted, grouped or counted by.

    Raises:
        ScopeError: There is such a part; the message tells how to write it.
    """
    _Check(concerned, known).statement(statement)


class _Check:
    """One walk through a statement."""

    def __init__(self, concerned: Concerned, known: AbstractSet[Mapper[Any]]) -> None:
        self._concerned = concerned
        self._tables: dict[Any, Scope[Any]] = {}
        self._seen: set[Any] = set()
        self._around: AbstractSet[Any] = frozenset()
        self._any: Scope[Any] | None = None
        for mapper in known:
            if (scope := concerned(mapper)) is not None:
                self._any = scope
                self._tables.update((table, scope) for table in mapper.tables)

    def statement(self, statement: Any) -> None:
        """Look at a statement and at all that is in it."""
        if self._any is None:
            return
        if isinstance(statement, Select):
            self._select(statement)
        elif isinstance(statement, Insert | Update | Delete):
            self._write(statement)
        elif isinstance(statement, CompoundSelect | FromStatement):
            self._parts_of(statement)
        else:
            self._refuse([statement], covered=set())

    def _select(self, statement: Select[Any]) -> None:
        is_orm = statement._propagate_attrs.get("compile_state_plugin") == "orm"
        covered = {*self._covered(statement)} - {None} if is_orm else set()
        self._refuse(_parts(statement), covered, set(_correlated(statement, self._around)))

    def _refuse(self, parts: Iterable[Any], covered: AbstractSet[Any], outer: AbstractSet[Any] = frozenset()) -> None:
        """Refuse parts that name what has a scope, but for what is covered here, and tables of the query around."""
        around, self._around = self._around, {table for entity in covered for table in _tables_of(entity)}
        for named in self._mentioned(parts):
            if isinstance(named, FromClause):
                table: Any = named if isinstance(named, Table) else named.element  # type: ignore[attr-defined]
                if (scope := self._tables.get(table)) is not None and named not in self._around | outer:
                    raise _by_table(scope, table)
            elif (scope := self._concerned(named.mapper)) is None or named in covered:
                continue
            elif not self._around.issuperset(_tables_of(named)):  # as those of a class below it are
                raise _hidden(scope, named)
        self._around = around

    def _covered(self, statement: Select[Any]) -> Iterator[Any]:
        """Yield the classes and aliases to which SQLAlchemy adds criteria."""
        for column in statement._raw_columns:
            bundle: Any = column._annotations.get("bundle")
            for each in (column,) if bundle is None else bundle.exprs:  # of several classes SQLAlchemy takes the first
                yield _entity(each) or extract_first_column_annotation(each, "parententity")  # type: ignore[no-untyped-call]
        for part in statement._where_criteria:
            yield from map(_entity, surface_expressions(part))  # type: ignore[no-untyped-call]
        joins = [
            *statement._setup_joins,
            *(join for each in statement._memoized_select_entities for join in each._setup_joins),
        ]
        yield from map(_entity, statement._from_obj)
        yield from (_joined(target) for target, *_ in joins)

    def _write(self, statement: Insert | Update | Delete) -> None:
        table: Any = statement.table
        written = _entity(table)
        if written is None and (scope := self._tables.get(table)) is not None:
            raise _by_table(scope, table)
        children = [each for each in statement.get_children() if each is not table]
        self._refuse(children, {written} if written is not None else set())

    def _parts_of(self, statement: Any) -> None:
        """Look at the queries of which a statement consists; what it is sorted by names what is selected in them."""
        around, self._around = self._around, frozenset()
        for _ in self._mentioned(statement.get_children()):
            pass
        self._around = around

    def _mentioned(self, elements: Iterable[Any]) -> Iterator[Any]:
        """Yield the classes, aliases and tables that are named in a statement itself, having looked at those in it."""
        for element in elements:
            if isinstance(element, Select):
                self._select(element)
            elif isinstance(element, Insert | Update | Delete):
                raise _nested_write(self._any, element)
            elif isinstance(element, CompoundSelect):
                self._parts_of(element)
            elif (entity := _entity(element)) is not None and not isinstance(element, _ORMJoin | TableSample):
                yield entity
                yield from self._mentioned(_inside(element))
            elif isinstance(element, AliasedReturnsRows):
                yield from self._alias(element)
            else:
                self._refuse_text(element)
                yield from self._named(element)
                yield from self._mentioned(element.get_children())

    def _alias(self, element: Any) -> Iterator[Any]:
        """Yield a table under another name, and look at a query under a name, once: it may refer to itself."""
        if isinstance(element.element, Table):
            yield element
        elif element not in self._seen:
            self._seen.add(element)
            around, self._around = self._around, frozenset()
            self._refuse([element.element], set())
            self._around = around

    def _named(self, element: Any) -> Iterator[Any]:
        """Yield the table that is named without its class; what relationships are made of names them so, too."""
        table = element if isinstance(element, Table) else getattr(element, "table", None)
        if table is None or "parentmapper" in element._annotations:
            return
        if isinstance(table, Table):
            yield table
        elif table is not element:
            yield from self._mentioned([table])

    def _refuse_text(self, element: Any) -> None:
        assert self._any is not None  # noqa: S101 - or nothing is looked at
        if isinstance(element, TextClause | TextualSelect) or _is_sql(element):
            raise ScopeError(
                f"A text of SQL knows nothing of the scope {self._any.name!r}: write it as an expression, or in "
                f"`with shop.unscoped({self._any.name}, reason=...)`.",
                self._any.name,
            )


def _entity(element: Any) -> Any:
    annotations = getattr(element, "_annotations", None)
    return annotations.get("parententity") if annotations else None


def _joined(target: Any) -> Any:
    """Return the class or alias that `join(target)` is about: itself, or what a relationship leads to."""
    if not isinstance(target, QueryableAttribute):
        return _entity(target)
    return inspect(target._of_type) if target._of_type is not None else target.property.entity


def _tables_of(entity: Any) -> Iterable[Any]:
    """Return what a class or an alias is read from."""
    return (entity.selectable,) if entity.is_aliased_class else entity.mapper.tables


def _correlated(statement: Select[Any], around: AbstractSet[Any]) -> Iterator[Any]:
    """Yield what a query does not read itself, because the query around it does."""
    for each in around:
        apart = statement._correlate_except
        if statement._auto_correlate or each in statement._correlate or (apart is not None and each not in apart):
            yield each


def _parts(statement: Select[Any]) -> Iterable[Any]:
    """Return what a statement names; not what SQLAlchemy finds by that to be read from."""
    parts: Iterable[Any] = super(Select, statement).get_children(omit_attrs=("_correlate", "_correlate_except"))
    return parts


def _inside(element: Any) -> Iterable[Any]:
    """Return what of an entity, or of an attribute, is a statement of its own."""
    if isinstance(element, Table | Join | ColumnClause):
        return ()
    if isinstance(element, Alias | FromGrouping):
        return () if not isinstance(element.element, SelectBase) else (element.element,)
    return (element.element,) if isinstance(element, Subquery) else element.get_children()


def _is_sql(element: Any) -> bool:
    return isinstance(element, ColumnClause) and element.is_literal and not _HARMLESS.fullmatch(element.name)


def _hidden(scope: Scope[Any], entity: Any) -> ScopeError:
    name = entity.mapper.class_.__name__
    return ScopeError(
        f"This statement would read rows of {name} past the scope {scope.name!r}: {name} is only sorted, grouped or "
        f"joined by there. Say select_from({name}), or join by .join({name}, ...) of the statement.",
        scope.name,
    )


def _by_table(scope: Scope[Any], table: Any) -> ScopeError:
    return ScopeError(
        f"The table {table.name} has the scope {scope.name!r}, which only its class gets: name the class instead of "
        f"the table, write by the repository, or say `with shop.unscoped({scope.name}, reason=...)`.",
        scope.name,
    )


def _nested_write(scope: Scope[Any] | None, element: Any) -> ScopeError:
    name = scope.name if scope is not None else ""
    return ScopeError(
        f"A statement that writes {element.table.name} inside of another one gets no criterion of the scope {name!r}: "
        "send it by itself.",
        name,
    )
