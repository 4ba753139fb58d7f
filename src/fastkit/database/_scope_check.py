"""Refuse what a statement reads or writes past the criteria of scopes, which SQLAlchemy adds to classes alone."""
# ruff: noqa: SLF001 - there is no public word for what a statement is made of

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias

from sqlalchemy import Delete, Insert, Select, Table, TextClause, Update
from sqlalchemy.orm import Mapper
from sqlalchemy.orm.context import FromStatement
from sqlalchemy.orm.util import _ORMJoin
from sqlalchemy.sql.elements import BinaryExpression, ColumnClause
from sqlalchemy.sql.operators import custom_op
from sqlalchemy.sql.selectable import (
    Alias,
    AliasedReturnsRows,
    CompoundSelect,
    FromClause,
    FromGrouping,
    Join,
    Subquery,
    TableClause,
    TableSample,
    TextualSelect,
)

from fastkit.database import _scope_cover as cover
from fastkit.errors import ScopeError
from fastkit.models import Scope

Concerned: TypeAlias = Callable[[Mapper[Any]], Scope[Any] | None]
"""Returns the scope that is about a mapped class, or None."""

_HARMLESS = re.compile(r"\*|[\w.\"`]+|'[\w\s.:+-]*'")
_OPERATOR = re.compile(r"\w+( \w+)?|[^\w\s'\"();]+")


def refuse_uncovered(
    statement: Any, concerned: Concerned, known: AbstractSet[Mapper[Any]], *, own: Mapper[Any] | None = None
) -> None:
    """
    Refuse a statement of which a part would be read or written without the criterion of its scope.

    SQLAlchemy adds criteria where a class is selected, joined or compared. It adds none to tables, to SQL in texts, to
    what is written, and where a class is only sorted, grouped or counted by.

    Args:
        statement: What is sent, or with *own* an expression that is written or loaded.
        concerned: Tells which classes have a scope.
        known: The mapped classes.
        own: The class whose row the expression is about; nothing in it gets criteria.

    Raises:
        ScopeError: There is such a part; the message tells how to write it.
    """
    check = _Check(concerned, known)
    if own is None:
        check.statement(statement)
    else:
        check.expression(statement, own)


class _Check:
    """One walk through a statement."""

    def __init__(self, concerned: Concerned, known: AbstractSet[Mapper[Any]]) -> None:
        self._concerned = concerned
        self._tables: dict[Any, Scope[Any]] = {}
        self._seen: set[Any] = set()
        self._around: AbstractSet[Any] = frozenset()
        self._any: Scope[Any] | None = None
        self._is_bare = False
        found: dict[str, None] = {}
        for mapper in known:
            if (scope := concerned(mapper)) is not None:
                self._any = scope
                found[scope.name] = None
                self._tables.update((_name(table), scope) for table in mapper.tables)
        self._names = ", ".join(sorted(found))

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

    def expression(self, expression: Any, own: Mapper[Any]) -> None:
        """Look at what is written into a row of a class, or loaded with it."""
        if self._any is not None:
            self._is_bare = True
            self._refuse([expression], covered={own})

    def _select(self, statement: Select[Any]) -> None:
        covered = set() if self._is_bare else cover.covered(statement)
        self._refuse(cover.parts(statement), covered, cover.correlated(statement, self._around))
        for target, _, _, flags in cover.joins(statement):
            entity = cover.joined(target)
            if flags["full"] and entity is not None and (scope := self._concerned(entity.mapper)) is not None:
                raise _outer(scope, entity)
        is_bare, self._is_bare = self._is_bare, True
        self._refuse(cover.of_options(statement), covered)
        self._is_bare = is_bare

    def _refuse(self, parts: Iterable[Any], covered: AbstractSet[Any], outer: AbstractSet[Any] = frozenset()) -> None:
        """Refuse parts that name what has a scope, but for what is covered here, and tables of the query around."""
        around, self._around = self._around, {table for entity in covered for table in cover.tables_of(entity)}
        for named in self._mentioned(parts):
            if isinstance(named, FromClause):
                table: Any = named if isinstance(named, TableClause) else named.element  # type: ignore[attr-defined]
                if (scope := self._tables.get(_name(table))) is not None and named not in self._around | outer:
                    raise _by_table(scope, table)
            elif (scope := self._concerned(named.mapper)) is None or named in covered:
                continue
            elif not self._around.issuperset(cover.tables_of(named)):  # as those of a class below it are
                raise _hidden(scope, named)
        self._around = around

    def _write(self, statement: Insert | Update | Delete) -> None:
        table: Any = statement.table
        written = cover.entity_of(table)
        if written is None and (scope := self._tables.get(_name(table))) is not None:
            raise _by_table(scope, table)
        self._is_bare = isinstance(statement, Insert)  # into which SQLAlchemy puts no criteria
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
            elif isinstance(element, _ORMJoin) or (isinstance(element, Join) and cover.entity_of(element) is None):
                yield from self._join(element)
            elif (entity := cover.entity_of(element)) is not None and not isinstance(element, TableSample):
                self._behind(entity)
                yield entity
                yield from self._mentioned(_inside(element))
            elif isinstance(element, AliasedReturnsRows):
                yield from self._alias(element)
            else:
                self._refuse_text(element)
                yield from self._named(element)
                yield from self._mentioned(element.get_children())

    def _join(self, element: Any) -> Iterator[Any]:
        """Yield the sides of a join, whose criteria SQLAlchemy adds to the whole query, and not to its condition."""
        is_outer = element.isouter or element.full
        for named in self._mentioned(element.get_children()):
            scope = None if not is_outer or isinstance(named, FromClause) else self._concerned(named.mapper)
            if scope is not None:
                raise _outer(scope, named)
            yield named

    def _behind(self, entity: Any) -> None:
        """Look at the query that an alias stands for, once."""
        inner = cover.behind(entity)
        if inner is None or inner in self._seen:
            return
        self._seen.add(inner)
        if isinstance(inner, TableClause):
            if (scope := self._tables.get(_name(inner))) is not None:
                raise _by_table(scope, inner)
        else:
            self._apart(inner)

    def _alias(self, element: Any) -> Iterator[Any]:
        """Yield a table under another name, and look at a query under a name, once: it may refer to itself."""
        if isinstance(element.element, TableClause):
            yield element
        elif element not in self._seen:
            self._seen.add(element)
            self._apart(element.element)

    def _apart(self, query: Any) -> None:
        """Look at a query in which nothing around it can be named."""
        around, self._around = self._around, frozenset()
        self._refuse([query], set())
        self._around = around

    def _named(self, element: Any) -> Iterator[Any]:
        """Yield the table that is named without its class; what relationships are made of names them so, too."""
        table = element if isinstance(element, TableClause) else getattr(element, "table", None)
        if table is None or "parentmapper" in element._annotations:
            return
        if isinstance(table, TableClause):
            yield table
        elif table is not element and (id(table), "of a column") not in self._seen:
            self._seen.add((id(table), "of a column"))
            yield from self._mentioned([table])

    def _refuse_text(self, element: Any) -> None:
        assert self._any is not None  # noqa: S101 - or nothing is looked at
        if isinstance(element, TextClause | TextualSelect) or _is_sql(element):
            raise ScopeError(
                f"A text of SQL knows nothing of scopes: write it as an expression, or in "
                f"`with shop.unscoped({self._names}, reason=...)`.",
                self._any.name,
            )


