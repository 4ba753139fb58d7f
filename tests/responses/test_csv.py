"""CSV: what a cell looks like, that it is no formula, and which response models have cells at all."""

import csv
import io
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pytest
from deps.apps import answer
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, computed_field, create_model, field_serializer
from sqlalchemy import JSON, Float, ForeignKey, Integer, Numeric, Uuid
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit.database import Database
from fastkit.deps import UnitFactory
from fastkit.errors import DeclarationError
from fastkit.repository import Repository
from fastkit.responses import check_csv, stream_csv
from fastkit.responses._cells import cells_of
from fastkit.responses.streams import attachment
from fastkit.uow import UnitOfWork

pytestmark = pytest.mark.anyio

FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


class Base(DeclarativeBase):
    """Tables of this module."""


class Colour(Enum):
    """Text in the database."""

    RED = "=red"
    BLUE = "blue"


class Kind(Base):
    """A column of each type that has a cell."""

    __tablename__ = "kind"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str | None]
    price: Mapped[Decimal | None] = mapped_column(Numeric(20, 8))
    ratio: Mapped[float | None] = mapped_column(Float)
    yes: Mapped[bool | None]
    day: Mapped[date | None]
    moment: Mapped[datetime | None]
    clock: Mapped[time | None]
    lasting: Mapped[timedelta | None]
    code: Mapped[UUID | None] = mapped_column(Uuid)
    colour: Mapped[Colour | None]
    secret: Mapped[str | None]
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    parent_id: Mapped[int | None] = mapped_column(Integer, ForeignKey("kind.id"))


class Kinds(UnitOfWork):
    """Sync, on SQLite."""

    kinds: Repository[Kind]


class Plain(BaseModel):
    """All of it by the short way."""

    id: int
    text: str | None = Field(serialization_alias="theText")
    price: Decimal | None
    ratio: float | None
    yes: bool | None
    day: date | None
    moment: datetime | None
    clock: time | None
    lasting: timedelta | None
    code: UUID | None
    colour: Colour | None


class Made(Plain):
    """The same, made by Pydantic because of its last field."""

    @computed_field
    def sign(self) -> str:
        """Return something that nobody looks at."""
        return "x"


@pytest.fixture
def database(tmp_path: Any) -> Any:
    """Return a SQLite database with the table."""
    database = Database(f"sqlite:///{tmp_path}/kinds.db")
    database.create_all(Base.metadata)
    yield database
    database.close()


async def table(database: Any, schema: Any, *rows: Kind, **options: Any) -> list[list[str]]:
    """Return the lines of a CSV file of these rows, as Python's own reader sees them."""
    return [*csv.reader(io.StringIO((await sent(database, schema, *rows, **options)).decode(), newline=""))]


async def sent(database: Any, schema: Any, *rows: Kind, **options: Any) -> bytes:
    """Return the bytes of a CSV file of these rows."""
    with Kinds(database) as kinds:
        kinds.kinds.add_all(rows)
        kinds.commit()
    app, factory = FastAPI(), UnitFactory(Kinds, database)
    app.get("/")(lambda: stream_csv(factory, lambda kinds: kinds.kinds.into(schema), **options))
    response = await answer(app)
    assert response.status_code == 200
    return response.content


FULL = {
    "text": "a",
    "price": Decimal("-12.5"),
    "ratio": 1e22,
    "yes": True,
    "day": date(2026, 1, 2),
    "moment": datetime(2026, 1, 2, 3, 4, 5, 678),  # noqa: DTZ001 - as SQLite gives it
    "clock": time(3, 4),
    "lasting": timedelta(days=1, seconds=1),
    "code": UUID(int=1),
    "colour": Colour.RED,
}


@pytest.mark.parametrize("schema", [Plain, Made])
async def test_a_cell_is_what_json_has(database: Any, schema: Any) -> None:
    """ISO 8601, plain decimals, true and false; nothing for None; the same however the rows are made."""
    lines = await table(database, schema, Kind(id=1, **FULL), Kind(id=2), Kind(id=3, price=Decimal(0)), batch=1)

    assert lines[0][:11] == [
        *("id", "theText", "price", "ratio", "yes", "day", "moment", "clock", "lasting", "code", "colour")
    ]
    assert lines[1][:11] == [
        *("1", "a", "-12.50000000", "1e+22", "true", "2026-01-02", "2026-01-02T03:04:05.000678", "03:04:00"),
        *("P1DT1S", "00000000-0000-0000-0000-000000000001", "'=red"),
    ]
    assert lines[2][1:11] == [""] * 10
    assert lines[3][2] == "0.00000000"


