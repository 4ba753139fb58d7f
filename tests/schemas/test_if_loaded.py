"""`IfLoaded`: what an object has not loaded is left out, and never queried."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, Self

import pytest
from conftest import World
from pydantic import AliasPath, BaseModel, Field, TypeAdapter, ValidationError, computed_field
from repository.scenes import recorded, scene
from sqlalchemy import ForeignKey, create_engine, inspect, select
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    defer,
    mapped_column,
    relationship,
    selectinload,
    synonym,
)

from bookshop.models import Author, Book, Review
from fastkit.schemas import IfLoaded, Schema, partial

pytestmark = pytest.mark.anyio


class ReviewOut(Schema):
    """What is related."""

    id: int
    stars: int


class AuthorOut(Schema):
    """What is related, and comes back."""

    name: str
    books: IfLoaded[list[BookOut]]


class BookOut(Schema, camel=True):
    """A book, with what is there."""

    title: str
    price: IfLoaded[Decimal]
    author: IfLoaded[AuthorOut | None]
    reviews: IfLoaded[list[ReviewOut]]
    comments: IfLoaded[list[ReviewOut]] = Field(validation_alias="reviews")


class Bare(Schema):
    """A book of which all is needed."""

    title: str
    reviews: list[ReviewOut]


async def loaded(shop: Any, *options: Any) -> Book:
    """Return a book with what the options load."""
    found = await shop.books.with_options(*options).get_one(1)
    return getattr(found, "naked", found)


async def test_what_is_not_loaded_is_left_out(stocked: World) -> None:
    """Relationships that raise, that would query, and deferred columns: absent, not null, without a statement."""
    async with stocked.serving() as shop:
        book = await loaded(shop, defer(Book.price))
        with recorded(stocked) as statements:
            found = BookOut.model_validate(book)
            assert found.model_dump() == {"title": "Emma"}
            assert found.model_dump_json() == '{"title":"Emma"}'
            assert repr(found) == "BookOut(title='Emma')"
            with pytest.raises(AttributeError, match=r"BookOut\.reviews was not loaded"):
                _ = found.reviews
    assert statements == []


async def test_what_is_loaded_is_there(stocked: World) -> None:
    """Also if it is empty, nested, or read by another name."""
    async with stocked.shop() as shop:
        shop.reviews.add(Review(id=1, book_id=1, customer_id=1, stars=5, text=""))
        await shop.commit()
    async with stocked.serving() as shop:
        book = await loaded(shop, selectinload(Book.author), selectinload(Book.reviews))
        found = BookOut.model_validate(book)
    review = {"id": 1, "stars": 5}

    assert found.model_dump() == {
        "title": "Emma",
        "price": Decimal(10),
        "author": {"name": "Jane Austen"},
        "reviews": [review],
        "comments": [review],
    }
    assert BookOut.model_json_schema(mode="serialization")["$defs"]["BookOut"]["required"] == ["title"]


async def test_what_expired_is_left_out(stocked: World) -> None:
    """An object whose values the session forgot has none; a field that needs one fails as ever."""
    async with stocked.serving() as shop:
        book = await loaded(shop)
        session = inspect(book).session
        session.expire(book, ["price"])
        found = BookOut.model_validate(book)
        session.expunge(book)
        session.expire_all()
    assert "price" not in found.model_fields_set
    with pytest.raises(Exception, match=r"lazy='raise'|not bound to a Session|Bare"):
        Bare.model_validate(book)


async def test_a_reader_reads_it(stocked: World) -> None:
    """In a response model that is the query, such a field is read as any other, and the JSON is the fast one."""

    class Shown(Schema):
        title: str
        author: IfLoaded[AuthorName]
        reviews: IfLoaded[list[ReviewOut]]

    async with scene(stocked, "outside a block") as place:
        reader = place.shop.books.order_by(Book.id).into(Shown)
        found, shown = await reader.all(), await reader.json().all()
        explained = reader.explain()

    assert [each.model_dump() for each in found] == [
        {"title": title, "author": {"name": "Jane Austen"}, "reviews": []} for title in ("Emma", "Persuasion")
    ]
    assert json.loads(shown) == [each.model_dump() for each in found]
    assert "because" not in explained.splitlines()[-1]


class AuthorName(Schema):
    """The name alone."""

    name: str


def test_other_objects_are_read_as_ever() -> None:
    """A dictionary, JSON, a plain object and another model have what they have; null is null."""
    plain = SimpleNamespace(title="Emma", price=Decimal(1), author=None)

    assert BookOut.model_validate(plain).model_dump() == {"title": "Emma", "price": 1, "author": None}
    assert BookOut.model_validate({"title": "Emma", "reviews": []}).model_fields_set == {
        "title",
        "reviews",
        "comments",
    }
    assert BookOut.model_validate_json('{"title": "Emma"}').model_dump() == {"title": "Emma"}
    with pytest.raises(ValidationError):
        BookOut.model_validate({"title": "Emma", "reviews": None})


def test_nested_in_other_models() -> None:
    """In a union, a list and a partial model it is written without a warning."""

    class Outer(BaseModel):
        item: AuthorName | BookOut | int
        patch: partial(BookOut)  # type: ignore[valid-type]

    found = Outer.model_validate({"item": {"title": "Emma"}, "patch": {"reviews": []}})

    assert found.model_dump() == {"item": {"title": "Emma"}, "patch": {"reviews": [], "comments": []}}
    assert TypeAdapter(list[BookOut | AuthorName]).dump_json([found.item]) == b'[{"title":"Emma"}]'


def test_with_computed_fields() -> None:
    """They are computed of what is there, with and without the field that may be absent."""

    class Counted(Schema):
        title: str
        reviews: IfLoaded[list[int]]

        @computed_field  # type: ignore[prop-decorator]
        @property
        def review_count(self) -> int | None:
            return len(self.reviews) if "reviews" in self.model_fields_set else None

    assert Counted(title="Emma", reviews=[3]).model_dump() == {"title": "Emma", "reviews": [3], "review_count": 1}
    assert Counted.model_validate({"title": "Emma"}).model_dump() == {"title": "Emma", "review_count": None}


class Base(DeclarativeBase):
    """The models of this file."""


class Pair(tuple[int, int]):
    """Two columns."""

    __slots__ = ()

    def __new__(cls, a: int, b: int) -> Self:
        """Make one."""
        return super().__new__(cls, (a, b))


class Tag(Base):
    """What is related."""

    __tablename__ = "tag"
    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("thing.id"))
    name: Mapped[str]


class Thing(Base):
    """Attributes of every kind."""

    __tablename__ = "thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    a: Mapped[int]
    b: Mapped[int]
    pair: Mapped[Pair] = composite("a", "b")
    tags: Mapped[list[Tag]] = relationship()
    labels = synonym("tags")
    names: AssociationProxy[list[str]] = association_proxy("tags", "name")

    @hybrid_property
    def sum(self) -> int:
        """Return the sum."""
        return self.a + self.b

    @property
    def double(self) -> int:
        """Return it twice."""
        return self.a * 2


class TagOut(Schema):
    """A tag."""

    name: str


class ThingOut(Schema):
    """All of it, if it is there."""

    a: IfLoaded[int]
    pair: IfLoaded[tuple[int, int]]
    tags: IfLoaded[list[TagOut]]
    labels: IfLoaded[list[TagOut]]
    names: IfLoaded[list[str]]
    first: IfLoaded[str] = Field(validation_alias=AliasPath("tags", 0))
    sum: IfLoaded[int]
    double: IfLoaded[int]


def test_kinds_of_attributes() -> None:
    """Composites, synonyms and proxies are loaded when what is behind them is; Python is read as ever."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(Thing(id=1, a=1, b=2, tags=[Tag(id=1, name="x")]))
        session.commit()
        session.expunge_all()
        bare = ThingOut.model_validate(session.scalars(select(Thing)).one())
        session.expunge_all()
        half = session.scalars(select(Thing).options(defer(Thing.b))).one()
        assert OnlyPair.model_validate(half).model_dump() == {}
        session.expunge_all()
        thing = session.scalars(select(Thing).options(selectinload(Thing.tags))).one()
        full = OnlyLists.model_validate(thing)
    engine.dispose()

    assert bare.model_dump() == {"a": 1, "pair": (1, 2), "sum": 3, "double": 2}
    assert full.model_dump() == {"tags": [{"name": "x"}], "labels": [{"name": "x"}], "names": ["x"]}


class OnlyPair(ThingOut, pick={"pair"}):
    """Two columns, of which one may be deferred."""


class OnlyLists(ThingOut, pick={"tags", "labels", "names"}):
    """What is related."""


def test_an_error_shows_the_object() -> None:
    """What does not fit is told as of the object itself."""

    class Wrong(Schema):
        missing: int
        books: IfLoaded[list[int]]

    author = Author(id=1, name="x")

    with pytest.raises(ValidationError) as caught:
        Wrong.model_validate(author)
    assert repr(caught.value.errors()[0]["input"]) == repr(author)
