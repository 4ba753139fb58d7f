"""Models with fewer fields: what is left is as it was, and what is gone says so."""

from __future__ import annotations

import copy
import pickle
from functools import cached_property
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from fastkit.errors import DeclarationError
from fastkit.pages import Page
from fastkit.schemas import Schema, omit, pick


class Person(Schema):
    """A model with rules about one field, about two, and computed fields."""

    id: int
    first: str = Field(min_length=1, description="First name.", alias="First")
    last: str
    age: int = 0
    note: str = ""

    @field_validator("first", "last")
    @classmethod
    def stripped(cls, name: str) -> str:
        """Strip a name."""
        return name.strip()

    @field_validator("age")
    @classmethod
    def not_negative(cls, age: int) -> int:
        """Refuse what nobody is."""
        if age < 0:
            raise ValueError("nobody is that young")
        return age

    @field_serializer("note")
    def loud(self, note: str) -> str:
        """Shout."""
        return note.upper()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def name(self) -> str:
        """Return both names."""
        return self._joined()

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def adult(self) -> bool:
        """Return whether they may vote."""
        return any(age >= 18 for age in [self.age])

    @model_validator(mode="after")
    def two_names(self) -> Person:
        """Refuse one name twice."""
        if self.first == self.last:
            raise ValueError("one name twice")
        return self

    def _joined(self) -> str:
        return f"{self.first} {self.last}"


class PersonName(Person, pick={"first", "last", "name"}):
    """The name of one."""


class PersonListItem(Person, omit={"age", "adult", "note"}):
    """One in a list."""


class WithMore(PersonListItem):
    """A subclass with a field more, and one that comes back."""

    email: str = "none"
    note: str = "again"


ADA = {"id": 1, "First": "Ada ", "last": "Lovelace", "age": 36, "note": "first"}


def test_only_what_was_picked() -> None:
    """Fields keep their constraints, aliases, descriptions and validators; computed fields are picked by name."""
    found = PersonName.model_validate(ADA)

    assert found.model_dump(by_alias=True) == {"First": "Ada", "last": "Lovelace", "name": "Ada Lovelace"}
    assert PersonName.model_json_schema()["properties"]["First"]["description"] == "First name."
    assert PersonName.model_json_schema()["title"] == "PersonName"
    with pytest.raises(ValidationError):
        PersonName.model_validate({"First": "", "last": "x"})
    with pytest.raises(ValidationError, match="one name twice"):
        PersonName.model_validate({"First": "x", "last": "x"})


def test_all_but_what_was_omitted() -> None:
    """The order of the fields is kept, and a rule about none but those that are gone goes with them."""
    found = PersonListItem.model_validate(ADA)

    assert list(found.model_dump()) == ["id", "first", "last", "name"]
    assert list(PersonListItem.model_fields) == ["id", "first", "last"]


@pytest.mark.parametrize("name", ["age", "note"])
def test_reading_what_is_gone_says_why(name: str) -> None:
    """A type checker believes that it is there; Python says which class has left it out, also in subclasses."""

    class Inner(PersonListItem):
        pass

    with pytest.raises(AttributeError, match=rf"Inner has no '{name}': PersonListItem leaves it out"):
        getattr(Inner.model_validate(ADA), name)


def test_subclasses_keep_what_is_left() -> None:
    """They do not get back what their base has left out, unless they declare it anew."""
    found = WithMore.model_validate(ADA)

    assert found.model_dump() == {
        "id": 1, "first": "Ada", "last": "Lovelace", "email": "none", "note": "FIRST", "name": "Ada Lovelace"
    }  # fmt: skip
    found.note = "last"
    assert found.note == "last"


def test_derived_of_derived() -> None:
    """Words of class statements add up."""

    class Less(PersonListItem, omit={"id"}):
        pass

    class Patch(Less, partial=True):
        pass

    class Both(Person, pick={"id", "first", "last"}, omit={"last", "first"}):
        pass

    assert list(Less.model_fields) == ["first", "last"]
    assert Patch.model_validate({"last": "x"}).model_dump() == {"last": "x"}
    assert list(Both.model_fields) == ["id"]


def test_a_rule_about_the_whole_can_be_left_out() -> None:
    """A validator that needs what is gone is left out by its name."""

    class First(Person, pick={"first"}, omit={"two_names"}):
        pass

    assert First.model_validate({"First": "x"}).model_dump() == {"first": "x"}
    assert omit(Person, {"two_names"}).model_validate({**ADA, "last": "Ada"}).name == "Ada Ada"


