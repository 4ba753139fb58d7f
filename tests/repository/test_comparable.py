"""What a list query may compare and sort: what can only fail is told when the app starts, and nothing else."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, create_model, field_validator
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Enum,
    Float,
    Integer,
    Interval,
    MetaData,
    Numeric,
    String,
    Text,
    Time,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.dialects.postgresql import INET, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, mapped_column, synonym

from fastkit.errors import DeclarationError
from fastkit.repository import Contains, Equals, ListQuery, OneOf, Range, Sort, StartsWith
from fastkit.repository._list_filters import check_paths


class Kinds(DeclarativeBase):
    """The base of what is never stored."""

    metadata = MetaData()


class Hue(enum.Enum):
    """Stored by name."""

    RED = "red"


class Size(enum.IntEnum):
    """A number."""

    SMALL = 1


class Tone(enum.StrEnum):
    """A text."""

    LOW = "low"


class Own(TypeDecorator[Any]):
    """A date that an app takes as text."""

    impl = Date
    cache_ok = True


class Packed(TypeDecorator[Any]):
    """A value that an app keeps as JSON."""

    impl = JSON
    cache_ok = True


class Thing(Kinds):
    """One column of each kind."""

    __tablename__ = "cmp_thing"

    id: Mapped[Any] = mapped_column(Integer, primary_key=True)
    big: Mapped[Any] = mapped_column(BigInteger)
    price: Mapped[Any] = mapped_column(Numeric(10, 2))
    level: Mapped[Any] = mapped_column(Float)
    name: Mapped[Any] = mapped_column(String(20))
    told: Mapped[Any] = mapped_column(Text)
    done: Mapped[Any] = mapped_column(Boolean)
    day: Mapped[Any] = mapped_column(Date)
    at: Mapped[Any] = mapped_column(DateTime)
    hour: Mapped[Any] = mapped_column(Time)
    span: Mapped[Any] = mapped_column(Interval)
    key: Mapped[Any] = mapped_column(Uuid)
    hue: Mapped[Any] = mapped_column(Enum(Hue))
    grade: Mapped[Any] = mapped_column(Enum(Size))
    tint: Mapped[Any] = mapped_column(Enum(Hue, native_enum=False))
    place: Mapped[Any] = mapped_column(INET)
    own: Mapped[Any] = mapped_column(Own)
    either: Mapped[Any] = mapped_column(Integer().with_variant(String(20), "sqlite"))
    data: Mapped[Any] = mapped_column(JSON)
    packed: Mapped[Any] = mapped_column(Packed)
    binary: Mapped[Any] = mapped_column(JSONB)
    mixed: Mapped[Any] = mapped_column(JSON().with_variant(JSONB(), "postgresql"))
    tags: Mapped[Any] = mapped_column(ARRAY(String))
    doubled: Mapped[Any] = column_property(id * 2)  # noqa: A003 - the column
    label: Mapped[Any] = synonym("name")


FITS = {
    "id": [int, Decimal, float, bool, Size, int | None, Annotated[int, Field(ge=1)], int | str, Literal[1, 2]],
    "price": [Decimal, int, float],
    "level": [float, int],
    "name": [str, Tone, Literal["a", "b"], Annotated[str, Field(max_length=3)], uuid.UUID, Hue],
    "told": [str],
    "label": [str],
    "done": [bool, int],
    "day": [dt.date, dt.datetime],
    "at": [dt.datetime, dt.date],
    "hour": [dt.time],
    "span": [dt.timedelta],
    "key": [uuid.UUID, str],
    "hue": [Hue, str, Literal["RED"]],
    "grade": [Size],
    "place": [ipaddress.IPv4Address, str],
    "own": [str, dt.date],
    "either": [int, str],
    "doubled": [int],
    "data": [str],
}
FAILS = {
    "id": ([str, dt.date, Tone, Annotated[str, Field(max_length=3)], Literal["1"]], "int, float or Decimal"),
    "big": ([str], "int, float or Decimal"),
    "price": ([str, dt.date], "int, float or Decimal"),
    "level": ([str], "int, float or Decimal"),
    "name": ([int, Decimal, dt.date, bool, Size], "str"),
    "told": ([float], "str"),
    "done": ([str, dt.date], "bool"),
    "day": ([str, int, dt.time, dt.timedelta], "date or datetime"),
    "at": ([str, float], "date or datetime"),
    "hour": ([str, dt.datetime], "time"),
    "span": ([int, str], "timedelta"),
    "doubled": ([str], "int, float or Decimal"),
}


def query_of(name: str, annotation: Any) -> Any:
    """Return a list query with one filter."""
    base: Any = ListQuery[Thing]
    fields: Any = {name: (annotation, None)}
    return create_model("ThingQuery", __base__=base, **fields)


@pytest.mark.parametrize("kind", [Equals, OneOf, Range])
@pytest.mark.parametrize(("name", "given"), [(name, each) for name, kinds in FITS.items() for each in kinds])
def test_what_may_fit(kind: Any, name: str, given: Any) -> None:
    """Nothing is said of what a database, a driver or a type of the app may take."""
    check_paths(query_of(name, kind[given]))


@pytest.mark.parametrize("kind", [Equals, OneOf, Range])
@pytest.mark.parametrize(
    ("name", "given", "wanted"), [(name, each, wanted) for name, (kinds, wanted) in FAILS.items() for each in kinds]
)
def test_what_can_only_fail(kind: Any, name: str, given: Any, wanted: str) -> None:
    """The message says what to annotate."""
    with pytest.raises(DeclarationError) as caught:
        check_paths(query_of(name, kind[given]))

    assert str(caught.value) == f"ThingQuery.{name}: Thing.{name} is compared with other values: annotate {wanted}."


OWN = ["own", "packed", "hue"]


@pytest.mark.parametrize("kind", [Contains, StartsWith])
@pytest.mark.parametrize(
    "name", ["id", "price", "level", "done", "day", "at", "hour", "span", "key", "data", "tags", *OWN]
)
def test_texts_are_not_looked_for_elsewhere(kind: Any, name: str) -> None:
    """PostgreSQL has no LIKE for it."""
    with pytest.raises(DeclarationError, match=rf"ThingQuery.{name}: Thing.{name} is no text"):
        check_paths(query_of(name, kind[str]))


@pytest.mark.parametrize("kind", [Contains, StartsWith])
@pytest.mark.parametrize("name", ["name", "told", "label", "tint", "place"])
def test_texts_are_looked_for_in_what_may_be_one(kind: Any, name: str) -> None:
    """Enumerations that are stored as texts, and what is not known, among them."""
    check_paths(query_of(name, kind[str]))


def test_what_a_validator_makes() -> None:
    """It may be anything."""

    class ThingQuery(ListQuery[Thing]):
        day: Equals[str] = None
        at: Equals[Annotated[str, AfterValidator(dt.datetime.fromisoformat)]] = None

        @field_validator("day")
        @classmethod
        def made(cls, given: Any) -> Any:
            """Return a date."""
            return dt.date.fromisoformat(given)

    class AllQuery(ListQuery[Thing]):
        day: Equals[str] = None

        @field_validator("*")
        @classmethod
        def made(cls, given: Any) -> Any:
            """Return it."""
            return given

    class OtherQuery(ListQuery[Thing]):
        day: Equals[str] = None
        name: Equals[str] = None

        @field_validator("name")
        @classmethod
        def made(cls, given: Any) -> Any:
            """Return it."""
            return given

    check_paths(ThingQuery)
    check_paths(AllQuery)
    with pytest.raises(DeclarationError, match=r"OtherQuery\.day"):
        check_paths(OtherQuery)


@pytest.mark.parametrize("name", ["data", "packed"])
def test_json_has_no_order(name: str) -> None:
    """PostgreSQL would answer the first request with an error."""

    class ThingQuery(ListQuery[Thing]):
        sort = Sort("id", name)

    with pytest.raises(DeclarationError, match=rf"ThingQuery\.sort: '{name}' is JSON, which PostgreSQL cannot sort"):
        check_paths(ThingQuery)


def test_what_can_be_sorted() -> None:
    """A value that is in JSON, binary JSON, arrays, and types of the app."""

    class ThingQuery(ListQuery[Thing]):
        sort = Sort("binary", "mixed", "tags", "own", "hue", "place", inner=Thing.data["x"].as_string())

    check_paths(ThingQuery)


def test_a_model_is_no_single_value() -> None:
    """Nothing is said of what is not known."""

    class Point(BaseModel):
        x: int

    check_paths(query_of("data", Equals[Point]))
    check_paths(query_of("id", Equals[Any]))
