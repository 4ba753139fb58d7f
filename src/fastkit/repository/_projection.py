"""What is read as response models, as a value: the model decides what is selected, the selection which rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import GenericAlias
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import ColumnElement, Integer, Select, bindparam
from sqlalchemy.orm import Session

from fastkit.database import dialect_of, fetched, inserted, reading, scoping_of, show_written
from fastkit.errors import DeclarationError, MultipleFoundError, NotFoundError, RowMismatchError
from fastkit.pages import Count, Page, PageQuery, Slice, Window, WindowQuery
from fastkit.repository._annotations import shape_of
from fastkit.repository._batches import Rows
from fastkit.repository._bulk import BulkWrites
from fastkit.repository._derivation import Unfit, plan_of
from fastkit.repository._explanation import order_of, told, wanted
from fastkit.repository._insertion import insertion_of
from fastkit.repository._keyset import Keyset
from fastkit.repository._plan import Fetch, Plan, children_of
from fastkit.repository._scopes import stamped
from fastkit.repository._selection import Selection, selection_of
from fastkit.repository._upsert import Names
from fastkit.repository._windows import Place, Step
from fastkit.repository.list_query import ListQuery, check_page

B = TypeVar("B", bound=BaseModel)

_NOTHING: Mapping[str, Any] = {}
_SIZE, _OFFSET = bindparam("size", type_=Integer), bindparam("offset", type_=Integer)
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Ready(Generic[B]):
    """
    What is the same for every read of a mapped class into a response model.

    Attributes:
        plan: How the one is made of the other.
        by_key: The statement for one primary key, whose parts are the parameters `key_0`, `key_1` ...
        keys: The primary key.
        models: Makes models of what the plan makes of rows.
    """

    plan: Plan
    by_key: Select[Any]
    keys: Sequence[Any]
    models: TypeAdapter[list[B]]
    _pages: dict[tuple[int, ...], tuple[Select[Any], Sequence[Any]]] = field(default_factory=dict)

    def page(self, ordering: Sequence[Any]) -> Select[Any]:
        """Return the statement for one page of all rows, which takes `size` and `offset`; one for each order."""
        asked = tuple(map(id, ordering))
        known = self._pages.get(asked)
        if known is None:
            if len(self._pages) >= _REMEMBERED:
                self._pages.clear()
            statement = self.plan.statement.order_by(*ordering, *self.keys).limit(_SIZE).offset(_OFFSET)
            known = self._pages[asked] = statement, ordering  # kept, so that no others have their ids
        return known[0]


def _list_of(schema: Any) -> Any:
    return GenericAlias(list, (schema,))


@cache
def _ready(schema: Any, model: Any) -> Ready[Any]:
    plan, keys = plan_of(schema, model), selection_of(model).primary_key
    by_key = plan.statement.where(*(key == bindparam(f"key_{number}") for number, key in enumerate(keys)))
    return Ready(plan, by_key, keys, models=TypeAdapter(_list_of(schema)))


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
        """
        Return the projection of a selection into a response model.

        Raises:
            DeclarationError: It is no Pydantic model, or a field of it comes from nothing.
        """
        given: object = schema
        if not (isinstance(given, type) and issubclass(given, BaseModel)):
            raise DeclarationError(
                f"into() takes a Pydantic model, whose fields say what is read: class BookOut(Schema), not {given!r}."
            )
        model: Any = selection.without_lock().model
        return (
            _of_all(schema, model)
            if selection is selection_of(model)
            else cls(selection, schema, _ready(schema, model))
        )

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

    def page(self, session: Session, query: PageQuery, *where: ColumnElement[bool], count: Count = "exact") -> Page[B]:
        """Return one page and the total, both of one moment where the database can give that."""
        if isinstance(query, ListQuery):
            return self._asked(query).page(session, query.plain, *query.criteria(), *where, count=count)
        with reading(session, several=True):
            size = self.selection.rows_to_read(session, query, count)
            items = self._cut(session, size, query.offset, where)
            return Page.of(items, query, lambda: self.selection.total(session, count, *where))

    def slice(self, session: Session, query: PageQuery, *where: ColumnElement[bool]) -> Slice[B]:
        """Return one page and whether there are more."""
        check_page(query, "slice()")
        if isinstance(query, ListQuery):
            return self._asked(query).slice(session, query.plain, *query.criteria(), *where)
        return Slice.of(self._cut(session, query.size + 1, query.offset, where), query)

    def window(self, session: Session, query: WindowQuery, *where: ColumnElement[bool]) -> Window[B]:
        """Return what follows a cursor, or comes before it."""
        selection, criteria = self.selection.narrowed_by(query)
        place = Place.of(session, query, self.selection.model, selection.ordering)
        statement = self.selection.order_by().narrowed(self.ready.plan.statement, *criteria, *where)
        with reading(session, several=bool(self.ready.plan.children)):
            lasts = statement is self.ready.plan.statement
            found = fetched(session, place.narrow(statement, lasts=lasts), place.parameters)
            rows = place.cut(found)
            items = self._made(session, rows)
        return place.window(items, rows, more=len(found) > len(rows))

    def batch(
        self,
        session: Session,
        size: int,
        after: Sequence[Any] | None,
        query: ListQuery[Any] | None,
        *where: ColumnElement[bool],
    ) -> tuple[list[B], Sequence[Any] | None]:
        """Return the next models of a stream, and where the ones after them begin; None at the end."""
        selection, criteria = self.selection.narrowed_by(query)
        step = Step.of(session, size, self.selection.model, selection.ordering, after)
        statement = self.selection.order_by().narrowed(self.ready.plan.statement, *criteria, *where)
        with reading(session, several=bool(self.ready.plan.children)):
            lasts = statement is self.ready.plan.statement
            rows = fetched(session, step.narrow(statement, lasts=lasts), step.parameters)
            return self._made(session, rows), step.next(rows)

    def explain(self, session: Session, query: PageQuery | WindowQuery | None, *where: ColumnElement[bool]) -> str:
        """Return what is read, in words."""
        dialect = dialect_of(session, self.selection.model)
        selection, criteria = self.selection.narrowed_by(query)
        keyset = Keyset.of(self.selection.model, selection.ordering, dialect)
        statement = self.selection.order_by().narrowed(self.ready.plan.statement, *criteria, *where)
        if (scoping := scoping_of(session)) is not None and scoping.criteria is not None:
            statement = statement.options(scoping.criteria)
        lines = [f"{self} takes {1 + children_of([self.ready.plan])} statement(s):"]
        lines += told(self.ready.plan, statement.order_by(*keyset.ordering), dialect)
        lines.append(order_of(sent_by_all=bool(self.selection.ordering), asked=query is not None))
        return "\n".join([*lines, wanted(keyset, self.selection.model, dialect)])

    # -- writes

    def insert(self, session: Session, values: BaseModel | Mapping[str, Any]) -> B:
        """Insert a row, and return it; it is read by its key if the statement could not tell all that is shown."""
        model: Any = self.selection.model
        insertion = insertion_of(self.schema, model)
        parameters, expressions = stamped(session, insertion.row, *insertion.row.values(values))
        rows = inserted(session, model, partial(insertion.statement, expressions), parameters)
        if not rows:  # a trigger has decided so
            raise NotFoundError(model.__name__)
        if insertion.tells_all(dialect_of(session, model)):
            return self._made(session, rows)[0]
        return replace(self, selection=selection_of(model)).get_one(session, tuple(rows[0]))

    def upsert(self, session: Session, rows: Rows, match: Names, change: Names | None) -> list[B]:
        """Insert rows, or change those that are there, and return them in the order given."""
        model: Any = self.selection.model
        writes: BulkWrites[Any] = BulkWrites(model)
        told = writes.upsert_told(session, rows, match, change, "upsert()")
        show_written(session, model)
        fetch = partial(fetched, session)  # without criteria of options, which could hide a row that was written
        with reading(session, several=True):
            rows = told.rows(fetch, self.ready.plan.statement, dialect_of(session, model))
            return self._made(session, rows, fetch)

    # -- statements and rows

    def _asked(self, query: ListQuery[Any]) -> Projection[B]:
        return replace(self, selection=self.selection.asked(query))

    def _select(self, *where: ColumnElement[bool]) -> Select[Any]:
        return self.selection.narrowed(self.ready.plan.statement, *where)

    def _in_order(self, *where: ColumnElement[bool]) -> Select[Any]:
        statement = self._select(*where)
        return statement if self.selection.ordering else statement.order_by(*self.selection.primary_key)

    def _fetch(
        self, session: Session, statement: Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        return fetched(session, self.selection.with_criteria(statement), parameters)

    def _cut(self, session: Session, size: int, offset: int, where: tuple[ColumnElement[bool], ...]) -> list[B]:
        if where or self.selection.options:
            return self._read(session, self._in_order(*where).limit(size).offset(offset))
        return self._read(session, self.ready.page(self.selection.ordering), {"size": size, "offset": offset})

    def _read(self, session: Session, statement: Select[Any], parameters: Mapping[str, Any] = _NOTHING) -> list[B]:
        if not self.ready.plan.children:
            return self._made(session, fetched(session, statement, parameters))
        with reading(session, several=True):
            return self._made(session, fetched(session, statement, parameters))

    def _made(self, session: Session, rows: Sequence[Sequence[Any]], fetch: Fetch | None = None) -> list[B]:
        values = self.ready.plan.assemble(fetch or partial(self._fetch, session), rows)
        try:
            return self.ready.models.validate_python(values, by_alias=False, by_name=True)
        except ValidationError as error:
            raise RowMismatchError(str(self), _faults(error, self.schema)) from None


@cache  # once for each use of a plain repository
def _of_all(schema: Any, model: Any) -> Projection[Any]:
    return Projection(selection_of(model), schema, _ready(schema, model))


def _faults(error: ValidationError, schema: type[BaseModel]) -> list[tuple[str, str]]:
    """Return where rows do not fit and how, without their values."""
    return [(".".join(map(str, _known(place, schema))), kind) for place, kind in _placed(error)]


def _placed(error: ValidationError) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Yield the faults of all rows, and for a model that is kept in one column those that are in it."""
    for each in error.errors(include_context=False, include_url=False):
        if isinstance(each["input"], Unfit):
            yield from ((each["loc"] + place, kind) for place, kind in _placed(each["input"].error))
        else:
            yield each["loc"], each["type"]


def _known(place: tuple[int | str, ...], schema: type[BaseModel] | None) -> Iterator[int | str]:
    """Yield the beginning of a place that is rows and fields; what follows may be the keys of a row's data."""
    for part in place:
        if isinstance(part, str):
            if schema is None or part not in schema.model_fields:
                return
            schema = shape_of(schema.model_fields[part].annotation).schema
        yield part