def test_several_bases() -> None:
    """A field that another base has is there."""

    class Note(Schema):
        note: str

    class Mixed(PersonListItem, Note):
        pass

    assert "note" in Mixed.model_fields
    assert "age" not in Mixed.model_fields


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pick": {"frist"}}, r"Wrong: pick names 'frist'.*did you mean 'first'"),
        ({"omit": {"everything"}}, r"Wrong: omit names 'everything'.*it has adult, age"),
        ({"omit": "age"}, r"omit='age' is one text.*omit=\{'age'\}"),
        ({"omit": {"first"}}, r"Wrong\.name reads 'first', which Wrong leaves out.*omit=\{'name'\}"),
        ({"pick": {"id", "name"}}, r"Wrong\.name reads 'first', 'last', which Wrong leaves out"),
        ({"omit": {"last", "name"}}, r"Wrong\.two_names reads 'last', which Wrong leaves out"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], told: str) -> None:
    """A name that does not exist, and what needs a field that is gone, are told at import."""
    with pytest.raises(DeclarationError, match=told):
        type("Wrong", (Person,), {}, **options)


def test_what_needs_a_field_can_be_written_anew() -> None:
    """A derived class has its own rule in the place of the one that would not fit."""

    class Short(Person, omit={"first"}):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def name(self) -> str:
            return self.last

        @model_validator(mode="after")
        def two_names(self) -> Short:
            return self

    assert Short.model_validate({"id": 1, "last": "x"}).name == "x"


def test_serializers_that_need_what_is_gone() -> None:
    """One of the whole model, and one of another field, would fail with every answer: they are told at import."""

    class Whole(Schema):
        a: int
        b: int

        @model_serializer
        def written(self) -> dict[str, int]:
            return {"sum": self.a + self.b}

    class Single(Schema):
        a: int
        b: int

        @field_serializer("a")
        def written(self, a: int) -> int:
            return a + self.b

    for model in (Whole, Single):
        with pytest.raises(DeclarationError, match=r"\.written reads 'b'"):
            omit(model, {"b"})
    assert pick(Single, {"b"}).model_validate({"b": 1}).model_dump() == {"b": 1}


def test_any_model() -> None:
    """The functions take any Pydantic model, name the class, and give the same one each time."""

    class Plain(BaseModel):
        first_name: str
        age: int = 1

    assert pick(Plain, {"age"}).__name__ == "PlainOnlyAge"
    assert omit(Plain, {"age"}).__name__ == "PlainWithoutAge"
    assert omit(Plain, ["first_name"], name="Age").model_json_schema()["title"] == "Age"
    assert omit(Plain, {"age"}) is omit(Plain, ["age"])
    assert pick(Plain, {"age"})().model_dump() == {"age": 1}
    with pytest.raises(DeclarationError, match="did you mean 'age'"):
        omit(Plain, {"aeg"})


def test_objects_travel() -> None:
    """They are copied, pickled and nested as those of any model."""
    for model in (PersonName, pick(Person, {"id", "note"}), omit(Person, {"note"})):
        found = model.model_validate(ADA)
        assert copy.deepcopy(found) == found == pickle.loads(pickle.dumps(found))
    page = Page[PersonName].model_validate({"items": [ADA], "total": 1, "page": 1, "size": 10, "pages": 1})
    assert page.items[0].first == "Ada"


def test_the_base_is_as_it_was() -> None:
    """Nothing of a derived class is seen in the model that it is made from."""
    assert Person.model_validate(ADA).model_dump() == {
        "id": 1,
        "first": "Ada",
        "last": "Lovelace",
        "age": 36,
        "note": "FIRST",
        "name": "Ada Lovelace",
        "adult": True,
    }
    with pytest.raises(ValidationError, match="nobody is that young"):
        Person.model_validate({**ADA, "age": -1})


def test_building_again_changes_nothing() -> None:
    """`model_rebuild(force=True)` does not look for fields that are gone, though validators name them."""

    class Rebuilt(Person, pick={"id"}):
        pass

    Rebuilt.model_rebuild(force=True)

    assert Rebuilt.model_validate({"id": 1}).model_dump() == {"id": 1}
