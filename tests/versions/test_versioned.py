"""What has a version, what cannot work without one, and what an entity tag is made of."""

from datetime import UTC, date, datetime
from typing import Annotated, Any
from uuid import UUID

import pytest
from conftest import World
from deps.apps import answer
from fastapi import Depends, FastAPI, Response
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import ForeignKey, create_engine, insert, inspect, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, class_mapper, mapped_column, relationship
from versions.shelf import (
    Author,
    AuthorOut,
    Book,
    BookOut,
    DeepOut,
    Label,
    Shelf,
    servers_with_tables,
    world_with_books,
)

from fastkit.database import Database
from fastkit.deps import IfNoneMatch, found, install, unit_of_work
from fastkit.errors import DeclarationError
from fastkit.models import Versioned
from fastkit.pages import PageQuery
from fastkit.repository import Repository
from fastkit.repository.versions import told_version
from fastkit.responses import etag
from fastkit.responses.etags import LONGEST_HEADER, Tags
from fastkit.schemas import Schema

__all__ = ["servers_with_tables", "world_with_books"]  # fixtures


class Base(DeclarativeBase):
    """The metadata of these models."""


class Animal(Versioned, Base):
    """Says something of its mapper itself."""

    __tablename__ = "vd_animal"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column()
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012 - SQLAlchemy's own


class Dog(Animal):
    """Has a table of its own."""

    __tablename__ = "vd_dog"
    id: Mapped[int] = mapped_column(ForeignKey("vd_animal.id"), primary_key=True)
    name: Mapped[str] = mapped_column()
    __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012 - same


class Cat(Animal):
    """Shares the table of its parent."""

    __mapper_args__ = {"polymorphic_identity": "cat"}  # noqa: RUF012 - same


class TestVersioned:
    """The mixin."""

    def test_a_class_keeps_what_it_says_of_its_mapper(self) -> None:
        """The version is added to `__mapper_args__`, and inherited in both ways of inheritance."""
        column = Animal.__table__.c.version

        assert [class_mapper(each).version_id_col for each in (Animal, Dog, Cat)] == [column, column, column]
        assert {each.polymorphic_identity for each in class_mapper(Animal).self_and_descendants} == {
            *("animal", "dog", "cat")
        }
        assert [each.name for each in Animal.__table__.c] == ["id", "kind", "version"]

    def test_a_change_in_the_table_of_the_subclass_counts(self) -> None:
        """The version is in the table of the parent, and counts for all of the object."""
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            dog = Dog(name="Flush")
            session.add(dog)
            session.commit()
            dog.name = "Nero"
            session.commit()

            assert dog.version == 2
        engine.dispose()

    @pytest.mark.parametrize("joined", [False, True])
    def test_a_subclass_may_say_nothing_of_its_mapper(self, joined: bool) -> None:
        """The version is that of its parent, in one table or in two."""

        class Own(DeclarativeBase):
            """The metadata of both."""

        class Top(Versioned, Own):
            """Has the version."""

            __tablename__ = "vd_top"
            id: Mapped[int] = mapped_column(primary_key=True)
            name: Mapped[str] = mapped_column()

        key = mapped_column(ForeignKey("vd_top.id"), primary_key=True)
        below: Any = type("Below", (Top,), {"__tablename__": "vd_below", "id": key} if joined else {})
        engine = create_engine("sqlite://")
        Own.metadata.create_all(engine)
        with Session(engine) as session:
            one = below(name="Flush")
            session.add(one)
            session.commit()
            one.name = "Nero"
            session.commit()

            assert (one.version, class_mapper(below).version_id_col) == (2, Top.__table__.c.version)
        engine.dispose()

    def test_rows_of_core_have_the_first_version(self) -> None:
        """A default fills rows that know nothing of it, and many objects stay one statement."""
        engine = create_engine("sqlite://")
        Base.metadata.create_all(engine)
        with engine.begin() as connection:
            connection.execute(insert(Animal.__table__).values(kind="cat"))

            assert connection.scalars(select(Animal.version)).all() == [1]
        engine.dispose()

    def test_the_wrong_order_is_told(self) -> None:
        """Behind the declarative base it comes too late for what the class says itself."""
        with pytest.raises(DeclarationError, match="inherit from Versioned before the declarative base"):

            class Late(Base, Versioned):
                """Says something of its mapper, before the mixin can add to it."""

                __tablename__ = "vd_late"
                id: Mapped[int] = mapped_column(primary_key=True)
                __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012 - same

    def test_without_arguments_the_order_does_not_matter(self) -> None:
        """What is inherited is found in either order."""

        class Plain(Base, Versioned):
            """Says nothing itself."""

            __tablename__ = "vd_plain"
            id: Mapped[int] = mapped_column(primary_key=True)

        assert inspect(Plain).version_id_col is Plain.__table__.c.version


