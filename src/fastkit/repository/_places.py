"""A field of a response model and what it may come from; every message names the field."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import BaseModel, PydanticUndefinedAnnotation, RootModel
from pydantic.fields import FieldInfo
from sqlalchemy import ColumnElement, inspect, select
from sqlalchemy.ext.associationproxy import AssociationProxy
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.util import AliasedInsp
from sqlalchemy.sql.util import ClauseAdapter

from fastkit.errors import DeclarationError
from fastkit.repository._annotations import is_constant, notes_of, shape_of
from fastkit.schemas import From


class Step(NamedTuple):
    """A response model on the way from the outermost one to a field, and whether a `depth` bounds what is in it."""

    schema: type[BaseModel]
    bounded: bool


class Place:
    """
    One field of a response model, while it is looked for in a mapped class.

    Attributes:
        source: Where the field comes from: what it says, or the attribute of its own name.
        shape: What the field can hold.
    """

    def __init__(self, schema: type[BaseModel], name: str, info: FieldInfo) -> None:
        self.schema = schema
        self.name = name
        self._info = info
        self.annotation = info.annotation
        notes = (*info.metadata, *notes_of(info.annotation))
        self.source = next((each for each in notes if isinstance(each, From)), From(name))
        self.shape = shape_of(info.annotation)

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

    def through(self, relation: RelationshipProperty[Any]) -> tuple[Place, Place]:
        """Return the field as it is about the rows that a relation gives, and as it is about what is in each."""
        if relation.uselist and not self.shape.is_many:
            raise self.error(
                f"{relation} gives many {_owner(relation.mapper)}: a field that is a list can hold them, as in "
                "list[...], if no other relation on its path gives many; nest a response model for each"
            )
        plain = copy(self)
        plain.source = replace(self.source, order_by=(), limit=None)
        plain.shape = replace(self.shape, is_many=False)
        return (self, plain) if relation.uselist else (plain, self)

    def check_single(self) -> None:
        """Refuse an order and a limit for what is no list."""
        if self.source.ordering or self.source.limit is not None:
            raise self.error("order_by and limit are for a list of related rows")

    # -- in a mapped class

    def relation(self, entity: Any, name: str) -> RelationshipProperty[Any]:
        """Return a relationship on the way to the value."""
        mapper = mapper_of(entity)
        if name not in mapper.relationships:
            what = "is no relationship" if name in mapper.all_orm_descriptors else "does not exist"
            raise self.error(f"{_owner(mapper)}.{name} {what}{nearest(name, mapper.relationships.keys())}")
        relation = mapper.relationships[name]
        if relation.entity is not relation.mapper:
            raise self.error(f"{relation} leads to an alias of a class, which is not read; a scalar subquery can be")
        return relation

    def shape_for(self, relation: RelationshipProperty[Any]) -> type[BaseModel]:
        """Return the response model that the field holds, as one or as a list of them, as the relation gives them."""
        schema, many = self.shape.schema, bool(relation.uselist)
        if schema is None or self.shape.is_many is not many:
            gives = f"{relation} gives {'many' if many else 'one'} {_owner(relation.mapper)}"
            raise self.error(
                f"{gives}: annotate it with a response model, "
                f"{'as in list[...], not a union' if many else 'not a list or a union'}, "
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
                f"{where}{nearest(name, mapper.all_orm_descriptors.keys()) or '.'} Name what gives it, as in "
                'Annotated[..., From("author.name")], or write a computed_field of what the model has'
            )
        try:
            found = getattr(entity, name)
            select(found)
        except Exception as error:  # a hybrid property is Python of the model: it may raise anything
            raise self._no_expression(mapper, name) from error
        if not _is_expression(found) or isinstance(getattr(found, "property", None), RelationshipProperty):
            raise self._no_expression(mapper, name)
        return found

    def _no_expression(self, mapper: Mapper[Any], name: str) -> DeclarationError:
        """Return the error that says what to write instead of an attribute that gives no expression."""
        attribute, known = f"{_owner(mapper)}.{name}", mapper.all_orm_descriptors[name]
        if isinstance(known, AssociationProxy):
            path = f"{known.target_collection}.{known.value_attr}"
            return self.error(f'{attribute} is an association proxy: name its path, as in From("{path}")')
        if name in mapper.synonyms:
            path = mapper.synonyms[name].name
            return self.error(f'{attribute} is a synonym of a relationship: name that, as in From("{path}")')
        if name in mapper.relationships:
            return self.error(f"{attribute} is a relationship: name a column of it")
        return self.error(f"{attribute} gives no SQL expression; a hybrid property needs @{name}.inplace.expression")

    def expression(self, entity: Any) -> Any:
        """Return the expression that the field names, about an alias if the entity is one."""
        mapper, expression = mapper_of(entity), self.source.source
        if not _is_expression(expression):
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


def places_of(schema: type[BaseModel]) -> list[Place]:
    """Return the fields of a response model, whose annotations may name what was defined after it."""
    if issubclass(schema, RootModel):
        raise DeclarationError(
            f"{schema.__name__}.root: a RootModel is one value, and has no fields; it can be that of a field."
        )
    if inspect(schema, raiseerr=False) is not None:
        raise DeclarationError(
            f"{schema.__name__} is a mapped class, and a reader makes no objects of the session, nor would Pydantic "
            "look at their values. Read objects without into(), or name a response model: in SQLModel, one without "
            "table=True."
        )
    try:
        schema.model_rebuild()
    except PydanticUndefinedAnnotation as error:
        raise DeclarationError(
            f"{schema.__name__}: {error.message}. Define it before the response model is read."
        ) from error
    return [Place(schema, name, info) for name, info in schema.model_fields.items()]


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


def _is_expression(found: Any) -> bool:
    return isinstance(found, ColumnElement) or hasattr(found, "__clause_element__")


def _owner(mapper: Mapper[Any]) -> str:
    return mapper.class_.__name__
