"""Models as people have them, with rows: what readers read in `test_reader_shapes`."""

from __future__ import annotations

import enum
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    String,
    Table,
    TypeDecorator,
    Uuid,
    func,
    join,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.associationproxy import AssociationProxy, association_proxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    MappedAsDataclass,
    Session,
    WriteOnlyMapped,
    aliased,
    column_property,
    composite,
    configure_mappers,
    deferred,
    mapped_column,
    registry,
    relationship,
    synonym,
)

from bookshop.models import UtcDateTime


class Base(DeclarativeBase):
    """The base of all of them."""

    metadata = MetaData()


# -- composite keys


class Region(Base):
    """A parent whose key has two columns."""

    __tablename__ = "rs_region"

    country: Mapped[str] = mapped_column(String(2), primary_key=True)
    code: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    cities: Mapped[list[City]] = relationship(back_populates="region")
    capital: Mapped[Capital | None] = relationship()


class Capital(Base):
    """A relation to one row that is unique by an index, and one through a join of two tables."""

    __tablename__ = "rs_capital"
    __table_args__ = (
        ForeignKeyConstraint(["country", "code"], ["rs_region.country", "rs_region.code"]),
        Index("rs_capital_region", "country", "code", unique=True),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    country: Mapped[str] = mapped_column(String(2))
    code: Mapped[int]
    sights: Mapped[list[Sight]] = relationship()
    guides: Mapped[list[Guide]] = relationship(
        secondary=lambda: join(Sight.__table__, Tour.__table__, Sight.id == Tour.sight_id),
        primaryjoin=lambda: Capital.id == Sight.capital_id,
        secondaryjoin=lambda: Guide.id == Tour.guide_id,
        viewonly=True,
    )
    sights_of_old: Mapped[list[Sight]] = relationship(
        lambda: aliased(Sight, select(Sight).where(Sight.id < 2).subquery()), viewonly=True
    )


class Sight(Base):
    """One table of the join."""

    __tablename__ = "rs_sight"

    id: Mapped[int] = mapped_column(primary_key=True)
    capital_id: Mapped[int] = mapped_column(ForeignKey("rs_capital.id"))


class Tour(Base):
    """The other one."""

    __tablename__ = "rs_tour"

    id: Mapped[int] = mapped_column(primary_key=True)
    sight_id: Mapped[int] = mapped_column(ForeignKey("rs_sight.id"))
    guide_id: Mapped[int] = mapped_column(ForeignKey("rs_guide.id"))


class Guide(Base):
    """Who leads tours."""

    __tablename__ = "rs_guide"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))


class City(Base):
    """A child whose key holds that of its parent."""

    __tablename__ = "rs_city"
    __table_args__ = (ForeignKeyConstraint(["country", "code"], ["rs_region.country", "rs_region.code"]),)

    country: Mapped[str] = mapped_column(String(2), primary_key=True)
    code: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    region: Mapped[Region] = relationship(back_populates="cities")


# -- many to many: by a table, by an association object, and through it without it


ARTICLE_TAG = Table(
    "rs_article_tag",
    Base.metadata,
    Column("article_id", ForeignKey("rs_article.id"), primary_key=True),
    Column("tag_id", ForeignKey("rs_tag.id"), primary_key=True),
)


class Article(Base):
    """A page with tags."""

    __tablename__ = "rs_article"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20))
    tags: Mapped[list[Tag]] = relationship(secondary=ARTICLE_TAG, back_populates="articles")


class Tag(Base):
    """A word for pages; the weight has ties."""

    __tablename__ = "rs_tag"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    weight: Mapped[int]
    articles: Mapped[list[Article]] = relationship(secondary=ARTICLE_TAG, back_populates="tags")


class Playlist(Base):
    """Tracks by their places, the same one twice if somebody likes it."""

    __tablename__ = "rs_playlist"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    entries: Mapped[list[Entry]] = relationship(back_populates="playlist", order_by="Entry.position")
    tracks: Mapped[list[Track]] = relationship(secondary="rs_entry", viewonly=True, order_by="Entry.position")
    titles: AssociationProxy[list[str]] = association_proxy("tracks", "title")


class Entry(Base):
    """The association object."""

    __tablename__ = "rs_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    playlist_id: Mapped[int] = mapped_column(ForeignKey("rs_playlist.id"))
    track_id: Mapped[int] = mapped_column(ForeignKey("rs_track.id"))
    position: Mapped[int]
    playlist: Mapped[Playlist] = relationship(back_populates="entries")
    track: Mapped[Track] = relationship()


