"""Partial models: what was not sent is absent, and reading it fails instead of lying."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    computed_field,
    field_serializer,
    field_validator,
    model_validator,
)

from fastkit.errors import DeclarationError
from fastkit.schemas import ReadOnly, Schema, partial

T = TypeVar("T")


class AuthorIn(BaseModel):
    """A plain model."""

    name: str = Field(min_length=1, description="Name.", examples=["Ovid"])
    born: int | None = None


class BookIn(Schema):
    """One of everything that a model may say."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    id: ReadOnly[int] = 0
    title: str = Field(min_length=2, max_length=20, description="Title.", examples=["Emma"], alias="Title")
    stock: Annotated[int, Field(ge=0)] = 3
    tags: list[str] = Field(default_factory=list)
    price: Decimal | None = None
    author: AuthorIn | None = None
    _seen: int = 7

    @field_validator("title")
    @classmethod
    def no_shouting(cls, title: str) -> str:
        """Refuse shouting."""
        if title.isupper():
            raise ValueError("do not shout")
        return title

    @field_serializer("price", when_used="json")
    def plain(self, price: Decimal | None) -> str:
        """Write a price."""
        return f"{price} EUR"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        """Return both."""
        return f"{self.title} ({self.stock})"

    @model_validator(mode="after")
    def many_have_a_price(self) -> BookIn:
        """Refuse many for nothing."""
        if self.stock > 100 and self.price is None:
            raise ValueError("many need a price")
        return self


class BookPatch(BookIn, partial=True):
    """Changes of a book."""


class LongerPatch(BookPatch):
    """A subclass with a field that has to be sent, and one that has to be again."""

    reason: str
    stock: int


class Envelope(Schema, Generic[T]):
    """A generic model."""

    item: T
    note: str = "none"


class EnvelopePatch(Envelope[T], Generic[T], partial=True):
    """Changes of one."""


class Node(Schema):
    """A model of itself."""

    name: str
    inside: list[Node] = Field(default_factory=list)


class NodePatch(Node, partial=True):
    """Changes of one."""


class Early(Schema):
    """Names what comes later."""

    later: Later
    number: int = 1


class EarlyPatch(Early, partial=True):
    """Changes of one, before its type is known."""


class Holder(Schema):
    """Uses it before its type is known."""

    patch: EarlyPatch


class Later(Schema):
    """Comes later."""

    number: int


AuthorPatch = partial(AuthorIn)


def test_what_was_not_sent_is_absent() -> None:
    """Defaults do not stand in for it, nor does null, in values, dumps and JSON."""
    patch = BookPatch.model_validate({"Title": "Emma"})

    assert patch.model_fields_set == {"title"}
    assert patch.model_dump() == {"title": "Emma"}
    assert patch.model_dump_json(by_alias=True) == '{"Title":"Emma"}'
    assert repr(patch) == "BookPatch(title='Emma')"
    assert dict(patch) == {"title": "Emma"}


@pytest.mark.parametrize("name", ["stock", "price", "tags", "author"])
def test_reading_what_was_not_sent_raises(name: str) -> None:
    """The type of the field does not lie: the error says what to use instead."""
    patch = BookPatch.model_validate({"Title": "Emma"})

    with pytest.raises(AttributeError, match=rf"BookPatch\.{name} was not sent.*apply\(\).*model_fields_set"):
        getattr(patch, name)
    assert not hasattr(patch, name)


def test_a_name_that_never_was_is_none() -> None:
    """It is told as Python tells it, and private attributes are there."""
    patch = BookPatch.model_validate({})

    with pytest.raises(AttributeError, match="'BookPatch' object has no attribute 'titel'"):
        patch.titel  # type: ignore[attr-defined]  # noqa: B018
    assert patch._seen == 7


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        ({"Title": None}, "Title"),
        ({"stock": None}, "stock"),
        ({"stock": -1}, "stock"),
        ({"Title": "E"}, "Title"),
        ({"Title": "EMMA"}, "Title"),
        ({"author": {"born": 1}}, "author"),
        ({"id": 3}, "id"),
        ({"other": 3}, "other"),
        ({"title": "Emma"}, "title"),
    ],
)
def test_what_is_sent_is_validated(payload: dict[str, Any], place: str) -> None:
    """Constraints, validators, aliases and the configuration hold; null is no value of a field that cannot be null."""
    with pytest.raises(ValidationError) as caught:
        BookPatch.model_validate(payload)

    assert caught.value.errors()[0]["loc"][0] == place


