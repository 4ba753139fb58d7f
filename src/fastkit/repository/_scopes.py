"""What the scopes of a unit of work mean for rows that are written without objects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Column
from sqlalchemy.orm import Session, class_mapper

from fastkit.database import scoping_of
from fastkit.errors import ScopeError
from fastkit.repository._batch import Batch
from fastkit.repository._row_values import RowValues


def stamped(
    session: Session, row: RowValues, parameters: Mapping[str, Any], expressions: Mapping[str, Any]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return the values of a row with those that its scopes write."""
    scoping = scoping_of(session)
    if scoping is None:
        return parameters, expressions
    for expression in expressions.values():
        scoping.refuse_expression(expression, row.mapper)
    written: dict[str, Any] = {}
    for name, value in scoping.stamps(row.mapper).items():
        key = row.columns[name].key
        if key in expressions or parameters.get(key, value) not in (value, None):
            scoping.refuse_other(row.mapper, name)
        written[key] = value
    return {**parameters, **written}, expressions


def stamped_batch(session: Session, row: RowValues, batch: Batch) -> Batch:
    """Return many rows with the values that their scopes write."""
    scoping = scoping_of(session)
    if scoping is None:
        return batch
    for name, value in scoping.stamps(row.mapper).items():
        column = row.columns[name]
        given = batch.values_of(column) if column in batch.columns else ()
        if any(each not in (value, None) for each in given):
            scoping.refuse_other(row.mapper, name)
        batch = batch.with_value(column, value)
    return batch


def refuse_moved(session: Session, row: RowValues, news: Mapping[Column[Any], Any]) -> None:
    """Refuse to make rows those of somebody else."""
    scoping = scoping_of(session)
    if scoping is None:
        return
    for name in scoping.stamps(row.mapper):
        if row.columns[name] in news:
            scoping.refuse_other(row.mapper, name)


def refuse_hidden(session: Session, row: RowValues, match: Collection[Column[Any]]) -> None:
    """Refuse an upsert that could meet a row which a scope hides, and would change it."""
    scoping = scoping_of(session)
    told = [row.mapper.get_property_by_column(column).key for column in match]
    if scoping is not None and (scope := scoping.untold(row.mapper, told)) is not None:
        name = row.mapper.class_.__name__
        how = f"name {scope.column!r} in match=, or " if scope.is_equality else ""
        raise ScopeError(
            f"bulk.upsert(): the {name} that is there may be one that the scope {scope.name!r} hides, and would be "
            f"changed. To go on, {how}say `with shop.unscoped({scope.name}, reason=...)`.",
            scope.name,
        )


def deletion_of(session: Session, model: type[Any]) -> dict[str, Any]:
    """Return what is written into rows instead of deleting them, by attribute; nothing, if they are deleted."""
    scoping = scoping_of(session)
    return {} if scoping is None else scoping.deletion(class_mapper(model))
