"""From a response model to the statements that read it: which columns, which joins, which related rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.orm import CompositeProperty, RelationshipProperty, aliased, configure_mappers

from fastkit.repository._links import Link, aggregate, is_many
from fastkit.repository._places import Place, Step, mapper_of, places_of
from fastkit.repository._plan import Child, Plan


@cache
def plan_of(schema: Any, model: Any) -> Plan:
    """
    Return how a response model is read from the rows of a mapped class; derived once.

    Raises:
        DeclarationError: A field comes from nothing, or from something that it cannot hold.
    """
    configure_mappers()
    level = _Level(model)
    return level.plan(level.object_of(schema, model, (Step(schema, bounded=False),)), level.select())


class _Level:
    """What one statement selects, while it is being put together; values are written as Python source."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.columns: list[Any] = []
        self.joins: dict[tuple[Any, str], Any] = {}
        self.children: list[Child] = []
        self.classes: dict[str, Any] = {}

    def plan(self, value: str, statement: Select[Any]) -> Plan:
        """Return the plan: *value* is the source of what is made of a row `r` and the related values `g`."""
        source = f"lambda r, g: {value}"  # made here, of names of fields and numbers
        make: Callable[..., Any] = eval(source, dict(self.classes))  # noqa: S307 - no client has a part in it
        return Plan(statement, make, tuple(self.children))

    def select(self, link: Link | None = None) -> Select[Any]:
        """Return the statement for all rows, or for those that a link leads to."""
        statement: Select[Any] = Select(*self.columns)
        statement = statement.select_from(self.root) if link is None else link.lead(statement)
        for (source, name), target in self.joins.items():
            statement = statement.outerjoin(getattr(source, name).of_type(target))
        return statement

    def column(self, expression: Any) -> int:
        """Select an expression, and return its place in the row."""
        for place, known in enumerate(self.columns):
            if known is expression:
                return place
        self.columns.append(expression)
        return len(self.columns) - 1

    def places(self, expressions: Sequence[Any]) -> tuple[int, ...]:
        """Select expressions, and return their places in the row."""
        return tuple(map(self.column, expressions))

    def join(self, entity: Any, relation: RelationshipProperty[Any]) -> Any:
        """Join what a relation to one row leads to, once, however many fields take it; return its alias."""
        known = self.joins.get((entity, relation.key))
        if known is None:
            known = self.joins[entity, relation.key] = aliased(relation.mapper)
        return known

    # -- from fields to values

    def object_of(self, schema: type[BaseModel], entity: Any, path: tuple[Step, ...]) -> str:
        """Return the dictionary that a model is made of."""
        values = [(place.name, self.value(place, entity, path)) for place in places_of(schema)]
        return "{" + ", ".join(f"{name!r}: {value}" for name, value in values if value is not None) + "}"

    def value(self, place: Place, entity: Any, path: tuple[Step, ...]) -> str | None:
        """Return the value of one field; None if no row gives it."""
        source = place.source
        if source.source is None:
            place.check_default()
            return None
        if source.aggregate:
            return f"r[{self.column(aggregate(place, entity))}]"
        if not isinstance(source.source, str):
            return f"r[{self.column(place.expression(entity))}]"
        *relations, last = source.source.split(".")
        if not relations and place.is_constant and last not in mapper_of(entity).all_orm_descriptors:
            return None
        return self.along(place, entity, [*relations, last], path)

    def along(self, place: Place, entity: Any, names: Sequence[str], path: tuple[Step, ...]) -> str:
        """Return the value at the end of a path."""
        *relations, last = names
        for number, name in enumerate(relations, start=1):
            relation = place.relation(entity, name)
            if is_many(relation):
                return self.many(place, entity, relation, names[number:], path)
            entity = self.join(entity, relation)
        if last in mapper_of(entity).relationships:
            return self.related(place, entity, place.relation(entity, last), path)
        place.check_single()
        if last in mapper_of(entity).composites:
            return self.composite(entity, mapper_of(entity).composites[last])
        return f"r[{self.column(place.attribute(entity, last))}]"

    def composite(self, entity: Any, attribute: CompositeProperty[Any]) -> str:
        """Return an object that is several columns, or None where all of them are NULL."""
        name = f"k{len(self.classes)}"
        self.classes[name] = attribute.composite_class
        values = ", ".join(f"r[{self.column(getattr(entity, each.key))}]" for each in attribute.props)
        return f"None if ({values},).count(None) == {len(attribute.props)} else {name}({values})"

    def related(self, place: Place, entity: Any, relation: RelationshipProperty[Any], path: tuple[Step, ...]) -> str:
        """Return a nested model, or a list of them."""
        schema = place.shape_for(relation)
        if any(step.schema is schema for step in path):
            depth = place.depth(path)
            if sum(step.schema is schema for step in path) > depth:
                return "[]" if place.shape.is_many else "None"
        inner = (*path, Step(schema, bounded=place.source.depth is not None))
        if is_many(relation):
            return self.many(place, entity, relation, (), inner)
        place.check_single()
        target = self.join(entity, relation)
        presence = getattr(target, mapper_of(target).get_property_by_column(mapper_of(target).primary_key[0]).key)
        return f"None if r[{self.column(presence)}] is None else {self.object_of(schema, target, inner)}"

    def many(
        self,
        place: Place,
        entity: Any,
        relation: RelationshipProperty[Any],
        rest: Sequence[str],
        path: tuple[Step, ...],
    ) -> str:
        """Return related values: those at the end of *rest*, or models; a statement of its own reads them."""
        link, (rows, each) = Link(relation), place.through(relation)
        level = _Level(link.target)
        own_key, identity = level.places(link.own_key), level.places(link.identity)
        value = (
            level.along(each, link.target, rest, path) if rest else level.object_of(path[-1].schema, link.target, path)
        )
        key = self.places(link.key_of(entity))
        plan = level.plan(value, link.limited(level.select(link), rows))
        self.children.append(Child(plan, key, own_key, identity))
        found = f"g[{len(self.children) - 1}].get({_tuple(key)})"
        return f"{found} or []" if relation.uselist else f"({found} or [{[] if each.shape.is_many else None}])[0]"


def _tuple(places: tuple[int, ...]) -> str:
    return f"r[{places[0]}]" if len(places) == 1 else "(" + ", ".join(f"r[{place}]" for place in places) + ")"
