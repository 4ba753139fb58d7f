"""Many rows as batches of plain values, those together that name the same columns; column by column, to be quick."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice
from operator import itemgetter
from types import GenericAlias
from typing import Any, NamedTuple, NoReturn, TypeAlias

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from sqlalchemy import JSON, ClauseElement, Column, inspect

from fastkit.errors import DeclarationError, InvalidValueError
from fastkit.repository._batch import Batch, Held, Values, getter
from fastkit.repository._row_values import RowValues, fields_of

CHUNK = 10_000
"""How many rows are held at once."""

Rows: TypeAlias = Iterable[BaseModel | Mapping[str, Any]]


class _Alike(NamedTuple):
    """
    Rows of one kind that give the same names; the kind is a Pydantic model, or None for mappings.

    Their values are of these types, if that was looked at already.
    """

    kind: type[BaseModel] | None
    names: tuple[str, ...]
    rows: Values
    numbers: Sequence[int]
    types: AbstractSet[type[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """
    How rows become batches.

    Attributes:
        values: What the values of a row may be.
        verb: How messages begin.
        schema: The Pydantic model that each row is validated by first, or None.
        wanted: Columns that are to be named by one row at least.
        trusts: Whether what is no value for a column is found by who takes the rows, see `refuse_sql`, and not here.
    """

    values: RowValues
    verb: str
    schema: type[BaseModel] | None = None
    wanted: tuple[Column[Any], ...] = ()
    trusts: bool = False

    def of(self, rows: Rows) -> Iterator[list[Batch]]:
        """
        Yield the batches of each chunk of the rows.

        Raises:
            DeclarationError: A row names what is no column, or is no row; the message tells its number.
            InvalidValueError: A row does not fit the Pydantic model; the same.
        """
        if isinstance(rows, Mapping | BaseModel | str) or not hasattr(rows, "__iter__"):
            raise DeclarationError(
                f"{self.verb} takes many rows, in a list or from a generator, not {type(rows).__name__}. "
                "One row can be given in a list."
            )
        left, first, named = iter(rows), 1, set[Column[Any]]()
        while chunk := list(islice(left, CHUNK)):
            if self.schema is not None:
                chunk = self._validated(chunk, first)
            several = _alike(self.verb, chunk, first, self._looked_at if self.trusts else None)
            batches = [done for alike in several for done in self._finished(alike)]
            named.update(*(batch.named for batch in batches))
            if len(chunk) < CHUNK:  # the last one
                self._refuse_unnamed(named)
            yield batches
            first += len(chunk)
        if first > 1:
            self._refuse_unnamed(named)

    @property
    def _looked_at(self) -> frozenset[str]:
        """Return the attributes whose values decide how a row goes in."""
        columns = self.values.columns.items()
        return frozenset(
            name for name, column in columns if column.key in self.values.filled or isinstance(column.type, JSON)
        )

    def refuse_sql(self, batch: Batch) -> None:
        """
        Refuse SQL expressions among the rows, which share a statement.

        Raises:
            DeclarationError: There is one.
        """
        for column in batch.columns:
            for number, value in zip(batch.numbers, batch.values_of(column), strict=True):
                if _is_sql(type(value)):
                    self._refuse_sql(number, self.values.mapper.get_property_by_column(column).key)

    def _refuse_unnamed(self, named: AbstractSet[Column[Any]]) -> None:
        for column in self.wanted:
            if column not in named:
                name = self.values.mapper.get_property_by_column(column).key
                raise DeclarationError(
                    f"{self.verb}, set=: no row gives {name!r}, so it would never change: give it, or leave it out."
                )

    def _validated(self, chunk: list[Any], first: int) -> list[Any]:
        schema: Any = self.schema
        try:
            return _adapter(schema).validate_python(chunk)
        except ValidationError as error:
            faults = error.errors(include_input=False, include_context=False, include_url=False)
        row, *place = faults[0]["loc"]
        where = next((part for part in place if part in schema.model_fields), None)
        told = f"{where} ({faults[0]['type']})" if where is not None else faults[0]["type"]
        raise InvalidValueError(
            f"Row {first + int(row)} does not fit {schema.__name__}: {told}.",
            columns=[str(where)] if where is not None else [],
        )

    def _finished(self, alike: _Alike) -> Iterator[Batch]:
        if not alike.names:
            yield self._completed((), alike.rows, alike.numbers)
            return
        columns = self._columns(alike)
        rows, absent = self._converted(alike, columns)
        if not absent:
            yield self._completed(columns, rows, alike.numbers)._replace(named=columns)
            return
        for gone, (kept, numbers) in _by_absence(rows, alike.numbers, absent).items():
            left = tuple(column for place, column in enumerate(columns) if place not in gone)
            yield self._completed(left, kept, numbers)._replace(named=columns)

    def _columns(self, alike: _Alike) -> tuple[Column[Any], ...]:
        where = f"{self.verb}, row {alike.numbers[0]}"
        columns = tuple(self.values.column(name, where) for name in alike.names)
        if len(set(columns)) < len(columns):
            raise DeclarationError(f"{where}: two names are those of one column; give it once.")
        return columns

    def _converted(self, alike: _Alike, columns: tuple[Column[Any], ...]) -> tuple[Values, list[int]]:
        """Return the rows, and in which places None may stand for a default."""
        if self._is_plain(alike, columns):
            return alike.rows, []
        by_place: list[Any] = list(zip(*alike.rows, strict=True))
        absent, is_changed = [], False
        for place, column in enumerate(columns):
            kinds = set(map(type, by_place[place]))
            if any(map(_is_sql, kinds)):
                told = zip(alike.numbers, by_place[place], strict=True)
                self._refuse_sql(next(number for number, each in told if _is_sql(type(each))), alike.names[place])
            if column is self.values.kind:
                self._check_kinds(alike, by_place[place])
            if column is self.values.kind or column is self.values.version:
                by_place[place], is_changed = [None] * len(alike.rows), True
                absent.append(place)
            elif type(None) in kinds and column.key in self.values.filled:
                absent.append(place)
            if isinstance(column.type, JSON) and (alike.kind is not None or any(map(_is_model, kinds))):
                by_place[place], is_changed = [to_jsonable_python(v, by_alias=True) for v in by_place[place]], True
        return (list(zip(*by_place, strict=True)) if is_changed else alike.rows), absent

    def _is_plain(self, alike: _Alike, columns: tuple[Column[Any], ...]) -> bool:
        """Return whether the rows are as they go in, as nearly always; each value is looked at once."""
        if alike.kind is not None or not {self.values.kind, self.values.version}.isdisjoint(columns):
            return False
        kinds: Any = _types(alike.rows) if alike.types is None else alike.types
        return type(None) not in kinds and not any(_is_sql(kind) or _is_model(kind) for kind in kinds)

    def _refuse_sql(self, number: int, name: str) -> NoReturn:
        raise DeclarationError(
            f"{self.verb}, row {number}: {name!r} is a SQL expression, and many rows share a statement; "
            "insert this row by into(...).insert()."
        )

    def _check_kinds(self, alike: _Alike, kinds: Sequence[Any]) -> None:
        for number, kind in zip(alike.numbers, kinds, strict=True):
            self.values.check_kind(kind, f"{self.verb}, row {number}")

    def _completed(self, columns: tuple[Column[Any], ...], rows: Values, numbers: Sequence[int]) -> Batch:
        """Return a batch with what rows get besides what is given."""
        more: dict[Column[Any], Callable[[], Any]] = {}
        given = {column.key for column in columns}
        for key, make in self.values.made.items():
            if key not in given:
                more[self.values.table.c[key]] = make
        if (version := self.values.version) is not None:
            more[version] = self.values.first_version
        if (kind := self.values.kind) is not None:
            more[kind] = self._identity
        if more:
            rows = [(*row, *(make() for make in more.values())) for row in rows]
        return Batch((*columns, *more), rows, numbers, frozenset(more))

    def _identity(self) -> Any:
        return self.values.mapper.polymorphic_identity


def _alike(verb: str, chunk: list[Any], first: int, looked_at: AbstractSet[str] | None = None) -> list[_Alike]:
    """Return the rows of a chunk, those together that give the same names."""
    quick = _all_alike(chunk, first, looked_at)
    if quick is not None:
        return [quick]
    found: dict[Any, tuple[list[Any], list[int]]] = {}
    for number, given in enumerate(chunk, first):
        kind, held, names = _held(verb, given, number)
        rows, numbers = found.setdefault((kind, names), ([], []))
        rows.append(getter(names)(held))
        numbers.append(number)
    return [_Alike(kind, names, rows, numbers) for (kind, names), (rows, numbers) in found.items()]


def _all_alike(chunk: list[Any], first: int, looked_at: AbstractSet[str] | None) -> _Alike | None:
    """Return a chunk in which all rows give the same names, as nearly always, or None."""
    kinds: set[Any] = set(map(type, chunk))
    kind = kinds.pop()
    if kinds or not (kind is dict or issubclass(kind, BaseModel)):
        return None
    numbers = range(first, first + len(chunk))
    if kind is not dict:
        return _models_alike(kind, chunk, numbers)
    names = tuple(chunk[0])
    if set(map(len, chunk)) != {len(names)}:
        return None
    held = Held(chunk, names)
    try:
        return _Alike(None, names, held, numbers, _types(held) if looked_at is None else _types_of(held, looked_at))
    except KeyError:
        return None


def _models_alike(kind: Any, chunk: list[Any], numbers: Sequence[int]) -> _Alike | None:
    names = fields_of(kind)
    try:
        return _Alike(kind, names, list(map(getter(names), map(vars, chunk))), numbers)
    except KeyError:
        return None


def _types(rows: Iterable[tuple[Any, ...]]) -> AbstractSet[type[Any]]:
    return set(map(type, chain.from_iterable(rows)))


def _types_of(rows: Held, names: AbstractSet[str]) -> AbstractSet[type[Any]]:
    """Return the types of the values under these names, having seen that no name is missing."""
    deque(rows, maxlen=0)
    few = [name for name in rows.names if name in names]
    return {kind for name in few for kind in set(map(type, map(itemgetter(name), rows.mappings)))}


def _is_sql(kind: type[Any]) -> bool:
    return issubclass(kind, ClauseElement) or hasattr(kind, "__clause_element__")


def _is_model(kind: type[Any]) -> bool:
    return issubclass(kind, BaseModel)


def _held(verb: str, given: Any, number: int) -> tuple[type[BaseModel] | None, Mapping[str, Any], tuple[str, ...]]:
    if isinstance(given, BaseModel):
        held = vars(given)
        return type(given), held, tuple(name for name in fields_of(type(given)) if name in held)
    if isinstance(given, Mapping):
        return None, given, tuple(sorted(given, key=str))
    raise DeclarationError(
        f"{verb}, row {number}: a row is a Pydantic model or a mapping, not {type(given).__name__}; add_all() objects."
    )


@cache
def _adapter(schema: Any) -> TypeAdapter[list[Any]]:
    if inspect(schema, raiseerr=False) is not None:
        raise DeclarationError(
            f"validate={schema.__name__}: of a mapped class Pydantic looks at no values. Name a model that is no "
            "table: in SQLModel, one without table=True."
        )
    many: Any = GenericAlias(list, (schema,))
    return TypeAdapter(many)


def _by_absence(
    rows: Values, numbers: Sequence[int], absent: list[int]
) -> dict[frozenset[int], tuple[list[Any], list[int]]]:
    """Return the rows without the values that are None in these places, those together that lack the same ones."""
    found: dict[frozenset[int], tuple[list[Any], list[int]]] = {}
    for number, row in zip(numbers, rows, strict=True):
        gone = frozenset(place for place in absent if row[place] is None)
        kept, kept_numbers = found.setdefault(gone, ([], []))
        kept.append(tuple(value for place, value in enumerate(row) if place not in gone))
        kept_numbers.append(number)
    return found
