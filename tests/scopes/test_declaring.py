"""What cannot be a scope, and models that would get around one; told before anything is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import (
    Column,
    ForeignKey,
    Integer,
    String,
    Table,
    TypeDecorator,
    exists,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    update,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    column_property,
    foreign,
    mapped_column,
    query_expression,
    relationship,
    remote,
    with_expression,
)

from fastkit.database import Database
from fastkit.deps import install
from fastkit.errors import DeclarationError, ScopeError
from fastkit.models import Scope, SoftDelete, soft_delete
from fastkit.repository import Repository
from fastkit.uow import UnitOfWork


@pytest.fixture
def database() -> Iterator[Database]:
    """Return a database in memory, which the connections share."""
    found = Database("sqlite:///file:/declaring?vfs=memdb&uri=true")
    yield found
    found.close()


def models() -> Any:
    """Return a base, and a class of it that has an owner."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "note"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]

    return Base, Note


def country_of(base: Any) -> Any:
    """Map one more class, which has no owner."""
    return type("Country", (base,), {"__tablename__": "country", "id": mapped_column(Integer, primary_key=True)})


def unit_of(model: Any, *scopes: Scope[Any]) -> Any:
    """Return a unit of work with one repository."""
    return type("Shop", (UnitOfWork,), {"__annotations__": {"rows": Repository[model]}}, scopes=scopes)


def test_what_is_no_scope() -> None:
    """A scope is about something, and a unit names objects."""
    base, note = models()

    with pytest.raises(DeclarationError, match=r"name the column that equals the value"):
        Scope("owner")
    with pytest.raises(DeclarationError, match="models= that it is about"):
        Scope("owner", where=lambda model, value: true())
    with pytest.raises(DeclarationError, match="leave exempt= out"):
        Scope("owner", "owner_id", models=[note], exempt=[base])
    with pytest.raises(DeclarationError, match="a list of Scope objects, not of 'owner'"):
        unit_of(note, "owner")  # type: ignore[arg-type]
    with pytest.raises(DeclarationError, match=r"scopes is a list, as in scopes=\[owner\]"):
        type("Shop", (UnitOfWork,), {}, scopes=Scope[int]("owner", "owner_id"))
    with pytest.raises(DeclarationError, match="name the column by a text"):
        Scope("owner", note.owner_id)
    for wrong in (["Note"], note, "Note"):
        with pytest.raises(DeclarationError, match=r"exempt= is a list of classes"):
            Scope("owner", "owner_id", exempt=wrong)  # type: ignore[arg-type]


def test_a_class_without_the_column(database: Database) -> None:
    """No class of the metadata is forgotten: it has the column, or it is exempt, or the scope names its models."""
    base, note = models()
    country = type(
        "Country", (base,), {"__tablename__": "country", "id": mapped_column(primary_key=True, type_=note.id.type)}
    )

    for scope in (Scope[int]("owner", "owner_id"), Scope[int]("owner", "owner_id", models=[note, country])):
        with pytest.raises(DeclarationError, match=r"Country has no column 'owner_id'.*exempt=\[Country\]"):
            unit_of(note, scope)(database)
    database.create_all(base.metadata)
    for scope in (Scope[int]("owner", "owner_id", exempt=[country]), Scope[int]("owner", "owner_id", models=[note])):
        with unit_of(note, scope)(database).scoped(scope, 1) as shop:
            assert (shop.rows.count(), shop.session.scalars(select(country)).all()) == (0, [])


def test_a_class_that_is_exempt_though_it_has_the_column(database: Database) -> None:
    """Its rows are for everybody, because it is said so."""
    base, note = models()

    class Notice(base):  # type: ignore[misc, valid-type]
        __tablename__ = "notice"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]

    scope = Scope[int]("owner", "owner_id", exempt=[Notice])
    database.create_all(base.metadata)
    with Session(database.engine) as session:
        session.add_all([Notice(id=1, owner_id=1), Notice(id=2, owner_id=2), note(id=1, owner_id=2)])
        session.commit()

    with unit_of(Notice, scope)(database).scoped(scope, 1) as shop:
        assert shop.rows.count() == 2
        assert shop.session.scalars(select(note)).all() == []


