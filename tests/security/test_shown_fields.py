"""A response model never shows a field that it does not declare, whatever way its rows take to the client."""

import json
from typing import Annotated, Any, ClassVar

import pytest
from deps.apps import answer
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict, Field, create_model
from sqlalchemy import ForeignKey, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship
from sqlalchemy.pool import StaticPool

from fastkit import AsyncRepository, AsyncUnitOfWork, Schema
from fastkit.database import AsyncDatabase
from fastkit.deps import DirectRoute, UnitFactory, found, install, unit_of_work
from fastkit.pages import Page, PageQuery
from fastkit.repository import Repository
from fastkit.responses import stream_csv, stream_json, stream_ndjson
from fastkit.responses._tables import CsvProjection

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t"


class Base(DeclarativeBase):
    """Tables of this module."""


class Team(Base):
    """Has secrets of its own."""

    __tablename__ = "team"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    token: Mapped[str] = mapped_column(default=f"{SECRET} token")
    people: Mapped[list["Person"]] = relationship(back_populates="team", lazy="raise")


class Person(Base):
    """Has columns that some models show, and secrets that none does."""

    __tablename__ = "person"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    age: Mapped[int]
    password: Mapped[str] = mapped_column(default=f"{SECRET} password")
    kind: Mapped[str] = mapped_column(default="person")
    team_id: Mapped[int] = mapped_column(ForeignKey("team.id"))
    team: Mapped[Team] = relationship(back_populates="people", lazy="raise")
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "person"}


class Admin(Person):
    """A subclass whose rows come among the others, with a column more."""

    master_key: Mapped[str | None] = mapped_column(default=f"{SECRET} key")
    __mapper_args__: ClassVar = {"polymorphic_identity": "admin"}


class Office(AsyncUnitOfWork):
    """What is read."""

    people: AsyncRepository[Person]


SHOWN: dict[str, Any] = {"id": int, "name": str, "email": str, "age": int}
CONFIGS = [{}, {"extra": "allow"}, {"extra": "forbid"}, {"from_attributes": True, "extra": "allow"}, {"frozen": True}]


def rows_of() -> list[Any]:
    """Return a person and an admin."""
    team = Team(id=1, title="Sales")
    more = {"email": "x@example.org", "age": 3, "team": team}
    return [Person(id=1, name="Ada", **more), Admin(id=2, name="Bob", **more)]


