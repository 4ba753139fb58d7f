"""Rows that become JSON without a response model for each: how, and whether these very rows may."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter
from types import NoneType
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Select
from sqlalchemy.orm import CompositeProperty, RelationshipProperty, configure_mappers

from fastkit.repository._derivation import Level
from fastkit.repository._links import Link
from fastkit.repository._places import Place, Step, places_of
from fastkit.repository._plain import Field, NotPlainError, fields_of
from fastkit.repository._plan import Fetch, Plan

_MINUTE = timedelta(minutes=1)
_Columns = Sequence[Sequence[Any]]
Objects = Callable[[str, Sequence[str]], Callable[..., Any]]
"""Makes the class of the objects of one response model, from its name and the names in JSON."""


class UnexpectedRowsError(Exception):
    """These rows are not what the response model says: it must look at them itself, to convert or to refuse them."""


@dataclass(frozen=True, slots=True)
class Check:
    """
    What a column holds if its values can be taken as they are.

    Attributes:
        column: Its place in the row.
        known: What the response model says; None for the key of a related row, which is there or not.
        within: The key of the related row that the value is of, which may be missing altogether.
        optional: Whether it may be NULL though that row is there.
        is_told_by_types: Whether values of the right types can always be taken.
    """

    column: int
    known: Field | None
    within: int | None
    optional: bool
    is_told_by_types: bool = field(init=False)

    def __post_init__(self) -> None:
        known = self.known
        is_told = known is not None and not known.choices and known.types.isdisjoint(_CLOSER)
        object.__setattr__(self, "is_told_by_types", is_told)

    def holds(self, columns: _Columns) -> bool:
        """Return whether all values are of the right types, and none of those that become other JSON."""
        values = columns[self.column]
        if self.is_told_by_types and self.known is not None and self.known.types.issuperset(map(type, values)):
            return True  # nearly always
        found = set(map(type, values))
        if self.known is not None:
            strange = found - self.known.types
            if (base := self.known.base) is not None:
                strange = {each for each in strange if not issubclass(each, base)}
        else:
            strange = found & {NoneType}
        if NoneType in strange and (self.optional or self._is_missing_with_its_row(values, columns)):
            strange.remove(NoneType)
        if strange or (self.known is not None and self.known.choices and not {*values} - {None} <= self.known.choices):
            return False
        return found.isdisjoint(_CLOSER) or _are_usual([value for value in values if value is not None])

    def _is_missing_with_its_row(self, values: Sequence[Any], columns: _Columns) -> bool:
        if self.within is None:
            return False
        return all(row is None for value, row in zip(values, columns[self.within], strict=True) if value is None)


_CLOSER = {Decimal, datetime, time}
_KNOWN_ZONES = {id(None), id(UTC)}
_zone = attrgetter("tzinfo")


def _are_usual(values: Sequence[Any]) -> bool:
    """Return whether no number is infinite or none, and no offset from UTC has seconds, which encoders round."""
    if isinstance(values[0], Decimal):
        return all(map(Decimal.is_finite, values))
    return _KNOWN_ZONES.issuperset(map(id, map(_zone, values))) or all(
        not (value.utcoffset() or _MINUTE) % _MINUTE for value in values
    )


@dataclass(frozen=True, slots=True)
class JsonPlan(Plan):
    """A plan whose values are encoded as they are, after a look at the types of each column."""

    checks: Sequence[Check] = field(default=())

    @property
    def types(self) -> frozenset[type]:
        """Return the types of all values, at all depths."""
        own = [check.known.types for check in self.checks if check.known is not None]
        return frozenset().union(
            *own, *(child.plan.types for child in self.children if isinstance(child.plan, JsonPlan))
        )

    def assemble(self, fetch: Fetch, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """
        Return what is encoded for each row.

        Raises:
            UnexpectedRowsError: The rows are not what the response model says.
        """
        columns = list(zip(*rows, strict=True))
        if rows and not all(check.holds(columns) for check in self.checks):
            raise UnexpectedRowsError
        return Plan.assemble(self, fetch, rows)


def json_plan_of(schema: Any, model: Any, objects: Objects | None) -> JsonPlan:
    """
    Return how rows of a mapped class become the JSON of a response model.

    Args:
        schema: The response model.
        model: The mapped class.
        objects: Makes classes that an encoder takes; without it, the objects are dictionaries.

    Raises:
        NotPlainError: The response model does more than to name fields.
    """
    configure_mappers()
    plan: Any = _JsonLevel(model, objects=objects).plan_of(schema)
    found: JsonPlan = plan
    return found


class _JsonLevel(Level):
    """Same as for response models, with the names and the order that JSON has, and a check for each column."""

    def __init__(self, root: Any, *, repeats: bool = False, objects: Objects | None = None) -> None:
        super().__init__(root, repeats=repeats)
        self._objects = objects
        self._checks: list[Check] = []
        self._presences: dict[Any, int] = {}
        self._within: int | None = None

    def plan(self, value: str, statement: Select[Any]) -> JsonPlan:
        """Return the plan with its checks."""
        return JsonPlan(statement, self.make(value), tuple(self.children), tuple(self.columns), tuple(self._checks))

    def object_of(self, schema: type[BaseModel], entity: Any, path: tuple[Step, ...]) -> str:
        """Return the source of an object whose attributes are named as in JSON."""
        fields, outer = fields_of(schema), self._within
        self._within = self._presences.get(entity)
        places = places_of(schema)
        values = [self.value(place, entity, path) or self._constant(place) for place in places]
        self._within = outer
        aliases = [fields[place.name].alias for place in places]
        if self._objects is None:
            return "{" + ", ".join(f"{alias!r}: {value}" for alias, value in zip(aliases, values, strict=True)) + "}"
        return f"{self._known(self._objects(schema.__name__, aliases))}({', '.join(values)})"

    def inner(self, link: Link) -> Level:
        """Return what the statement for related rows selects, with checks as well."""
        return _JsonLevel(link.target, repeats=link.repeats, objects=self._objects)

    def _known(self, thing: Any) -> str:
        name = f"k{len(self.classes)}"
        self.classes[name] = thing
        return name

    def _constant(self, place: Place) -> str:
        known = _field_of(place)
        default: Any = known.default
        is_plain = type(default) in known.types & {str, int, bool, NoneType}
        if not is_plain or (known.choices and default is not None and default not in known.choices):
            raise NotPlainError(f"{_name(place)} has a default that is not of its type")
        return self._known(default)

    def single(self, place: Place, expression: Any) -> str:
        """Return the value of one expression, whose type is checked."""
        known = _single_of(place)
        if not known.types:
            raise NotPlainError(f"{_name(place)} is no single value")
        column = self.column(expression)
        self._checks.append(Check(column, known, self._within, known.optional))
        return f"r[{column}]"

    def presence(self, place: Place, target: Any) -> int:
        """Return the place of the key of a related row, which is checked to be there unless the field is optional."""
        column = self._presences[target] = super().presence(place, target)
        self._checks.append(Check(column, None, self._within, _single_of(place).optional))
        return column

    def related(self, place: Place, entity: Any, relation: RelationshipProperty[Any], path: tuple[Step, ...]) -> str:
        """Return a nested object, or a list of them, if Pydantic writes them as their model says."""
        known = _field_of(place)
        if (known.item or known).model is not place.shape.schema:
            raise NotPlainError(f"{_name(place)} is written as something else than {place.shape.schema}")
        return super().related(place, entity, relation, path)

    def kept(self, place: Place, expression: Any) -> str:
        """Refuse a model in one column, which Pydantic makes."""
        raise NotPlainError(f"{_name(place)} is a model that is kept in one column")

    def composite(self, place: Place, entity: Any, attribute: CompositeProperty[Any]) -> str:
        """Refuse an object that is several columns."""
        raise NotPlainError(f"{_name(place)} is a composite of several columns")

    def nothing(self, place: Place) -> str:
        """Return what stands below the last level."""
        self._check_optional(place)
        return super().nothing(place)

    def many(
        self,
        place: Place,
        entity: Any,
        relation: RelationshipProperty[Any],
        rest: Sequence[str],
        path: tuple[Step, ...],
    ) -> str:
        """Return related values; a single one that is read by a statement of its own may be missing."""
        if not relation.uselist:
            self._check_optional(place)
        return super().many(place, entity, relation, rest, path)

    def _check_optional(self, place: Place) -> None:
        if not place.shape.is_many and not _single_of(place).optional:
            raise NotPlainError(f"{_name(place)} may be missing")


def _field_of(place: Place) -> Field:
    return fields_of(place.schema)[place.name]


def _single_of(place: Place) -> Field:
    """Return what the field says of one value: of each in its list, if that is what the place is about."""
    known = _field_of(place)
    return known if known.item is None or place.shape.is_many else known.item


def _name(place: Place) -> str:
    return f"{place.schema.__name__}.{place.name}"
