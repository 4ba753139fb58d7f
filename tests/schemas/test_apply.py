"""Changes written to an object: what was sent, what may be written, what differs, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

import pytest
from conftest import World
from pydantic import BaseModel, ConfigDict, Field, model_validator
from repository.scenes import ON_SQLITE, recorded
from sqlalchemy import JSON, ForeignKey, String, TypeDecorator, create_engine, inspect, select
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    composite,
    defer,
    mapped_column,
    relationship,
    synonym,
    validates,
)

from bookshop.models import Book
from fastkit.errors import DeclarationError, RulesBrokenError
from fastkit.models import Versioned
from fastkit.schemas import ReadOnly, Schema, WriteOnly, apply, partial
from fastkit.schemas._absent import MISSING


class BookIn(Schema):
    """A book as a client sends it."""

    id: ReadOnly[int] = 0
    title: str
    price: Decimal | None = None
    stock: int = 0


class BookPatch(BookIn, partial=True):
    """Changes of one."""


class Plain:
    """A plain object."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update({"id": 1, "title": "Emma", "price": None, "stock": 5} | values)


def test_only_what_was_sent_and_differs() -> None:
    """Absent is not null, null is a value, and a field that is as it was has not changed."""
    book = Plain(price=Decimal(3))

    assert apply(book, BookPatch.model_validate({"title": "Emma", "price": None})) == {"price"}
    assert vars(book) == {"id": 1, "title": "Emma", "price": None, "stock": 5}
    assert apply(book, BookPatch.model_validate({})) == frozenset()


def test_a_whole_model_writes_every_field() -> None:
    """For PUT: of a model that is not partial, what was left out has its default, and is written if it was sent."""
    book = Plain()

    assert apply(book, BookIn(title="Emma", price=Decimal(2), stock=0, id=7)) == {"price", "stock"}
    assert (book.id, book.price, book.stock) == (1, 2, 0)


def test_extra_values_are_never_written() -> None:
    """Whatever a model lets through, only declared fields are written."""

    class Open(BookIn, extra="allow", partial=True):
        pass

    class OpenPlain(BaseModel):
        model_config = ConfigDict(extra="allow")

        title: str

    book = Plain()

    assert apply(book, Open.model_validate({"is_admin": True, "id": 3, "stock": 6})) == {"stock"}
    assert apply(book, OpenPlain.model_validate({"title": "x", "stock": 99})) == {"title"}
    assert vars(book) == {"id": 1, "title": "x", "price": None, "stock": 6}


def test_fields_that_declare_missing() -> None:
    """A model with `MISSING` of Pydantic works as well: it is absent."""

    class Sent(BaseModel):
        title: str | MISSING = MISSING  # type: ignore[valid-type]
        stock: int | MISSING | None = MISSING  # type: ignore[valid-type]

    book = Plain()

    assert apply(book, Sent.model_validate({"stock": None})) == {"stock"}
    assert apply(book, Sent(title=MISSING, stock=None)) == frozenset()
    assert (book.title, book.stock) == ("Emma", None)


def test_any_model_works() -> None:
    """A plain Pydantic model, and the partial one of it; names are those of Python, whatever the aliases."""

    class Input(BaseModel):
        title: str = Field(alias="theTitle")
        secret: WriteOnly[str] = ""

    target = Plain(secret="old")

    assert apply(target, partial(Input).model_validate({"theTitle": "Persuasion", "secret": "new"})) == {
        "title",
        "secret",
    }
    assert (target.title, target.secret) == ("Persuasion", "new")


@dataclass(slots=True)
class Slotted:
    """A target with slots."""

    title: str
    price: Decimal | None
    stock: int


class Declared:
    """A target that only says which attributes it has."""

    title: str
    price: Decimal | None
    stock: int


class Lacking(Plain):
    """A target of which nobody can set an attribute."""

    @property
    def stock(self) -> int:
        """Return five."""
        return 5


class Methodical(Plain):
    """A target whose attribute is a method."""

    def title(self) -> str:
        """Return the title."""
        return ""


class Cached(Plain):
    """A target with a property that keeps what it is given."""

    @cached_property
    def stock(self) -> int:
        """Return five."""
        return 5