class Track(Base):
    """What is on playlists."""

    __tablename__ = "rs_track"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(20))
    seconds: Mapped[int]


# -- self-references


FRIENDS = Table(
    "rs_friend",
    Base.metadata,
    Column("one_id", ForeignKey("rs_node.id"), primary_key=True),
    Column("other_id", ForeignKey("rs_node.id"), primary_key=True),
)


class Node(Base):
    """A tree, and a graph across it."""

    __tablename__ = "rs_node"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    rank: Mapped[int]
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("rs_node.id"))
    parent: Mapped[Node | None] = relationship(back_populates="children", remote_side="Node.id")
    children: Mapped[list[Node]] = relationship(back_populates="parent")
    friends: Mapped[list[Node]] = relationship(
        secondary=FRIENDS,
        primaryjoin=lambda: Node.id == FRIENDS.c.one_id,
        secondaryjoin=lambda: Node.id == FRIENDS.c.other_id,
    )


# -- inheritance


class Company(Base):
    """Who employs people of several classes."""

    __tablename__ = "rs_company"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    staff: Mapped[list[Person]] = relationship(back_populates="company")
    engineers: Mapped[list[Engineer]] = relationship(viewonly=True)


PERSON_TAG = Table(
    "rs_person_tag",
    Base.metadata,
    Column("person_id", ForeignKey("rs_person.id")),  # no key: the same pair may be there twice, and is
    Column("tag_id", ForeignKey("rs_tag.id")),
)


class Person(Base):
    """The base of joined inheritance."""

    __tablename__ = "rs_person"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "person"}  # noqa: RUF012 - SQLAlchemy's own

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(20))
    company_id: Mapped[int | None] = mapped_column(ForeignKey("rs_company.id"))
    company: Mapped[Company | None] = relationship(back_populates="staff")
    notes: Mapped[list[Note]] = relationship(back_populates="person")
    tags: Mapped[list[Tag]] = relationship(secondary=PERSON_TAG, order_by="Tag.name.desc()")


class Engineer(Person):
    """The child: its row is in two tables."""

    __tablename__ = "rs_engineer"
    __mapper_args__ = {"polymorphic_identity": "engineer"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(ForeignKey("rs_person.id"), primary_key=True)
    skill: Mapped[str] = mapped_column(String(20))
    machines: Mapped[list[Machine]] = relationship(back_populates="engineer")


class Note(Base):
    """What is said of any person."""

    __tablename__ = "rs_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(20))
    person_id: Mapped[int] = mapped_column(ForeignKey("rs_person.id"))
    person: Mapped[Person] = relationship(back_populates="notes")


class Machine(Base):
    """What an engineer works at."""

    __tablename__ = "rs_machine"

    id: Mapped[int] = mapped_column(primary_key=True)
    watts: Mapped[int]
    engineer_id: Mapped[int | None] = mapped_column(ForeignKey("rs_engineer.id"))
    engineer: Mapped[Engineer | None] = relationship(back_populates="machines")


class Depot(Base):
    """Where vehicles stand, trucks among them."""

    __tablename__ = "rs_depot"

    id: Mapped[int] = mapped_column(primary_key=True)
    vehicles: Mapped[list[Vehicle]] = relationship(back_populates="depot")
    trucks: Mapped[list[Truck]] = relationship(viewonly=True)


class Vehicle(Base):
    """The base of single-table inheritance."""

    __tablename__ = "rs_vehicle"
    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "vehicle"}  # noqa: RUF012 - same

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    depot_id: Mapped[int | None] = mapped_column(ForeignKey("rs_depot.id"))
    depot: Mapped[Depot | None] = relationship(back_populates="vehicles")


class Truck(Vehicle):
    """The child: some of the rows."""

    __mapper_args__ = {"polymorphic_identity": "truck"}  # noqa: RUF012 - same

    load: Mapped[int | None]


# -- to one


class Land(Base):
    """The end of a chain, with an ordered relation and one of its own condition."""

    __tablename__ = "rs_land"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    towns: Mapped[list[Town]] = relationship(back_populates="land", order_by="Town.size.desc()")
    large: Mapped[list[Town]] = relationship(
        primaryjoin="and_(Town.land_id == Land.id, Town.size > 100)", viewonly=True, order_by="Town.name"
    )


