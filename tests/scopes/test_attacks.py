"""Ways around a scope that were tried once, and are closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scopes.notes import (
    OURS,
    THEIRS,
    AsyncShop,
    Base,
    Country,
    Draft,
    Folder,
    Line,
    Note,
    NoteOut,
    Shop,
    fill,
    owner,
    tenant,
)
from sqlalchemy import (
    DDL,
    Column,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    select,
    table,
    tablesample,
    text,
    update,
    values,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    aliased,
    joinedload,
    load_only,
    make_transient_to_detached,
    mapped_column,
    outerjoin,
    relationship,
    selectinload,
    with_loader_criteria,
)
from sqlalchemy.sql.ddl import CreateTableAs

from fastkit.database import AsyncDatabase, Database
from fastkit.errors import ScopeError
from fastkit.models import SoftDelete, soft_delete
from fastkit.repository import Repository
from fastkit.uow import UnitOfWork


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """Return a database with the rows of two tenants."""
    found = Database(f"sqlite:///{tmp_path / 'notes.db'}")
    found.create_all(Base.metadata)
    with Session(found.engine) as session:
        fill(session)
    yield found
    found.close()


def ours(database: Database) -> Shop:
    """Return a unit of the first tenant."""
    return Shop(database).scoped(tenant, OURS).scoped(owner, 5)


class Own(DeclarativeBase):
    """The metadata of two more classes."""


class Parent(Own):
    """Deleted for good."""

    __tablename__ = "parent"
    id: Mapped[int] = mapped_column(primary_key=True)
    children: Mapped[list[Child]] = relationship(cascade="all")


class Child(SoftDelete, Own):
    """Hidden when deleted."""

    __tablename__ = "child"
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parent.id"))


class Family(UnitOfWork):
    """The unit of both."""

    parents: Repository[Parent]


NOTES = Note.__table__
ALL_SLUGS = select(func.group_concat(Note.slug)).scalar_subquery()
OTHER, STRANGE = aliased(Note), Table("sc_note", MetaData(), Column("slug", String))


def _pretended() -> Any:
    """Return a country that is a note."""
    query = text("SELECT id, slug AS name FROM sc_note").columns(Country.id, Country.name)
    return aliased(Country, query.subquery())


REFUSED: dict[str, Callable[[], Any]] = {
    "insert from select": lambda: insert(Country).from_select(["name"], select(Note.slug)),
    "insert of a subquery": lambda: insert(Country).values(name=ALL_SLUGS),
    "insert into a table": lambda: insert(Country.__table__).values(name=ALL_SLUGS),
    "returning": lambda: insert(Country).values(name="x").returning(ALL_SLUGS),
    "full outer join": lambda: select(Country.id, Folder.name).join(Folder, Folder.country_id == Country.id, full=True),
    "outer join as a source": lambda: select(Line.id, Note.id).select_from(outerjoin(Line, Note, Line.note)),
    "pretended alias": lambda: select(_pretended().name),
    "alias of another table": lambda: select(aliased(Country, NOTES, adapt_on_names=True).id),
    "table in an inner query": lambda: select(Note.id, select(func.group_concat(NOTES.c.slug)).scalar_subquery()).where(
        Note.id == 1
    ),
    "count of the table": lambda: select(Note.id, select(func.count()).select_from(NOTES).scalar_subquery()),
    "criterion of an option": lambda: select(Note).options(
        with_loader_criteria(Note, Note.id < select(func.count(NOTES.c.id)).scalar_subquery())
    ),
    "criterion of a loader": lambda: select(Folder).options(
        selectinload(Folder.notes.and_(Note.id.in_(select(NOTES.c.id))))
    ),
    "table in a query of FROM": lambda: select(
        Note.id, select(NOTES.c.slug, Country.__table__.c.id.label("country")).subquery().c.slug
    ),
    "sample": lambda: select(tablesample(Note, func.bernoulli(1)).c.id),
    "sample as a source": lambda: select(Note.id).select_from(tablesample(Note, func.bernoulli(1))),
    "criterion of a joined loader": lambda: select(Line).options(
        joinedload(Line.note.and_(Note.id.in_(select(NOTES.c.id))))
    ),
    "function": lambda: func.coalesce(select(func.group_concat(NOTES.c.slug)).scalar_subquery(), ""),
    "another object of the table": lambda: select(STRANGE),
    "light table": lambda: select(table("sc_note", column("slug"))),
    "alias of a light table": lambda: select(table("sc_note", column("slug")).alias()),
    "DDL": lambda: DDL("CREATE TABLE copied AS SELECT * FROM sc_note"),
    "table from a query": lambda: CreateTableAs(select(Note.id), "copied"),
    "suffix": lambda: select(Note.slug).suffix_with("UNION ALL SELECT slug FROM sc_note"),
    "prefix": lambda: select(Note.slug).prefix_with("slug FROM sc_note UNION SELECT"),
    "operator": lambda: select(Note.slug).where(Note.id.op("= 1 OR 1 =")(1)),
    "lateral order": lambda: select(Country.id).order_by(select(func.max(NOTES.c.id)).scalar_subquery()),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(database: Database, name: str) -> None:
    """It is a ScopeError before anything is sent, and nothing is written."""
    with ours(database) as shop:
        with pytest.raises(ScopeError):
            shop.session.execute(REFUSED[name]()).all()
        shop.rollback()
    with Session(database.engine) as session:
        assert session.scalar(select(func.count()).select_from(Country)) == 1


@pytest.mark.filterwarnings("ignore:SELECT statement has a cartesian product")
def test_answered(database: Database) -> None:
    """What can be answered for the scope is, in ways that look alike."""
    other = aliased(Note)
    earlier = select(func.count(other.id)).where(other.id < Note.id).scalar_subquery()
    answers = [
        (select(Note.id).join(Note.folder).order_by(Folder.name.desc(), Note.id), [(7,), (9,), (1,), (3,)]),
        (select(func.count()).select_from(Note).join(Note.folder).group_by(Folder.name), [(2,), (2,)]),
        (select(Folder.id).join(Folder.notes.of_type(other)).order_by(other.id), [(11,), (11,), (21,), (21,)]),
        (func.coalesce(select(func.max(Note.id)).scalar_subquery(), 0), [(9,)]),
        (
            select(Note.id, earlier),
            [(1, 0), (3, 1), (7, 2), (9, 3)],
        ),
        (select(Country.id).where(exists().where(Note.id == 2)), []),
        (
            select(func.count(literal(1))).select_from(Country).outerjoin(Folder, Folder.country_id == Country.id),
            [(2,)],
        ),
    ]
    with ours(database) as shop:
        for statement, expected in answers:
            assert [tuple(row) for row in shop.session.execute(statement).all()] == expected, str(statement)
        numbers = values(column("i", Integer), name="numbers").data([(1,), (2,)])
        with pytest.raises(OperationalError):  # SQLite knows no such VALUES; what is in them is looked through
            shop.session.execute(select(numbers.c.i, Note.id).join(Note, Note.id == numbers.c.i))
        shop.rollback()


@pytest.mark.parametrize("strategy", ["core_only", "bulk"])
def test_strategies(database: Database, strategy: str) -> None:
    """A strategy of SQLAlchemy that leaves criteria out is refused, for rows of a class that has a scope."""
    options = {"dml_strategy": strategy}
    for statement in (
        update(Note).values(stars=0),
        delete(Draft),
        update(Folder).execution_options(**options).values(name="x"),
    ):
        with ours(database) as shop:
            with pytest.raises(ScopeError, match="gets no criterion"):
                shop.session.execute(statement, execution_options=options)
            shop.rollback()


def test_values_that_are_expressions(database: Database) -> None:
    """What is written into an object or a row may name its own columns, and reads nothing past a scope."""
    with ours(database) as shop:
        note = shop.notes.get_one(1)
        note.stars = Note.stars + 41
        shop.session.flush()
        assert shop.notes.get_one(1).stars == 42
        for expression in (
            ALL_SLUGS,
            select(func.max(NOTES.c.slug)).scalar_subquery(),
            text("(SELECT 1)"),
            Folder.name,
        ):
            note.slug = expression
            with pytest.raises(ScopeError):
                shop.session.flush()
            shop.session.expire(note)
            break
        shop.rollback()
    for expression in (ALL_SLUGS, select(func.max(NOTES.c.slug)).scalar_subquery(), text("(SELECT 1)")):
        with ours(database) as shop:
            shop.countries.add(Country(name=expression))
            with pytest.raises(ScopeError):
                shop.session.flush()
            shop.rollback()
        with ours(database) as shop, pytest.raises(ScopeError):
            shop.notes.into(NoteOut).insert({"slug": expression, "folder_id": 11})


def test_a_lift_of_one_scope(database: Database) -> None:
    """The others go on to stamp and to refuse, what was changed there as well."""
    with ours(database) as shop:
        with shop.unscoped(soft_delete, reason="x"):
            made = shop.folders.add(Folder(name="new"))
            shop.folders.get_one(11).tenant_id = THEIRS
        with pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"):
            shop.session.flush()
        assert made.tenant_id == OURS
        shop.rollback()
    with ours(database) as shop:
        shop.folders.get_one(11).tenant_id = THEIRS
        with (
            shop.unscoped(tenant, reason="x"),
            pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"),
        ):
            shop.session.flush()
        shop.rollback()


def test_a_lift_belongs_to_its_task(tmp_path: Path) -> None:
    """Another task of the same unit reads with the scope, and lifts that end in another order leave nothing lifted."""

    async def lift(shop: AsyncShop, scope: Any, entered: asyncio.Event, leave: asyncio.Event) -> None:
        with shop.unscoped(scope, reason="x"):
            entered.set()
            await leave.wait()

    async def work() -> list[int]:
        database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'notes.db'}")
        await database.create_all(Base.metadata)
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: fill(Session(sync)))
        found = []
        async with AsyncShop.serving(database) as unit:
            shop = unit.scoped(tenant, OURS).scoped(owner, 5)
            entered, leave = [asyncio.Event(), asyncio.Event()], [asyncio.Event(), asyncio.Event()]
            first = asyncio.create_task(lift(shop, tenant, entered[0], leave[0]))
            await entered[0].wait()
            second = asyncio.create_task(lift(shop, soft_delete, entered[1], leave[1]))
            await entered[1].wait()
            found.append(await shop.notes.count())
            leave[0].set()
            await first
            leave[1].set()
            await second
            found.append(await shop.notes.count())
        await database.close()
        return found

    assert asyncio.run(work()) == [4, 4]


def test_a_lift_holds_for_what_it_starts(tmp_path: Path) -> None:
    """What runs in tasks that the same code starts, a commit among them, is in the lift as long as it lasts."""

    async def work() -> tuple[list[int], int]:
        database = AsyncDatabase(f"sqlite+aiosqlite:///{tmp_path / 'notes.db'}")
        await database.create_all(Base.metadata)
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: fill(Session(sync)))
        async with AsyncShop(database) as shop:
            with shop.unscoped(tenant, reason="seed"):
                async with shop.savepoint():
                    shop.folders.add(Folder(name="theirs", tenant_id=THEIRS))
                shop.folders.add(Folder(name="theirs, too", tenant_id=THEIRS))
                await shop.commit()
        async with AsyncShop(database).scoped(tenant, OURS).scoped(owner, 5) as shop:
            go = asyncio.Event()

            async def later() -> int:
                await go.wait()
                return await shop.notes.count()

            with shop.unscoped(tenant, reason="x"):
                within = await asyncio.wait_for(shop.notes.count(), 5)
                left = asyncio.create_task(later())
            with shop.unscoped(soft_delete, reason="x"):
                go.set()
                counts = [within, await left]
        async with AsyncShop(database).scoped(tenant, THEIRS).scoped(owner, 5) as shop:
            folders = await shop.folders.count()
        await database.close()
        return counts, folders

    assert asyncio.run(work()) == ([9, 4], 4)


def test_an_object_of_another_tenant_is_related(database: Database) -> None:
    """What was read elsewhere and is not there is not referred to either."""
    with Session(database.engine, expire_on_commit=False) as session:
        theirs = session.get_one(Folder, 12)

    with ours(database) as shop:
        shop.notes.add(Note(slug="x", folder=theirs))
        with pytest.raises(ScopeError, match="is from elsewhere, and not there for the scopes"):
            shop.session.flush()
        shop.rollback()


def test_objects_from_elsewhere(database: Database) -> None:
    """An object that this unit has not read is not given, and not written unless its row is there."""
    with Session(database.engine, expire_on_commit=False) as session:
        theirs, own = session.get_one(Folder, 12), session.get_one(Folder, 11)
    pretended = Folder(id=22, tenant_id=OURS, name="x")
    make_transient_to_detached(pretended)

    with ours(database) as shop:
        shop.session.add(theirs)
        assert shop.folders.get(12) is None
        shop.session.expunge(theirs)
        shop.session.add(own)
        own.name = "renamed"
        shop.session.flush()
        shop.session.add(pretended)
        pretended.name = "hacked"
        with pytest.raises(ScopeError, match="is from elsewhere, and not there for the scopes"):
            shop.session.flush()
        shop.rollback()


def test_a_row_that_was_hidden_by_hand(database: Database) -> None:
    """It is there no more for the block that has hidden it, however it did."""
    hide = soft_delete.deletion()
    with ours(database) as shop:
        note = shop.notes.get_one(1)
        note.deleted_at = hide["deleted_at"]
        shop.session.flush()

        assert shop.notes.get(note.id) is None
        shop.rollback()
    with ours(database) as shop:
        note = shop.notes.get_one(3)
        shop.session.execute(update(Note).where(Note.id == 3).values(**hide))

        assert shop.notes.get(note.id) is None
        shop.rollback()


def test_what_is_hidden_together(database: Database) -> None:
    """An object and what goes with it have the same moment; one that was detached is hidden like any other."""
    with Session(database.engine, expire_on_commit=False) as session:
        detached = session.get_one(Note, 1)

    with ours(database).begin() as shop:
        shop.notes.delete(detached)
    with Session(database.engine) as session:
        moments = set(session.scalars(select(Line.deleted_at).where(Line.note_id == 1, Line.id < 12)))
        assert moments == {session.get_one(Note, 1).deleted_at}
        assert None not in moments


def test_a_value_that_comes_later(database: Database) -> None:
    """What is for everybody can be read before it is known who asks."""
    with Shop(database) as shop:
        assert shop.countries.count() == 1
        assert shop.scoped(tenant, OURS).scoped(owner, 5).notes.count() == 4


def test_an_upsert_by_what_a_scope_of_its_own_says(database: Database) -> None:
    """A column that a criterion mentions does not tell whose a row is."""
    with ours(database) as shop:
        with pytest.raises(ScopeError, match="the scope 'owner' hides"):
            shop.drafts.bulk.upsert(
                [{"id": 1, "owner_id": 5, "tenant_id": OURS}], match=["id", "tenant_id", "owner_id"]
            )
        shop.rollback()


def test_a_parent_that_is_deleted_for_good(database: Database) -> None:
    """A delete that would take hidden rows with it is refused."""
    database.create_all(Own.metadata)
    with Family(database).begin() as family:
        family.parents.add(Parent(id=1, children=[Child()]))
    with Family(database) as family, pytest.raises(ScopeError, match="would delete a Child for good"):
        family.parents.delete(family.parents.get_one(1))
    with Session(database.engine) as session:
        detached = session.get_one(Parent, 1)
    with Family(database) as family, pytest.raises(ScopeError, match="would delete a Child for good"):
        family.parents.delete(detached)
    with Family(database).begin() as family:
        family.parents.add(Parent(id=2))
    with Family(database).begin() as family:
        family.parents.delete(family.parents.get_one(2))
    with Family(database) as family:
        assert [parent.id for parent in family.parents.all()] == [1]


def test_a_row_of_another_owner_that_is_seen(database: Database) -> None:
    """Where a scope shows more than one's own, what is seen can be changed, but not given away."""
    with ours(database) as shop:
        theirs = shop.drafts.get_one(4)
        theirs.is_public = False
        shop.session.flush()
        theirs.owner_id = 7
        with pytest.raises(ScopeError, match=r"Draft\.owner_id is not the value"):
            shop.session.flush()
        shop.rollback()


def test_the_name_of_the_option_is_no_key(database: Database) -> None:
    """What the library says to itself cannot be said by others."""
    with ours(database) as shop:
        for value in (True, "x", object()):
            with pytest.raises(ScopeError):
                shop.session.execute(select(NOTES), execution_options={"fastkit_own": value})


def test_columns_that_were_left_out(database: Database) -> None:
    """An expired object, or one that was read in part, is written like any other."""
    with ours(database) as shop:
        found = shop.session.scalars(select(Note).options(load_only(Note.slug)).where(Note.id == 1)).one()
        found.stars = 5
        shop.session.flush()
        shop.session.expire(found)
        found.stars = 6
        shop.session.flush()

        assert shop.notes.get_one(1).stars == 6
        shop.rollback()


def test_explain(database: Database) -> None:
    """A reader tells the statement that is sent, with the scope."""
    with ours(database) as shop:
        assert "tenant_id = ?" in shop.notes.into(NoteOut).explain()