def test_kinds_of_targets() -> None:
    """Slots, annotations, other models and cached properties are attributes too."""
    patch = BookPatch.model_validate({"title": "x", "stock": 6})

    for target in (Slotted("Emma", None, 5), Declared(), Cached(), BookIn(title="Emma", stock=5)):
        assert apply(target, patch) == {"title", "stock"}
        assert (target.title, target.stock) == ("x", 6)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        (Slotted.__new__(Slotted), ""),
        (object(), "object has no attribute 'title'"),
        ({"title": "Emma"}, "dict has no attribute 'title'"),
        (type("Near", (), {"titel": 1, "price": 1, "stock": 1})(), "has no attribute 'title'; did you mean 'titel'"),
        (Lacking.__new__(Lacking), "'stock' is a property without a setter"),
        (Methodical(), "'title' is a method"),
    ],
)
def test_what_a_target_can_never_have(target: Any, told: str) -> None:
    """It is refused before anything is set, though nobody has sent it."""
    if not told:
        assert apply(target, BookPatch.model_validate({"title": "x"})) == {"title"}
        return
    with pytest.raises(DeclarationError, match=rf"apply\(\) of BookPatch to \w+: .*{told}.*omit=.*ReadOnly"):
        apply(target, BookPatch.model_validate({"price": None}))


def test_a_client_writes_no_version() -> None:
    """Whoever could set it back would let others write on what they have not seen."""

    class Counted(Versioned, DeclarativeBase):
        """The base of one class."""

    class Dog(Counted):
        """Has a version."""

        __tablename__ = "apply_dog"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    class DogPatch(Schema, partial=True):
        """Has it as well."""

        name: str
        version: int

    class DogBack(DogPatch):
        """Lets a client send back what it got."""

        version: ReadOnly[int]

    dog = Dog(name="Flush", version=3)
    with pytest.raises(DeclarationError, match=r"'version' is the version of a row.*ReadOnly"):
        apply(dog, DogPatch.model_validate({"name": "Nero"}))

    assert apply(dog, DogBack.model_validate({"name": "Nero", "version": 1})) == {"name"}
    assert (dog.name, dog.version) == ("Nero", 3)


def test_all_or_nothing() -> None:
    """If the object refuses one value, those before it are as they were."""

    class Guarded(Plain):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "stock" and value < 0:
                raise ValueError("no debts")
            super().__setattr__(name, value)

    book = Guarded()

    with pytest.raises(ValueError, match="no debts"):
        apply(book, BookPatch.model_validate({"title": "x", "price": 3, "stock": -1}))
    assert vars(book) == {"id": 1, "title": "Emma", "price": None, "stock": 5}


class Account(Schema):
    """With a rule about two fields."""

    role: str = "reader"
    reason: str | None = None
    stock: int = 0

    @model_validator(mode="after")
    def admins_have_a_reason(self) -> Account:
        """Refuse power without one."""
        if self.role == "admin" and not self.reason:
            raise ValueError("an admin needs a reason")
        return self


class AccountPatch(Account, partial=True):
    """Changes of one."""


@pytest.mark.parametrize(
    ("now", "sent", "changed"),
    [
        ({"role": "reader", "reason": None}, {"role": "admin"}, None),
        ({"role": "admin", "reason": "duty"}, {"reason": None}, None),
        ({"role": "reader", "reason": "duty"}, {"role": "admin"}, {"role"}),
        ({"role": "reader", "reason": None}, {"role": "admin", "reason": "duty"}, {"role", "reason"}),
        ({"role": "admin", "reason": None}, {"stock": 1}, None),
        ({"role": "admin", "reason": None}, {"role": "admin"}, frozenset()),
    ],
)
def test_rules_hold_for_the_whole(now: Any, sent: Any, changed: Any) -> None:
    """A rule that could not be asked about what was sent is asked about what the object would be."""
    account = Plain(**now)
    patch = AccountPatch.model_validate(sent)

    if changed is None:
        with pytest.raises(RulesBrokenError) as caught:
            apply(account, patch)
        assert [(each.detail, each.at) for each in caught.value.broken] == [("an admin needs a reason", None)]
        assert {name: getattr(account, name) for name in now} == now
    else:
        assert apply(account, patch) == changed
        assert {**now, **sent}.items() <= vars(account).items()


# -- mapped objects


class Base(DeclarativeBase):
    """The models of this file."""


class Note(BaseModel):
    """What is kept in one column."""

    text: str
    stars: int = 1
    price: Decimal = Decimal(1)
    inner: Note | None = None


