"""A row as a response model, with what marks the state that it was read in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Select
from sqlalchemy.orm import Session

from fastkit.database import reading
from fastkit.errors import MultipleFoundError, NotFoundError
from fastkit.repository._projection import Projection
from fastkit.repository._selection import selection_of
from fastkit.repository.versions import modified_attribute, told_version, version_attribute

B = TypeVar("B", bound=BaseModel)


class Marked(NamedTuple, Generic[B]):
    """
    A response model and the state of its row.

    Attributes:
        shown: The response model.
        version: The version of the row as a text, or None if its model has none.
        modified: When the row was changed last, or None if its model does not tell.
    """

    shown: B
    version: str | None
    modified: datetime | None


@cache
def marks_of(model: Any) -> tuple[Any, ...]:
    """Return the attributes that mark the state of a row, at most two: its version, and when it was changed."""
    return tuple(each for each in (version_attribute(model), modified_attribute(model)) if each is not None)


@cache
def _by_key(schema: Any, model: Any) -> Select[Any]:
    return Projection.of(selection_of(model), schema).ready.by_key.add_columns(*marks_of(model))


def by_key(session: Session, projection: Projection[B], ident: object) -> Marked[B]:
    """
    Return the row with this primary key.

    Raises:
        NotFoundError: There is none.
    """
    model: Any = projection.selection.model
    key = {f"key_{number}": part for number, part in enumerate(projection.selection.parts(ident))}
    return _marked(session, projection, _by_key(projection.schema, model), key)


def matching(session: Session, projection: Projection[B], where: ColumnElement[bool]) -> Marked[B]:
    """
    Return the only row that matches.

    Raises:
        NotFoundError: None matches.
        MultipleFoundError: More than one matches.
    """
    statement = projection.selection.narrowed(projection.ready.plan.statement, where).limit(2)
    model: Any = projection.selection.model
    return _marked(session, projection, statement.add_columns(*marks_of(model)), {})


def _marked(session: Session, projection: Projection[B], statement: Select[Any], parameters: Any) -> Marked[B]:
    model: Any = projection.selection.model
    with reading(session, several=bool(projection.ready.plan.children)):
        rows: Sequence[Any] = projection._fetch(session, statement, parameters)  # noqa: SLF001 - of the same room
        if not rows:
            raise NotFoundError(model.__name__, (*parameters.values(),) or None)
        if len(rows) > 1:
            raise MultipleFoundError(model.__name__)
        (shown,) = projection._made(session, rows)  # noqa: SLF001 - same
    return Marked(shown, *_marks(model, rows[0]))


def _marks(model: Any, row: Sequence[Any]) -> tuple[str | None, datetime | None]:
    marks = dict(zip(marks_of(model), row[len(row) - len(marks_of(model)) :], strict=True))
    version, modified = version_attribute(model), modified_attribute(model)
    return None if version is None else told_version(marks[version]), None if modified is None else marks[modified]
