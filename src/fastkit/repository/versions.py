"""The version of a row: which model has one, how it is told to clients, and what it vouches for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, time
from functools import cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, create_model
from sqlalchemy import Column
from sqlalchemy.orm import ColumnProperty, InspectionAttr, Mapper, class_mapper
from sqlalchemy.orm.attributes import QueryableAttribute, instance_state

from fastkit.database import version_of
from fastkit.errors import DeclarationError
from fastkit.models import Timestamps
from fastkit.repository._projection import Projection
from fastkit.repository._selection import selection_of


@cache
def version_attribute(model: Any) -> QueryableAttribute[Any] | None:
    """Return the attribute that SQLAlchemy counts up with each change (`version_id_col`), or None."""
    mapper: Mapper[Any] = class_mapper(model)
    if mapper.version_id_col is None:
        return None
    found: QueryableAttribute[Any] = mapper.get_property_by_column(mapper.version_id_col).class_attribute
    return found


def versioned(model: Any, what: str) -> QueryableAttribute[Any]:
    """Return the attribute with the version, of a model that must have one."""
    found = version_attribute(model)
    if found is None:
        raise DeclarationError(
            f"{what}: {model.__name__} has no version. Let it inherit from fastkit.models.Versioned, or name a column "
            "of its own as version_id_col of the mapper."
        )
    return found


def told_version(value: object) -> str:
    """Return a version as a text that can stand in an entity tag: no quotes, no colon, ASCII."""
    if isinstance(value, bytes | bytearray):
        return value.hex()
    if isinstance(value, UUID):
        return value.hex
    return quote(value.isoformat() if isinstance(value, date | time) else str(value), safe="")


def version_told_of(entity: object) -> str:
    """
    Return the version of an object as it was read last, as a text.

    Raises:
        DeclarationError: Its class has no version, or it was not read.
    """
    attribute = versioned(type(entity), type(entity).__name__)
    value = version_of(instance_state(entity))
    if value is None:
        raise DeclarationError(
            f"The version of this {type(entity).__name__} was not read: flush it if it is new, and do not defer "
            f"{attribute}."
        )
    return told_version(value)


def modified_attribute(model: Any) -> QueryableAttribute[Any] | None:
    """Return the attribute that says when a row was changed last, or None."""
    attribute: QueryableAttribute[Any] | None = model.updated_at if issubclass(model, Timestamps) else None
    return attribute


@cache
def shows_own_columns(schema: Any, model: Any) -> bool:
    """Return whether a response model shows nothing but columns of the row, so that its version vouches for all."""
    plan, mapper = Projection.of(selection_of(model), schema).ready.plan, class_mapper(model)
    own = {attribute.class_attribute for attribute in mapper.column_attrs if _is_stored(attribute)}
    return not plan.children and all(any(each is known for known in own) for each in plan.columns)


def _is_stored(attribute: InspectionAttr) -> bool:
    return isinstance(attribute, ColumnProperty) and all(isinstance(each, Column) for each in attribute.columns)


def versions_of(projection: Projection[Any]) -> Projection[Any]:
    """Return the projection of the same rows that tells their states only."""
    model: Any = projection.selection.model
    schema: Any = projection.schema
    if not shows_own_columns(schema, model):
        raise DeclarationError(
            f"versions(): {projection.schema.__name__} shows more than columns of {model.__name__}, so its version "
            "does not tell whether that has changed. Give if_none_match.check() the answer itself."
        )
    return Projection.of(projection.selection, _versions_schema(model))


@cache
def _versions_schema(model: Any) -> type[BaseModel]:
    attributes: Sequence[Any] = (*selection_of(model).primary_key, versioned(model, "versions()"))
    fields: dict[str, Any] = {str(attribute.key): (Any, ...) for attribute in attributes}
    made: type[BaseModel] = create_model(f"{model.__name__}Versions", **fields)
    return made