def test_null_is_a_value_where_it_may_be() -> None:
    """Null and absent are two things."""
    assert BookPatch.model_validate({"price": None}).model_dump() == {"price": None}
    assert BookPatch.model_validate_json('{"price": null}').model_fields_set == {"price"}


def test_a_serializer_is_kept() -> None:
    """It writes what was sent."""
    assert BookPatch.model_validate({"price": "3.50"}).model_dump_json() == '{"price":"3.50 EUR"}'


def test_a_read_only_field_is_no_part_of_a_patch() -> None:
    """It is neither accepted nor shown, and reading it says why."""
    assert "id" not in BookPatch.model_fields
    with pytest.raises(AttributeError, match="read-only"):
        BookPatch.model_validate({}).id  # noqa: B018


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_json_schema_requires_nothing(mode: Any) -> None:
    """It has the name of the class, what fields say of themselves, no default, and nothing that is not sent."""
    schema = BookPatch.model_json_schema(mode=mode)

    assert schema["title"] == "BookPatch"
    assert schema["description"] == "Changes of a book."
    assert "required" not in schema
    assert schema["properties"].keys() == {"Title", "stock", "tags", "price", "author"}
    assert "default" not in json.dumps(schema["properties"])
    assert schema["properties"]["Title"] == {
        "title": "Title",
        "type": "string",
        "minLength": 2,
        "maxLength": 20,
        "description": "Title.",
        "examples": ["Emma"],
    }


def test_equality_copies_and_pickles() -> None:
    """Two patches are equal if the same was sent; copies lack what the original lacks."""
    patch = BookPatch.model_validate({"Title": "Emma", "author": {"name": "Jane"}})

    for other in (
        BookPatch.model_validate({"Title": "Emma", "author": {"name": "Jane"}}),
        patch.model_copy(),
        copy.deepcopy(patch),
        pickle.loads(pickle.dumps(patch)),
        BookPatch.model_validate(patch),
        BookPatch.model_validate(patch.model_dump(by_alias=True)),
    ):
        assert other == patch
        assert other.model_dump() == patch.model_dump()
        assert not hasattr(other, "stock")
    assert patch != BookPatch.model_validate({"Title": "Emma", "author": {"name": "Jane"}, "stock": 3})


def test_copies_with_changes_and_unchecked_objects() -> None:
    """`model_copy(update=)` and `model_construct()` have what they were given, and no defaults."""
    patch = BookPatch.model_validate({"Title": "Emma"}).model_copy(update={"stock": 1})

    assert patch.model_dump() == {"title": "Emma", "stock": 1}
    assert BookPatch.model_construct(stock=1).model_dump() == {"stock": 1}


def test_assignment() -> None:
    """What is assigned is there from then on; with `validate_assignment` as well."""

    class Checked(BookIn, partial=True, validate_assignment=True):
        pass

    for model in (BookPatch, Checked):
        patch = model.model_validate({"Title": "Emma"})
        patch.stock = 1
        assert patch.model_dump() == {"title": "Emma", "stock": 1}
        assert patch.model_fields_set == {"title", "stock"}
    with pytest.raises(ValidationError):
        patch.stock = -1


def test_a_rule_about_absent_fields_waits() -> None:
    """A validator of the whole holds for what was sent, and never fails for what was not."""
    assert BookPatch.model_validate({"stock": 101}).model_dump() == {"stock": 101}
    assert BookPatch.model_validate({"price": None}).model_dump() == {"price": None}
    with pytest.raises(ValidationError, match="many need a price"):
        BookPatch.model_validate({"stock": 101, "price": None})


