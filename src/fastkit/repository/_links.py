"""How related rows are found: by the keys of those that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from sqlalchemy import (
    ColumnElement,
    PrimaryKeyConstraint,
    Select,
    String,
    UniqueConstraint,
    and_,
    func,
    select,
)
from sqlalchemy.orm import RelationshipDirection, RelationshipProperty, aliased
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList

from fastkit.database import among
from fastkit.repository._places import Place, about, mapper_of
from fastkit.repository._plan import KEYS

_AGGREGATES: dict[str, Callable[..., ColumnElement[Any]]] = {
    "sum": func.sum,
    "avg": func.avg,
    "min": func.min,
    "max": func.max,
}


class Link:
    """
    A relation to many rows, or to one row that cannot be joined, as a statement of its own that is told the parents.

    Attributes:
        target: The related class, or an alias of it.
        own_key: What a related row is grouped by: the key of its parent.
        identity: What it is told from others by, if the same one may come twice: both keys.
    """

    def __init__(self, relation: RelationshipProperty[Any]) -> None:
        self.relation = relation
        self.target: Any = relation.mapper.class_
        self._parent: Any = None
        if _is_by_foreign_key(relation):
            pairs = relation.local_remote_pairs or []
            self._key = [_name(relation.parent, local) for local, _ in pairs]
            self.own_key = [getattr(self.target, _name(relation.mapper, remote)) for _, remote in pairs]
        else:
            self._parent = aliased(relation.parent)
            self.target = aliased(relation.mapper)
            self._key = [_name(relation.parent, column) for column in relation.parent.primary_key]
            self.own_key = [getattr(self._parent, name) for name in self._key]
        self.identity = [*self.own_key, *_primary_key(self.target)] if _repeats(relation) else []

    @property
    def repeats(self) -> bool:
        """Return whether it may lead several parents to the same row."""
        return self._parent is not None

    @property
    def is_shared(self) -> bool:
        """Return whether several parents may have all their related rows in common, as their key is not unique."""
        whole = {_name(self.relation.parent, column) for column in self.relation.parent.primary_key}
        return not whole <= set(self._key)

    def key_of(self, entity: Any) -> Sequence[Any]:
        """Return what a row of the parent, which may be an alias, is known by."""
        return [getattr(entity, name) for name in self._key]

    def lead(self, statement: Select[Any]) -> Select[Any]:
        """Return the statement for the parents whose keys are given."""
        statement = statement.select_from(self.target)
        if self._parent is not None:
            between = () if self.relation.secondary is None else (self.relation.secondary,)
            statement = statement.select_from(self._parent, *between)
            statement = statement.where(*_relates(self._parent, self.target, self.relation))
        return statement.where(among(self.own_key, KEYS))

    def limited(self, statement: Select[Any], place: Place) -> Select[Any]:
        """Return the statement in the order that the field says, with at most so many rows for each parent."""
        ordering, limit = self._ordering(place), place.source.limit
        if limit is None:
            return statement.order_by(*ordering)
        if self.identity and not place.source.ordering and _is_about_between(self.relation):
            raise place.error(f"{self.relation} may give a row several times: a limit needs an order_by of the field")
        rank = func.dense_rank().over(partition_by=self.own_key, order_by=ordering)
        *columns, number = statement.add_columns(rank.label("place")).subquery("related").c
        outer: Select[Any] = Select(*columns)
        return outer.where(number <= limit).order_by(number)

    def _ordering(self, place: Place) -> list[Any]:
        """Return what the field says, or else the order of the relationship, and the primary key at last."""
        keys = [self._sort_key(place, key) for key in place.source.ordering]
        if not keys and self.relation.order_by:
            keys = [about(self.target, key) for key in self.relation.order_by]
        return [*keys, *_primary_key(self.target)]

    def _sort_key(self, place: Place, key: Any) -> Any:
        if not isinstance(key, str):
            return about(self.target, key)
        attribute = place.attribute(self.target, key.removeprefix("-"))
        return attribute.desc() if key.startswith("-") else attribute


def aggregate(place: Place, entity: Any) -> ColumnElement[Any]:
    """Return the number, sum, mean, least or greatest of related rows, as a subquery."""
    names = str(place.source.source).split(".")
    relations, last = (names, None) if place.source.aggregate == "count" else (names[:-1], names[-1])
    if not relations:
        raise place.error(f'name the relationship too, as in From.{place.source.aggregate}("reviews.stars")')
    target, statement = entity, select(1)
    for name in relations:
        relation = place.relation(target, name)
        source, target = target, aliased(relation.mapper)
        way = _way(source, target, relation)
        statement = statement.select_from(target).where(way) if source is entity else statement.join(target, way)
    what = func.count() if last is None else _AGGREGATES[place.source.aggregate or ""](place.attribute(target, last))
    return statement.with_only_columns(what).correlate(entity).scalar_subquery()


def is_many(relation: RelationshipProperty[Any]) -> bool:
    """Return whether a join would give several rows for one: it may lead to many, or nothing says that it does not."""
    if relation.uselist or relation.secondary is not None:
        return True
    mapper = relation.mapper
    return not _is_one(relation, set(mapper.primary_key), *chain.from_iterable(map(_keys, mapper.tables)))


def _repeats(relation: RelationshipProperty[Any]) -> bool:
    """Return whether the table between may name the same two rows several times."""
    return relation.secondary is not None and not _is_one(relation, *_keys(relation.secondary))


def _is_about_between(relation: RelationshipProperty[Any]) -> bool:
    """Return whether the order of the relation is about the table between."""
    between: Any = relation.secondary
    return any(between.is_derived_from(each) for each in select(*(relation.order_by or ())).get_final_froms())


def _is_one(relation: RelationshipProperty[Any], *keys: set[Any]) -> bool:
    """Return whether the relation asks that all columns of a key are equal to others."""
    equal = [*_equal(relation.primaryjoin), *_equal(relation.secondaryjoin)]
    remote = {each for _, each in relation.local_remote_pairs or [] if any(one.shares_lineage(each) for one in equal)}
    return any(key and key <= remote for key in keys)


def _equal(condition: Any) -> Iterator[ColumnElement[Any]]:
    """Yield the sides of the equations that must all hold; those of an OR need not."""
    if isinstance(condition, BooleanClauseList) and condition.operator is operators.and_:
        for each in condition.clauses:
            yield from _equal(each)
    elif isinstance(condition, BinaryExpression) and condition.operator is operators.eq:
        yield from (condition.left, condition.right)


def _keys(table: Any) -> Iterator[set[Any]]:
    """Yield the columns of which a table has no two equal rows; a join has none."""
    for each in getattr(table, "constraints", ()):
        if isinstance(each, PrimaryKeyConstraint | UniqueConstraint):
            yield set(each.columns)
    for index in getattr(table, "indexes", ()):
        is_of_columns = len(index.columns) == len(index.expressions)
        if index.unique and is_of_columns and not index.kwargs:  # such as postgresql_where: unique among some rows
            yield set(index.columns)


def _relates(parent: Any, target: Any, relation: RelationshipProperty[Any]) -> Sequence[Any]:
    """Return what relates two aliases; a table between by its own name, for an order that is about it."""
    if relation.secondary is None:
        return [getattr(parent, relation.key).of_type(target).expression]
    return [about(parent, relation.primaryjoin), about(target, relation.secondaryjoin)]


def _way(entity: Any, target: Any, relation: RelationshipProperty[Any]) -> Any:
    """Return what a row of the target is related to one of the entity by, true once however often it is."""
    if relation.secondary is None or not _repeats(relation):
        return getattr(entity, relation.key).of_type(target)
    between = select(1).select_from(relation.secondary).where(*_relates(entity, target, relation))
    return between.correlate_except(relation.secondary).exists()


def _is_by_foreign_key(relation: RelationshipProperty[Any]) -> bool:
    """Return whether the related row itself holds the key of its parent, and nothing else decides."""
    pairs = relation.local_remote_pairs or []
    if relation.direction is not RelationshipDirection.ONETOMANY or relation.secondary is not None:
        return False
    if not all(remote in relation.mapper.c.values() and local in relation.parent.c.values() for local, remote in pairs):
        return False
    if any(isinstance(local.type, String) for local, _ in pairs):
        return False  # a database may take texts for equal that Python does not, and a parent knows its own spelling
    plain = and_(*(local == remote for local, remote in pairs))
    return bool(plain.compare(relation.primaryjoin))


def _primary_key(entity: Any) -> list[Any]:
    mapper = mapper_of(entity)
    return [getattr(entity, _name(mapper, column)) for column in mapper.primary_key]


def _name(mapper: Any, column: Any) -> str:
    return str(mapper.get_property_by_column(column).key)
