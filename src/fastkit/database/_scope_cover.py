"""Which parts of a statement SQLAlchemy adds the criteria of scopes to; `_scope_check` refuses the others."""
# ruff: noqa: SLF001 - there is no public word for what a statement is made of

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import Select, Table, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import QueryableAttribute
from sqlalchemy.orm.interfaces import CriteriaOption
from sqlalchemy.orm.strategy_options import _AbstractLoad
from sqlalchemy.orm.util import LoaderCriteriaOption
from sqlalchemy.sql.selectable import AliasedReturnsRows, SelectBase, TableClause
from sqlalchemy.sql.util import extract_first_column_annotation, surface_expressions


def entity_of(element: Any) -> Any:
    """Return the class or alias that a part of a statement is annotated with, or None."""
    annotations = getattr(element, "_annotations", None)
    return annotations.get("parententity") if annotations else None


def covered(statement: Select[Any]) -> set[Any]:
    """Return the classes and aliases to whose rows SQLAlchemy adds criteria, in this query itself."""
    if statement._propagate_attrs.get("compile_state_plugin") != "orm":
        return set()
    named = {entity_of(each) for each in statement._from_obj}
    for target, _, _, _ in joins(statement):
        named |= {joined(target), getattr(target, "_parententity", None)}
    is_explicit = bool(statement._from_obj or joins(statement))
    selected = {each for each in map(_selected, _columns(statement)) if not is_explicit or is_of_one_table(each)}
    compared: Any = (entity_of(each) for part in statement._where_criteria for each in surface_expressions(part))  # type: ignore[no-untyped-call]
    return (named | selected | {each for each in compared if is_of_one_table(each)}) - {None}


def joins(statement: Select[Any]) -> tuple[Any, ...]:
    """Return what `join()` was given, each as target, condition, left side and flags."""
    earlier = (join for each in statement._memoized_select_entities for join in each._setup_joins)
    return (*statement._setup_joins, *earlier)


def joined(target: Any) -> Any:
    """Return the class or alias that `join(target)` is about: itself, or what a relationship leads to."""
    if not isinstance(target, QueryableAttribute):
        return entity_of(target)
    return inspect(target._of_type) if target._of_type is not None else target.property.entity


def _columns(statement: Select[Any]) -> Iterator[Any]:
    for column in statement._raw_columns:
        bundle: Any = column._annotations.get("bundle")
        yield from (column,) if bundle is None else bundle.exprs


def _selected(column: Any) -> Any:
    # Of an expression about several classes SQLAlchemy takes the first.
    return entity_of(column) or extract_first_column_annotation(column, "parententity")  # type: ignore[no-untyped-call]


def is_of_one_table(entity: Any) -> bool:
    """Return whether a class is read from one table: a criterion about another one needs that to be joined."""
    if entity is None:
        return False
    if entity.is_aliased_class:
        return isinstance(entity.selectable, AliasedReturnsRows)
    return len(entity.mapper.tables) == 1


def tables_of(entity: Any) -> Iterable[Any]:
    """Return what a class or an alias is read from."""
    if entity.is_aliased_class:
        return (entity.selectable, *entity.selectable._from_objects)
    tables: Iterable[Any] = entity.mapper.tables
    return tables


def correlated(statement: Select[Any], around: AbstractSet[Any]) -> set[Any]:
    """Return what a query does not read itself, because the query around it does."""
    if not around:
        return set()
    by_itself = statement._auto_correlate and _reads_several(statement)
    apart = statement._correlate_except
    return {
        each
        for each in around
        if by_itself or each in statement._correlate or (apart is not None and each not in apart)
    }


def _reads_several(statement: Select[Any]) -> bool:
    """Return whether SQLAlchemy leaves out what is read around; it does not if nothing else would be left."""
    try:
        return len(statement.get_final_froms()) > 1
    except SQLAlchemyError:
        return False


def own_query(entity: Any) -> bool:
    """Return whether an alias stands for the tables of its class, which SQLAlchemy has put into a query."""
    inner = getattr(entity.selectable, "element", None)
    if not isinstance(inner, Select) or inner._where_criteria or inner._with_options:
        return False
    tables = set(entity.mapper.tables)
    named = {each if isinstance(each, Table) else getattr(each, "table", None) for each in inner._raw_columns}
    froms = {each for one in inner.get_final_froms() for each in one._from_objects if isinstance(each, Table)}
    return named | froms <= tables


def behind(entity: Any) -> Any:
    """Return the query, or the table of something else, that an alias stands for; None if it is the class itself."""
    if not entity.is_aliased_class:
        return None
    inner: Any = getattr(entity.selectable, "element", None)
    if isinstance(inner, SelectBase):
        return None if own_query(entity) else inner
    for each in entity.selectable._from_objects:
        table = each.element if isinstance(each, AliasedReturnsRows) else each
        if isinstance(table, TableClause) and table not in entity.mapper.tables:
            return table
    return None


def parts(statement: Select[Any]) -> Iterator[Any]:
    """Yield what a query names; not what SQLAlchemy finds by that to be read from."""
    yield from super(Select, statement).get_children(omit_attrs=("_correlate", "_correlate_except"))
    for prefixed in (*statement._prefixes, *statement._suffixes):
        yield prefixed[0]


def of_options(statement: Select[Any]) -> Iterator[Any]:
    """Yield the expressions that options of a query bring along."""
    for option in statement._with_options:
        if isinstance(option, LoaderCriteriaOption):
            mapper = option.entity if option.entity is not None else next(option._all_mappers(), None)
            if mapper is not None:
                yield option._resolve_where_criteria(mapper)
        elif isinstance(option, _AbstractLoad) and not isinstance(option, CriteriaOption):
            for element in getattr(option, "context", ()):
                yield from element._extra_criteria
                if (expression := element.local_opts.get("expression")) is not None:
                    yield expression