@pytest.fixture(scope="module")
def session() -> Any:
    """Return a session with both rows, on SQLite in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows_of())
        session.commit()
        yield session
    engine.dispose()


@st.composite
def schemas(draw: Any) -> Any:
    """Draw a response model: some of the fields, some with aliases, any configuration, perhaps with its team."""
    names = draw(st.lists(st.sampled_from([*SHOWN]), min_size=1, unique=True))
    fields: dict[str, Any] = {}
    for name in names:
        alias = draw(st.sampled_from([None, f"{name}Shown"]))
        excluded = draw(st.booleans()) and len(names) > 1 and name != names[0]
        fields[name] = (SHOWN[name], Field(serialization_alias=alias, exclude=excluded or None))
    if draw(st.booleans()):
        inner = create_model("TeamOut", __config__=ConfigDict(**draw(st.sampled_from(CONFIGS))), title=(str, ...))
        fields["team"] = (inner, ...)
    return create_model("PersonOut", __config__=ConfigDict(**draw(st.sampled_from(CONFIGS))), **fields)


def declared(schema: Any) -> set[str]:
    """Return the names that a client may see."""
    fields = schema.model_fields.items()
    return {info.serialization_alias or name for name, info in fields if not info.exclude}


def check(schema: Any, shown: Any) -> None:
    """Check that one object has the fields that its model declares, and its team those of its own."""
    assert set(shown) == declared(schema)
    if "team" in shown:
        assert set(shown["team"]) == {"title"}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=schemas())
def test_a_reader_shows_what_is_declared(session: Any, schema: Any) -> None:
    """As models, as JSON, as lines; and no column that is not shown is asked for."""
    reader = Repository(session, Person).into(schema)
    page = PageQuery(size=5)
    made = [json.loads(each.model_dump_json(by_alias=True)) for each in reader.order_by(Person.id).all()]
    ways = [
        made,
        json.loads(reader.json().all()),
        json.loads(reader.json().page(page))["items"],
        json.loads(reader.json().slice(page))["items"],
        [json.loads(reader.json().get_one(key)) for key in (1, 2)],
        [json.loads(line) for part in reader.json().stream(batch=1) for line in part.splitlines()],
        json.loads(Page[schema].model_validate(reader.page(page)).model_dump_json(by_alias=True))["items"],
    ]

    for way in ways:
        assert len(way) == 2
        for shown in way:
            check(schema, shown)
    assert SECRET not in json.dumps(ways)
    assert not {"password", "token", "master_key"} & {*reader.explain().replace(",", " ").replace(".", " ").split()}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=schemas().filter(lambda schema: "team" not in schema.model_fields))
def test_a_table_shows_what_is_declared(session: Any, schema: Any) -> None:
    """The columns are those of the JSON, in its order."""
    reader = Repository(session, Person).into(schema)
    table = CsvProjection.of_rows(reader._projection, escape=True)
    lines, after = table.lines(session, 5, None, None)

    assert table.head.decode().strip().split(",") == [*json.loads(reader.json().get_one(1))]
    assert (len(lines.splitlines()), after) == (2, None)
    assert SECRET not in lines.decode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schema=schemas().filter(lambda schema: "team" not in schema.model_fields))
def test_an_object_read_by_a_model_shows_what_is_declared(session: Any, schema: Any) -> None:
    """A model with `extra="allow"` takes nothing of an entity but what it names, whatever class the entity is of."""
    if not schema.model_config.get("from_attributes"):
        schema = create_model("FromObject", __base__=(schema, Schema))
    for person in Repository(session, Person).all():
        check(schema, json.loads(schema.model_validate(person).model_dump_json(by_alias=True)))


class Short(Schema):
    """What is shown."""

    name: str


class Long(Short):
    """A subclass that shows more."""

    password: str


@pytest.mark.parametrize("direct", [False, True])
async def test_an_endpoint_shows_what_is_declared(tmp_path: Any, direct: bool) -> None:
    """By `found`, by a page, by each stream; also where it returns an object of a subclass of its response model."""
    async with AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path}/office.db") as database:
        await database.create_all(Base.metadata)
        async with Office.serving(database) as office, office.begin():
            office.people.add_all(rows_of())
        app, factory = FastAPI(), UnitFactory(Office, database)
        install(app, {Office: database})
        if direct:
            app.router.route_class = DirectRoute
        add_routes(app, factory)
        texts = [
            (await answer(app, path)).text for path in ("/found/1", "/long/2", "/page", "/json", "/ndjson", "/csv")
        ]

    assert all("Ada" in each or "Bob" in each for each in texts), texts
    assert not any(SECRET in each or "password" in each for each in texts)


def add_routes(app: FastAPI, factory: Any) -> None:
    """Give an app a route for each way out."""

    async def one(person: Annotated[Short, found(Office.people, Short)]) -> Short:
        return person

    async def more(person: Annotated[Long, found(Office.people, Long)]) -> Short:
        return person

    async def page(office: Annotated[Office, unit_of_work(Office)]) -> Page[Short]:
        return await office.people.into(Long).page(PageQuery())  # type: ignore[return-value]

    app.get("/found/{person_id}")(one)
    app.get("/long/{person_id}")(more)
    app.get("/page")(page)
    for name, stream in (("json", stream_json), ("ndjson", stream_ndjson), ("csv", stream_csv)):
        app.get(f"/{name}")(lambda stream=stream: stream(factory, lambda office: office.people.into(Short)))