@pytest.mark.parametrize(
    ("given_to_found", "options", "message"),
    [
        ((Shelf.authors,), {"require_if_match": True}, "Author has no version.*version_id_col"),
        ((Shelf.books, BookOut), {"require_if_match": True}, "to change a row, take its object"),
        ((Shelf.books.for_update(), BookOut), {}, "to change a row, take its object"),
    ],
)
def test_what_found_cannot_do_is_told_at_import(given_to_found: Any, options: Any, message: str) -> None:
    """A precondition without a version, and a lock or a precondition for what cannot be changed."""
    with pytest.raises(DeclarationError, match=message):
        found(*given_to_found, **options)


def test_versions_that_would_not_vouch_are_refused() -> None:
    """A reader of other rows, of a model without a version, or of expressions has no cheap validator."""
    with Session(create_engine("sqlite://")) as session:
        books, authors = Repository(session, Book), Repository(session, Author)

        with pytest.raises(DeclarationError, match="DeepOut shows more than columns of Book"):
            books.into(DeepOut).versions()
        with pytest.raises(DeclarationError, match="Author has no version"):
            authors.into(AuthorOut).versions()
        assert "version" in books.into(BookOut).versions().explain(PageQuery())


@pytest.mark.parametrize(
    ("version", "told"),
    [
        (3, "3"),
        (UUID(int=10), "0" * 31 + "a"),
        (b"\x00\xff", "00ff"),
        (datetime(2026, 1, 31, 9, 30, tzinfo=UTC), "2026-01-31T09%3A30%3A00%2B00%3A00"),
        (date(2026, 1, 31), "2026-01-31"),
        ('a"b:c', "a%22b%3Ac"),
        ("ä", "%C3%A4"),
    ],
)
def test_a_version_of_any_type_is_a_text_without_quotes_and_colons(version: Any, told: str) -> None:
    """What a client gets between the quotes, before the colon."""
    assert told_version(version) == told


class Box(Versioned, Base):
    """Holds animals."""

    __tablename__ = "vd_box"
    id: Mapped[int] = mapped_column(primary_key=True)
    things: Mapped[list["Thing"]] = relationship(lazy="raise")


class Thing(Base):
    """Is in a box."""

    __tablename__ = "vd_thing"
    id: Mapped[int] = mapped_column(primary_key=True)
    box_id: Mapped[int] = mapped_column(ForeignKey("vd_box.id"))


class ThingOut(Schema):
    """What is shown of it."""

    id: int


class BoxOut(Schema):
    """Shows a list of other rows."""

    id: int
    things: list[ThingOut]


def test_a_list_of_other_rows_is_not_vouched_for() -> None:
    """Its rows change without a change of the version."""
    with Session(create_engine("sqlite://")) as session, pytest.raises(DeclarationError, match="shows more than"):
        Repository(session, Box).into(BoxOut).versions()