def test_a_class_that_is_mapped_later(database: Database) -> None:
    """A class that was mapped since the last unit is looked at by the next one."""
    base, note = models()
    scope = Scope[int]("owner", "owner_id")
    unit = unit_of(note, scope)
    unit(database)
    _country = country_of(base)  # kept: a registry keeps no class alive
    base.registry.configure()

    with pytest.raises(DeclarationError, match="Country has no column"):
        unit(database)


def test_a_column_that_is_none(database: Database) -> None:
    """An expression can be compared, but not written."""
    _, note = models()
    note.twice = column_property(note.owner_id * 2)

    with pytest.raises(DeclarationError, match=r"Note\.twice is no column of a table"):
        unit_of(note, Scope[int]("twice", "twice"))(database)


def test_scopes_of_other_units(database: Database) -> None:
    """A unit is told the scopes of its class only."""
    _, note = models()
    scope, other = Scope[int]("owner", "owner_id"), Scope[int]("tenant", "tenant_id")

    with pytest.raises(DeclarationError, match="Shop has no scope 'owner'"):
        unit_of(note)(database).scoped(scope, 1)
    with pytest.raises(DeclarationError, match=r"is no scope of this unit of work, which has owner, soft_delete"):
        unit_of(note, scope)(database).scoped(other, 1)
    with pytest.raises(DeclarationError, match="Shop has no scope"):
        unit_of(note)(database).unscoped(soft_delete, reason="x")


def test_a_criterion_that_is_another_one_each_time(database: Database) -> None:
    """A scope whose value is the same for all units is made anew for each of them, if there is a value in it."""
    _, note = models()
    least = iter(range(1, 100))
    scope = Scope[None]("recent", where=lambda model, _: model.id >= next(least), models=[note], value=None)
    note.metadata.create_all(database.engine)
    with Session(database.engine) as session:
        session.add_all(note(id=key, owner_id=1) for key in range(1, 7))
        session.commit()

    found = []
    for _ in range(3):
        with unit_of(note, scope)(database) as shop:
            found.append(shop.rows.order_by(note.id).first().id)
    assert found == sorted(set(found))


def test_a_unit_below_a_unit_has_its_scopes(database: Database) -> None:
    """A subclass adds scopes, and cannot lose any."""
    _, note = models()
    first, second = Scope[int]("owner", "owner_id"), Scope[int]("reader", "id", models=[note])
    unit = unit_of(note, first)
    below: Any = type("Below", (unit,), {}, scopes=[second])
    database.create_all(note.metadata)

    with below(database).scoped(second, 1) as shop, pytest.raises(ScopeError, match="'owner'"):
        shop.rows.all()


def test_a_relationship_through_a_scoped_table(database: Database) -> None:
    """SQLAlchemy adds no criteria to the table between, so hidden rows of it would lead on."""
    base, note = models()

    class Tagging(SoftDelete, base):  # type: ignore[misc, valid-type]
        __tablename__ = "tagging"
        note_id: Mapped[int] = mapped_column(ForeignKey("note.id"), primary_key=True)
        tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)

    class Tag(base):  # type: ignore[misc, valid-type]
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)
        notes = relationship(note, secondary=Tagging.__table__, viewonly=True)

    with pytest.raises(DeclarationError, match=r"Tag\.notes goes through the table of Tagging"):
        unit_of(Tag)(database)


def test_a_table_between_without_a_class(database: Database) -> None:
    """It could relate what the scope keeps apart: it has the column, or is said to be for everybody."""
    base, note = models()
    between = Table("between", base.metadata, *(Column(name, ForeignKey("note.id")) for name in ("one", "other")))
    note.others = relationship(
        note, secondary=between, primaryjoin=note.id == between.c.one, secondaryjoin=note.id == between.c.other
    )

    with pytest.raises(DeclarationError, match=r"goes through the table between, which has no column 'owner_id'"):
        unit_of(note, Scope[int]("owner", "owner_id"))(database)
    unit_of(note, Scope[int]("owner", "owner_id", exempt=[between]))(database)
    unit_of(note, Scope[int]("owner", "owner_id", models=[note]))(database)


