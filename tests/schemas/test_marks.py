"""Read-only and write-only fields: who writes a field and who sees it is said once, in its type."""

from __future__ import annotations

import pickle
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import pytest
from conftest import World
from pydantic import BaseModel, Field, RootModel, ValidationError
from pydantic_core import to_json
from sqlalchemy import inspect

from bookshop.models import Customer
from fastkit.errors import DeclarationError
from fastkit.schemas import IfLoaded, ReadOnly, Schema, WriteOnly, partial, pick

T = TypeVar("T")


class User(Schema):
    """One model for requests and answers."""

    id: ReadOnly[int] = 0
    name: str
    password: WriteOnly[str] = Field(min_length=3, description="At least three.")
    hint: WriteOnly[str | None] = None


class Plain(BaseModel):
    """The same in a model that is none of ours."""

    id: ReadOnly[int] = 0
    password: WriteOnly[str] = Field(min_length=3)


class Holder(BaseModel):
    """Holds some."""

    users: list[User]
    plain: Plain | None = None


ADA = {"name": "Ada", "password": "secret", "hint": "none"}


def test_nobody_sees_what_is_write_only() -> None:
    """It is in no dump, no JSON, no text, whoever asks and however, by itself or nested; the object has it."""
    user = User.model_validate(ADA)
    plain = Plain(password="secret")
    holder = Holder(users=[user], plain=plain)
    seen = [
        *(each.model_dump_json() for each in (user, plain, holder)),
        *(str(each.model_dump(include={"password", "name"})) for each in (user, plain)),
        *(str(each.model_dump(mode="json", exclude_none=False)) for each in (user, plain, holder)),
        *(repr(each) for each in (user, plain, holder)),
        to_json([user, plain]).decode(),
    ]

    assert [each for each in seen if "secret" in each] == []
    assert (user.password, plain.password) == ("secret", "secret")
    assert pickle.loads(pickle.dumps(user)) == user


@pytest.mark.parametrize("field", [Field(exclude=False), Field(exclude=False, repr=True, default="secret")])
def test_a_field_cannot_take_it_back(field: Any) -> None:
    """What the type says holds against what the `Field()` says."""

    class Loud(Schema):
        password: WriteOnly[str] = field

    assert Loud(password="secret").model_dump() == {}
    assert "secret" not in Loud(password="secret").model_dump_json() + repr(Loud(password="secret"))


def test_openapi_says_both() -> None:
    """Input has what is write-only, and output has not; what is read-only is marked."""
    sent, shown = User.model_json_schema(), User.model_json_schema(mode="serialization")

    assert sent["properties"]["password"] == {
        "title": "Password",
        "type": "string",
        "minLength": 3,
        "description": "At least three.",
        "writeOnly": True,
    }
    assert sent["properties"]["id"]["readOnly"] is True
    assert shown["properties"].keys() == {"id", "name"}
    assert shown["properties"]["id"]["readOnly"] is True
    assert sent["required"] == ["name", "password"]


def test_a_type_of_its_own_can_have_the_word() -> None:
    """An alias of an annotated type brings it along; a generic model keeps it."""
    password = Annotated[str, Field(min_length=3)]

    class Box(Schema, Generic[T]):
        item: WriteOnly[T]

    class Aliased(Schema):
        password: WriteOnly[password]

    assert Box[int](item=1).model_dump() == {}
    assert Aliased(password="abc").model_dump() == {}
    with pytest.raises(ValidationError):
        Aliased(password="a")


class Pin(RootModel[int]):
    """A value of its own."""


@pytest.mark.parametrize(
    ("annotation", "word"),
    [
        (WriteOnly[str] | None, "WriteOnly"),
        (list[WriteOnly[str]], "WriteOnly"),
        (dict[str, list[ReadOnly[int]]], "ReadOnly"),
        (Annotated[IfLoaded[int] | str, "note"], "IfLoaded"),
        (Annotated[int, ReadOnly], "ReadOnly"),
        (Annotated[int, WriteOnly], "WriteOnly"),
    ],
)
def test_a_word_in_the_wrong_place(annotation: Any, word: str) -> None:
    """Inside of a list or a union, or bare, it would say nothing of the field: an error at import."""
    with pytest.raises(DeclarationError, match=rf"Wrong\.value: {word} is about the whole field"):
        type("Wrong", (Schema,), {"__annotations__": {"value": annotation}})


def test_words_of_a_nested_model_are_its_own() -> None:
    """A field is not read-only because something in its value is."""

    class Outer(Schema):
        user: User
        pin: WriteOnly[Pin]

    patch = partial(Outer).model_validate({"user": ADA, "pin": 3})

    assert patch.model_fields_set == {"user", "pin"}
    assert patch.model_dump() == {"user": {"id": 0, "name": "Ada"}}


def test_if_loaded_needs_a_schema() -> None:
    """Another model would query for what is not loaded, so it refuses to be used at all."""

    class Wrong(BaseModel):
        reviews: IfLoaded[list[int]]

    with pytest.raises(DeclarationError, match="is for a field of a Schema"):
        Wrong(reviews=[])
    assert pick(Wrong, {"reviews"})(reviews=[1]).reviews == [1]


def test_if_loaded_takes_no_default() -> None:
    """What is not loaded is left out, so a default would never be seen."""
    with pytest.raises(DeclarationError, match=r"Wrong\.reviews: IfLoaded takes no default"):

        class Wrong(Schema):
            reviews: IfLoaded[list[int]] = []  # noqa: RUF012


class NewCustomer(Schema):
    """A customer as a client sends one."""

    id: ReadOnly[int] = 77
    name: str
    email: WriteOnly[str]


@pytest.mark.anyio
async def test_new_rows(world: World) -> None:
    """A new row gets what nobody will see, and nothing that is read-only."""
    async with world.shop() as shop:
        shown = await shop.customers.into(NewCustomer).insert(NewCustomer(name="Ada", email="a@example.org"))
        await shop.customers.bulk.insert([NewCustomer(name="Bob", email="b@example.org")])
        stored = await shop.customers.order_by(Customer.name).all()
        await shop.commit()
        kept = [(each.name, each.email, each.id == 77) for each in stored]

    assert kept == [("Ada", "a@example.org", False), ("Bob", "b@example.org", False)]
    assert shown.model_dump() == {"id": shown.id, "name": "Ada"}
    assert inspect(stored[0]).identity == (shown.id,)


@pytest.mark.anyio
async def test_readers(stocked: World) -> None:
    """A reader fills fields with such words as any other, and its JSON shows what the model shows."""
    async with stocked.serving() as shop:
        reader = shop.customers.into(NewCustomer)
        found = await reader.get_one(1)
        shown = await reader.json().get_one(1)

    assert found.email == "ada@example.org"
    assert shown == found.model_dump_json().encode() == b'{"id":1,"name":"Ada"}'


def test_decimals_and_dates_keep_their_bytes() -> None:
    """A word changes nothing of how a value is written."""

    class Price(Schema):
        price: ReadOnly[Decimal]

    assert Price(price=Decimal("1.50")).model_dump_json() == '{"price":"1.50"}'
