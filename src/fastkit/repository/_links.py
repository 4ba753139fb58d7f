"""How related rows are found: by the keys of those that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, UniqueConstraint, and_, bindparam, func, select, tuple_
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty, aliased

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
            if relation.mapper.common_parent(relation.parent):
                self.target = aliased(relation.mapper)
            self._key = [_name(relation.parent, column) for column in relation.parent.primary_key]
            self.own_key = [getattr(self._parent, name) for name in self._key]

    def key_of(self, entity: Any) -> Sequence[Any]:
        """Return what a row of the parent, which may be an alias, is known by."""
        return [getattr(entity, name) for name in self._key]

    def lead(self, statement: Select[Any]) -> Select[Any]:
        """Return the statement for the parents whose keys are given."""
        if self._parent is None:
            statement = statement.select_from(self.target)
        else:
            step = getattr(self._parent, self.relation.key).of_type(self.target)
            statement = statement.select_from(self._parent).join(step)
        own: Any = self.own_key[0] if len(self.own_key) == 1 else tuple_(*self.own_key)
        return statement.where(own.in_(bindparam(KEYS, expanding=True)))

    def limited(self, statement: Select[Any], ordering: Sequence[Any], limit: int | None) -> Select[Any]:
        """Return the statement in this order, with at most so many rows for each parent."""
        if limit is None:
            return statement.order_by(*ordering)
        number = func.row_number().over(partition_by=self.own_key, order_by=ordering)
        *columns, place = statement.add_columns(number.label("place")).subquery("related").c
        outer: Select[Any] = Select(*columns)
        return outer.where(place <= limit).order_by(place)


def ordering_of(place: Place, link: Link) -> list[Any]:
    """Return the order of related rows: what the field says, or else the relationship, and the primary key at last."""
    keys = [_sort_key(place, link, key) for key in place.source.ordering]
    if not keys and link.relation.order_by:
        keys = [about(link.target, key) for key in link.relation.order_by]
    mapper = mapper_of(link.target)
    return [*keys, *(getattr(link.target, _name(mapper, column)) for column in mapper.primary_key)]


def aggregate(place: Place, entity: Any) -> ColumnElement[Any]:
    """Return the number, sum, mean, least or greatest of related rows, as a subquery."""
    names = str(place.source.source).split(".")
    relations, last = (names, None) if place.source.aggregate == "count" else (names[:-1], names[-1])
    if not relations:
        raise place.error(f'name the relationship too, as in From.{place.source.aggregate}("reviews.stars")')
    first = place.relation(entity, relations[0])
    target = aliased(first.mapper)
    statement = select(1).select_from(target).where(getattr(entity, first.key).of_type(target).expression)
    for name in relations[1:]:
        relation = place.relation(target, name)
        source, target = target, aliased(relation.mapper)
        statement = statement.join(getattr(source, name).of_type(target))
    what = func.count() if last is None else _AGGREGATES[place.source.aggregate or ""](place.attribute(target, last))
    return statement.with_only_columns(what).correlate(entity).scalar_subquery()


def is_many(relation: RelationshipProperty[Any]) -> bool:
    """Return whether a join would give several rows for one: it may lead to many, or nothing says that it does not."""
    if relation.uselist:
        return True
    if relation.direction is not RelationshipDirection.ONETOMANY:
        return relation.secondary is not None
    remote = {each for _, each in relation.local_remote_pairs or []}
    return not any(unique <= remote for unique in _unique_columns(relation.mapper))


def _unique_columns(mapper: Mapper[Any]) -> Iterator[set[Any]]:
    yield set(mapper.primary_key)
    for table in mapper.tables:
        for constraint in getattr(table, "constraints", ()):
            if isinstance(constraint, UniqueConstraint):
                yield set(constraint.columns)
        yield from ({column} for column in table.columns if getattr(column, "unique", False))


def _is_by_foreign_key(relation: RelationshipProperty[Any]) -> bool:
    """Return whether the related row itself holds the key of its parent, and nothing else decides."""
    pairs = relation.local_remote_pairs or []
    if relation.direction is not RelationshipDirection.ONETOMANY or relation.secondary is not None:
        return False
    if not all(remote in relation.mapper.c.values() and local in relation.parent.c.values() for local, remote in pairs):
        return False
    plain = and_(*(local == remote for local, remote in pairs))
    return bool(plain.compare(relation.primaryjoin))


def _sort_key(place: Place, link: Link, key: Any) -> Any:
    if not isinstance(key, str):
        return about(link.target, key)
    attribute = place.attribute(link.target, key.removeprefix("-"))
    return attribute.desc() if key.startswith("-") else attribute


def _name(mapper: Any, column: Any) -> str:
    return str(mapper.get_property_by_column(column).key)
