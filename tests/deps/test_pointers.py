"""A constraint of the database points to what the request calls the column."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from apps import answer, problem_of
from fastapi import APIRouter, Body, FastAPI
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from sqlalchemy import CheckConstraint, ForeignKey, Index, MetaData, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from fastkit import NAMING_CONVENTION, AsyncDatabase, AsyncRepository, AsyncUnitOfWork
from fastkit.deps import DirectRoute, install, transaction
from fastkit.errors import ConstraintError

pytestmark = pytest.mark.anyio


class Base(DeclarativeBase):
    """The tables of this file."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class Member(Base):
    """Somebody, with columns that are not called as their attributes are, and an owner that no client names."""

    __tablename__ = "member"
    __table_args__ = (
        UniqueConstraint("tenant_id", "mail_address"),
        UniqueConstraint("nick", info={"pointer": "/profile/nick", "detail": "This nick is taken."}),
        CheckConstraint("years >= 0", name="years", info={"detail": "Nobody is that young."}),
        Index("ix_badge", "badge", unique=True, info={"pointer": "/badge~number"}),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[int]
    email: Mapped[str] = mapped_column("mail_address")
    phone_number: Mapped[str | None] = mapped_column(unique=True)
    nick: Mapped[str | None]
    badge: Mapped[str | None]
    years: Mapped[int] = mapped_column(default=1)
    boss_id: Mapped[int | None] = mapped_column(ForeignKey("member.id"))


class Club(AsyncUnitOfWork):
    """Its members."""

    members: AsyncRepository[Member]


Deal = Annotated[Club, transaction(Club)]
TAKEN = {"email": "a@b.c", "phone_number": "1", "nick": "ada", "badge": "b1"}


class Camel(BaseModel):
    """A body in the words of JavaScript."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    email: str | None = None
    phone_number: str | None = None
    years: int = 1
    boss_id: int | None = None


class Contact(BaseModel):
    """A part of a body, with two names for one field."""

    phone_number: str | None = Field(None, validation_alias=AliasChoices("tel", AliasPath("phones", 0)))


class Profile(BaseModel):
    """A part of a body that has the field, too, deeper down."""

    contact: Contact = Contact()


class Nested(BaseModel):
    """A body whose fields are in parts of it."""

    email: str = ""
    contact: Contact | None = None
    others: list[Contact] = []
    profile: Profile | None = None


class Twice(BaseModel):
    """A body with two places for one field."""

    home: Contact | None = None
    office: Contact | None = None


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[AsyncDatabase]:
    """Return a database with one member."""
    database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'club.db'}")
    await database.create_all(Base.metadata)
    async with Club(database) as club:
        club.members.add(Member(id=1, tenant_id=1, **TAKEN))
        await club.commit()
    yield database
    await database.close()


@pytest.fixture(params=[None, DirectRoute], ids=["stock", "direct"])
def app(database: AsyncDatabase, request: pytest.FixtureRequest) -> FastAPI:  # noqa: C901 - one route for each shape
    """Return an app that stores a member with what it is told, in several shapes."""
    app = FastAPI()
    install(app, {Club: database})
    router = APIRouter(prefix="/v1", **({"route_class": request.param} if request.param else {}))

    async def store(club: Club, **values: Any) -> None:
        values.setdefault("email", "x@y.z")
        club.members.add(Member(tenant_id=1, **values))

    @router.post("/camel")
    async def camel(body: Camel, club: Deal) -> None:
        await store(club, **body.model_dump(exclude_none=True))

    @router.post("/nested")
    async def nested(body: Nested, club: Deal) -> None:
        parts = [body.contact, body.profile.contact if body.profile else None, *body.others]
        await store(club, phone_number=next((each.phone_number for each in parts if each), None))

    @router.post("/twice")
    async def twice(body: Twice, club: Deal) -> None:
        await store(club, phone_number="1")

    @router.post("/embedded")
    async def embedded(member: Camel, badge: Annotated[str, Body(alias="badgeNumber")], club: Deal) -> None:
        await store(club, **member.model_dump(exclude_none=True), nick=badge)

    @router.post("/plain")
    async def plain(body: dict[str, Any], club: Deal) -> None:
        await store(club, **body)

    @router.post("/many")
    async def many(body: list[Camel], club: Deal) -> None:
        for each in body:
            await store(club, **each.model_dump(exclude_none=True))

    @router.put("/members/{phone_number}")
    async def parameters(phone_number: str, email: str, club: Deal) -> None:
        await store(club, phone_number=phone_number, email=email)

    @router.post("/nothing")
    async def nothing(club: Deal) -> None:
        await store(club, **TAKEN | {"phone_number": None, "nick": None, "badge": None})

    @router.post("/badge")
    async def badge(club: Deal) -> None:
        await store(club, badge="b1")

    app.include_router(router)
    return app


async def entries(app: FastAPI, path: str, body: Any = None, *, method: str = "POST") -> list[dict[str, str]]:
    """Return what a conflict says of the places in the request."""
    told = problem_of(await answer(app, f"/v1{path}", method, **({} if body is None else {"json": body})))
    assert told["status"] in {409, 422}
    assert not any(word in str(told) for word in ("tenant", "mail_address"))
    errors: list[dict[str, str]] = told.get("errors", [])
    assert all(error["detail"] == told["detail"] for error in errors)
    return [{name: value for name, value in error.items() if name != "detail"} for error in errors]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/camel", {"email": "a@b.c"}, "/email"),
        ("/camel", {"phoneNumber": "1"}, "/phoneNumber"),
        ("/camel", {"phone_number": "1"}, "/phone_number"),
        ("/nested", {"contact": {"tel": "1"}}, "/contact/tel"),
        ("/nested", {"contact": {"phones": ["1"]}}, "/contact/phones/0"),
        ("/embedded", {"member": {"phoneNumber": "1"}, "badgeNumber": "x"}, "/member/phoneNumber"),
        ("/plain", {"phone_number": "1"}, "/phone_number"),
    ],
)
async def test_a_column_is_told_by_the_name_that_was_sent(app: FastAPI, path: str, body: Any, pointer: str) -> None:
    """Attribute, alias, either of several names, a part of the body: always a place that the body has."""
    assert await entries(app, path, body) == [{"pointer": pointer}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/twice", {"home": {"tel": "1"}, "office": {"tel": "1"}}),
        ("/twice", {"home": None}),
        ("/many", [{"phoneNumber": "1"}]),
        ("/nested", {"others": [{"tel": "1"}]}),
        ("/nothing", None),
        ("/badge", None),
    ],
)
async def test_what_has_no_one_place_has_no_pointer(app: FastAPI, path: str, body: Any) -> None:
    """Two places, a part that was not sent, a place in a list, no body at all: nothing is made up."""
    assert await entries(app, path, body) == []


async def test_of_two_places_the_one_that_was_sent_counts(app: FastAPI) -> None:
    """What the body has decides between them."""
    assert await entries(app, "/twice", {"office": {"tel": "1"}}) == [{"pointer": "/office/tel"}]
    assert await entries(app, "/nested", {"profile": {"contact": {"phones": ["1"]}}}) == [
        {"pointer": "/profile/contact/phones/0"}
    ]


async def test_a_body_that_has_not_what_the_app_made_of_it(app: FastAPI) -> None:
    """A dict has no schema, so only what was sent has a place."""
    first = await answer(app, "/v1/plain", "POST", json={})

    assert first.status_code == 200
    assert await entries(app, "/plain", {"phone_number": "2"}) == []


async def test_a_parameter_is_told_by_its_name(app: FastAPI) -> None:
    """What came in the path or in the query is no place in a body."""
    assert await entries(app, "/members/1?email=new", method="PUT") == [{"in": "path", "parameter": "phone_number"}]
    assert await entries(app, "/members/2?email=a@b.c", method="PUT") == [{"in": "query", "parameter": "email"}]


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/camel", {"email": "a@b.c"}, "Another member with the same email exists already."),
        ("/camel", {"phoneNumber": "1"}, "Another member with the same phoneNumber exists already."),
        ("/members/1?email=new", None, "Another member with the same phone_number exists already."),
        ("/nothing", None, "Another member with the same value exists already."),
        ("/embedded", {"member": {}, "badgeNumber": "ada"}, "This nick is taken."),
        ("/camel", {"years": -1}, "Nobody is that young."),
        ("/badge", None, "Another member with the same value exists already."),
    ],
)
async def test_the_detail_is_in_the_words_of_the_request(app: FastAPI, path: str, body: Any, detail: str) -> None:
    """Names that the client does not know, such as that of the scope, are left out; the app's own words stay."""
    method = "PUT" if path.startswith("/members") else "POST"
    told = problem_of(await answer(app, f"/v1{path}", method, **({} if body is None else {"json": body})))

    assert told["detail"] == detail


async def test_a_constraint_says_itself_where_it_points_to(app: FastAPI) -> None:
    """By `info`, word for word; where no body was sent, nobody is pointed into one."""
    assert await entries(app, "/embedded", {"member": {}, "badgeNumber": "ada"}) == [{"pointer": "/profile/nick"}]
    assert await entries(app, "/plain", {"badge": "b1"}) == [{"pointer": "/badge~number"}]
    assert await entries(app, "/badge") == []


async def test_a_check_points_to_its_column(app: FastAPI) -> None:
    """With the words that it has for itself."""
    assert await entries(app, "/camel", {"years": -1}) == [{"pointer": "/years"}]


async def test_a_row_that_is_pointed_to_stays_unnamed(database: AsyncDatabase) -> None:
    """The columns of the rows that still point to a row are not of the request."""
    app = FastAPI()
    install(app, {Club: database})

    @app.delete("/members/{key}")
    async def delete(key: int, boss_id: int, club: Deal) -> None:
        await club.members.bulk.delete(Member.id == key)

    async with Club(database) as club:
        club.members.add(Member(id=2, tenant_id=1, email="b", boss_id=1))
        await club.commit()

    told = problem_of(await answer(app, "/members/1?boss_id=1", "DELETE"))

    assert told["status"] == 409
    assert told["type"].endswith(":foreign-key")
    assert "errors" not in told


async def test_without_a_route_the_names_of_attributes_are_not_known() -> None:
    """Outside of a request an error has the names of the database, and the words of its constraint."""
    error = ConstraintError("Taken.", table="member", columns=["mail_address"])

    assert error.members() == {"errors": [{"detail": "Taken.", "pointer": "/mail_address"}]}
    assert error.worded(["email"]) == "Taken."
    error.pointer = "/e-mail"
    assert error.members() == {"errors": [{"detail": "Taken.", "pointer": "/e-mail"}]}