class Town(Base):
    """The middle of a chain; several share a postcode, and many readings are of one postcode."""

    __tablename__ = "rs_town"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(20))
    size: Mapped[int]
    postcode: Mapped[str | None] = mapped_column(String(5))
    land_id: Mapped[int] = mapped_column(ForeignKey("rs_land.id"))
    land: Mapped[Land] = relationship(back_populates="towns")
    weather: Mapped[Weather | None] = relationship(
        primaryjoin="foreign(Town.postcode) == Weather.postcode", viewonly=True, order_by="Weather.id"
    )


class Weather(Base):
    """Readings, of which a postcode has several; no key says that there is one."""

    __tablename__ = "rs_weather"

    id: Mapped[int] = mapped_column(primary_key=True)
    postcode: Mapped[str] = mapped_column(String(5))
    degrees: Mapped[int]


class Address(Base):
    """The start of the chain."""

    __tablename__ = "rs_address"

    id: Mapped[int] = mapped_column(primary_key=True)
    street: Mapped[str] = mapped_column(String(20))
    town_id: Mapped[int | None] = mapped_column(ForeignKey("rs_town.id"))
    town: Mapped[Town | None] = relationship()


class Parcel(Base):
    """Two relationships to one table, of which one may be missing."""

    __tablename__ = "rs_parcel"

    id: Mapped[int] = mapped_column(primary_key=True)
    sender_id: Mapped[int] = mapped_column(ForeignKey("rs_address.id"))
    receiver_id: Mapped[int | None] = mapped_column(ForeignKey("rs_address.id"))
    sender: Mapped[Address] = relationship(foreign_keys=[sender_id])
    receiver: Mapped[Address | None] = relationship(foreign_keys=[receiver_id])


class User(Base):
    """One-to-one from the side without the foreign key, once unique and once not."""

    __tablename__ = "rs_user"

    id: Mapped[int] = mapped_column(primary_key=True)
    profile: Mapped[Profile | None] = relationship(back_populates="user")
    badge: Mapped[Badge | None] = relationship(uselist=False, viewonly=True, order_by="Badge.id.desc()")
    badges: Mapped[list[Badge]] = relationship()


class Profile(Base):
    """At most one for each user, says the table."""

    __tablename__ = "rs_profile"

    id: Mapped[int] = mapped_column(primary_key=True)
    bio: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[int] = mapped_column(ForeignKey("rs_user.id"), unique=True)
    user: Mapped[User] = relationship(back_populates="profile")


class Badge(Base):
    """At most one for each user, says only the model; it has marks."""

    __tablename__ = "rs_badge"

    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(String(20))
    user_id: Mapped[int] = mapped_column(ForeignKey("rs_user.id"))
    marks: Mapped[list[Mark]] = relationship()


class Mark(Base):
    """What is on a badge."""

    __tablename__ = "rs_mark"

    id: Mapped[int] = mapped_column(primary_key=True)
    badge_id: Mapped[int] = mapped_column(ForeignKey("rs_badge.id"))


# -- columns


class Colour(enum.Enum):
    """Stored by name: of a native type, and as text."""

    RED = "red"
    BLUE = "blue"


class Lower(TypeDecorator[str]):
    """Text that is read in capitals and stored in small letters."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Any) -> str | None:
        """Return what is stored."""
        return value and value.lower()

    def process_result_value(self, value: str | None, dialect: Any) -> str | None:
        """Return what is read."""
        return value and value.upper()


class Size:
    """Two columns as one value."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height

    def __composite_values__(self) -> tuple[int, int]:
        """Return the columns."""
        return self.width, self.height


class Gadget(Base):
    """One column of each kind."""

    __tablename__ = "rs_gadget"

    id: Mapped[uuid.UUID] = mapped_column(Uuid, primary_key=True)
    label: Mapped[str] = mapped_column("the label", String(20))
    order: Mapped[int] = mapped_column("order")
    select: Mapped[int] = mapped_column("select")
    class_: Mapped[str] = mapped_column("class", String(20))
    secret: Mapped[str] = deferred(mapped_column(String(20)))
    shout: Mapped[str] = mapped_column(Lower)
    native: Mapped[Colour] = mapped_column(Enum(Colour, name="rs_colour"))
    plain: Mapped[Colour] = mapped_column(Enum(Colour, native_enum=False, length=10))
    data: Mapped[dict[str, Any]] = mapped_column(JSON)
    absent: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    made_at: Mapped[datetime] = mapped_column(UtcDateTime)
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    stock: Mapped[int] = mapped_column(default=7)
    width: Mapped[int] = mapped_column(default=2)
    height: Mapped[int] = mapped_column(default=3)
    size: Mapped[Size] = composite("width", "height")
    parts: Mapped[list[Part]] = relationship(order_by="Part.id")

    doubled: Mapped[int] = column_property(stock * 2)
    title: Mapped[str] = synonym("label")
    pieces: Mapped[list[Part]] = synonym("parts")

    @hybrid_property
    def worth(self) -> Decimal:
        """Arithmetic, which is an expression by itself."""
        return self.price * self.stock

    @hybrid_property
    def size_name(self) -> str:
        """Python, with an expression beside it."""
        return "many" if self.stock > 5 else "few"

    @size_name.inplace.expression
    @classmethod
    def _size_name(cls) -> Any:
        return func.coalesce(func.nullif(cls.stock > 5, False), False)

    @hybrid_property
    def shouted(self) -> str:
        """Python that no expression can be made of."""
        return self.label.upper()

    @hybrid_property
    def is_known(self) -> bool:
        """Python that is no expression but a plain True on the class."""
        return self.label is not None