def test_an_attribute_past_a_scope(database: Database) -> None:
    """A column_property that reads a table is told when the unit is made, not when somebody is shown too much."""
    _, note = models()
    table = note.__table__
    note.all = column_property(select(func.count(table.alias().c.id)).scalar_subquery())

    with pytest.raises(DeclarationError, match=r"Note\.all: The table note has the scope 'owner'"):
        unit_of(note, Scope[int]("owner", "owner_id"))(database)

    _, note = models()
    other = aliased(note)
    note.before = column_property(select(func.count(other.id)).where(other.id < note.id).scalar_subquery())
    scope = Scope[int]("owner", "owner_id")
    note.metadata.create_all(database.engine)
    with Session(database.engine) as session:
        session.add_all(note(id=key, owner_id=key % 2) for key in range(1, 7))
        session.commit()

    with unit_of(note, scope)(database).scoped(scope, 1) as shop:
        assert [(row.id, row.before) for row in shop.rows.order_by(note.id).all()] == [(1, 0), (3, 1), (5, 2)]


def test_a_class_of_another_base(database: Database) -> None:
    """A class that the unit does not know is not read past a scope that is about it."""
    _, note = models()
    _, stranger = models()
    scope = Scope[int]("owner", "owner_id")

    with (
        unit_of(note, scope)(database).scoped(scope, 1) as shop,
        pytest.raises(ScopeError, match="in no registry of this unit's models"),
    ):
        shop.session.execute(select(stranger))
    with unit_of(note, scope)(database).scoped(scope, 1) as shop:
        shop.session.add(stranger(id=1, owner_id=2))
        with pytest.raises(ScopeError, match="in no registry of this unit's models"):
            shop.session.flush()
        shop.rollback()