async def test_a_decimal_by_another_name_has_no_exponent(database: Any) -> None:
    """Also where only Pydantic can make the row."""

    class Renamed(BaseModel):
        price: Decimal = Field(serialization_alias="thePrice")

        @computed_field
        def sign(self) -> str:
            """Return something that nobody looks at."""
            return "x"

    assert await sent(database, Renamed, Kind(id=1, price=Decimal(0))) == b"thePrice,sign\r\n0.00000000,x\r\n"


async def test_what_is_hidden_in_json_is_hidden(database: Any) -> None:
    """A serializer that is for JSON is for CSV, too."""

    class Masked(BaseModel):
        text: str

        @field_serializer("text", when_used="json")
        def mask(self, value: str) -> str:
            """Show how long it is."""
            return "*" * len(value)

    assert await sent(database, Masked, Kind(id=1, text="s3cr3t")) == b"text\r\n******\r\n"


def test_an_enumeration_of_several_values_is_refused() -> None:
    """Its members are lists in JSON."""
    pairs = Enum("pairs", {"A": (1, 2), "B": (3, 4)})
    with pytest.raises(DeclarationError, match="pair may hold more than a single value"):
        check_csv(create_model("WithPairs", pair=(pairs, ...)))


@pytest.mark.parametrize("schema", [Plain, Made])
async def test_batches_of_mixed_rows_are_the_same(database: Any, schema: Any) -> None:
    """Whatever stands together in a batch."""
    rows = [Kind(id=each, **(FULL if each % 2 else {})) for each in range(1, 8)]
    whole = await sent(database, schema, *rows, batch=100)

    assert await sent(database, schema, batch=1) == whole
    assert await sent(database, schema, batch=3) == whole
    assert whole.count(b"\r\n") == 8


@given(st.lists(st.one_of(st.none(), st.text(), st.sampled_from(FORMULA).flatmap(lambda c: st.text().map(c.__add__)))))
def test_no_cell_is_a_formula(values: list[str | None]) -> None:
    """Whatever text comes back from the file, a spreadsheet calculates nothing but a number of it."""
    for cell, value in zip(cells_of(values, decimal=False, escape=True), values, strict=True):
        if cell and cell.startswith(FORMULA):
            assert cell == value
            assert math.isfinite(float(cell) % 7) or math.isinf(float(cell))
            assert cell.isascii()
            assert set(cell) <= set("0123456789+-.eE")
        else:
            assert cell in {value, f"'{value}"}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_as_they_are_all_texts_come_back(values: list[str]) -> None:
    """Without the apostrophe, any text is read as it was written."""
    assert cells_of(values, decimal=False, escape=False) == values


@given(
    st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(lambda d: abs(d.adjusted()) < 50))
)
def test_a_decimal_has_no_exponent(values: list[Decimal]) -> None:
    """As it comes from the database, and as JSON has it; it is the same number."""
    plain = [*cells_of(values, decimal=True, escape=True)]

    assert plain == [*cells_of([str(each) for each in values], decimal=True, escape=True)]
    assert [Decimal(each) for each in plain] == values
    assert not any("E" in each for each in plain)


def test_a_column_of_many_kinds_is_looked_at_value_by_value() -> None:
    """What is infinite or no number is empty, as JSON has null; a formula is none among numbers either."""
    assert [*cells_of([math.inf, -math.inf, math.nan, 1.5, None], decimal=False, escape=True)] == [
        *(None, None, None, "1.5", None)
    ]
    assert [*cells_of(["=1+1", True, 1, "a"], decimal=False, escape=True)] == ["'=1+1", "true", 1, "a"]
    assert [*cells_of(["=1+1", True], decimal=False, escape=False)] == ["=1+1", "true"]