class Part(Base):
    """What a gadget is made of."""

    __tablename__ = "rs_part"

    id: Mapped[int] = mapped_column(primary_key=True)
    gadget_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("rs_gadget.id"))
    weight: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    gadget: Mapped[Gadget] = relationship(viewonly=True)


Gadget.part_count = column_property(
    select(func.count(Part.id)).where(Part.gadget_id == Gadget.id).correlate_except(Part).scalar_subquery()
)


class OnPostgreSQL(DeclarativeBase):
    """The base of what only one database has."""

    metadata = MetaData()


class Listed(OnPostgreSQL):
    """A column that is a list."""

    __tablename__ = "rs_listed"

    id: Mapped[int] = mapped_column(primary_key=True)
    words: Mapped[list[str]] = mapped_column(ARRAY(String))


# -- mappings


class Dot(MappedAsDataclass, Base):
    """A mapped dataclass."""

    __tablename__ = "rs_dot"

    id: Mapped[int] = mapped_column(primary_key=True)
    x: Mapped[int] = mapped_column(default=0)


class Planet:
    """A class that knows nothing of SQLAlchemy."""

    id: Any
    name: Any
    moons: Any


class Moon:
    """Another one."""

    id: Any
    planet: Any


_planet = Table("rs_planet", Base.metadata, Column("id", Integer, primary_key=True), Column("name", String(20)))
_moon = Table(
    "rs_moon", Base.metadata, Column("id", Integer, primary_key=True), Column("planet_id", ForeignKey("rs_planet.id"))
)
_imperative = registry(metadata=Base.metadata)
_imperative.map_imperatively(Planet, _planet, properties={"moons": relationship(Moon, back_populates="planet")})
_imperative.map_imperatively(Moon, _moon, properties={"planet": relationship(Planet, back_populates="moons")})


class Crate(Base):
    """Related rows in every way of loading them."""

    __tablename__ = "rs_crate"

    id: Mapped[int] = mapped_column(primary_key=True)
    joined: Mapped[list[Item]] = relationship(lazy="joined", viewonly=True)
    selected: Mapped[list[Item]] = relationship(lazy="selectin", viewonly=True)
    dynamic: DynamicMapped[Item] = relationship(viewonly=True)
    written: WriteOnlyMapped[Item] = relationship(viewonly=True)


class Item(Base):
    """What is in a crate."""

    __tablename__ = "rs_item"

    id: Mapped[int] = mapped_column(primary_key=True)
    crate_id: Mapped[int] = mapped_column(ForeignKey("rs_crate.id"))
    crate: Mapped[Crate] = relationship(lazy="joined")


configure_mappers()

ONE = uuid.UUID(int=1)
TWO = uuid.UUID(int=2)
NOON = datetime(2024, 5, 6, 12, 0, 0, 123456, tzinfo=UTC)


def fill(session: Session) -> None:
    """Store the rows that the tests know."""
    for rows in (_places(), _words(), _nodes(), _people(), _addresses(), _things()):
        session.add_all(rows)
        session.commit()
    session.add_all(
        Tour(id=key, sight_id=sight, guide_id=guide) for key, sight, guide in ((1, 1, 2), (2, 2, 2), (3, 2, 1))
    )
    pairs = [(2, 1), (2, 2), (2, 1), (3, 4)]
    session.execute(PERSON_TAG.insert(), [{"person_id": person, "tag_id": tag} for person, tag in pairs])
    session.commit()


