"""Rows that are inserted, or change the row that is there: one statement, in the words of each database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    Column,
    Index,
    Integer,
    Table,
    UniqueConstraint,
    and_,
    bindparam,
    false,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import Mapper, QueryableAttribute
from sqlalchemy.sql.visitors import iterate

from fastkit.errors import DeclarationError
from fastkit.repository._batch import Batch
from fastkit.repository._row_values import RowValues

Name: TypeAlias = str | QueryableAttribute[Any]
Names: TypeAlias = Name | Sequence[Name]
"""Attributes of a model, or their names; one, or several."""

ANOTHER_KEY = 1242
"""What MariaDB answers where the row that is there is not the one that was meant; see `_only_if_meant`."""


@dataclass(frozen=True, slots=True)
class Upsert:
    """
    Which row is meant, and what of it may change.

    Attributes:
        values: What the values of a row may be.
        match: The columns that tell the row.
        may_change: The columns that may change; None for all that are given.
        holds: Whether a row that is there is locked until the block ends although nothing of it changes.
    """

    values: RowValues
    match: tuple[Column[Any], ...]
    may_change: tuple[Column[Any], ...] | None
    holds: bool = False

    @classmethod
    def of(cls, values: RowValues, match: Names, change: Names | None) -> Upsert:
        """
        Return the upsert of rows that are told by the attributes *match*.

        Raises:
            DeclarationError: No unique constraint holds for them, or the class shares its table with others.
        """
        _refuse_shared_table(values.mapper)
        told = _columns(values, match, "match")
        _refuse_not_unique(values, told)
        if change is None:
            return cls(values, told, None)
        return cls(values, told, _changeable(values, told, _columns(values, change, "set")))

    def changed(self, batch: Batch) -> list[Column[Any]]:
        """Return what changes in a row that is there."""
        fixed = _fixed(self.values, self.match) | batch.made
        allowed = [column for column in batch.columns if column not in fixed]
        return allowed if self.may_change is None else [each for each in allowed if each in self.may_change]

    def may_be_rivalled(self, batch: Batch, dialect: Dialect) -> bool:
        """Return whether somebody else may insert the same row by another unique key, for which nobody waits."""
        if dialect.name != "postgresql":
            return False
        table, given = self.values.table, {*batch.columns}
        keys = [*_unique(table), *({*index.columns} for index in table.indexes if index.unique)]
        return any(key <= given and key != {*self.match} for key in keys)

    def statements(self, batch: Batch, dialect: Dialect) -> list[Any]:
        """Return the statement for a batch, last, and those that have to be sent before it."""
        changed = self.changed(batch)
        if dialect.name in {"mariadb", "mysql"}:
            return self._on_mariadb(changed)
        made: Any = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        statement = made(self.values.table)
        if not changed:
            return [self._unchanged(statement, dialect)]
        news = {column: statement.excluded[column.key] for column in changed}
        return [
            statement.on_conflict_do_update(
                index_elements=list(self.match), set_={**news, **self._counted(), **self._touched(changed)}
            )
        ]

    def _unchanged(self, statement: Any, dialect: Dialect) -> Any:
        """Return the statement if nothing changes in a row that is there."""
        if not self.holds or dialect.name != "postgresql":  # MariaDB locks it anyway, in SQLite a writer is alone
            return statement.on_conflict_do_nothing(index_elements=list(self.match))
        # PostgreSQL locks the row before it looks at the WHERE, or somebody else could delete it before it is read.
        same = {self.match[0]: statement.excluded[self.match[0].key]}
        return statement.on_conflict_do_update(index_elements=list(self.match), set_=same, where=false())

    def _on_mariadb(self, changed: list[Column[Any]]) -> list[Any]:
        statement = mysql.insert(self.values.table)
        news: list[tuple[str, Any]] = [self._only_if_meant(statement)]
        news += [(column.key, statement.inserted[column.key]) for column in changed]
        before: list[Any] = []
        if changed:
            news += [(column.key, value) for column, value in self._counted().items()]
            for number, (column, value) in enumerate(self._touched(changed).items()):
                told, known = _without_parameters(column, value, f"@fastkit_{number}")
                before += known
                news.append((column.key, told))
        return [*before, statement.on_duplicate_key_update(news)]

    def _only_if_meant(self, statement: Any) -> tuple[str, Any]:
        """
        Return an assignment that changes nothing if the row that is there is the one that is meant, else an error.

        MariaDB takes any unique key for the one that is meant. A subquery of two rows, where there may be one, is an
        error in every mode of the server; it refers to the row, so it is not evaluated before.
        """
        first, table = self.match[0], self.values.table
        same = and_(*(column.op("<=>")(statement.inserted[column.key]) for column in self.match))
        place = f"{_quoted(table.name)}.{_quoted(first.name)}"
        two: Any = literal_column(f"(SELECT {place} FROM (SELECT 1 AS n UNION ALL SELECT 2) AS two)")  # noqa: S608 - quoted
        return first.key, func.if_(same, first, two)

    def _counted(self) -> Mapping[Column[Any], Any]:
        """Return the version of a row that is changed."""
        version = self.values.version
        return {} if version is None else {version: next_version(self.values)}

    def _touched(self, changed: list[Column[Any]]) -> Mapping[Column[Any], Any]:
        """Return what the model writes with each change."""
        found: dict[Column[Any], Any] = {}
        for column in self.values.table.columns:
            update: Any = column.onupdate
            if update is None or column in changed or column in self.match:
                continue
            found[column] = update.arg if update.is_clause_element else _Plain.of(column, update)
        return found


class _Plain:
    """A value that is no SQL; SQLAlchemy sees a parameter of the column's type."""

    def __init__(self, value: Any, column: Column[Any]) -> None:
        self.value = value
        self._column = column

    @classmethod
    def of(cls, column: Column[Any], update: Any) -> _Plain:
        """Return the value of an `onupdate`."""
        return cls(update.arg(None) if update.is_callable else update.arg, column)

    def __clause_element__(self) -> Any:
        return bindparam(None, self.value, type_=self._column.type)