async def test_the_apostrophe_can_be_left_out(database: Any) -> None:
    """For those who read the file with a program."""
    lines = await table(database, Plain, Kind(id=1, text="=1+1"), escape_formulas=False)
    safe = await table(database, Plain)

    assert (lines[1][1], safe[1][1]) == ("=1+1", "'=1+1")


async def test_excel_is_told_the_encoding(database: Any) -> None:
    """By a mark at the beginning, if it is asked for."""
    bare = await sent(database, Plain, Kind(id=1, text="é"))

    assert await sent(database, Plain, bom=True) == b"\xef\xbb\xbf" + bare
    assert "é".encode() in bare


class Nested(BaseModel):
    """No single value."""

    id: int


class WithModel(BaseModel):
    """A related row."""

    parent: Nested


class WithList(BaseModel):
    """Several values."""

    id: list[int]


class WithMapping(BaseModel):
    """A mapping."""

    extra: dict[str, Any] | None


class WithAnything(BaseModel):
    """Whatever."""

    extra: Any


class WithUnion(BaseModel):
    """One or several values."""

    id: int | list[int]


class WithLiteral(BaseModel):
    """Single values of several kinds."""

    id: Literal[1, "a"] | None
    code: UUID | None
    colour: Colour | str


class WithSerializer(BaseModel):
    """A mapping that is shown as text."""

    extra: dict[str, Any] | None

    @field_serializer("extra")
    def as_text(self, value: Any) -> str:
        """Return a text."""
        return f"+{len(value or {})} things"


@pytest.mark.parametrize(
    ("schema", "field"),
    [(WithModel, "parent"), (WithList, "id"), (WithMapping, "extra"), (WithAnything, "extra"), (WithUnion, "id")],
)
def test_what_has_no_cell_is_refused(schema: Any, field: str) -> None:
    """At import, if it is checked there; the message names the field and what to do."""
    with pytest.raises(DeclarationError, match=f"{schema.__name__} cannot be written as CSV: {field} may hold"):
        check_csv(schema)


def test_a_model_without_fields_or_without_a_schema_is_refused() -> None:
    """There would be no columns, or nobody knows what is in them."""

    class Nothing(BaseModel):
        pass

    class Strange(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        thing: Database

    for schema in (Nothing, Strange):
        with pytest.raises(DeclarationError, match="cannot be written as CSV"):
            check_csv(schema)


async def test_what_has_a_cell_is_not(database: Any) -> None:
    """Single values of any kind, and what a serializer makes one of."""
    check_csv(WithLiteral)
    lines = await table(database, WithSerializer, Kind(id=1, extra={"a": 1}))

    assert lines == [["extra"], ["'+1 things"]]


async def test_only_what_the_model_shows_is_there(database: Any) -> None:
    """Excluded fields, extra ones and hidden values are not, as they are not in JSON."""

    class Careful(BaseModel):
        model_config = ConfigDict(extra="allow")
        id: int
        text: str = Field(exclude=True)
        secret: SecretStr

    content = await sent(database, Careful, Kind(id=1, text="hidden", secret="s3cr3t"))

    assert content == b"id,secret\r\n1,**********\r\n"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("books.csv", 'attachment; filename="books.csv"'),
        ("my books.csv", 'attachment; filename="my books.csv"'),
        ("Bücher €.csv", "attachment; filename=\"B_cher _.csv\"; filename*=UTF-8''B%C3%BCcher%20%E2%82%AC.csv"),
        ('a"b\\c/d.csv', 'attachment; filename="a_b_c_d.csv"'),
        ("a\r\nSet-Cookie: x=1", 'attachment; filename="a__Set-Cookie_ x=1"'),
        ("\ud800.csv", "attachment; filename=\"_.csv\"; filename*=UTF-8''%3F.csv"),
    ],
)
def test_a_file_has_a_name_for_all_browsers(name: str, told: str) -> None:
    """RFC 6266 and RFC 8187; nothing of it ends the header."""
    assert attachment(name) == told


@given(st.text())
def test_no_name_breaks_a_header(name: str) -> None:
    """Whatever the name, the header is one line of ASCII with one pair of quotation marks."""
    told = attachment(name)

    assert told.isascii()
    assert told.isprintable()
    assert told.count('"') == 2