def _places() -> list[Any]:
    return [
        Region(country="de", code=1, name="Nord", cities=[City(number=2, name="B"), City(number=1, name="A")]),
        Region(country="de", code=2, name="Sued", cities=[City(number=1, name="C")]),
        Region(country="fr", code=1, name="Ouest", capital=Capital(id=1, sights=[Sight(id=1), Sight(id=2)])),
        Region(country="fr", code=2, name="Est", capital=Capital(id=2, sights=[Sight(id=3)])),
        Guide(id=1, name="Max"),
        Guide(id=2, name="Mia"),
    ]


def _words() -> list[Any]:
    a, b, c, d = (Tag(id=key, name="abcd"[key - 1], weight=weight) for key, weight in ((1, 1), (2, 2), (3, 2), (4, 1)))
    x, y = Track(id=1, title="x", seconds=10), Track(id=2, title="y", seconds=20)
    return [
        Article(id=1, title="first", tags=[d, c, b, a]),
        Article(id=2, title="second", tags=[b]),
        Article(id=3, title="third"),
        Playlist(
            id=1,
            name="loop",
            entries=[
                Entry(id=1, track=x, position=3),
                Entry(id=2, track=y, position=1),
                Entry(id=3, track=x, position=4),
            ],
        ),
        Playlist(id=2, name="once", entries=[Entry(id=4, track=x, position=1), Entry(id=5, track=y, position=2)]),
        Playlist(id=3, name="empty"),
    ]


def _nodes() -> list[Any]:
    leaves = [Node(id=4, name="aa", rank=1), Node(id=5, name="ab", rank=1), Node(id=6, name="ac", rank=2)]
    a, b = Node(id=2, name="a", rank=1, children=leaves), Node(id=3, name="b", rank=1)
    return [Node(id=1, name="root", rank=0, children=[a, b], friends=[b, *leaves]), b, *leaves]


def _people() -> list[Any]:
    ada = Engineer(id=2, name="Ada", skill="looms", machines=[Machine(id=1, watts=5), Machine(id=2, watts=7)])
    ada.notes = [Note(id=1, text="kind"), Note(id=2, text="quick")]
    eve = Engineer(id=3, name="Eve", skill="radio")
    bob = Person(id=1, name="Bob", notes=[Note(id=3, text="late")])
    return [
        Company(id=1, name="Acme", staff=[bob, ada, eve]),
        Company(id=2, name="Void"),
        Machine(id=3, watts=9),
        Depot(id=1, vehicles=[Vehicle(id=1), Truck(id=2, load=9), Truck(id=3, load=5)]),
        Depot(id=2, vehicles=[Vehicle(id=4)]),
    ]


def _addresses() -> list[Any]:
    land = Land(id=1, name="Oz")
    small, large = Town(id=1, name="small", size=5, land=land), Town(id=2, name="large", size=500, land=land)
    Town(id=3, name="larger", size=900, land=land, postcode="12345")
    small.postcode = "12345"
    near, far = Address(id=1, street="near", town=small), Address(id=2, street="far")
    return [
        large,
        Parcel(id=1, sender=near, receiver=far),
        Parcel(id=2, sender=near),
        Weather(id=1, postcode="12345", degrees=20),
        Weather(id=2, postcode="12345", degrees=30),
        User(id=1, profile=Profile(id=1, bio="hello")),
        User(id=2, badges=[Badge(id=1, label="old"), Badge(id=2, label="new", marks=[Mark(id=1), Mark(id=2)])]),
    ]


def _things() -> list[Any]:
    mars = Planet()
    mars.id, mars.name = 1, "Mars"
    mars.moons = [Moon(), Moon()]
    mars.moons[0].id, mars.moons[1].id = 1, 2
    crate = Crate(id=1)
    return [
        _gadget(ONE, parts=[Part(id=1, weight=Decimal("1.5")), Part(id=2, weight=Decimal("2.5"))]),
        _gadget(TWO, stock=1),
        Dot(id=1),
        mars,
        crate,
        Crate(id=2),
        Item(id=1, crate=crate),
        Item(id=2, crate=crate),
    ]


def _gadget(key: uuid.UUID, **more: Any) -> Gadget:
    return Gadget(
        id=key,
        label="lamp",
        order=1,
        select=2,
        class_="A",
        secret="s",
        shout="HEY",
        native=Colour.RED,
        plain=Colour.BLUE,
        data={"volts": 5, "ports": [1, 2]},
        price=Decimal("2.50"),
        made_at=NOON,
        raw=b"\x00\xff",
        **more,
    )