class AsNote(TypeDecorator[Note]):
    """A column that holds such objects."""

    impl = String(200)
    cache_ok = True

    def process_bind_param(self, value: Note | None, dialect: Any) -> str | None:
        """Return the text."""
        return None if value is None else value.model_dump_json()

    def process_result_value(self, value: str | None, dialect: Any) -> Note | None:
        """Return the object."""
        return None if value is None else Note.model_validate_json(value)


@dataclass
class Point:
    """Two columns."""

    x: int
    y: int


class Shelf(Base):
    """A mapped class with attributes of all kinds."""

    __tablename__ = "shelf"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(deferred=False)
    alias = synonym("name")
    data: Mapped[Any] = mapped_column(JSON, default=None)
    note: Mapped[Note | None] = mapped_column(AsNote, default=None)
    x: Mapped[int] = mapped_column(default=0)
    y: Mapped[int] = mapped_column(default=0)
    place: Mapped[Point] = composite("x", "y")
    books: Mapped[list[ShelfBook]] = relationship(back_populates="shelf")

    @validates("name")
    def named(self, key: str, name: str) -> str:
        """Refuse no name."""
        if not name:
            raise ValueError("no name")
        return name

    @hybrid_property
    def loud(self) -> str:
        """Return a loud name."""
        return self.name.upper()

    @hybrid_property
    def width(self) -> int:
        """Return how far it reaches."""
        return self.x

    @width.inplace.setter
    def _set_width(self, width: int) -> None:
        self.x = width


class ShelfBook(Base):
    """Something related."""

    __tablename__ = "shelf_book"
    id: Mapped[int] = mapped_column(primary_key=True)
    shelf_id: Mapped[int] = mapped_column(ForeignKey("shelf.id"))
    shelf: Mapped[Shelf] = relationship(back_populates="books")


NotePatch = partial(Note)


class ShelfIn(Schema):
    """What may be written."""

    name: str = ""
    alias: str = ""
    data: Note | list[Note] | dict[str, Any] | None = None
    note: Note | None = None
    width: int = 0


class ShelfPatch(ShelfIn, partial=True):
    """Changes of one."""


class Deep(Schema):
    """Changes of parts."""

    data: NotePatch | None = None  # type: ignore[valid-type]
    note: NotePatch | None = None  # type: ignore[valid-type]


@pytest.fixture
def session() -> Any:
    """Return a session with a shelf."""
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add(
            Shelf(
                id=1,
                name="A",
                data={"text": "old", "stars": 2, "inner": {"text": "deep", "stars": 3}},
                note=Note(text="old"),
            )
        )
        session.commit()
        yield session
    engine.dispose()


def test_columns_synonyms_and_hybrids(session: Any) -> None:
    """They are written by the names that the class has."""
    shelf = session.get_one(Shelf, 1)

    assert apply(shelf, ShelfPatch.model_validate({"alias": "B", "width": 3})) == {"alias", "width"}
    assert (shelf.name, shelf.x) == ("B", 3)


def test_no_change_is_no_change_for_the_session(session: Any) -> None:
    """What is sent as it is leaves the object clean."""
    shelf = session.get_one(Shelf, 1)
    shelf.data = {"on": 1}
    session.commit()
    shelf = session.get_one(Shelf, 1)
    session.refresh(shelf)

    assert apply(shelf, ShelfPatch.model_validate({"name": "A", "data": {"on": 1}, "note": {"text": "old"}})) == set()
    assert not session.dirty


def test_models_in_a_column(session: Any) -> None:
    """A column of JSON gets what JSON has, with nested values; one of the app's own type gets the model."""
    shelf = session.get_one(Shelf, 1)
    patch = ShelfPatch.model_validate({"data": {"text": "new"}, "note": {"text": "new"}})

    assert apply(shelf, patch) == {"data", "note"}
    session.commit()
    assert shelf.data == {"text": "new", "stars": 1, "price": "1", "inner": None}
    assert shelf.note == Note(text="new")
    assert apply(shelf, patch) == frozenset()
    assert apply(shelf, ShelfPatch.model_validate({"data": [{"text": "one"}]})) == {"data"}
    session.commit()
    assert shelf.data[0]["text"] == "one"


