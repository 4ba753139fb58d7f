"""What is read as response models, as a value: the model decides what is selected, the selection which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Row, Select
from sqlalchemy.orm import Session

from fastkit.database import reading
from fastkit.errors import MultipleFoundError, NotFoundError, RowMismatchError
from fastkit.pages import Page, PageQuery, Slice
from fastkit.repository._derivation import plan_of
from fastkit.repository._plan import Plan
from fastkit.repository._selection import Selection

B = TypeVar("B", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Projection(Generic[B]):
    """
    Which rows are read into which response model; immutable.

    Each method takes a sync session: an async reader runs the same method inside `AsyncSession.run_sync`.

    Attributes:
        selection: Which rows, and in what order.
        schema: The response model.
        plan: How the one is made of the other.
    """

    selection: Selection[Any]
    schema: type[B]
    plan: Plan

    @classmethod
    def of(cls, selection: Selection[Any], schema: type[B]) -> Projection[B]:
        """Return the projection of a selection into a response model."""
        model: Any = selection.without_lock().model
        return cls(selection, schema, plan_of(schema, model))

    def order_by(self, *keys: Any) -> Projection[B]:
        """Return the projection in another order."""
        return replace(self, selection=self.selection.order_by(*keys))

    def __str__(self) -> str:
        return f"{self.selection.model.__name__} into {self.schema.__name__}"

    # -- reads

    def get(self, session: Session, ident: Any) -> B | None:
        """Return the row with this primary key, or None."""
        if ident is None:
            return None
        return next(iter(self._read(session, self._select(self.selection.by_identity(ident)))), None)

    def get_one(self, session: Session, ident: Any) -> B:
        """Return the row with this primary key, or raise."""
        found = self.get(session, ident)
        if found is None:
            raise NotFoundError(self.selection.model.__name__, ident)
        return found

    def one(self, session: Session, *where: ColumnElement[bool]) -> B:
        """Return the only row that matches, or raise."""
        found = self._read(session, self._select(*where).limit(2))
        if not found:
            raise NotFoundError(self.selection.model.__name__)
        if len(found) > 1:
            raise MultipleFoundError(self.selection.model.__name__)
        return found[0]

    def first(self, session: Session, *where: ColumnElement[bool]) -> B | None:
        """Return the first row in order that matches, or None."""
        return next(iter(self._read(session, self._in_order(*where).limit(1))), None)

    def all(self, session: Session, *where: ColumnElement[bool]) -> list[B]:
        """Return every row that matches."""
        return self._read(session, self._select(*where))

    def count(self, session: Session, *where: ColumnElement[bool]) -> int:
        """Return how many rows match."""
        return self.selection.count(session, *where)

    def exists(self, session: Session, *where: ColumnElement[bool]) -> bool:
        """Return whether a row matches."""
        return self.selection.exists(session, *where)

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Page[B]:
        """Return one page and the total, both of one moment where the database can give that."""
        with reading(session, several=True):
            total = self.count(session, *where)
            rows = self._in_order(*where).limit(query.size).offset(query.offset)
            items = self._read(session, rows) if query.offset < total else []
        return Page.model_construct(items=items, total=total, page=query.page, size=query.size)

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[B]:
        """Return one page and whether there are more."""
        found = self._read(session, self._in_order(*where).limit(query.size + 1).offset(query.offset))
        return Slice.of(found, query)

    # -- statements and rows

    def _select(self, *where: ColumnElement[bool]) -> Select[Any]:
        return self.selection.narrowed(self.plan.statement, *where)

    def _in_order(self, *where: ColumnElement[bool]) -> Select[Any]:
        statement = self._select(*where)
        return statement if self.selection.ordering else statement.order_by(*self.selection.primary_key)

    def _read(self, session: Session, statement: Select[Any]) -> list[B]:
        def fetch(statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
            return session.execute(self.selection.with_criteria(statement), parameters).all()

        with reading(session, several=bool(self.plan.children)):
            values = self.plan.assemble(fetch, session.execute(statement).all())
        try:
            return _adapter(self.schema).validate_python(values, by_alias=False, by_name=True)
        except ValidationError as error:
            raise RowMismatchError(str(self), _faults(error)) from None


@cache
def _adapter(schema: type[B]) -> TypeAdapter[list[B]]:
    return TypeAdapter(list[schema])  # type: ignore[valid-type]


def _faults(error: ValidationError) -> list[tuple[str, str]]:
    """Return where rows do not fit and how, without their values."""
    found = error.errors(include_input=False, include_context=False, include_url=False)
    return [(".".join(str(part) for part in each["loc"]), each["type"]) for each in found]
