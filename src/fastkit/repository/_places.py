"""A field of a response model and what it may come from; every message names the field."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sqlalchemy import ColumnElement, inspect, select
from sqlalchemy.exc import ArgumentError, InvalidRequestError
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.util import AliasedInsp
from sqlalchemy.sql.util import ClauseAdapter

from fastkit.errors import DeclarationError
from fastkit.repository._annotations import Shape, is_constant, shape_of
from fastkit.schemas import From


class Step(NamedTuple):
    """A response model on the way from the outermost one to a field, and whether a `depth` bounds what is in it."""

    schema: type[BaseModel]
    bounded: bool


class Place:
    """One field of a response model, while it is looked for in a mapped class."""

    def __init__(self, schema: type[BaseModel], name: str, info: FieldInfo) -> None:
        self.schema = schema
        self.name = name
        self._info = info

    @cached_property
    def source(self) -> From:
        """Return where the field comes from: what it says, or the attribute of its own name."""
        return next((each for each in self._info.metadata if isinstance(each, From)), From(self.name))

    @cached_property
    def shape(self) -> Shape:
        """Return what the field can hold."""
        return shape_of(self._info.annotation)

    @property
    def is_constant(self) -> bool:
        """Return whether the field has one possible value, and has it already."""
        return is_constant(self._info.annotation) and not self._info.is_required()

    def check_default(self) -> None:
        """Refuse a field that comes from nothing and has no value of its own."""
        if self._info.is_required():
            raise self.error("From(None) says that no row gives it, so it needs a default")

    def error(self, what: str) -> DeclarationError:
        """Return the error that names the field."""
        return DeclarationError(f"{self.schema.__name__}.{self.name}: {what}.")

    # -- in a mapped class

    def relation(self, entity: Any, name: str) -> RelationshipProperty[Any]:
        """Return a relationship on the way to the value."""
        mapper = mapper_of(entity)
        if name not in mapper.relationships:
            what = "is no relationship" if name in mapper.all_orm_descriptors else "does not exist"
            raise self.error(f"{_owner(mapper)}.{name} {what}{nearest(name, mapper.relationships.keys())}")
        return mapper.relationships[name]

    def shape_for(self, relation: RelationshipProperty[Any]) -> type[BaseModel]:
        """Return the response model that the field holds, as one or as a list of them, as the relation gives them."""
        schema, many = self.shape.schema, bool(relation.uselist)
        if schema is None or self.shape.is_many is not many:
            gives = f"{relation} gives {'many' if many else 'one'} {_owner(relation.mapper)}"
            raise self.error(
                f"{gives}: annotate it with a response model, {'as in list[...]' if many else 'not a list'}, "
                f'or name a column of it, as in From("{relation.key}.{relation.mapper.column_attrs.keys()[0]}")'
            )
        return schema

    def attribute(self, entity: Any, name: str) -> Any:
        """Return the SQL expression of an attribute: a column, a hybrid property, a `column_property`, a synonym."""
        mapper = mapper_of(entity)
        if name not in mapper.all_orm_descriptors:
            where = f"{_owner(mapper)} has no attribute {name!r}"
            if hasattr(mapper.class_, name):
                where = f"{_owner(mapper)}.{name} is Python, which no statement can ask for"
            raise self.error(
                f"{where}{nearest(name, mapper.all_orm_descriptors.keys())}. Name what gives it, as in "
                'Annotated[..., From("author.name")], or write a computed_field of what the model has'
            )
        try:
            found = getattr(entity, name)
            select(found)
        except (ArgumentError, InvalidRequestError, TypeError, AttributeError) as error:
            raise self.error(
                f"{_owner(mapper)}.{name} gives no SQL expression; a hybrid property needs @{name}.inplace.expression"
            ) from error
        return found

    def expression(self, entity: Any) -> Any:
        """Return the expression that the field names, about an alias if the entity is one."""
        mapper, expression = mapper_of(entity), self.source.source
        if not isinstance(expression, ColumnElement) and not hasattr(expression, "__clause_element__"):
            kind = type(expression).__name__
            raise self.error(f"From() takes a path, or a SQL expression such as Book.price * Book.stock, not {kind}")
        froms = select(expression).get_final_froms()
        strange = [each for each in froms if not mapper.selectable.is_derived_from(each)]
        if strange:
            raise self.error(
                f"the expression is about {strange[0]}, and the rows are those of {_owner(mapper)}. "
                'Name a path, as in From("author.name"), or write a scalar subquery'
            )
        return about(entity, expression)

    def depth(self, path: tuple[Step, ...]) -> int:
        """Return how many levels of a model that contains itself are read."""
        if self.source.depth is not None:
            return self.source.depth
        inside = len(path) - 1 - next(i for i, step in enumerate(reversed(path)) if step.schema is self.shape.schema)
        if any(step.bounded for step in path[inside + 1 :]):
            return len(path)
        raise self.error(
            f"{self.shape.schema.__name__ if self.shape.schema else ''} contains itself: say how many levels are read, "
            f'as in Annotated[..., From("{self.source.source}", depth=2)]'
        )


def mapper_of(entity: Any) -> Mapper[Any]:
    """Return the mapper of a class or of its alias."""
    mapper: Mapper[Any] = inspect(entity).mapper
    return mapper


def about(entity: Any, expression: Any) -> Any:
    """Return an expression of the columns of a class, about its alias if the entity is one."""
    inspected = inspect(entity)
    if not isinstance(inspected, AliasedInsp):
        return expression
    return ClauseAdapter(inspected.selectable).traverse(expression)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the names that are like this one, as the end of a sentence."""
    close = get_close_matches(name, [each for each in known if not each.startswith("_")], n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""


def _owner(mapper: Mapper[Any]) -> str:
    return mapper.class_.__name__
