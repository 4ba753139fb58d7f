"""What the fields of a list query filter by, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any, get_args

from pydantic import SecretBytes, SecretStr
from pydantic.fields import FieldInfo
from sqlalchemy import ColumnElement, TypeDecorator, inspect, select, types
from sqlalchemy.exc import ArgumentError, NoInspectionAvailable
from sqlalchemy.orm import Mapper, RelationshipProperty, class_mapper

from fastkit.errors import DeclarationError
from fastkit.repository._comparable import has_no_order, mismatch
from fastkit.repository._places import nearest
from fastkit.repository.filters import (
    ContainsFilter,
    EqualsFilter,
    Filter,
    OneOfFilter,
    RangeFilter,
    Search,
    StartsWithFilter,
    Where,
    either,
)
from fastkit.schemas import From

_RELATED = "a subquery of one value, select(Author.name).where(Author.id == Book.author_id).scalar_subquery()"


_NO_TEXTS = (
    *(types.Integer, types.Numeric, types.Float, types.Boolean, types.Date, types.DateTime, types.Time, types.Interval),
    *(types.LargeBinary, types.Uuid, types.JSON, types.ARRAY),
)


def filters_of(query: Any) -> Iterator[tuple[str, Filter | Where]]:
    """Yield each field that filters, and how."""
    for name, info in query.model_fields.items():
        for each in info.metadata:
            if isinstance(each, Filter | Where):
                yield name, each


def canonical(value: Any) -> str:
    """Return a text that is the same for equal values, in any process."""
    if is_dataclass(value):
        return canonical({each.name: getattr(value, each.name) for each in fields(value)})
    if isinstance(value, Mapping):
        return str(sorted((canonical(key), canonical(each)) for key, each in value.items()))
    if isinstance(value, AbstractSet | Sequence) and not isinstance(value, str | bytes):
        return str(sorted(map(canonical, value)))  # the order of the values of a filter means nothing
    if isinstance(value, SecretStr | SecretBytes):
        return repr(value.get_secret_value())
    if isinstance(value, Decimal):
        return str(value.normalize())
    return repr(value.value if isinstance(value, Enum) else value)


def criterion_of(query: Any, name: str, kind: Filter | Where, value: Any) -> ColumnElement[bool]:
    """Return what one field asks for."""
    info = query.model_fields[name]
    if isinstance(kind, Where):
        return kind.criterion(value)
    if paths := _paths(name, info, kind):
        return either([_along(query.mapped_class(), path.split("."), kind, value) for path in paths])
    source = _source(info)
    return kind.criterion(source.source if source else None, value)


def _along(entity: Any, names: Sequence[str], kind: Filter, value: Any) -> ColumnElement[bool]:
    """Return the criterion at the end of a path; on the way there is a row, by EXISTS."""
    attribute = getattr(entity, names[0])
    if len(names) == 1:
        return kind.criterion(attribute, value)
    relation = attribute.property
    inner = _along(relation.mapper.class_, names[1:], kind, value)
    found: ColumnElement[bool] = attribute.any(inner) if relation.uselist else attribute.has(inner)
    return found


def _source(info: FieldInfo) -> From | None:
    return next((each for each in info.metadata if isinstance(each, From)), None)


def _paths(name: str, info: FieldInfo, kind: Filter | Where) -> Sequence[str]:
    """Return the paths that a filter is about; none if it is about an expression."""
    source = _source(info)
    if isinstance(kind, Where) or (source is not None and not isinstance(source.source, str)):
        return ()
    return kind.paths(name) if source is None else (source.source,)


def check_names(query: Any, own: Sequence[str]) -> None:
    """
    Check, when the class is made, what can be checked while other models may still be missing.

    Raises:
        DeclarationError: A name that the model does not have, a field without a filter, a group of unknown fields.
    """
    known, filters = _names(query), dict(filters_of(query))
    for name, info in query.model_fields.items():
        if name in own and name in filters:
            raise _error(
                query, name, f'every list has a parameter {name!r}: name the field otherwise, and say From("{name}")'
            )
        if name not in own:
            _check_filter(query, name, info, filters.get(name))
            for path in _paths(name, info, filters[name]):
                _check_name(query, name, path.split(".")[0], known)
    for name, expression in query.sort.expressions.items():
        if expression is None:
            _check_name(query, "sort", name, known)
        elif not (isinstance(expression, ColumnElement) or hasattr(expression, "__clause_element__")):
            raise _error(query, "sort", f"{name}={expression!r} is no SQL expression, such as Book.price * Book.stock")
    for name in (name for group in query.any_of for name in group if name not in filters):
        raise _error(query, "any_of", f"{name!r} is no filter of it")


@cache
def check_paths(query: Any) -> None:
    """
    Check the paths through relationships, once, when all models are there.

    Raises:
        DeclarationError: A path that leads nowhere.
    """
    for name, kind in filters_of(query):
        for path in _paths(name, query.model_fields[name], kind):
            _check_path(query, name, kind, path.split("."))
    for name, expression in query.sort.expressions.items():
        _check_key(query, name, getattr(query.mapped_class(), name) if expression is None else expression)


def _check_key(query: Any, name: str, expression: Any) -> None:
    """Refuse to sort by what is no value of the row: a relationship, a column of another table."""
    mapper: Mapper[Any] = class_mapper(query.mapped_class())
    if isinstance(getattr(expression, "property", None), RelationshipProperty):
        raise _error(query, "sort", f"{name!r} is a relationship: sort by a value, {_RELATED}")
    if has_no_order(expression):
        raise _error(query, "sort", f"{name!r} is JSON, which PostgreSQL cannot sort: sort by a value that is in it")
    strange = [each for each in select(expression).get_final_froms() if not mapper.selectable.is_derived_from(each)]
    if strange:
        raise _error(query, "sort", f"{name!r} is about {strange[0]}, not {mapper.class_.__name__}: sort by {_RELATED}")


def _check_path(query: Any, name: str, kind: Filter | Where, names: Sequence[str]) -> None:
    entity = query.mapped_class()
    for step in names[:-1]:
        relations = inspect(entity).relationships
        if step not in relations:
            near = nearest(step, relations.keys())
            raise _error(query, name, f"{entity.__name__} has no relationship {step!r}{near}")
        entity = relations[step].mapper.class_
    known = set(inspect(entity).all_orm_descriptors.keys()) - set(inspect(entity).relationships.keys())
    if names[-1] not in known:
        raise _error(query, name, f"{entity.__name__}.{names[-1]} holds no value to compare{nearest(names[-1], known)}")
    if isinstance(kind, ContainsFilter | StartsWithFilter | Search) and _holds_no_text(getattr(entity, names[-1])):
        raise _error(query, name, f"{entity.__name__}.{names[-1]} is no text, and PostgreSQL has no LIKE for it")
    if isinstance(kind, EqualsFilter | OneOfFilter | RangeFilter) and not _is_validated(query, name):
        wanted = mismatch(getattr(entity, names[-1]), query.model_fields[name].annotation)
        if wanted is not None:
            raise _error(query, name, f"{entity.__name__}.{names[-1]} is compared with other values: annotate {wanted}")


def _is_validated(query: Any, name: str) -> bool:
    """Return whether a validator of the class may make something else of what a client gives."""
    found = (each.info.fields for each in query.__pydantic_decorators__.field_validators.values())
    return any(name in fields or "*" in fields for fields in found)


def _holds_no_text(attribute: Any) -> bool:
    """Return whether a column is certainly of another kind than a text."""
    found = getattr(attribute, "type", None)
    found = found.impl_instance if isinstance(found, TypeDecorator) else found
    return isinstance(found, _NO_TEXTS) or (isinstance(found, types.Enum) and found.native_enum)


def _check_filter(query: Any, name: str, info: FieldInfo, kind: Filter | Where | None) -> None:
    if kind is None:
        raise _error(query, name, "says no filter, such as Equals[int] or Contains[str]")
    if isinstance(kind, Where) and not callable(kind.criterion):
        raise _error(query, name, "Where() takes a function of the client's value, which returns the criterion")
    if isinstance(kind, ContainsFilter | StartsWithFilter) and not _is_text(info.annotation):
        raise _error(query, name, f"{type(kind).__name__.removesuffix('Filter')} is for texts: annotate it with str")
    if info.is_required() or info.get_default(call_default_factory=False) is not None:
        raise _error(query, name, "needs the default None: what a client does not ask for does not filter")


def _is_text(annotation: Any) -> bool:
    return (isinstance(annotation, type) and issubclass(annotation, str)) or any(map(_is_text, get_args(annotation)))


def _check_name(query: Any, place: str, name: str, known: set[str]) -> None:
    if name not in known:
        owner = query.mapped_class().__name__
        raise _error(query, place, f"{owner} has no attribute {name!r}{nearest(name, known)}")


def _names(query: Any) -> set[str]:
    model: Any = query.mapped_class()
    try:
        return set(inspect(model).all_orm_descriptors.keys())
    except (ArgumentError, NoInspectionAvailable, AttributeError) as error:
        raise _error(query, "model", f"ListQuery[...] names a mapped class, not {model!r}") from error


def _error(query: Any, place: str, what: str) -> DeclarationError:
    return DeclarationError(f"{query.__name__}.{place}: {what}.")
