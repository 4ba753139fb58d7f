"""JSON of readers: the bytes of the response models, whatever the models and the rows are."""

from __future__ import annotations

import enum
import os
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

import pytest
from conftest import World
from deps.apps import answer, coloured
from fastapi import FastAPI, Response
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    WrapSerializer,
    computed_field,
    create_model,
    field_serializer,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticSerializationError
from repository.reader_models import Node
from repository.scenes import INSIDE, ON_SQLITE, OUTSIDE, recorded, scene
from sqlalchemy import JSON, ForeignKey, text
from sqlalchemy.orm import DeclarativeBase, Mapped, composite, mapped_column, relationship
from typing_extensions import TypeAliasType

from bookshop.models import Author, Book
from fastkit.deps import install, unit_of_work
from fastkit.errors import NotFoundError, RowMismatchError
from fastkit.pages import Page, PageQuery, WindowQuery
from fastkit.repository import _json
from fastkit.repository._json import JsonProjection, encoding_of
from fastkit.repository._plain import NotPlainError, fields_of
from fastkit.repository._projection import Projection
from fastkit.repository._selection import Selection
from fastkit.schemas import From, Schema

pytestmark = pytest.mark.anyio

EXAMPLES = int(os.environ.get("FASTKIT_EXAMPLES", "200"))