def test_parts_are_merged(session: Any) -> None:
    """A nested partial model changes a part of what is there, in a new value that the session sees (RFC 7396)."""
    shelf = session.get_one(Shelf, 1)
    patch = Deep.model_validate({"data": {"stars": 5}, "note": {"stars": 5}})

    assert apply(shelf, patch) == {"data", "note"}
    session.commit()
    assert shelf.data == {"text": "old", "stars": 5, "inner": {"text": "deep", "stars": 3}}
    assert shelf.note == Note(text="old", stars=5)
    assert apply(shelf, patch) == frozenset()
    assert apply(shelf, Deep.model_validate({"data": None})) == {"data"}


def test_parts_of_parts_are_merged(session: Any) -> None:
    """At every depth."""

    class Inner(Schema, partial=True):
        text: str
        inner: NotePatch  # type: ignore[valid-type]

    class Outer(Schema):
        data: Inner

    shelf = session.get_one(Shelf, 1)

    assert apply(shelf, Outer.model_validate({"data": {"inner": {"stars": 4}}})) == {"data"}
    assert shelf.data == {"text": "old", "stars": 2, "inner": {"text": "deep", "stars": 4}}


def test_a_part_of_nothing_is_refused(session: Any) -> None:
    """Where nothing is, a part would be half of what should be there: the client is told."""
    shelf = session.get_one(Shelf, 1)
    shelf.data = None

    with pytest.raises(RulesBrokenError) as caught:
        apply(shelf, Deep.model_validate({"note": {"stars": 4}, "data": {"stars": 5}}))
    assert [each.at for each in caught.value.broken] == ["/data"]
    assert shelf.note == Note(text="old")


def test_what_a_column_of_json_would_lose(session: Any) -> None:
    """A partial model in a list, and a field that no dump has, are refused."""

    class Secret(BaseModel):
        key: WriteOnly[str]

    class Many(Schema):
        data: list[NotePatch]  # type: ignore[valid-type]

    class Keys(Schema):
        data: dict[str, Secret]

    shelf = session.get_one(Shelf, 1)

    with pytest.raises(DeclarationError, match="NotePatch is partial"):
        apply(shelf, Many.model_validate({"data": [{"stars": 1}]}))
    with pytest.raises(DeclarationError, match=r"Secret\.key is in no dump"):
        apply(shelf, Keys.model_validate({"data": {"a": {"key": "x"}}}))


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [("books", [{"text": "x"}], "is a relationship: write its key"), ("loud", "X", "is a property without a setter")],
)
def test_what_no_patch_writes(session: Any, field: str, value: Any, told: str) -> None:
    """Related objects are not made of what a client sends; the error says what to write."""
    wrong: Any = type("Wrong", (Schema,), {"__annotations__": {"name": str, field: Any}}, partial=True)
    shelf = session.get_one(Shelf, 1)

    with pytest.raises(DeclarationError, match=told):
        apply(shelf, wrong.model_validate({"name": "B"}))
    assert not session.dirty


def test_a_validator_of_the_class_is_heard(session: Any) -> None:
    """If it refuses a value, the object is clean."""
    shelf = session.get_one(Shelf, 1)

    with pytest.raises(ValueError, match="no name"):
        apply(shelf, ShelfPatch.model_validate({"width": 5, "name": ""}))
    assert not session.is_modified(shelf)


def test_nothing_is_queried(session: Any) -> None:
    """A column that is not loaded is written without a look at what it holds."""
    session.expunge_all()
    shelf = session.scalars(select(Shelf).options(defer(Shelf.name), defer(Shelf.note))).one()

    assert apply(shelf, ShelfPatch.model_validate({"alias": "A", "note": {"text": "x"}})) == {"alias", "note"}
    assert {"x", "data"} <= set(inspect(shelf).dict)


@pytest.mark.anyio
@ON_SQLITE
async def test_one_update_or_none(stocked: World) -> None:
    """In a unit of work a patch sends one UPDATE of what differs, and no statement if nothing does."""
    for payload, sent in (({"title": "Emma"}, 0), ({"title": "Emma II", "stock": 5}, 1)):
        async with stocked.shop() as shop:
            book = await shop.books.get_one(1)
            with recorded(stocked) as statements:
                apply(getattr(book, "naked", book), BookPatch.model_validate(payload))
                await shop.commit()
        assert len(statements) == sent
    assert "title" in statements[0]
    assert "stock" not in statements[0]
    assert isinstance(book, Book)
