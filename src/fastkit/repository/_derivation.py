"""From a response model to the statements that read it: which columns, which joins, which related rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import Select
from sqlalchemy.orm import CompositeProperty, RelationshipProperty, aliased, configure_mappers

from fastkit.repository._links import Link, aggregate, is_many
from fastkit.repository._places import Place, Step, mapper_of, places_of
from fastkit.repository._plan import Child, Plan

BY_PLACE = {"_result_disable_adapt_to_context": True}
"""As SQLAlchemy does for its objects: rows are read by place, so nobody asks for the columns of this very statement."""


@cache
def plan_of(schema: Any, model: Any) -> Plan:
    """
    Return how a response model is read from the rows of a mapped class; derived once.

    Raises:
        DeclarationError: A field comes from nothing, or from something that it cannot hold.
    """
    configure_mappers()
    return Level(model).plan_of(schema)


class Level:
    """What one statement selects, while it is being put together; values are written as Python source."""

    def __init__(self, root: Any, *, repeats: bool = False) -> None:
        self.root = root
        self._repeats = repeats  # several of its rows may be the same row of the class
        self.columns: list[Any] = []
        self.joins: dict[tuple[Any, str], Any] = {}
        self.children: list[Child] = []
        self.classes: dict[str, Any] = {}

    def plan_of(self, schema: type[BaseModel]) -> Plan:
        """Return how a response model is read from the rows of the class."""
        return self.plan(self.object_of(schema, self.root, (Step(schema, bounded=False),)), self.select())

    def plan(self, value: str, statement: Select[Any]) -> Plan:
        """Return the plan: *value* is the source of what is made of a row `r` and the related values `g`."""
        return Plan(statement, self.make(value), tuple(self.children), tuple(self.columns))

    def make(self, value: str) -> Callable[..., Any]:
        """Return the function with this source, which was made here, of names of fields and numbers."""
        made: Callable[..., Any] = eval(f"lambda r, g: {value}", dict(self.classes))  # noqa: S307 - no client has a part in it
        return made

    def select(self, link: Link | None = None) -> Select[Any]:
        """Return the statement for all rows, or for those that a link leads to."""
        columns: Select[Any] = Select(*self.columns)
        statement = columns.execution_options(**BY_PLACE)
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
            return self.single(place, aggregate(place, entity))
        if not isinstance(source.source, str):
            return self.single(place, place.expression(entity))
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
            return self.composite(place, entity, mapper_of(entity).composites[last])
        if place.shape.schema is None:
            return self.single(place, place.attribute(entity, last))
        return self.kept(place, place.attribute(entity, last))

    def single(self, place: Place, expression: Any) -> str:
        """Return the value of one expression."""
        return f"r[{self.column(expression)}]"

    def kept(self, place: Place, expression: Any) -> str:
        """Return a model that is kept in one column."""
        value = f"r[{self.column(expression)}]"
        name = f"k{len(self.classes)}"  # a model kept in one column, such as JSON: there its aliases are the names
        self.classes[name] = _kept(place.annotation)
        return f"{name}({value})"

    def inner(self, link: Link) -> Level:
        """Return what the statement for related rows selects, while it is being put together."""
        return Level(link.target, repeats=link.repeats)

    def composite(self, place: Place, entity: Any, attribute: CompositeProperty[Any]) -> str:
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
                return self.nothing(place)
        inner = (*path, Step(schema, bounded=place.source.depth is not None))
        if is_many(relation):
            return self.many(place, entity, relation, (), inner)
        place.check_single()
        target = self.join(entity, relation)
        presence = self.presence(place, target)
        return f"None if r[{presence}] is None else {self.object_of(schema, target, inner)}"

    def nothing(self, place: Place) -> str:
        """Return what stands below the last level of a model that contains itself."""
        return "[]" if place.shape.is_many else "None"

    def presence(self, place: Place, target: Any) -> int:
        """Return the place of the column that is NULL where a related row is missing."""
        mapper = mapper_of(target)
        return self.column(getattr(target, mapper.get_property_by_column(mapper.primary_key[0]).key))

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
        level = self.inner(link)
        own_key, identity = level.places(link.own_key), level.places(link.identity)
        value = (
            level.along(each, link.target, rest, path) if rest else level.object_of(path[-1].schema, link.target, path)
        )
        key = self.places(link.key_of(entity))
        plan = level.plan(value, link.limited(level.select(link), rows))
        self.children.append(Child(plan, key, own_key, identity))
        found = f"g[{len(self.children) - 1}].get({_tuple(key)})"
        if self._repeats or link.is_shared or entity is not self.root:  # no row may change what another one shows
            self.classes["own"] = _own
            found = f"own({found})"
        return f"{found} or []" if relation.uselist else f"({found} or [{[] if each.shape.is_many else None}])[0]"


class Unfit:
    """What stands for a value of one column that is not what a model says: nothing can be made of it."""

    __module__ = "builtins"  # of what comes from elsewhere, Pydantic would read the attributes

    def __init__(self, error: ValidationError) -> None:
        self.error = error


def _kept(annotation: Any) -> Callable[[Any], Any]:
    """Return what makes a model of the value of one column; a fault is told with those of all rows."""
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)

    def kept(value: Any) -> Any:
        try:
            return adapter.validate_python(value)
        except ValidationError as error:
            return Unfit(error)

    return kept


def _own(value: Any) -> Any:
    """Return a copy of nested lists and dictionaries."""
    if isinstance(value, list):
        return [_own(each) for each in value]
    return {key: _own(each) for key, each in value.items()} if isinstance(value, dict) else value


def _tuple(places: tuple[int, ...]) -> str:
    return f"r[{places[0]}]" if len(places) == 1 else "(" + ", ".join(f"r[{place}]" for place in places) + ")"
