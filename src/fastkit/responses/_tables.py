"""Rows as the lines of a CSV file, by way of the response model whose JSON they would be."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from io import StringIO
from types import GenericAlias
from typing import Any, TypeAlias, cast, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema
from sqlalchemy.orm import Session

from fastkit.errors import DeclarationError
from fastkit.repository._json import Encoding, JsonProjection
from fastkit.repository._json_plan import json_plan_of
from fastkit.repository._plain import NotPlainError
from fastkit.repository._projection import Projection
from fastkit.responses._cells import cells_of

_Schema: TypeAlias = Mapping[str, Any]
_SINGLE = {"string", "integer", "number", "boolean", "null"}


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a CSV file.

    Attributes:
        name: Its name in the first line, which is the one in JSON.
        decimal: Whether its numbers are decimal ones, which JSON writes as text.
    """

    name: str
    decimal: bool


def check_csv(schema: type[BaseModel]) -> None:
    """
    Check, at import or in a test, that a response model can be written as CSV: each field is a single value.

    >>> check_csv(BookRow)

    Raises:
        DeclarationError: A field is a model, a list, a mapping, or may be anything.
    """
    known: Any = schema
    columns_of(known)


@cache
def columns_of(schema: Any) -> tuple[Column, ...]:
    """
    Return the columns of a response model, in the order of its fields.

    Raises:
        DeclarationError: A field has no single value, so that no cell can hold it.
    """
    try:
        shown: _Schema = schema.model_json_schema(by_alias=True, mode="serialization")
    except PydanticInvalidForJsonSchema as error:
        raise DeclarationError(f"{schema.__name__} cannot be written as CSV: {error.message}") from None
    definitions: _Schema = shown.get("$defs", {})
    shown = _resolved(shown, definitions)
    fields: Mapping[str, _Schema] = shown.get("properties", {})
    if not fields:
        raise DeclarationError(f"{schema.__name__} cannot be written as CSV: it has no fields.")
    if wrong := [name for name, each in fields.items() if not _is_single(each, definitions)]:
        raise DeclarationError(
            f"{schema.__name__} cannot be written as CSV: {', '.join(wrong)} may hold more than a single value. "
            'Take a model of single values for it, such as Annotated[str, From("author.name")].'
        )
    decimals = {_alias(name, info) for name, info in schema.model_fields.items() if _is_decimal(info.annotation)}
    return tuple(Column(name, name in decimals) for name in fields)


def _alias(name: str, info: Any) -> str:
    return info.serialization_alias or info.alias or name


def _is_decimal(annotation: Any) -> bool:
    return annotation is Decimal or any(map(_is_decimal, get_args(annotation)))


def _resolved(shown: _Schema, definitions: _Schema) -> _Schema:
    while "$ref" in shown:
        shown = definitions[shown["$ref"].removeprefix("#/$defs/")]
    return shown


def _is_single(shown: _Schema, definitions: _Schema) -> bool:
    shown = _resolved(shown, definitions)
    if several := shown.get("anyOf") or shown.get("oneOf"):
        return all(_is_single(each, definitions) for each in several)
    choices = shown.get("enum", [shown["const"]] if "const" in shown else None)
    if choices is not None:
        return not any(isinstance(each, list | dict) for each in choices)
    return shown.get("type") in _SINGLE


@dataclass(frozen=True, slots=True)
class CsvProjection(JsonProjection):
    """
    A projection whose results are lines of CSV (RFC 4180).

    Attributes:
        columns: What stands in a line.
        escape: Whether cells that look like formulas are made text.
    """

    columns: tuple[Column, ...]
    escape: bool

    @classmethod
    def of_rows(cls, projection: Projection[Any], *, escape: bool) -> CsvProjection:
        """
        Return the projection of the same rows.

        Raises:
            DeclarationError: The response model has fields that no cell can hold.
        """
        model: Any = projection.selection.model
        schema: Any = projection.schema
        columns, encoding = columns_of(schema), _tuples_of(schema, model)
        return cls(projection.selection, projection.schema, projection.ready, encoding, columns, escape)

    @property
    def head(self) -> bytes:
        """Return the first line, which names the columns."""
        return _written([[column.name for column in self.columns]])

    def lines(self, session: Session, *arguments: Any) -> tuple[bytes, Sequence[Any] | None]:
        """Return the next part of a stream, a line for each row, and where the part after it begins."""
        found, after = self.batch(session, *arguments)
        by_column = zip(*self._rows(found), strict=True)
        cells = [
            cells_of(values, decimal=column.decimal, escape=self.escape)
            for column, values in zip(self.columns, by_column, strict=False)  # there are none if there is no row
        ]
        return _written(zip(*cells, strict=True)), after

    def _rows(self, found: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Return the values of each row; those of a response model as its JSON has them."""
        if not any(isinstance(each, BaseModel) for each in found[:1]):
            return found
        schema: Any = self.schema
        models = _models(schema)
        dumped = models.dump_python(models.validate_python(found), mode="json", by_alias=True)
        return [[each.get(column.name) for column in self.columns] for each in dumped]


def _written(rows: Any) -> bytes:
    file = StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode()


@cache
def _models(schema: Any) -> TypeAdapter[list[Any]]:
    kind: Any = GenericAlias(list, (schema,))
    return TypeAdapter(kind)


@cache
def _tuples_of(schema: Any, model: Any) -> Encoding:
    """Return how rows become tuples in the order of the columns, or None for the plan if it takes response models."""
    try:
        plan = json_plan_of(schema, model, _as_tuple)
    except NotPlainError as reason:
        return Encoding(None, bytes, str(reason))
    return Encoding(plan, bytes, "tuples")


def _as_tuple(name: str, aliases: Sequence[str]) -> Callable[..., Any]:
    return cast("Callable[..., Any]", lambda *values: values)