def test_every_kind_of_validator_waits() -> None:
    """Whichever way they look at another field: through the object, or through `info.data`."""
    seen: list[str] = []

    class Pair(Schema):
        low: int = 1
        high: int = 2

        @field_validator("high")
        @classmethod
        def ordered(cls, high: int, info: ValidationInfo) -> int:
            seen.append(f"field {info.field_name}")
            if high < info.data["low"]:
                raise ValueError("high is below low")
            return high

        @model_validator(mode="wrap")
        @classmethod
        def wrapped(cls, data: Any, handler: Any, info: ValidationInfo) -> Any:
            made = handler(data)
            seen.append("wrap")
            assert made.high >= made.low
            return made

        def model_post_init(self, context: Any, /) -> None:
            seen.append(f"init {self.high}")

    class PairPatch(Pair, partial=True):
        pass

    assert PairPatch.model_validate({"high": 0}).model_dump() == {"high": 0}
    assert PairPatch.model_validate({"low": 5}).model_dump() == {"low": 5}
    assert seen == ["field high", "init 0", "wrap", "field high", "init 0", "wrap"]
    with pytest.raises(ValidationError, match="high is below low"):
        PairPatch.model_validate({"high": 0, "low": 1})
    assert Pair(low=1, high=2).high == 2


def test_an_error_of_a_validator_is_its_own() -> None:
    """An AttributeError that has nothing to do with absent fields is not swallowed."""

    class Broken(Schema):
        title: str = ""

        @model_validator(mode="after")
        def broken(self) -> Broken:
            raise AttributeError("a bug")

    class BrokenPatch(Broken, partial=True):
        pass

    with pytest.raises(AttributeError, match="a bug"):
        BrokenPatch.model_validate({})


def test_subclasses() -> None:
    """What was optional stays so; a new or repeated field is as its annotation says, until it is made partial too."""

    class Again(LongerPatch, partial=True):
        pass

    with pytest.raises(ValidationError) as caught:
        LongerPatch.model_validate({})
    assert [each["loc"] for each in caught.value.errors()] == [("stock",), ("reason",)]
    assert LongerPatch.model_validate({"reason": "new", "stock": 1}).model_dump() == {"stock": 1, "reason": "new"}
    assert LongerPatch.model_json_schema()["required"] == ["stock", "reason"]
    assert Again.model_validate({}).model_dump() == {}
    assert BookIn.model_validate({"Title": "Emma"}).stock == 3


def test_generic_models() -> None:
    """A parametrised partial model is partial, and so is the partial model of a parametrised one."""
    for model in (EnvelopePatch[int], partial(Envelope[int])):
        assert model.model_validate({"item": "3"}).model_dump() == {"item": 3}
        assert model.model_validate({}).model_dump() == {}
        with pytest.raises(ValidationError):
            model.model_validate({"item": "three"})


def test_models_of_themselves_and_forward_references() -> None:
    """What is nested is a whole one, and names may be resolved later."""
    assert NodePatch.model_validate({"inside": [{"name": "x"}]}).model_dump() == {
        "inside": [{"name": "x", "inside": []}]
    }
    with pytest.raises(ValidationError):
        NodePatch.model_validate({"inside": [{}]})
    assert EarlyPatch.model_validate({}).model_dump() == {}
    assert Holder.model_validate({"patch": {"later": {"number": 2}}}).model_dump() == {
        "patch": {"later": {"number": 2}}
    }


