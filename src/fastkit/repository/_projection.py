"""What is read as response models, as a value: the model decides what is selected, the selection which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from types import GenericAlias
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Integer, Row, Select, bindparam
from sqlalchemy.orm import Session

from fastkit.database import fetched, reading
from fastkit.errors import MultipleFoundError, NotFoundError, RowMismatchError
from fastkit.pages import Page, PageQuery, Slice
from fastkit.repository._derivation import plan_of
from fastkit.repository._plan import Plan
from fastkit.repository._selection import Selection, selection_of
from fastkit.repository.list_query import ListQuery

B = TypeVar("B", bound=BaseModel)

_NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Ready(Generic[B]):
    """
    What is the same for every read of a mapped class into a response model.

    Attributes:
        plan: How the one is made of the other.
        by_key: The statement for one primary key, whose parts are the parameters `key_0`, `key_1` ...
        page: The statement for one page in the order of the primary key; takes `size` and `offset`.
        models: Makes models of what the plan makes of rows.
    """

    plan: Plan
    by_key: Select[Any]
    page: Select[Any]
    models: TypeAdapter[list[B]]


def _list_of(schema: Any) -> Any:
    return GenericAlias(list, (schema,))


@cache
def _ready(schema: Any, model: Any) -> Ready[Any]:
    plan, keys = plan_of(schema, model), selection_of(model).primary_key
    size, offset = bindparam("size", type_=Integer), bindparam("offset", type_=Integer)
    return Ready(
        plan,
        by_key=plan.statement.where(*(key == bindparam(f"key_{number}") for number, key in enumerate(keys))),
        page=plan.statement.order_by(*keys).limit(size).offset(offset),
        models=TypeAdapter(_list_of(schema)),
    )


@dataclass(frozen=True, slots=True)
class Projection(Generic[B]):
    """
    Which rows are read into which response model; immutable.

    Each method takes a sync session: an async reader runs the same method inside `AsyncSession.run_sync`.

    Attributes:
        selection: Which rows, and in what order.
        schema: The response model.
        ready: What does not depend on the rows.
    """

    selection: Selection[Any]
    schema: type[B]
    ready: Ready[B]

    @classmethod
    def of(cls, selection: Selection[Any], schema: type[B]) -> Projection[B]:
        """Return the projection of a selection into a response model."""
        model: Any = selection.without_lock().model
        return cls(selection, schema, _ready(schema, model))

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
        key = {f"key_{number}": part for number, part in enumerate(self.selection.parts(ident))}
        statement = self.selection.with_criteria(self.ready.by_key)
        return next(iter(self._read(session, statement, key)), None)

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
        if isinstance(query, ListQuery):
            return self._asked(query).page(session, query.plain, *query.criteria(), *where)
        with reading(session, several=True):
            total = self.count(session, *where)
            items = self._cut(session, query.size, query.offset, where) if query.offset < total else []
        return Page.model_construct(items=items, total=total, page=query.page, size=query.size)

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[B]:
        """Return one page and whether there are more."""
        if isinstance(query, ListQuery):
            return self._asked(query).slice(session, query.plain, *query.criteria(), *where)
        return Slice.of(self._cut(session, query.size + 1, query.offset, where), query)

    # -- statements and rows

    def _asked(self, query: ListQuery[Any]) -> Projection[B]:
        return replace(self, selection=self.selection.asked(query))

    def _select(self, *where: ColumnElement[bool]) -> Select[Any]:
        return self.selection.narrowed(self.ready.plan.statement, *where)

    def _in_order(self, *where: ColumnElement[bool]) -> Select[Any]:
        statement = self._select(*where)
        return statement if self.selection.ordering else statement.order_by(*self.selection.primary_key)

    def _fetch(self, session: Session, statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Row[Any]]:
        return fetched(session, self.selection.with_criteria(statement), parameters)

    def _cut(self, session: Session, size: int, offset: int, where: tuple[ColumnElement[bool], ...]) -> list[B]:
        if where or self.selection.ordering or self.selection.options:
            return self._read(session, self._in_order(*where).limit(size).offset(offset))
        return self._read(session, self.ready.page, {"size": size, "offset": offset})

    def _read(self, session: Session, statement: Select[Any], parameters: Mapping[str, Any] = _NOTHING) -> list[B]:
        plan = self.ready.plan
        if plan.children:
            with reading(session, several=True):
                values = plan.assemble(partial(self._fetch, session), fetched(session, statement, parameters))
        else:
            values = plan.assemble(partial(self._fetch, session), fetched(session, statement, parameters))
        try:
            return self.ready.models.validate_python(values, by_alias=False, by_name=True)
        except ValidationError as error:
            raise RowMismatchError(str(self), _faults(error)) from None


def _faults(error: ValidationError) -> list[tuple[str, str]]:
    """Return where rows do not fit and how, without their values."""
    found = error.errors(include_input=False, include_context=False, include_url=False)
    return [(".".join(str(part) for part in each["loc"]), each["type"]) for each in found]