@pytest.fixture(params=["with msgspec", "without"])
def extra(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Encode with the extra `fast`, and as if it was not installed."""
    if request.param == "without":
        monkeypatch.setattr(_json, "msgspec", None)
    encoding_of.cache_clear()
    yield request.param != "without"
    encoding_of.cache_clear()


# -- any model, any value


class Base(DeclarativeBase):
    """The base of a table that is never made."""


class Wide(Base):
    """Columns for any value."""

    __tablename__ = "json_wide"

    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[str | None]
    b: Mapped[str | None]
    c: Mapped[str | None]
    d: Mapped[str | None]


class Shade(enum.Enum):
    """Values of two kinds."""

    LIGHT = "light"
    DARK = 2


class Rank(enum.IntEnum):
    """Numbers."""

    FIRST = 1


class Word(enum.StrEnum):
    """Texts."""

    YES = "yes"


class OtherUuid(uuid.UUID):
    """What asyncpg has for UUIDs."""


OFFSETS = (
    st.none() | st.just(UTC) | st.timezones() | st.timedeltas(-timedelta(hours=23), timedelta(hours=23)).map(timezone)
)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers() | st.integers(-(2**70), 2**70),
    str: st.text(),
    bool: st.booleans(),
    float: st.floats(),
    Decimal: st.decimals() | st.decimals(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=OFFSETS),
    date: st.dates(),
    time: st.times(timezones=OFFSETS),
    timedelta: st.timedeltas(),
    uuid.UUID: st.uuids() | st.uuids().map(lambda each: OtherUuid(int=each.int)),
    Shade: st.sampled_from(Shade),
    Rank: st.sampled_from(Rank),
    Word: st.sampled_from(Word),
    Literal["x", "y"]: st.sampled_from(["x", "y", "z"]),
    Any: st.none() | st.integers() | st.text() | st.lists(st.integers()),
    Annotated[int, Field(gt=3)]: st.integers(0, 9),
    list[int]: st.lists(st.integers()),
}
KINDS = st.sampled_from(list(VALUES))
ODD = st.none() | st.one_of(*VALUES.values()) | st.sampled_from(["1", "light", "1.5", "2020-01-01", b"bytes", 1.0, 0])


@st.composite
def cases(draw: Any) -> tuple[type[BaseModel], list[tuple[Any, ...]]]:
    """Return a response model, and rows that mostly are what it says."""
    kinds = {name: draw(KINDS) for name in draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))}
    fields: dict[str, Any] = {}
    for name, kind in kinds.items():
        optional, alias = draw(st.booleans()), draw(st.sampled_from([None, f"{name}Alias", 'odd " name', "ä"]))
        plain = kind | None if optional and kind is not Any else kind
        fields[name] = (plain, Field(serialization_alias=alias and f"{alias}{name}"))
    if draw(st.booleans()):
        fields["kind"] = (Annotated[str, From(None)], draw(st.sampled_from(["book", ""])))
    schema = create_model("Out", **fields)
    value = {
        name: VALUES[kind] | (ODD if draw(st.integers(0, 5)) == 0 else VALUES[kind]) for name, kind in kinds.items()
    }
    row = st.tuples(*(value[name] | (st.none() if draw(st.booleans()) else value[name]) for name in kinds))
    return schema, draw(st.lists(row, max_size=4))


def outcome(make: Any) -> Any:
    """Return what is made, or how that fails."""
    try:
        return make()
    except RowMismatchError as error:
        return str(error)
    except (PydanticSerializationError, UserWarning, ValueError, ArithmeticError) as error:
        return type(error)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_the_bytes_are_those_of_the_models(extra: bool, case: Any) -> None:
    """For every model and every row: as FastAPI makes them, or the same error."""
    schema, rows = case
    slow = Projection.of(Selection(Wide), schema)
    fast = JsonProjection.like(slow)
    session: Any = None

    def models() -> bytes:
        return TypeAdapter(list[schema]).dump_json(slow._made(session, rows), by_alias=True)

    assert outcome(lambda: fast._encoded(fast._made(session, rows))) == outcome(models)


class Renaming(BaseModel):
    """Names that differ in JSON, and a value that Pydantic converts."""

    a: int = Field(serialization_alias="odd \" ' name")
    b: str = Field(serialization_alias="ä")


@pytest.mark.parametrize("number", [1, "1"], ids=["as it is", "converted"])
def test_names_of_any_kind(extra: bool, number: Any) -> None:
    """Quotation marks too, which msgspec does not escape, and whoever makes the JSON."""
    fast = JsonProjection.like(Projection.of(Selection(Wide), Renaming))
    session: Any = None

    found = fast._made(session, [(number, "x")])
    assert isinstance(found[0], Renaming) is (number == "1")
    assert fast._encoded(found) == b"""[{"odd \\" ' name":1,"\xc3\xa4":"x"}]"""
    assert fast._encoded(found[0]) == b"""{"odd \\" ' name":1,"\xc3\xa4":"x"}"""


HALF_A_MINUTE = timezone(timedelta(hours=-3, seconds=-31))
WRITTEN_OTHERWISE = [
    *((Decimal, Decimal(text)) for text in ("NaN", "sNaN", "Infinity", "-Infinity", "1E+400", "-0")),
    *((datetime, datetime(2020, 1, 1, tzinfo=zone)) for zone in (HALF_A_MINUTE, UTC, None)),
    *((time, time(1, 2, tzinfo=zone)) for zone in (HALF_A_MINUTE, UTC, None)),
    *((float, value) for value in (1e16, 1e-7, float("nan"), float("inf"), -0.0)),
    *((timedelta, timedelta(days=days, microseconds=1)) for days in (0, -1, 400)),
    *((int, value) for value in (2**63, -(2**64), 10**30)),
    *((str, value) for value in ("\x00", "\u2028", "</script>", "\U0001f600", '"\\')),
    (uuid.UUID, OtherUuid(int=7)),
    (date, datetime(2020, 1, 1, tzinfo=UTC)),
    (Literal["x", "y"], "z"),
]


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize(("kind", "odd"), WRITTEN_OTHERWISE, ids=repr)
def test_what_encoders_write_otherwise(extra: bool, kind: Any, odd: Any, optional: bool) -> None:
    """Each of them alone, last among usual ones, and where a value may be missing."""
    schema = create_model("Out", a=(kind | None if optional else kind, ...))
    slow = Projection.of(Selection(Wide), schema)
    fast = JsonProjection.like(slow)
    usual = {Decimal: Decimal(1), datetime: datetime(2020, 1, 1, tzinfo=UTC), time: time(1), Literal["x", "y"]: "x"}
    session: Any = None
    for rows in ([(odd,)], [(usual.get(kind, odd),), *[(None,)] * optional, (odd,)]):
        models = outcome(
            lambda rows=rows: TypeAdapter(list[schema]).dump_json(slow._made(session, rows), by_alias=True)
        )
        assert outcome(lambda rows=rows: fast._encoded(fast._made(session, rows))) == models


@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_pages_and_single_rows_as_well(extra: bool, case: Any) -> None:
    """What is around the rows is the same, too."""
    schema, rows = case
    slow = Projection.of(Selection(Wide), schema)
    fast, session, query = JsonProjection.like(slow), Any, PageQuery()
    made = outcome(lambda: slow._made(session, rows))
    assume(isinstance(made, list))
    page = Page.of(made, query, lambda: 77)
    found = Page.of(fast._made(session, rows), query, lambda: 77)

    whole = TypeAdapter(Page[schema])
    assert outcome(lambda: fast._encoded(found)) == outcome(
        lambda: whole.dump_json(whole.validate_python(page), by_alias=True)
    )
    for raw, model in zip(found.items, made, strict=True):
        assert outcome(lambda raw=raw: fast._encoded(raw)) == outcome(
            lambda model=model: TypeAdapter(schema).dump_json(model, by_alias=True)
        )


# -- which way


class Range:
    """A value of two columns."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high


class Compound(Base):
    """A row with more than one value in a column, and one of more than one column."""

    __tablename__ = "json_compound"

    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    low: Mapped[int]
    high: Mapped[int]
    range: Mapped[Range] = composite("low", "high")


class Settings(Schema):
    """What is in the one column."""

    size: int = Field(alias="fontSize")


class RangeOut(Schema):
    """What is in the two."""

    low: int
    high: int


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [("data", Settings, "a model that is kept in one column"), ("range", RangeOut, "a composite of several columns")],
)
def test_what_is_no_single_column_is_left_to_pydantic(extra: bool, name: str, kind: Any, told: str) -> None:
    """A model that it makes of a document, and one that it makes of an object."""
    encoding = encoding_of(create_model("Out", __base__=Schema, **{name: (kind, ...)}), Compound)
    assert encoding.plan is None
    assert encoding.way == f"response models, because Out.{name} is {told}"


class Head(Base):
    """A row that one other row refers to, or none."""

    __tablename__ = "json_head"

    id: Mapped[int] = mapped_column(primary_key=True)
    tail: Mapped[Tail] = relationship(uselist=False)


class Tail(Base):
    """The one that refers to it."""

    __tablename__ = "json_tail"

    id: Mapped[int] = mapped_column(primary_key=True)
    head_id: Mapped[int] = mapped_column(ForeignKey("json_head.id"))


class TailOut(Schema):
    """The other row."""

    id: int


class HeadOut(Schema):
    """A row with another one, which may be missing although this does not say so."""

    tail: TailOut


class LooseHead(Schema):
    """The same, which says so."""

    tail: TailOut | None


class Up(Schema):
    """A row of a tree, whose last level has no parent although this wants one."""

    id: int
    parent: Annotated[Up, From("parent", depth=1)]


@pytest.mark.parametrize(("schema", "model", "name"), [(HeadOut, Head, "tail"), (Up, Node, "parent")])
def test_what_may_be_missing_and_must_not_is_left_to_pydantic(extra: bool, schema: Any, model: Any, name: str) -> None:
    """It tells of the row; JSON would show a null."""
    encoding = encoding_of(schema, model)
    assert encoding.way == f"response models, because {schema.__name__}.{name} may be missing"
    assert encoding.plan is None
    assert encoding_of(LooseHead, Head).plan is not None


class Loud(Schema):
    """Looked at again wherever it is used, as FastAPI does before it answers."""

    model_config = ConfigDict(revalidate_instances="always")

    title: Annotated[str, AfterValidator(lambda title: f"{title}!")]


@ON_SQLITE
async def test_models_are_looked_at_again_before_they_are_written(stocked: World, extra: bool) -> None:
    """As by a stock route, whatever is returned."""
    async with stocked.serving() as shop:
        reader = shop.books.order_by(Book.id).into(Loud)
        for kind, verb, arguments in (
            (Loud, "get_one", (1,)),
            (list[Loud], "all", ()),
            (Page[Loud], "page", (PageQuery(),)),
        ):
            adapter: Any = TypeAdapter(kind)
            found = await getattr(reader, verb)(*arguments)
            expected = adapter.dump_json(adapter.validate_python(found), by_alias=True)
            assert await getattr(reader.json(), verb)(*arguments) == expected
            assert b'"Emma!!' in expected


class Nested(Schema):
    """A leaf."""

    name: str


class Plain(Schema):
    """What only names fields."""

    model_config = ConfigDict(alias_generator=to_camel)

    id: int
    title: str
    price: Decimal
    author: Nested
    kind: Literal["book"] = "book"
    written_by: Annotated[str, From("author.name")]


class Shelf(Schema):
    """Lists, too."""

    name: str
    books: list[Plain]
    titles: Annotated[list[str], From("books.title")]


class Validated(BaseModel):
    """Has a validator."""

    title: str

    @field_validator("title")
    @classmethod
    def shout(cls, title: str) -> str:
        """Shout."""
        return title.upper()


class WholeValidated(BaseModel):
    """Has one for the whole."""

    title: str

    @model_validator(mode="after")
    def look(self) -> WholeValidated:
        """Look."""
        return self


class Computed(BaseModel):
    """Has what no row gives."""

    title: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def length(self) -> int:
        """Return how long it is."""
        return len(self.title)


class Serialized(BaseModel):
    """Is written in its own way."""

    title: str

    @field_serializer("title")
    def shout(self, title: str) -> str:
        """Shout."""
        return title.upper()


class Constrained(BaseModel):
    """Has a bound."""

    title: str = Field(max_length=3)


class Hidden(BaseModel):
    """Keeps something back."""

    id: int
    title: str = Field(exclude=True)


class Stripped(BaseModel):
    """Is configured to change texts."""

    model_config = ConfigDict(str_strip_whitespace=True)

    title: str


class WithInit(BaseModel):
    """Does more when it is made."""

    title: str

    def model_post_init(self, context: Any, /) -> None:
        """Do it."""


class Bounded(BaseModel):
    """Has a bound."""

    name: str = Field(min_length=1)


class Inside(BaseModel):
    """Has such a one in it."""

    author: Bounded


class Numbers(BaseModel):
    """Has a float."""

    price: float


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (Plain, "structs of msgspec"),
        (Numbers, "dictionaries after .* writes float in another way"),
        (Validated, "because Validated.title is of a type with many shapes"),
        (WholeValidated, "because WholeValidated has a validator"),
        (Computed, "because Computed has computed fields"),
        (Serialized, "because Serialized.title has serialization"),
        (Constrained, "because Constrained.title has max_length"),
        (Hidden, "because Hidden.title has serialization_exclude"),
        (Stripped, "because the configuration of Stripped has str_strip_whitespace"),
        (WithInit, "because WithInit has post_init"),
        (Inside, "because Bounded.name has min_length"),
    ],
)
@ON_SQLITE
async def test_explain_tells_the_way(world: World, schema: type[BaseModel], told: str) -> None:
    """What is encoded, and why it takes the slow way if it does."""
    async with world.serving() as shop:
        explained = shop.books.into(schema).explain()

    last = explained.splitlines()[-1]
    assert last.startswith("JSON is made of ")
    assert re.search(told, last), last


@ON_SQLITE
async def test_without_the_extra_explain_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing needs the extra."""
    monkeypatch.setattr(_json, "msgspec", None)
    encoding_of.cache_clear()
    async with world.serving() as shop:
        assert "dictionaries after a look" in shop.books.into(Plain).explain()
    encoding_of.cache_clear()


# -- from a database

QUERY = PageQuery(page=1, size=1)
VERBS: dict[str, Any] = {
    "get": lambda reader: reader.get(1),
    "get_one": lambda reader: reader.get_one(2),
    "one": lambda reader: reader.one(Book.id == 1),
    "first": lambda reader: reader.first(),
    "all": lambda reader: reader.all(),
    "all, none": lambda reader: reader.all(Book.id > 9),
    "page": lambda reader: reader.page(QUERY, Book.stock > 0),
    "page, beyond": lambda reader: reader.page(PageQuery(page=3)),
    "slice": lambda reader: reader.slice(QUERY),
    "window": lambda reader: reader.order_by(Book.title).window(WindowQuery(size=1)),
    "ordered": lambda reader: reader.order_by(Book.title.desc()).all(),
}


class Encoded:
    """A reader of JSON that can be put in another order."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.reader.json(), verb)

    def order_by(self, *keys: Any) -> Encoded:
        """Return it in another order."""
        return Encoded(self.reader.order_by(*keys))


def dumped(found: Any) -> bytes:
    """Return the JSON that FastAPI makes."""
    kind = list[Plain] if isinstance(found, list) else type(found)[Plain] if not isinstance(found, Plain) else Plain
    adapter = TypeAdapter[Any](kind)
    return adapter.dump_json(adapter.validate_python(found), by_alias=True)


@pytest.mark.parametrize(("extra", "place"), [("with msgspec", OUTSIDE), ("without", INSIDE)], indirect=["extra"])
@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_gives_the_bytes_of_its_models(
    stocked: World, extra: bool, verb: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a block and outside, and no model is made."""
    async with scene(stocked, place) as at:
        reader = at.shop.books.into(Plain)
        expected = dumped(await VERBS[verb](reader))
        monkeypatch.setattr(Projection, "_made", None)

        assert await VERBS[verb](Encoded(reader)) == expected
        assert at.settled


async def test_related_rows_as_well(stocked: World, extra: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list in each row, of models and of values, by one statement each."""
    async with stocked.serving() as shop:
        expected = TypeAdapter(list[Shelf]).dump_json(await shop.authors.into(Shelf).all(), by_alias=True)
        monkeypatch.setattr(Projection, "_made", None)
        with recorded(stocked) as sent:
            found = await shop.authors.into(Shelf).json().all()

    assert found == expected
    assert b'"writtenBy":"Jane Austen"' in found
    assert len(sent) == 3


async def test_a_stream_is_lines(stocked: World, extra: bool) -> None:
    """A line for each row, a batch at a time."""
    async with stocked.serving() as shop:
        models = [dumped(each) for each in await shop.books.order_by(Book.id).into(Plain).all()]
        stream = shop.books.order_by(Book.id).into(Plain).json().stream(batch=1)
        parts = [each async for each in stream] if stocked.driver.is_async else list(stream)
        empty = shop.books.into(Plain).json().stream(Book.id > 9)
        nothing = [each async for each in empty] if stocked.driver.is_async else list(empty)

    assert b"".join(parts) == b"".join(each + b"\n" for each in models)
    assert len(parts) == 2
    assert nothing == []


@pytest.mark.parametrize("verb", ["get", "first"])
async def test_nothing_is_none(stocked: World, verb: str) -> None:
    """As with models."""
    async with stocked.serving() as shop:
        json = shop.books.into(Plain).json()
        assert await (json.get(9) if verb == "get" else json.first(Book.id > 9)) is None
        with pytest.raises(NotFoundError):
            await json.get_one(9)


class Texts(Schema):
    """What SQLite may store in a column of numbers."""

    id: int
    year: int


@ON_SQLITE
async def test_rows_that_are_not_as_declared_are_left_to_the_model(stocked: World, extra: bool) -> None:
    """Pydantic converts what it can, and refuses the rest, as it does without JSON."""
    async with stocked.shop() as shop:
        await shop.session.execute(text("UPDATE book SET year = '1815.0' WHERE id = 1"))
        await shop.session.execute(text("UPDATE book SET year = 'x' WHERE id = 2"))
        await shop.commit()
    async with stocked.serving() as shop:
        json = shop.books.into(Texts).json()

        assert await json.get(1) == b'{"id":1,"year":1815}'
        with pytest.raises(RowMismatchError, match="year"):
            await json.all()


class Loose(BaseModel):
    """What the nullable columns of a join may be."""

    title: str
    author: Nested | None
    name: Annotated[str | None, From("author.name")]


class Missing(BaseModel):
    """What may be missing as a whole."""

    title: str
    author: Nested | None


class MissingFirst(BaseModel):
    """The same in another order."""

    author: Nested | None
    title: str


class Shelved(Schema):
    """Numbers in a list."""

    name: str
    books: list[Numbers]


class Strict(BaseModel):
    """The same for people who know better."""

    title: str
    author: Nested


@ON_SQLITE
async def test_a_row_whose_relation_is_missing(stocked: World, extra: bool) -> None:
    """It is null where the model allows that, and an error where it does not, as with models."""
    async with stocked.shop() as shop:
        await shop.session.execute(text("PRAGMA defer_foreign_keys = ON"))
        await shop.session.execute(text("UPDATE book SET author_id = 7 WHERE id = 1"))
        reader = shop.books.into(Loose)

        assert await reader.json().get(1) == b'{"title":"Emma","author":null,"name":null}'
        for each in (shop.books.into(Strict), shop.books.into(Strict).json()):
            with pytest.raises(RowMismatchError, match="author"):
                await each.get(1)
        await shop.rollback()


@pytest.mark.parametrize(
    ("rows", "fits"),
    [
        ([("Emma", 1, "Jane")], True),
        ([("Emma", 1, "Jane"), ("Emma", None, None)], True),
        ([("Emma", 1, None)], False),
        ([("Emma", None, None), ("Emma", 1, None)], False),
        ([(None, 1, "Jane")], False),
        ([("Emma", 1, 1)], False),
    ],
)
def test_a_value_is_missing_only_with_its_row(extra: bool, rows: list[Any], fits: bool) -> None:
    """A NULL in a row that is there is an error that Pydantic tells, whatever other rows are missing."""
    slow = Projection.of(Selection(Book), Missing)
    fast = JsonProjection.like(slow)
    session: Any = None

    found = outcome(lambda: fast._encoded(fast._made(session, rows)))
    assert isinstance(found, bytes) is fits
    assert found == outcome(lambda: TypeAdapter(list[Missing]).dump_json(slow._made(session, rows), by_alias=True))


def test_a_value_behind_a_missing_row_is_not_missing_with_it(extra: bool) -> None:
    """It is one of the row around it."""
    slow = Projection.of(Selection(Book), MissingFirst)
    fast = JsonProjection.like(slow)
    session: Any = None

    assert fast._encoded(fast._made(session, [(None, None, "Emma")])) == b'[{"author":null,"title":"Emma"}]'
    with pytest.raises(RowMismatchError, match="title"):
        fast._made(session, [(None, None, None)])


def test_numbers_of_related_rows_are_written_as_others() -> None:
    """Whatever stands in the row itself."""
    assert "msgspec writes float in another way" in encoding_of(Shelved, Author).way


# -- what only looks plain


class AuthorCard(BaseModel):
    """A model that others write in their own way."""

    id: int
    name: str


Masked = TypeAliasType("Masked", str)
Card = Annotated[AuthorCard, PlainSerializer(lambda card: card.name)]


class Replaced(BaseModel):
    """Shows of a model less than it has."""

    author: Card


class ReplacedOrNone(BaseModel):
    """The same where it may be missing."""

    author: Card | None


class Wrapped(BaseModel):
    """Shows more."""

    author: Annotated[AuthorCard, WrapSerializer(lambda card, write: {**write(card), "more": 1})]


class ByMethod(BaseModel):
    """The same by a method."""

    author: AuthorCard

    @field_serializer("author")
    def shorten(self, author: AuthorCard) -> str:
        """Show the name alone."""
        return author.name


class Twice(BaseModel):
    """One type, written in two ways."""

    title: Masked
    shout: Annotated[Masked, PlainSerializer(str.upper), From("title")]
    author: AuthorCard
    short: Annotated[AuthorCard, PlainSerializer(lambda card: card.name), From("author")]


class Doubled(BaseModel):
    """Types that are optional twice."""

    stock: Annotated[int | None, "doc"] | None
    year: Annotated[int | None, "doc"] = None


class Constants(BaseModel):
    """What no row gives, and is of another type than it says."""

    id: int
    one: Annotated[float, From(None)] = 1
    two: Annotated[float | None, From(None)] = 2
    three: Annotated[int, From(None)] = True


class Own(enum.Enum):
    """Shows another value than it has."""

    A = ("en", "English")

    @property
    def value(self) -> str:
        """Return the first."""
        return self._value_[0]


class Mixed(str, enum.Enum):  # noqa: UP042 - a StrEnum refuses it
    """Is a text, and names a number."""

    A = ("en", 1)

    def __new__(cls, text: str, number: int) -> Self:
        """Make it."""
        made = str.__new__(cls, text)
        made._value_ = number  # type: ignore[assignment]
        return made


class Meta(enum.EnumMeta):
    """A metaclass of its own."""


class WithMeta(str, enum.Enum, metaclass=Meta):  # noqa: UP042 - same
    """Has it."""

    A = "en"


class Kinds(BaseModel):
    """Constants of these."""

    id: int
    own: Annotated[Own, From(None)] = Own.A


class Listed(BaseModel):
    """A list that may be missing, of what may not."""

    name: str
    cards: Annotated[list[AuthorCard] | None, From("books.author")]


@ON_SQLITE
@pytest.mark.parametrize(
    "schema",
    [Replaced, ReplacedOrNone, Wrapped, ByMethod, Twice, Doubled, Constants, Kinds],
    ids=lambda schema: schema.__name__,
)
async def test_what_is_written_in_its_own_way_is_so_in_json(stocked: World, extra: bool, schema: type[Any]) -> None:
    """Serializers where a model is used, references to types, defaults of another type."""
    async with stocked.serving() as shop:
        models = await shop.books.into(schema).all()
        expected = TypeAdapter(list[schema]).dump_json(models, by_alias=True)  # type: ignore[valid-type]

        assert await shop.books.into(schema).json().all() == expected
        assert "JSON is made of" in shop.books.into(schema).explain()


class Renamed(enum.Enum):
    """Shows a text of its own for the one that it has."""

    A = "a"

    @property
    def value(self) -> str:
        """Return the other one."""
        return "b"


@pytest.mark.parametrize("kind", [Own, Mixed, WithMeta, Renamed])
def test_odd_enumerations_are_left_to_pydantic(kind: Any) -> None:
    """Encoders do not agree on their values."""
    with pytest.raises(NotPlainError, match="an enumeration"):
        fields_of(create_model("WithKind", a=(kind, ...)))


@pytest.mark.parametrize("choice", [Literal[Renamed.A], Literal["a", Shade.DARK], Literal[b"a"]])
def test_choices_that_are_no_texts_or_numbers_are_left_to_pydantic(choice: Any) -> None:
    """Among them may be odd enumerations."""
    with pytest.raises(NotPlainError, match=r"many shapes \(literal\)"):
        fields_of(create_model("WithChoice", a=(choice, ...)))


Shout = PlainSerializer(lambda value: f"{value}!")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (Annotated[str | None, Shout], "serialization"),
        (Annotated[list[str], Shout], "serialization"),
        (Annotated[Literal["x"], Shout], "serialization"),
        (Annotated[Shade, Shout], "serialization"),
        (Annotated[list[str], Field(max_length=3)], "max_length"),
        (list[Annotated[str, Shout]], "serialization"),
        (Annotated[str, Field(default_factory=str)], "default_factory"),
        (Annotated[str, Field(default="", validate_default=True)], "validate_default"),
        (Annotated[str, Field(exclude_if=lambda value: not value)], "serialization_exclude_if"),
    ],
)
def test_what_says_more_than_a_type_is_left_to_pydantic(kind: Any, told: str) -> None:
    """Wherever it is said: of what may be missing, of a list, of what is in it, of a choice, of the field."""
    with pytest.raises(NotPlainError, match=rf"^Out\.a has .*{told}"):
        fields_of(create_model("Out", a=kind))


class WithOwnInit(BaseModel):
    """Changes what it is given."""

    a: str

    def __init__(self, **values: Any) -> None:
        super().__init__(**{name: f"{value}!" for name, value in values.items()})


class WithNew(BaseModel):
    """Does something when it is made."""

    a: str

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Do it."""
        return super().__new__(cls)


class WithExtras(BaseModel):
    """Takes what it does not name."""

    model_config = ConfigDict(extra="allow")

    __pydantic_extra__: dict[str, int]
    a: str


class OneNameTwice(BaseModel):
    """Shows the last of two."""

    a: str = Field(serialization_alias="x")
    b: str = Field(serialization_alias="x")


@pytest.mark.parametrize("schema", [WithOwnInit, WithNew, WithExtras, OneNameTwice])
def test_whole_models_that_do_more_are_left_to_pydantic(schema: Any) -> None:
    """Their JSON is not that of their fields."""
    with pytest.raises(NotPlainError, match=f"^{schema.__name__} has"):
        fields_of(schema)


@ON_SQLITE
async def test_a_list_that_may_be_missing_holds_nothing_that_is_missing(stocked: World, extra: bool) -> None:
    """What may be None is the list, not what is in it."""
    async with stocked.shop() as shop:
        await shop.session.execute(text("PRAGMA defer_foreign_keys = ON"))
        await shop.session.execute(text("DELETE FROM author"))
        await shop.session.execute(text("INSERT INTO author (id, name) VALUES (1, 'Jane'), (2, 'Jo')"))
        reader = shop.authors.into(Listed)

        assert await reader.json().all() == TypeAdapter(list[Listed]).dump_json(await reader.all())
        await shop.rollback()


@ON_SQLITE
async def test_half_of_a_character_is_the_same_error(stocked: World, extra: bool) -> None:
    """JSON cannot have it, whoever writes it."""
    slow = Projection.of(Selection(Wide), create_model("Half", a=(str, ...)))
    fast = JsonProjection.like(slow)
    session: Any = None

    with pytest.raises(PydanticSerializationError):
        fast._encoded(fast._made(session, [("\ud800",)]))


class Costly(BaseModel):
    """Numbers that are of another type in the database."""

    name: str
    years: Annotated[list[Decimal], From("books.year")]
    titles: Annotated[list[str], From("books.title")]


@ON_SQLITE
async def test_nothing_is_read_twice(stocked: World, extra: bool) -> None:
    """What was read before it turned out not to be as declared is read no second time."""
    async with stocked.serving() as shop:
        models = await shop.authors.into(Costly).all()
        with recorded(stocked) as sent:
            found = await shop.authors.into(Costly).json().all()

    assert len(sent) == 3
    assert found == TypeAdapter(list[Costly]).dump_json(models)


# -- over HTTP


async def test_a_route_answers_the_same(stocked: World, extra: bool) -> None:
    """Status, headers and body of a route that returns the bytes are those of one that returns the page."""
    app = FastAPI()
    install(app, {stocked.unit: stocked.naked})
    served = unit_of_work(stocked.unit)

    async def models(shop: Any = served) -> Any:
        return await shop.books.into(Plain).page(PageQuery())

    async def encoded(shop: Any = served) -> Any:
        content = await shop.books.into(Plain).json().page(PageQuery())
        return Response(content, media_type="application/json")

    app.get("/models", response_model=Page[Plain])(coloured(stocked, models))
    app.get("/json", response_model=Page[Plain])(coloured(stocked, encoded))
    slow, fast = await answer(app, "/models"), await answer(app, "/json")

    assert (slow.status_code, slow.headers, slow.content) == (fast.status_code, fast.headers, fast.content)
    assert fast.json()["items"][0]["writtenBy"] == "Jane Austen"
