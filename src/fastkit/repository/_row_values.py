"""A row of a mapped class as plain values, without an object of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from sqlalchemy import JSON, ClauseElement, Column, Table
from sqlalchemy.orm import Mapper, RelationshipDirection, class_mapper

from fastkit.errors import DeclarationError
from fastkit.repository._places import nearest
from fastkit.schemas._marks import is_stored


@dataclass(frozen=True, slots=True)
class RowValues:
    """
    What the values of a row may be, and what it gets besides.

    Attributes:
        mapper: The mapper of the class.
        table: Its only table.
        columns: What can be given, by attribute name.
        filled: Keys of the columns in which None stands for what else the row would get there.
        made: What makes the value of a column that is not given, by the key of the column.
    """

    mapper: Mapper[Any]
    table: Table
    columns: Mapping[str, Column[Any]]
    filled: frozenset[str]
    made: Mapping[str, Callable[[], Any]]

    def values(self, given: BaseModel | Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """
        Return the plain values of the row by the keys of their columns, and those that are SQL expressions.

        Raises:
            DeclarationError: A name is that of no column, or two are those of one.
        """
        pairs = list(self._given(given))
        row = dict(pairs)
        if len(row) < len(pairs):
            raise DeclarationError(f"insert(): two names of {_owner(self.mapper)} are those of one column.")
        for key, make in self.made.items():
            if key not in row:
                row[key] = make()
        self._tell_apart(row)
        expressions = {key: value for key, value in row.items() if is_sql(value)}
        return ({key: row[key] for key in row.keys() - expressions}, expressions) if expressions else (row, expressions)

    def _given(self, given: BaseModel | Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        is_model, filled = isinstance(given, BaseModel), self.filled
        for name, value in items(given):
            column = self.column(name, "insert()")
            if isinstance(column.type, JSON) and (is_model or isinstance(value, BaseModel)):
                value = to_jsonable_python(value, by_alias=True)  # noqa: PLW2901 - as a reader expects it there
            if value is not None or column.key not in filled:
                yield column.key, value

    def _tell_apart(self, row: dict[str, Any]) -> None:
        """Write what SQLAlchemy tells versions and classes by."""
        if self.version is not None:
            row[self.version.key] = self.first_version()
        if self.kind is not None:
            self.check_kind(row.get(self.kind.key), "insert()")
            row[self.kind.key] = self.mapper.polymorphic_identity

    @property
    def version(self) -> Column[Any] | None:
        """Return the column that counts versions, if it is not the database that counts."""
        mapper: Any = self.mapper
        found: Column[Any] | None = mapper.version_id_col if mapper.version_id_generator is not False else None
        return found

    def first_version(self) -> Any:
        """Return the version of a new row."""
        mapper: Any = self.mapper
        return mapper.version_id_generator(None)

    @property
    def kind(self) -> Column[Any] | None:
        """Return the column that tells the class of a row."""
        kind: Any = self.mapper.polymorphic_on
        is_told = self.mapper.polymorphic_identity is not None and isinstance(kind, Column)
        return kind if is_told and kind.table is self.table else None

    def check_kind(self, value: Any, where: str) -> None:
        """Refuse a row that says that it is of another class."""
        if value is not None and value != self.mapper.polymorphic_identity:
            raise DeclarationError(
                f"{where}: {_owner(self.mapper)}.{_keys(self.mapper, [self.kind])} tells the class of a row: "
                "leave it out, or insert into a reader of the other class."
            )

    def column(self, name: str, where: str) -> Column[Any]:
        """
        Return the column of an attribute.

        Raises:
            DeclarationError: There is none; the message begins with *where*.
        """
        if not isinstance(name, str):
            raise DeclarationError(f"{where}: values go by name, as in {{'price': 1}}, not by {name!s}.")
        found = self.columns.get(name)
        if found is None:
            raise _refusal(self.mapper, name, self.columns, where)
        return found

    def refuse_unheard(self, *listeners: str, verb: str, instead: str, validated: bool = True) -> None:
        """Refuse a class that wants to see each object which is written."""
        unheard = [f"@validates of {name!r}" for name in self.mapper.validators if validated]
        unheard += [f"{name} listener" for name in listeners if _listens(self.mapper, name)]
        if unheard:
            raise DeclarationError(
                f"{verb}: no {_owner(self.mapper)} is made, so the {' and the '.join(unheard)} would not be called; "
                f"{instead}."
            )


@cache
def row_values_of(model: Any) -> RowValues:
    """
    Return what the values of a row of a mapped class may be.

    Raises:
        DeclarationError: The class is kept in several tables, or is no class of rows.
    """
    mapper = class_mapper(model)
    table = _table_of(mapper)
    columns = _columns(mapper, table)
    filled = frozenset(column.key for column in columns.values() if _is_filled(column))
    return RowValues(mapper, table, columns, filled, _made(model, columns))


def _table_of(mapper: Mapper[Any]) -> Table:
    """Return the table of a mapped class, if its rows can be written without an object."""
    owner, table = _owner(mapper), mapper.local_table
    if len(mapper.tables) != 1 or not isinstance(table, Table):
        raise DeclarationError(
            f"The rows of {owner} are not those of one table; use add(), change its objects, or delete() them."
        )
    if mapper.polymorphic_abstract:
        raise DeclarationError(f"{owner} is abstract: its rows are those of the classes below it; write those.")
    return table


def _listens(mapper: Mapper[Any], name: str) -> bool:
    """Return whether the app listens to inserts, and not only SQLAlchemy for the sake of its composites."""
    own = sum(each.parent is mapper for each in mapper.composites) if name == "after_insert" else 0
    return len(getattr(mapper.dispatch, name)) > own


def _columns(mapper: Mapper[Any], table: Table) -> Mapping[str, Column[Any]]:
    """Return the columns of the table by the names of their attributes, other names of these among them."""
    found = {
        each.key: column
        for each in mapper.column_attrs
        if isinstance(column := each.columns[0], Column) and column.table is table
    }
    others = {each.key: found[each.name] for each in mapper.synonyms if each.name in found}
    return {**others, **found}


def _is_filled(column: Column[Any]) -> bool:
    """Return whether None leaves the column to its default, as it does with objects."""
    has_value = column.default is not None or column.server_default is not None or column.primary_key
    return has_value and not column.type.should_evaluate_none


def _made(model: type[Any], columns: Mapping[str, Column[Any]]) -> Mapping[str, Callable[[], Any]]:
    """Return what a mapped dataclass makes values with; its other defaults are those of its columns."""
    known = fields(model) if is_dataclass(model) else ()
    made = [(each.name, each.default_factory) for each in known if each.default_factory is not MISSING]
    return {columns[name].key: make for name, make in made if name in columns}


def is_sql(value: object) -> bool:
    """Return whether a value is a SQL expression."""
    return isinstance(value, ClauseElement) or hasattr(value, "__clause_element__")


def items(given: object) -> Iterator[tuple[str, Any]]:
    """Yield what is given by name: of a Pydantic model the fields that have a value and are stored."""
    if isinstance(given, BaseModel):
        held = vars(given)
        return ((name, held[name]) for name in fields_of(type(given)) if name in held)
    if isinstance(given, Mapping):
        return iter(given.items())
    raise DeclarationError(
        f"insert() takes a Pydantic model or a mapping, not {type(given).__name__}; add() an object."
    )


@cache
def fields_of(schema: type[BaseModel]) -> tuple[str, ...]:
    """Return the fields of a Pydantic model that are neither excluded nor read-only."""
    return tuple(name for name, info in schema.model_fields.items() if is_stored(info))


def _refusal(mapper: Mapper[Any], name: str, columns: Mapping[str, Column[Any]], where: str) -> DeclarationError:
    """Return the error that says what to give instead."""
    place = f"{where}: {_owner(mapper)}.{name}"
    if name in mapper.relationships:
        relation = mapper.relationships[name]
        is_one = relation.direction is RelationshipDirection.MANYTOONE
        what = (
            f"give its foreign key ({_keys(mapper, relation.local_columns)}), or use add()" if is_one else "use add()"
        )
        return DeclarationError(f"{place} is a relationship: {what}.")
    if name in mapper.composites:
        keys = ", ".join(each.key for each in mapper.composites[name].props)
        return DeclarationError(f"{place} is a composite: give what it is made of ({keys}), or use add().")
    if name in mapper.all_orm_descriptors:
        return DeclarationError(f"{place} is no column of the table, so nothing can be stored there.")
    told = nearest(name, columns) or "."
    return DeclarationError(f"{where}: {_owner(mapper)} has no attribute {name!r}{told}")


def _keys(mapper: Mapper[Any], columns: Any) -> str:
    return ", ".join(sorted(mapper.get_property_by_column(column).key for column in columns))


def _owner(mapper: Mapper[Any]) -> str:
    return mapper.class_.__name__