def test_building_again_changes_nothing() -> None:
    """`model_rebuild(force=True)` gives the same model."""

    class Rebuilt(BookIn, partial=True):
        pass

    class Numbered(Schema):
        id: ReadOnly[int]

        @field_validator("id")
        @classmethod
        def positive(cls, number: int) -> int:
            return abs(number)

    class NumberedPatch(Numbered, partial=True):
        pass

    Rebuilt.model_rebuild(force=True)
    NumberedPatch.model_rebuild(force=True)  # a validator names what is not there

    assert Rebuilt.model_validate({"Title": "Emma"}).model_dump() == {"title": "Emma"}
    assert "id" not in Rebuilt.model_fields
    assert NumberedPatch.model_validate({"id": 1}).model_dump() == {}


def test_nested_in_other_models() -> None:
    """In a list, a union and a union by a discriminator, it is validated and written as by itself."""

    class Kind(Schema):
        kind: Literal["kind"]
        title: str = Field("", alias="Title")

    class KindPatch(Kind, partial=True):
        pass

    class Other(BaseModel):
        kind: Literal["other"]

    class Outer(BaseModel):
        many: list[KindPatch]
        any: Other | KindPatch | int
        told: Annotated[KindPatch | Other, Field(discriminator="kind")]

    found = {"many": [{"Title": "a"}, {}], "any": {"Title": "b"}, "told": {"kind": "kind"}}

    assert Outer.model_validate(found).model_dump(by_alias=True) == found
    assert json.loads(Outer.model_validate(found).model_dump_json(by_alias=True)) == found


def test_any_model() -> None:
    """`partial()` takes any Pydantic model, gives a class of a name, the same each time, and its objects travel."""
    patch = AuthorPatch.model_validate({"born": None})

    assert AuthorPatch.__name__ == "AuthorInPatch"
    assert AuthorPatch is partial(AuthorIn)
    assert issubclass(AuthorPatch, AuthorIn)
    assert partial(AuthorIn, name="Changes").model_json_schema()["title"] == "Changes"
    assert pickle.loads(pickle.dumps(patch)) == patch == copy.deepcopy(patch) == copy.copy(patch)
    assert patch.model_dump() == {"born": None}
    assert not hasattr(patch, "name")
    assert AuthorPatch.model_json_schema()["description"] == "A plain model."
    assert AuthorIn.model_fields["born"].default is None


def test_defaults_that_are_validated() -> None:
    """Nothing stands for what was not sent, so there is nothing to validate."""

    class Checked(Schema, validate_default=True):
        low: int = 1
        high: int = Field(default_factory=lambda data: data["low"])

    assert partial(Checked).model_validate({"low": 2}).model_dump() == {"low": 2}


def test_what_is_allowed_besides() -> None:
    """With `extra="allow"` other values are kept, and stand for no field."""

    class Open(Schema, extra="allow", partial=True):
        title: str

    patch = Open.model_validate({"other": 1})

    assert patch.model_dump() == {"other": 1}
    assert json.loads(patch.model_dump_json()) == {"other": 1}
    assert not hasattr(patch, "title")
    assert patch.other == 1  # type: ignore[attr-defined]


def test_a_root_model_has_no_fields() -> None:
    """There is nothing in it that could be absent."""
    with pytest.raises(DeclarationError, match="RootModel is one value"):
        partial(RootModel[int])


def test_a_misspelt_word() -> None:
    """A class statement whose word nobody reads is an error at import; words of the app are its own."""
    seen: dict[str, Any] = {}

    class Tagged(Schema):
        def __init_subclass__(cls, *, tag: str, **options: Any) -> None:
            super().__init_subclass__(**options)
            seen[cls.__name__] = tag

    class Tag(Tagged, tag="mine", partial=True, extra="forbid"):
        pass

    assert seen == {"Tag": "mine"}
    with pytest.raises(DeclarationError, match=r"Wrong.*partail.*did you mean partial="):

        class Wrong(BookIn, partail=True):
            pass


def test_validators_in_annotations() -> None:
    """They look at their own value, and nothing else."""

    class Short(Schema):
        title: Annotated[str, AfterValidator(str.strip)]

    class ShortPatch(Short, partial=True):
        pass

    assert TypeAdapter(list[ShortPatch]).validate_python([{}, {"title": " a "}])[1].title == "a"