class Hexadecimal(TypeDecorator[int]):
    """A number that is kept as a text."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> str | None:
        """Return the text."""
        return None if value is None else f"{value:x}"

    def process_result_value(self, value: str | None, dialect: Any) -> int | None:
        """Return the number."""
        return None if value is None else int(value, 16)


def test_a_value_as_the_column_keeps_it(database: Database) -> None:
    """The value is converted as any other of the column, in criteria and in new rows."""

    class Base(DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "hexed"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int] = mapped_column(Hexadecimal)

    scope = Scope[int]("owner", "owner_id")
    database.create_all(Base.metadata)
    with unit_of(Note, scope)(database).scoped(scope, 31).begin() as shop:
        shop.rows.add(Note(id=1))
    for value, expected in ((31, 1), (30, 0)):
        with unit_of(Note, scope)(database).scoped(scope, value) as shop:
            assert shop.rows.count() == expected
    with database.engine.connect() as connection:
        assert connection.scalar(select(literal_column("owner_id")).select_from(text("hexed"))) == "1f"


def test_a_condition_past_a_scope(database: Database) -> None:
    """A relationship whose condition reads a table is told when the unit is made."""
    _, note = models()
    table = note.__table__
    newest = select(func.max(table.alias().c.id)).scalar_subquery()
    note.newest = relationship(
        note, primaryjoin=(foreign(note.owner_id) == remote(note.owner_id)) & (remote(note.id) == newest), viewonly=True
    )

    with pytest.raises(DeclarationError, match=r"Note\.newest: The table note has the scope 'owner'"):
        unit_of(note, Scope[int]("owner", "owner_id"))(database)


def test_an_expression_that_is_loaded(database: Database) -> None:
    """with_expression() gets no criteria: it may be about the row itself, and about no other one."""
    _, note = models()
    note.more = query_expression()
    other, scope = aliased(note), Scope[int]("owner", "owner_id")
    earlier = select(func.count(other.id)).where(other.id < note.id).scalar_subquery()
    database.create_all(note.metadata)
    with Session(database.engine) as session:
        session.add(note(id=1, owner_id=1))
        session.commit()

    with unit_of(note, scope)(database).scoped(scope, 1) as shop:
        with pytest.raises(ScopeError):
            shop.session.execute(select(note).options(with_expression(note.more, earlier)))
        (found,) = shop.session.scalars(select(note).options(with_expression(note.more, note.id + 1)))
        assert found.more == 2


def test_a_class_whose_other_table_has_the_column(database: Database) -> None:
    """An UPDATE of the one table would meet every row of it, as often as the other one matches."""
    base, _ = models()

    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        owner_id: Mapped[int]
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Dog(Animal):
        __tablename__ = "dog"
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)
        barks: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    scope = Scope[int]("owner", "owner_id")
    database.create_all(base.metadata)
    with Session(database.engine) as session:
        session.add_all(Dog(owner_id=owner, barks=1) for owner in (1, 2))
        session.commit()

    elsewhere = [
        select(literal(1)).where(Dog.barks == 1),
        select(literal(1)).where(exists().where(Dog.barks == 1)),
        select(Dog.barks).select_from(Dog.__table__),
        select(Dog.barks).order_by(Animal.id),
        update(Animal).values(kind="cat").where(exists().where(Dog.barks == 1)),
    ]
    with unit_of(Dog, scope)(database).scoped(scope, 1) as shop:
        for statement in elsewhere[:3] + elsewhere[4:]:
            with pytest.raises(ScopeError):
                shop.session.execute(statement)
        assert shop.session.scalars(select(Dog.barks)).all() == [1]
        assert shop.session.scalars(select(aliased(Dog).barks)).all() == [1]
        assert shop.session.scalars(elsewhere[3]).all() == [1]
        with pytest.raises(ScopeError, match="Another table than that of Dog tells its scope"):
            shop.session.execute(update(Dog).values(barks=2))
        (dog,) = shop.rows.all()
        dog.barks = 3
        shop.commit()
    with Session(database.engine) as session:
        assert [dog.barks for dog in session.scalars(select(Dog).order_by(Dog.id))] == [3, 1]


def test_a_scope_of_a_class_below_another(database: Database) -> None:
    """Its rows would be read by the class above it, without the scope."""
    base, _ = models()

    class Animal(base):  # type: ignore[misc, valid-type]
        __tablename__ = "animal"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}  # noqa: RUF012

    class Dog(SoftDelete, Animal):
        __mapper_args__ = {"polymorphic_identity": "dog"}  # noqa: RUF012

    with pytest.raises(DeclarationError, match="Dog has the scope 'soft_delete' and Animal has not"):
        unit_of(Dog)(database)


def test_a_criterion_that_is_none(database: Database) -> None:
    """A bool of Python is no criterion."""
    _, note = models()
    scope = Scope[int]("owner", where=lambda model, value: value == 1, models=[note])  # type: ignore[arg-type, return-value]

    with unit_of(note, scope)(database).scoped(scope, 1) as shop, pytest.raises(DeclarationError, match="gives bool"):
        shop.rows.all()


def test_a_default_past_a_scope(database: Database) -> None:
    """A default of a column that reads a table is told when the unit is made."""
    base, note = models()
    reads = select(func.max(note.id)).scalar_subquery()
    _other = type(
        "Other", (base,), {"__tablename__": "other", "id": mapped_column(Integer, primary_key=True, default=reads)}
    )

    with pytest.raises(DeclarationError, match=r"other\.id: This statement would read rows of Note"):
        unit_of(note, Scope[int]("owner", "owner_id", models=[note]))(database)


def test_the_app_does_not_start(database: Database) -> None:
    """install() tells what a unit would tell later."""
    base, note = models()
    Table("plain", base.metadata, Column("id", note.id.type, primary_key=True))
    _country = country_of(base)  # kept: a registry keeps no class alive

    with pytest.raises(DeclarationError, match="Country has no column"):
        install(FastAPI(), {unit_of(note, Scope[int]("owner", "owner_id")): database})