def _without_parameters(column: Column[Any], value: Any, variable: str) -> tuple[Any, list[Any]]:
    """
    Return a value for the end of a statement, and what has to be sent before it.

    The drivers of MariaDB leave no place for parameters behind the rows, so they go into a variable of the session.
    """
    expression: Any = value.__clause_element__() if isinstance(value, _Plain) else value
    parts = list(iterate(expression))
    if not any(isinstance(each, BindParameter) for each in parts):
        return expression, []
    if any(isinstance(each, Column) for each in parts):
        raise DeclarationError(
            f"upsert(): the onupdate of {column} is SQL with both columns and values, for which MariaDB's drivers "
            "have no place: give the column, or write the values into the SQL, by literal_column()."
        )
    known: Any = literal_column(variable)
    return known, [select(known.op(":=")(expression))]


def next_version(values: RowValues) -> Any:
    """Return the version of a row that is changed without being read."""
    version = values.version
    if version is not None and isinstance(version.type, Integer):
        return version + literal_column("1")  # no parameter, see `_on_mariadb`
    return values.first_version()  # such as a random one


def _columns(values: RowValues, names: Names, what: str) -> tuple[Column[Any], ...]:
    several: Sequence[Name] = [names] if isinstance(names, str | QueryableAttribute) else names
    where = f"upsert({what}=...)"
    if isinstance(names, Mapping):
        raise DeclarationError(f"{where} names attributes; their values are those of the rows.")
    for each in several:
        if isinstance(each, QueryableAttribute) and not values.mapper.isa(each.parent.mapper):
            raise DeclarationError(f"{where}: {each} is not an attribute of {values.mapper.class_.__name__}.")
    return tuple(values.column(each if isinstance(each, str) else each.key, where) for each in several)


def _fixed(values: RowValues, match: tuple[Column[Any], ...]) -> set[Column[Any]]:
    """Return what an upsert never takes from the given row: what tells it, and what SQLAlchemy counts and tells."""
    return {*match, *values.table.primary_key, *(each for each in (values.version, values.kind) if each is not None)}


def _changeable(
    values: RowValues, match: tuple[Column[Any], ...], change: tuple[Column[Any], ...]
) -> tuple[Column[Any], ...]:
    fixed = [column for column in change if column in _fixed(values, match)]
    if fixed:
        raise DeclarationError(
            f"upsert(set=...): {_told(values, fixed)} tells which row it is, or counts by itself; leave it out."
        )
    return change


def _refuse_not_unique(values: RowValues, match: tuple[Column[Any], ...]) -> None:
    known = list(_unique(values.table))
    if match and {*match} in known:
        return
    told = "; ".join(f"({_told(values, each)})" for each in known) or "none"
    raise DeclarationError(
        f"upsert(match=...): no unique constraint of {values.table.name} is about ({_told(values, match)}) and "
        f"nothing else. Those that a row can be told by: {told}."
    )


def _unique(table: Table) -> Iterator[set[Column[Any]]]:
    """Yield the columns of each unique constraint that every row is under, and that is checked at once."""
    if table.primary_key.columns:
        yield {*table.primary_key.columns}
    for rule in table.constraints:
        if isinstance(rule, UniqueConstraint) and not rule.deferrable:
            yield {*rule.columns}
    for index in table.indexes:
        if index.unique and not _is_partial(index):
            yield {*index.columns}


def _is_partial(index: Index) -> bool:
    options = (index.dialect_options[name].get("where") for name in ("postgresql", "sqlite"))
    return any(each is not None for each in options) or len(index.columns) < len(index.expressions)


def _refuse_shared_table(mapper: Mapper[Any]) -> None:
    if len({*mapper.base_mapper.self_and_descendants}) > 1:
        raise DeclarationError(
            f"upsert(): {mapper.class_.__name__} shares its table with other classes, so the row that is there "
            "may be of another one; read it by for_update(), then change or add."
        )


def _told(values: RowValues, columns: Any) -> str:
    names = [values.mapper.get_property_by_column(column).key for column in values.table.columns if column in columns]
    return ", ".join(names)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