def _name(table: Any) -> Any:
    """Return what a table is told by, which other objects may stand for as well."""
    return (table.schema, table.name) if isinstance(table, TableClause) else table


def _inside(element: Any) -> Iterable[Any]:
    """Return what of an entity, or of an attribute, is a statement of its own."""
    if isinstance(element, Table | Join | ColumnClause):
        return ()
    if isinstance(element, Alias | FromGrouping | Subquery):
        return ()  # `_behind` looks at it
    children: Iterable[Any] = element.get_children()
    return children


def _is_sql(element: Any) -> bool:
    """Return whether SQL stands in an element as a text."""
    if isinstance(element, BinaryExpression) and isinstance(element.operator, custom_op):
        return not _OPERATOR.fullmatch(element.operator.opstring.strip())
    return isinstance(element, ColumnClause) and element.is_literal and not _HARMLESS.fullmatch(element.name)


def _hidden(scope: Scope[Any], entity: Any) -> ScopeError:
    name = entity.mapper.class_.__name__
    return ScopeError(
        f"This statement would read rows of {name} past the scope {scope.name!r}: {name} is only sorted, grouped or "
        f"joined by there, or stands in what is written. Say select_from({name}), join it by .join({name}, ...) of the "
        "statement, or read first what is to be written.",
        scope.name,
    )


def _outer(scope: Scope[Any], entity: Any) -> ScopeError:
    name = entity.mapper.class_.__name__
    return ScopeError(
        f"An outer join like this one would show rows of {name} past the scope {scope.name!r}, or lose others: say "
        f".outerjoin({name}, ...) of the statement.",
        scope.name,
    )


def _by_table(scope: Scope[Any], table: Any) -> ScopeError:
    return ScopeError(
        f"The table {table.name} has the scope {scope.name!r}, which only its class gets: name the class instead of "
        f"the table (where a class is related to itself, by of_type(aliased(...))), write by the repository, or say "
        f"`with shop.unscoped({scope.name}, reason=...)`.",
        scope.name,
    )


def _nested_write(scope: Scope[Any] | None, element: Any) -> ScopeError:
    name = scope.name if scope is not None else ""
    return ScopeError(
        f"A statement that writes {element.table.name} inside of another one gets no criterion of the scope {name!r}: "
        "send it by itself.",
        name,
    )