def test_a_tag_needs_a_version_that_is_known() -> None:
    """Without an object, it is good for If-None-Match alone; a new object has no version yet."""
    shown = BookOut(id=1, title="Emma", stock=0)

    assert etag(shown) != etag(shown.model_copy(update={"stock": 1}))
    assert etag(shown, "3").strip('"') == "3:" + etag(shown).strip('"')
    with pytest.raises(DeclarationError, match="was not read"):
        etag(shown, Label(id=1, text="new"))


TAGS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"\x7f'), max_size=8).filter(
    lambda tag: not any("\x7f" <= each < "\x80" for each in tag)
)


@given(st.lists(st.tuples(st.booleans(), TAGS), min_size=1, max_size=6), st.sampled_from([",", ", ", " ,\t", ",,"]))
def test_every_list_of_tags_is_read_as_it_was_written(tags: list[tuple[bool, str]], comma: str) -> None:
    """Commas and letters inside of quotes, weak ones, empty elements."""
    legal = [(weak, tag) for weak, tag in tags if not any("\x7f" <= each <= "\x7f" for each in tag)]
    header = comma.join(("W/" if weak else "") + f'"{tag}"' for weak, tag in legal)
    read = Tags.parse(header)

    assert read == Tags(
        frozenset(tag for weak, tag in legal if not weak), frozenset(tag for weak, tag in legal if weak)
    )


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(header: str) -> None:
    """Nothing that a client may send raises."""
    read = Tags.parse(header)

    assert read is None or read.is_any or read.strong or read.weak


def test_what_is_too_long_is_not_read() -> None:
    """A header beyond any server's bound is no list of tags, or its first ones."""
    assert Tags.parse('"' + "x" * LONGEST_HEADER + '"') is None


def test_two_rows_under_one_name_are_a_bug_of_the_app(tmp_path: Any) -> None:
    """`found` by what is not unique, for a response model with a version, tells as it does for objects."""
    import asyncio

    database = Database(f"sqlite:///{tmp_path}/double.db")
    Book.metadata.create_all(database.engine)
    with Session(database.engine) as session:
        author = Author(id=1, name="Jane Austen")
        session.add_all(Book(title="Emma", author=author) for _ in range(2))
        session.commit()
    app = FastAPI()
    install(app, {Shelf: database})

    @app.get("/books/{title}")  # noqa: FAST003 - found() reads it
    def book(book: Annotated[BookOut, found(Shelf.books, BookOut, path="title")]) -> BookOut:
        return book

    assert asyncio.run(answer(app, "/books/Emma")).status_code == 500
    assert asyncio.run(answer(app, "/books/None")).status_code == 404
    database.engine.dispose()


@pytest.mark.anyio
async def test_304_repeats_what_caches_want_to_know(shelf: World) -> None:
    """Headers that a dependency has set are told with a 304, too; from the middle of an endpoint, those of RFC 9110."""
    unit = shelf.unit

    async def told(response: Response) -> None:
        response.headers["Cache-Control"] = "private"
        response.headers["X-Other"] = "1"

    app = FastAPI()
    if not shelf.driver.is_async:
        pytest.skip("the endpoints of this test are async")

    @app.get("/books/{book_id}", response_model=BookOut, dependencies=[Depends(told)])  # noqa: FAST003 - same
    async def book(book: Annotated[Any, found(unit.books, BookOut)], unit: Annotated[Any, unit_of_work(unit)]) -> Any:
        return book

    @app.get("/checked", response_model=BookOut, dependencies=[Depends(told)])
    async def checked(if_none_match: IfNoneMatch) -> Any:
        shown = BookOut(id=1, title="Emma", stock=0)
        if_none_match.check(shown)
        return shown

    install(app, {unit: shelf.naked})
    for path, other in (("/books/1", "1"), ("/checked", None)):
        first = await answer(app, path)
        again = await answer(app, path, headers={"If-None-Match": first.headers["ETag"]})

        assert (again.status_code, again.headers["Cache-Control"]) == (304, "private")
        assert again.headers.get("X-Other") == other
        assert not [name for name in again.headers if name.startswith("content-")]
