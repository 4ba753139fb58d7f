"""Bulk work, as a value: statements are built here and run on any SQLAlchemy session."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Delete, Update, delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, class_mapper

from fastkit.database import OWN_STATEMENT, CopyFault, all_or_nothing, dialect_of, sent, sent_past_rivals, show_written
from fastkit.errors import ConstraintError, DeclarationError, InvalidValueError, UniqueError
from fastkit.repository._batch import Batch
from fastkit.repository._batches import Batches, Rows
from fastkit.repository._copying import check_copy, copied
from fastkit.repository._locks import RowLock
from fastkit.repository._refused import told_row
from fastkit.repository._row_values import RowValues, is_sql, row_values_of
from fastkit.repository._scopes import deletion_of, refuse_hidden, refuse_moved, stamped_batch
from fastkit.repository._selection import checked, selection_of
from fastkit.repository._told import Told, as_stored
from fastkit.repository._upsert import ANOTHER_KEY, Names, Upsert, next_version

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class BulkWrites(Generic[M]):
    """
    What is written without objects of a mapped class; immutable.

    Each method takes a sync session: an async repository runs the same method inside `AsyncSession.run_sync`.

    Attributes:
        model: The mapped class.
    """

    model: type[M]

    @property
    def _values(self) -> RowValues:
        model: Any = self.model
        return row_values_of(model)

    # -- rows

    def insert(
        self, session: Session, rows: Rows, *, validate: type[BaseModel] | None = None, copy: bool = False
    ) -> int:
        """Insert many rows, and return how many."""
        values = self._values
        values.refuse_unheard("before_insert", "after_insert", verb="bulk.insert()", instead="use add_all()")
        if copy and (name := dialect_of(session, self.model).name) != "postgresql":
            raise DeclarationError(f"bulk.insert(copy=True): COPY is PostgreSQL's, and this is {name}; leave it out.")
        batches = Batches(values, "bulk.insert()", validate, trusts=copy)
        send = partial(self._copy, session, batches) if copy else partial(self._insert, session)
        return self._sent(session, batches, rows, send)

    def _insert(self, session: Session, batch: Batch) -> None:
        self._execute(session, insert(self._values.table), batch)

    def _execute(self, session: Session, statement: Any, batch: Batch) -> None:
        bind: Any = {"mapper": class_mapper(self.model)}
        with told_row(batch, dialect_of(session, self.model)):
            session.execute(statement, batch.parameters, bind_arguments=bind, execution_options=OWN_STATEMENT)

    def _copy(self, session: Session, batches: Batches, batch: Batch) -> None:
        if not batch.columns:
            self._insert(session, batch)
            return
        fault, values = CopyFault(), self._values
        check_copy(values, batch, dialect_of(session, self.model))
        with _numbered(fault, batches, batch):
            work = partial(copied, values=values, batch=batch, fault=fault)
            sent(session, self.model, f"COPY {values.table.name}", work)

    def _sent(self, session: Session, batches: Batches, rows: Rows, send: Callable[[Batch], None]) -> int:
        number = 0
        with all_or_nothing(session):
            for chunk in batches.of(rows):
                for batch in chunk:
                    send(stamped_batch(session, self._values, batch))
                    number += len(batch.rows)
        return number

    def upsert(self, session: Session, rows: Rows, match: Names, change: Names | None) -> int:
        """Insert rows, or change those that are there, and return how many were given."""
        upsert = self._upsert(session, match, change)
        batches = Batches(self._values, "bulk.upsert()", wanted=upsert.may_change or ())
        number = self._sent(session, batches, rows, partial(self._upserted, session, upsert, {}))
        show_written(session, self.model)
        return number

    def upsert_one(self, session: Session, row: BaseModel | Mapping[str, Any], match: Names, change: Names | None) -> M:
        """Insert a row, or change the one that is there, and return its object."""
        told = self.upsert_told(session, [row], match, change, "bulk.upsert_one()")
        where = [attribute == value for attribute, value in zip(told.attributes, told.given[0], strict=True)]
        model: Any = self.model
        read: M = selection_of(model).for_update(RowLock()).one(session, *where)
        return read

    def upsert_told(self, session: Session, rows: Rows, match: Names, change: Names | None, verb: str) -> Told:
        """Insert rows, or change those that are there, hold them until the block ends, and return what tells them."""
        upsert = replace(self._upsert(session, match, change), holds=True)
        stored, given = dict[Any, int](), dict[int, Any]()

        def send(batch: Batch) -> None:
            _refuse_null(upsert, batch, verb)
            self._upserted(session, upsert, stored, batch)
            given.update(zip(batch.numbers, zip(*map(batch.values_of, upsert.match), strict=True), strict=True))

        self._sent(session, Batches(self._values, verb, wanted=upsert.may_change or ()), rows, send)
        attributes = tuple(_attribute(self._values, column) for column in upsert.match)
        return Told(attributes, [given[number] for number in sorted(given)], sorted(stored, key=stored.__getitem__))

    def _upsert(self, session: Session, match: Names, change: Names | None) -> Upsert:
        listeners = ("before_insert", "after_insert", "before_update", "after_update")
        self._values.refuse_unheard(*listeners, verb="upsert()", instead="use objects")
        upsert = Upsert.of(self._values, match, change)
        refuse_hidden(session, self._values, upsert.match)
        return upsert

    def _upserted(self, session: Session, upsert: Upsert, seen: dict[Any, int], batch: Batch) -> None:
        ordered = _in_order(batch, _keys(upsert, batch, seen, dialect_of(session, self.model)))
        *before, statement = upsert.statements(batch, dialect_of(session, self.model))
        bind: Any = {"mapper": class_mapper(self.model)}
        for each in before:
            session.execute(each, bind_arguments=bind, execution_options=OWN_STATEMENT)
        send = partial(self._execute, session, statement, ordered)
        try:
            if upsert.may_be_rivalled(batch, dialect_of(session, self.model)):
                sent_past_rivals(session, send)
            else:
                send()
        except DBAPIError as error:
            if getattr(error.orig, "args", ())[:1] != (ANOTHER_KEY,):
                raise
            raise self._other_key(upsert) from error

    def _other_key(self, upsert: Upsert) -> UniqueError:
        names = " and ".join(column.name for column in upsert.match)
        table = upsert.values.table.name
        return UniqueError(
            f"Another {table} exists already that is the same by something else than {names}.", table=table
        )

    # -- criteria

    def update(
        self,
        session: Session,
        values: Mapping[str, Any],
        where: tuple[ColumnElement[bool], ...],
        *,
        everything: bool,
        verb: str = "bulk.update()",
    ) -> int:
        """Change all rows that match, and return how many matched."""
        row = self._values
        row.refuse_unheard("before_update", "after_update", verb="bulk.update()", instead="change objects")
        news = self._news(values)
        refuse_moved(session, row, news)
        if row.version is not None and row.version not in news:
            news[row.version] = next_version(row)
        statement = update(self.model).values({_attribute(row, column): value for column, value in news.items()})
        return self._by_criteria(session, statement, where, verb, everything=everything)

    def delete(self, session: Session, where: tuple[ColumnElement[bool], ...], *, everything: bool) -> int:
        """Delete all rows that match, and return how many."""
        listeners = ("before_delete", "after_delete")
        self._values.refuse_unheard(*listeners, verb="bulk.delete()", instead="delete objects", validated=False)
        if hidden := deletion_of(session, self.model):
            return self.update(session, hidden, where, everything=everything, verb="bulk.delete()")
        return self._by_criteria(session, delete(self.model), where, "bulk.delete()", everything=everything)

    def _news(self, values: Mapping[str, Any]) -> dict[Any, Any]:
        row, news = self._values, dict[Any, Any]()
        for name, value in values.items():
            column = row.column(name, "bulk.update()")
            if column.primary_key or column is row.kind:
                raise DeclarationError(
                    f"bulk.update(): {self.model.__name__}.{name} tells which row it is, so it cannot change."
                )
            if column in news:
                raise DeclarationError(f"bulk.update(), {name}: two names are those of one column; give it once.")
            if is_sql(value):
                self._refuse_strangers(value, f"bulk.update(), {name}")
            news[column] = value
        if not news:
            raise DeclarationError("bulk.update({}): no value is given, so nothing would change.")
        return news

    def _by_criteria(
        self,
        session: Session,
        statement: Update | Delete,
        where: tuple[ColumnElement[bool], ...],
        verb: str,
        *,
        everything: bool,
    ) -> int:
        if bool(where) is everything:
            raise DeclarationError(
                f"{verb}: {'criteria and everything=True contradict each other' if where else 'no criteria'}. "
                "Name which rows, as in Book.stock == 0, or say everything=True and no criteria."
            )
        for criterion in checked(where):
            self._refuse_strangers(criterion, verb)
        with all_or_nothing(session):
            options = {"synchronize_session": False}  # what Python makes of a criterion is not what the database does
            number: int = session.execute(statement.where(*where), execution_options=options).rowcount  # type: ignore[attr-defined]
            show_written(session, self.model)
        return number

    def _refuse_strangers(self, expression: Any, where: str) -> None:
        """Refuse an expression about other rows than those that are written, each of which would meet all of those."""
        mapper = class_mapper(self.model)
        strange = [each for each in select(expression).get_final_froms() if not mapper.selectable.is_derived_from(each)]
        if strange:
            raise DeclarationError(
                f"{where}: an expression is about {strange[0]}, and the rows are those of {self.model.__name__}. "
                "Ask for related rows by Book.author.has(...) or by a subquery, Book.author_id.in_(select(...))."
            )


def _attribute(row: RowValues, column: Any) -> Any:
    return row.mapper.get_property_by_column(column).class_attribute


def _keys(upsert: Upsert, batch: Batch, seen: dict[Any, int], dialect: Any) -> Sequence[tuple[Any, ...]]:
    """Return what tells each row, if no two rows are told by the same."""
    missing = [column for column in upsert.match if column not in batch.columns]
    if missing:
        name = _attribute(upsert.values, missing[0]).key
        raise DeclarationError(f"upsert(), row {batch.numbers[0]}: {name!r} is in match=, and not given.")
    found = list(zip(*(as_stored(each, batch.values_of(each), dialect) for each in upsert.match), strict=True))
    for key, number in zip(found, batch.numbers, strict=True):
        if None not in key and seen.setdefault(key, number) != number:
            names = ", ".join(_attribute(upsert.values, column).key for column in upsert.match)
            raise InvalidValueError(
                f"Of the rows given, rows {seen[key]} and {number} are the same by {names}, so one would be lost."
            )
    return found


def _refuse_null(upsert: Upsert, batch: Batch, verb: str) -> None:
    for column in upsert.match:
        values = batch.values_of(column) if column in batch.columns else ()
        if None in values:
            name = _attribute(upsert.values, column).key
            raise InvalidValueError(
                f"Of the rows given, row {batch.numbers[values.index(None)]} has no {name}. None is equal to nothing, "
                "so nothing would tell this row."
            )


def _in_order(batch: Batch, keys: Sequence[tuple[Any, ...]]) -> Batch:
    """Return the rows in the order of what tells them, so that two writers lock them in the same order."""
    try:
        return batch.taken(sorted(range(len(keys)), key=keys.__getitem__))
    except TypeError:  # values that have no order, None among them
        return batch


@contextmanager
def _numbered(fault: CopyFault, batches: Batches, batch: Batch) -> Generator[None]:
    """Let an error about a row tell its number, and a SQL expression what it is."""
    try:
        yield
    except Exception as error:
        is_about_a_row = isinstance(error, ConstraintError | InvalidValueError)
        if is_about_a_row and fault.row is not None and fault.row < len(batch.numbers):
            error.args = (f"{error.args[0]} It is row {batch.numbers[fault.row]}.", *error.args[1:])
        batches.refuse_sql(batch)
        raise
