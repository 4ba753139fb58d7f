"""What a unit of work sees and writes with scopes, on every database and in both colours."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from conftest import World
from repository.scenes import PLACES, recorded, rival_engine, scene, sync_session
from scopes.notes import (
    OURS,
    THEIRS,
    AsyncShop,
    Base,
    Draft,
    Folder,
    Line,
    Note,
    NoteOut,
    NoteQuery,
    Shop,
    all_rows,
    fill,
    owner,
    tenant,
)
from sqlalchemy import delete, event, func, insert, select, text, update
from sqlalchemy.orm import Session, aliased, joinedload, load_only, selectinload, subqueryload

from fastkit.errors import (
    DeclarationError,
    InvalidValueError,
    NotFoundError,
    ScopeError,
    SerializationError,
    UncommittedChangesError,
)
from fastkit.models import soft_delete
from fastkit.pages import PageQuery, WindowQuery

pytestmark = pytest.mark.anyio

OUR_NOTES = [1, 3, 7, 9]
"""Those of tenant 1 that are not deleted."""


@pytest.fixture(scope="session")
def with_tables() -> set[str]:
    """Return the servers that have the tables already."""
    return set()


@pytest.fixture
def notes(world: World, with_tables: set[str]) -> World:
    """Return a database with the rows of two tenants, and units with scopes."""
    engine = rival_engine(world)
    if world.server == "SQLite" or world.server not in with_tables:
        with_tables.add(world.server)
        Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.execute(update(Folder.__table__).values(parent_id=None))
        for table in reversed(Base.metadata.sorted_tables):
            session.execute(delete(table))
        fill(session)
        if world.server == "PostgreSQL":
            for table in Base.metadata.sorted_tables:
                session.execute(text(f"ALTER SEQUENCE {table.name}_id_seq RESTART WITH 20000"))
            session.commit()
    engine.dispose()
    world.unit = AsyncShop if world.driver.is_async else Shop
    return world


def ours(world: World, user: int = 5) -> Any:
    """Return a unit of the first tenant."""
    return world.shop().scoped(tenant, OURS).scoped(owner, user)


def stored(world: World, model: Any) -> dict[int, Any]:
    """Return what is stored, whoever it belongs to, by key."""
    engine = rival_engine(world)
    with Session(engine) as session:
        found = {row["id"]: row for row in all_rows(session, model)}
    engine.dispose()
    return found


async def touched(shop: Any, entity: Any, name: str) -> Any:
    """Return an attribute that is loaded when it is touched."""
    if hasattr(shop.session, "run_sync"):
        return await shop.session.run_sync(lambda _: getattr(entity, name))
    return getattr(entity, name)


class TestReads:
    """Every way to read."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_each_verb(self, notes: World, place: str) -> None:
        """Rows of others and deleted rows are not there, whatever the verb."""
        async with scene(notes, place) as at:
            shop = at.shop.scoped(tenant, OURS).scoped(owner, 5)
            page = await shop.notes.page(PageQuery(size=2), Note.stars > 1)
            window = await shop.notes.order_by(Note.stars).window(WindowQuery(size=10))
            stream = shop.notes.stream()
            streamed = [note.id async for note in stream] if notes.driver.is_async else [note.id for note in stream]

            assert [note.id for note in await shop.notes.order_by(Note.id).all()] == OUR_NOTES
            assert [(await shop.notes.get(key)) for key in (2, 5, 90)] == [None, None, None]
            assert (await shop.notes.get_one(1)).slug == "n10"
            assert [note.id for note in await shop.notes.get_many([9, 2, 5, 1])] == [9, 1]
            assert (await shop.notes.count(), await shop.notes.exists(Note.id == 2)) == (4, False)
            assert (await shop.notes.first(Note.slug == "n12"), (await shop.notes.one(Note.stars == 3)).id) == (None, 3)
            assert ([note.id for note in page.items], page.total) == ([3, 7], 3)
            assert [note.id for note in window.items] == OUR_NOTES
            assert [note.id for note in (await shop.notes.slice(PageQuery(size=9))).items] == OUR_NOTES
            assert streamed == OUR_NOTES
            assert [each.name for each in await shop.countries.all()] == ["Chile"]
            assert at.settled

    @pytest.mark.parametrize("place", PLACES)
    async def test_readers(self, notes: World, place: str) -> None:
        """Joined rows, lists, counts and pages of response models are those of the scope, as JSON too."""
        async with scene(notes, place) as at:
            shop = at.shop.scoped(tenant, OURS).scoped(owner, 5)
            reader = shop.notes.into(NoteOut)
            first = await reader.get_one(1)
            page = await reader.page(NoteQuery(size=3))
            window = await reader.window(WindowQuery(size=10))

            assert (first.folder_name, [line.text for line in first.lines]) == ("f1", ["n10-1-0", "n10-1-1"])
            assert (first.count, first.siblings) == (2, 2)
            assert ([each.slug for each in page.items], page.total) == (["n10", "n11", "n20"], 4)
            assert [each.id for each in window.items] == OUR_NOTES
            assert (await reader.get(2), await reader.get(5), await reader.count()) == (None, None, 4)
            assert [each.id for each in await reader.order_by(Note.id.desc()).all(Note.stars > 2)] == [9, 7, 3]
            assert b'"n12"' not in await reader.json().all()

    async def test_relationships(self, notes: World) -> None:
        """Lists and single objects are loaded with the scope, in whatever way."""
        ways: list[Any] = [selectinload, joinedload, subqueryload]
        async with ours(notes) as shop:
            for way in ways:
                folder = await shop.folders.with_options(way(Folder.notes).options(way(Note.lines))).get_one(11)

                assert [note.id for note in folder.notes] == [1, 3]
                assert [line.text for line in folder.notes[0].lines] == ["n10-1-0", "n10-1-1"]
                sync_session(shop).expunge_all()
            lazily = await shop.folders.get_one(21)
            with shop.unscoped(tenant, reason="a line in a note of another tenant"):
                stray = await shop.lines.get_one(9999)
                await touched(shop, stray, "note")
            with shop.unscoped(soft_delete, reason="a line in a note that is deleted"):
                left = await shop.lines.get_one(50)
                gone = await shop.notes.get_one(5)

            assert [note.id for note in await touched(shop, lazily, "notes")] == [7, 9]
            assert (await touched(shop, lazily, "parent")).id == 11
            assert (await touched(shop, left, "note"), gone.id) == (None, 5)

    async def test_statements(self, notes: World) -> None:
        """Statements of the session have the scope, in subqueries, joins, aliases and unions as well."""
        other = aliased(Note)
        statements = [
            (select(Note.id).order_by(Note.id), OUR_NOTES),
            (select(func.count(Note.id)), [4]),
            (select(func.count()).select_from(select(Note).subquery()), [4]),
            (select(Folder.id).where(Folder.notes.any(Note.slug == "stray")), []),
            (select(Folder.id).where(Folder.id.in_(select(Note.folder_id).where(Note.id == 90))), []),
            (select(other.id).join(Note, Note.id == other.id).where(other.stars > 1).order_by(other.id), [3, 7, 9]),
            (select(func.count()).select_from(Note).join(other, other.folder_id == Note.folder_id), [8]),
            (select(func.count()).select_from(Folder).outerjoin(Folder.notes.of_type(other)), [4]),
            (select(func.count()).select_from(Note).group_by(Note.folder_id), [2, 2]),
            (select(Note.id).union(select(Note.id).where(Note.id == 2)).order_by("id"), OUR_NOTES),
        ]
        async with ours(notes) as shop:
            for statement, expected in statements:
                assert [row[0] for row in (await shop.session.execute(statement)).all()] == expected, str(statement)

    async def test_values_are_not_kept_with_statements(self, notes: World) -> None:
        """The same statement serves one tenant after the other."""
        found = []
        for value in (OURS, THEIRS, OURS, 3):
            async with notes.shop().scoped(tenant, value).scoped(owner, 5) as shop:
                alias = aliased(Note)
                joined = select(func.count()).select_from(Note).join(alias, alias.folder_id == Note.folder_id)
                found.append((await shop.notes.count(), await shop.session.scalar(joined), await shop.drafts.count()))

        assert found == [(4, 8, 3), (5, 8 + 1, 1), (4, 8, 3), (0, 0, 0)]

    async def test_a_criterion_of_its_own(self, notes: World) -> None:
        """A scope may be more than equality, and its values differ between units."""
        for user, expected in ((5, [1, 2, 4]), (6, [2, 3, 4]), (5, [1, 2, 4])):
            async with ours(notes, user) as shop:
                assert [each.id for each in await shop.drafts.order_by(Draft.id).all()] == expected

    async def test_it_costs_no_statement(self, notes: World) -> None:
        """An object that this block has read is given without a statement."""
        async with ours(notes) as shop:
            first = await shop.notes.get_one(1)
            with recorded(notes) as sent:
                again = await shop.notes.get_one(1)

            assert again is first
            assert sent == []


class TestMissing:
    """Nobody has said whose rows."""

    async def test_reads_and_writes_fail(self, notes: World) -> None:
        """There is an error instead of rows, that says what to call; models for everybody can be read."""
        async with notes.shop() as shop:
            for call in (
                shop.notes.all,
                lambda: shop.notes.get(1),
                lambda: shop.notes.into(NoteOut).page(PageQuery()),
                lambda: shop.notes.bulk.update({"stars": 1}, Note.id == 1),
                lambda: shop.notes.bulk.delete(Note.id == 1),
                lambda: shop.notes.bulk.insert([{"slug": "x", "folder_id": 11}]),
                lambda: shop.notes.into(NoteOut).insert({"slug": "x", "folder_id": 11}),
                lambda: shop.session.scalars(select(Folder).options(joinedload(Folder.notes))),
            ):
                with pytest.raises(ScopeError, match=r"was not told its value: call shop\.scoped\(tenant, value\)"):
                    await call()
            assert await shop.countries.count() == 1
            await shop.rollback()

    async def test_a_flush_fails(self, notes: World) -> None:
        """A new object is not stored without a value either."""
        with pytest.raises(ScopeError, match="was not told its value"):
            async with notes.shop() as shop:
                shop.notes.add(Note(slug="x", folder_id=11, tenant_id=OURS))
                await shop.commit()

        assert len(stored(notes, Note)) == 13

    async def test_values_that_are_none(self, notes: World) -> None:
        """None is nobody, and a second value would mix two tenants."""
        shop = notes.shop()

        with pytest.raises(ScopeError, match="is None"):
            shop.scoped(tenant, None)
        with pytest.raises(ScopeError, match="has a value already"):
            shop.scoped(tenant, OURS).scoped(tenant, THEIRS)
        assert shop.scoped(tenant, OURS) is not None
        with pytest.raises(ScopeError, match="is the same for all units"):
            shop.scoped(soft_delete, 1)
        with pytest.raises(ScopeError, match=r"is a str, and \w+\.tenant_id holds int"):
            notes.shop().scoped(tenant, "1")


class TestRefusals:
    """What would get around a scope."""

    async def test_reads(self, notes: World) -> None:
        """Tables, texts, raw connections, and classes to which SQLAlchemy adds nothing."""
        table, other = Note.__table__, aliased(Note)
        statements = [
            select(table),
            select(table.c.id),
            select(table.alias().c.id),
            select(select(table).subquery().c.id),
            select(Folder.id).where(Folder.id.in_(select(table.c.folder_id))),
            select(Folder.id).order_by(Note.id),
            select(func.count()).group_by(Note.id),
            select(func.count().filter(Note.id > 1)),
            select(func.row_number().over(order_by=Note.id)),
            select(Folder.id + Note.id),
            select(Folder.id, select(func.max(table.c.id)).scalar_subquery()),
            select(Folder.id).select_from(select(other.id).order_by(Line.id).subquery()),
            select(Note.id).where(text("1 = 1 OR 1 = 1")),
            text("SELECT 1"),
            select(Note).from_statement(text("SELECT * FROM sc_note")),
            select(Note.id).union(select(table.c.id)),
        ]
        async with ours(notes) as shop:
            for statement in statements:
                with pytest.raises(ScopeError):
                    (await shop.session.execute(statement)).all()
            with pytest.raises(ScopeError, match="is sent past the scope"):
                await shop.session.connection()
            assert await shop.notes.count() == 4

    async def test_writes(self, notes: World) -> None:
        """Statements that write a table, insert without the stamp, move rows, or delete what is hidden."""
        statements = [
            (update(Note.__table__).values(stars=1), None),
            (delete(Line.__table__), None),
            (insert(Note.__table__).values(slug="x"), None),
            (insert(Note), [{"slug": "x", "folder_id": 11, "tenant_id": THEIRS}]),
            (update(Note).values(tenant_id=THEIRS), None),
            (update(Note), {"tenant_id": THEIRS}),
            (update(Note), [{"id": 2, "stars": 100}]),
            (delete(Note).where(Note.id == 1), None),
            (update(Note).values(stars=select(func.max(Line.__table__.c.id)).scalar_subquery()), None),
        ]
        for statement, parameters in statements:
            async with ours(notes) as shop:
                with pytest.raises(ScopeError):
                    await shop.session.execute(statement, parameters)
                await shop.rollback()

        assert {row["stars"] for row in stored(notes, Note).values()} == {*range(1, 13), 90}

    async def test_rows_of_others(self, notes: World) -> None:
        """Objects, rows and new values that would be those of another tenant."""

        async def added(shop: Any) -> None:
            shop.notes.add(Note(slug="x", folder_id=11, tenant_id=THEIRS))
            await shop.session.flush()

        async def moved(shop: Any) -> None:
            (await shop.notes.get_one(1)).tenant_id = THEIRS
            await shop.session.flush()

        for call in (
            added,
            moved,
            lambda shop: shop.notes.bulk.insert([{"slug": "x", "folder_id": 11, "tenant_id": THEIRS}]),
            lambda shop: shop.notes.into(NoteOut).insert({"slug": "x", "folder_id": 11, "tenant_id": THEIRS}),
            lambda shop: shop.notes.bulk.update({"tenant_id": THEIRS}, Note.id == 1),
            lambda shop: shop.notes.bulk.upsert(
                [{"slug": "x", "folder_id": 11, "tenant_id": THEIRS, "id": 1}], match=Note.id
            ),
        ):
            async with ours(notes) as shop:
                with pytest.raises(ScopeError):
                    await call(shop)
                await shop.rollback()

        assert {row["tenant_id"] for key, row in stored(notes, Note).items() if key in OUR_NOTES} == {OURS}


class TestWrites:
    """What is written."""

    async def test_new_rows_are_stamped(self, notes: World) -> None:
        """Objects, rows in bulk and rows of readers get the value, cascades among them."""
        async with ours(notes) as shop:
            folder = shop.folders.add(Folder(name="new", notes=[Note(slug="a", lines=[Line(text="b")])]))
            await shop.session.flush()
            await shop.notes.bulk.insert([{"slug": "c", "folder_id": folder.id}, {"slug": "d", "folder_id": folder.id}])
            shown = await shop.notes.into(NoteOut).insert({"slug": "e", "folder_id": folder.id, "tenant_id": None})
            if notes.server == "PostgreSQL":
                await shop.notes.bulk.insert([{"slug": "f", "folder_id": folder.id}], copy=True)
            await shop.commit()

        new = [row for row in stored(notes, Note).values() if row["folder_id"] == folder.id]
        assert [row["slug"] for row in new] == ["a", "c", "d", "e", *(["f"] if notes.server == "PostgreSQL" else [])]
        assert {row["tenant_id"] for row in new} == {OURS}
        assert {row["tenant_id"] for row in stored(notes, Line).values() if row["text"] == "b"} == {OURS}
        assert shown.slug == "e"

    async def test_an_object_that_was_read_in_part(self, notes: World) -> None:
        """Whose it is is read before it is written, if that was left out."""
        async with ours(notes) as shop:
            note = await shop.notes.with_options(load_only(Note.stars)).get_one(1)
            note.stars = 100
            await shop.commit()

        assert stored(notes, Note)[1]["stars"] == 100

    async def test_listeners(self, notes: World) -> None:
        """What a listener of the app makes of an object before it is written is looked at afterwards."""

        def give_away(session: Session, *_: object) -> None:
            for each in session.new:
                if isinstance(each, Folder):
                    each.tenant_id = THEIRS

        async with ours(notes) as shop:
            event.listen(sync_session(shop), "before_flush", give_away)
            shop.folders.add(Folder(name="new"))
            with pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"):
                await shop.session.flush()
            await shop.rollback()

        assert len(stored(notes, Folder)) == 4

    async def test_bulk_meets_only_our_rows(self, notes: World) -> None:
        """Update and delete by criteria leave the rows of others as they are."""
        async with ours(notes) as shop:
            assert await shop.notes.bulk.update({"stars": 0}, Note.stars > 0) == 4
            assert await shop.drafts.bulk.delete(everything=True) == 3
            await shop.commit()

        assert sorted(key for key, row in stored(notes, Note).items() if row["stars"] == 0) == OUR_NOTES
        assert sorted(stored(notes, Draft)) == [3, 5]

    async def test_an_upsert_names_the_tenant(self, notes: World) -> None:
        """It is refused where the row that is there could be another tenant's, and right where it cannot."""
        async with ours(notes) as shop:
            with pytest.raises(ScopeError, match="'soft_delete' hides"):
                await shop.notes.bulk.upsert(
                    [{"slug": "n10", "folder_id": 11, "stars": 50}], match=["tenant_id", "slug"]
                )
            with pytest.raises(ScopeError, match="name 'tenant_id' in match="):
                await shop.folders.bulk.upsert([{"id": 12, "name": "taken"}], match="id")
            with shop.unscoped(soft_delete, reason="a note with this slug is shown again"):
                rows = [
                    {"slug": "n10", "folder_id": 11, "stars": 50},
                    {"slug": "n12", "folder_id": 11, "deleted_at": None},
                ]
                await shop.notes.bulk.upsert(rows, match=["tenant_id", "slug"])
            await shop.commit()

        found = {(row["tenant_id"], row["slug"]): row for row in stored(notes, Note).values()}
        assert len(found) == 13
        assert (found[OURS, "n10"]["stars"], found[THEIRS, "n10"]["stars"]) == (50, 2)
        assert found[OURS, "n12"]["deleted_at"] is None
        assert found[THEIRS, "n12"]["deleted_at"] is not None


class TestSoftDeletion:
    """Rows that are hidden instead of deleted."""

    async def test_an_object(self, notes: World) -> None:
        """It is marked, with what it would delete, and is there no more for the same block."""
        async with ours(notes) as shop:
            note = await shop.notes.get_one(1)
            await shop.notes.delete(note)

            assert await shop.notes.get(1) is None
            assert await shop.notes.count() == 3
            assert await shop.lines.count(Line.note_id == 1) == 0
            await shop.commit()

        assert stored(notes, Note)[1]["deleted_at"] is not None
        lines = {key: row["deleted_at"] is not None for key, row in stored(notes, Line).items() if row["note_id"] == 1}
        assert lines == {10: True, 11: True, 12: True, 9999: False}

    async def test_twice(self, notes: World) -> None:
        """The first moment stands."""
        async with ours(notes) as shop:
            note = await shop.notes.get_one(1)
            await shop.notes.delete(note)
            first = note.deleted_at
            await shop.notes.delete(note)

            assert note.deleted_at == first
            await shop.rollback()

    async def test_several_at_once(self, notes: World) -> None:
        """What the session deletes as a list is hidden, too."""
        async with ours(notes) as shop:
            await shop.session.delete_all(await shop.notes.all())
            await shop.commit()

        assert len(stored(notes, Note)) == 13

    async def test_it_has_to_be_committed(self, notes: World) -> None:
        """A deletion is a change like any other."""
        with pytest.raises(UncommittedChangesError):
            async with ours(notes) as shop:
                await shop.notes.delete(await shop.notes.get_one(1))

        assert stored(notes, Note)[1]["deleted_at"] is None

    async def test_in_bulk(self, notes: World) -> None:
        """Rows are marked by one statement, those that are marked already not again."""
        before = stored(notes, Note)[5]["deleted_at"]
        async with ours(notes) as shop:
            loaded = await shop.notes.get_one(1)
            with recorded(notes) as sent:
                assert await shop.notes.bulk.delete(Note.folder_id == 11) == 2
            assert await shop.notes.get(1) is None
            assert sent[0].startswith("UPDATE")
            assert loaded not in sync_session(shop)
            await shop.commit()

        assert [key for key, row in stored(notes, Note).items() if row["deleted_at"] is None and key != 90] == [
            *(2, 4, 7, 8, 9, 10),
        ]
        assert stored(notes, Note)[5]["deleted_at"] == before

    async def test_restored_and_purged(self, notes: World) -> None:
        """Where the scope is lifted, a row can be shown again, and a delete is final."""
        async with ours(notes) as shop:
            with shop.unscoped(soft_delete, reason="empty the bin"):
                (await shop.notes.get_one(5)).deleted_at = None
                for line in await shop.lines.all(Line.note_id == 11):
                    await shop.lines.delete(line)
                await shop.notes.delete(await shop.notes.get_one(11))
            await shop.commit()

        assert stored(notes, Note)[5]["deleted_at"] is None
        assert 11 not in stored(notes, Note)

    async def test_an_orphan(self, notes: World) -> None:
        """A line that is taken out of a list that owns it would be deleted for good: that is refused."""
        async with ours(notes) as shop:
            note = await shop.notes.with_options(selectinload(Note.lines)).get_one(1)
            note.lines.pop()
            with pytest.raises(ScopeError, match="delete-orphan would delete a Line for good"):
                await shop.session.flush()
            await shop.rollback()

        assert stored(notes, Line)[11]["deleted_at"] is None

    async def test_what_is_no_object_of_the_session(self, notes: World) -> None:
        """A new object cannot be deleted, in SQLAlchemy's own words."""
        async with ours(notes) as shop:
            with pytest.raises(Exception, match="is not persisted"):
                await shop.notes.delete(Note(slug="x", folder_id=11))

    async def test_times(self, notes: World) -> None:
        """A row knows when it was made and changed, aware and in UTC on every database."""
        async with ours(notes) as shop:
            note = shop.notes.add(Note(slug="x", folder_id=11))
            await shop.session.flush()
            await shop.notes.bulk.insert([{"slug": "y", "folder_id": 11}])
            made = [await shop.notes.one(Note.slug == slug) for slug in ("x", "y")]
            assert [each.created_at == each.updated_at for each in made] == [True, True]
            assert str(note.created_at.tzinfo) == "UTC"
            note.stars = 7
            await shop.session.flush()
            await shop.session.refresh(note)

            assert note.updated_at > note.created_at
            with pytest.raises(InvalidValueError):
                await shop.notes.all(Note.created_at > note.created_at.replace(tzinfo=None))
            await shop.rollback()


class TestLifted:
    """Where a scope does not hold."""

    async def test_by_name_and_with_a_reason(self, notes: World, caplog: pytest.LogCaptureFixture) -> None:
        """The other scopes hold still, the reason is logged, and nothing else lifts a scope."""
        caplog.set_level(logging.INFO, "fastkit.database")
        async with ours(notes) as shop:
            with shop.unscoped(tenant, reason="nightly report"):
                assert await shop.notes.count() == 9
                with shop.unscoped(soft_delete, reason="all of it"):
                    assert await shop.notes.count() == 13
                    assert len((await shop.session.execute(select(Note.__table__))).all()) == 13
                assert await shop.notes.count() == 9
            assert await shop.notes.count() == 4
            for wrong in (lambda: shop.unscoped(reason="x"), lambda: shop.unscoped(tenant, reason=" ")):
                with pytest.raises(DeclarationError, match="lifts the scopes that it names"), wrong():
                    pass

        assert "Shop without tenant: nightly report" in caplog.text

    async def test_it_holds_again_after_an_error(self, notes: World) -> None:
        """An exception does not leave it lifted."""
        async with ours(notes) as shop:
            with pytest.raises(NotFoundError), shop.unscoped(tenant, reason="x"):
                await shop.notes.get_one(1000)

            assert await shop.notes.count() == 4

    async def test_what_was_read_is_not_given_again(self, notes: World) -> None:
        """An object that the session holds is there no more for a read with the scope."""
        async with ours(notes) as shop:
            with shop.unscoped(tenant, soft_delete, reason="compare"):
                held = [await shop.notes.get_one(key) for key in (1, 2, 5)]
            line = await shop.lines.get_one(10)

            assert [await shop.notes.get(key) for key in (1, 2, 5)] == [held[0], None, None]
            await shop.session.refresh(line, ["note"])
            assert line.note is held[0]

    async def test_what_is_written_there(self, notes: World) -> None:
        """New rows are given their values there, and keep them when they are flushed later."""
        async with ours(notes) as shop:
            with shop.unscoped(tenant, reason="a tenant is set up"):
                shop.folders.add(Folder(id=500, name="theirs", tenant_id=THEIRS))
                (await shop.folders.get_one(12)).name = "renamed"
            shop.folders.add(Folder(id=501, name="ours"))
            await shop.commit()

        found = stored(notes, Folder)
        assert [found[key]["tenant_id"] for key in (500, 501)] == [THEIRS, OURS]
        assert found[12]["name"] == "renamed"

    async def test_what_was_new_before(self, notes: World) -> None:
        """An object that was pending before is not let through because a scope was lifted in between."""
        with pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"):
            async with ours(notes) as shop:
                shop.folders.add(Folder(id=500, name="theirs", tenant_id=THEIRS))
                with shop.unscoped(tenant, reason="x"):
                    pass
                await shop.commit()

    async def test_once(self, notes: World) -> None:
        """What was changed there is written once; a later change is looked at."""
        async with ours(notes) as shop:
            with shop.unscoped(tenant, reason="x"):
                theirs = await shop.folders.get_one(12)
                theirs.name = "renamed"
            await shop.session.flush()
            theirs.name = "again"
            with pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"):
                await shop.session.flush()
            await shop.rollback()

    async def test_objects_of_others_stay_as_they_are(self, notes: World) -> None:
        """What was read there and is changed later is refused."""
        with pytest.raises(ScopeError, match="is not the value of the scope 'tenant'"):
            async with ours(notes) as shop:
                with shop.unscoped(tenant, reason="x"):
                    theirs = await shop.folders.get_one(12)
                theirs.name = "renamed"
                await shop.commit()

        assert stored(notes, Folder)[12]["name"] == "f1"


async def test_a_later_block_reads_again(notes: World) -> None:
    """An object of an earlier block whose row was hidden since is not given any more."""
    async with notes.serving() as served:
        shop = served.scoped(tenant, OURS).scoped(owner, 5)
        held = await shop.notes.get_one(1)
        engine = rival_engine(notes)
        with engine.begin() as other:
            other.execute(update(Note.__table__).where(Note.__table__.c.id == 1).values(soft_delete.deletion()))
        engine.dispose()
        async with shop:
            assert await shop.notes.get(held.id) is None


async def test_another_attempt(notes: World) -> None:
    """A unit that is run again has the values of its scopes still, and what is set again is the same."""
    counts: list[int] = []

    def lost() -> None:
        if len(counts) == 1:
            raise SerializationError("lost")

    async def work(shop: Any) -> None:
        counts.append(await shop.scoped(tenant, OURS).scoped(owner, 5).notes.count())
        lost()

    def sync_work(shop: Any) -> None:
        counts.append(shop.scoped(tenant, OURS).scoped(owner, 5).notes.count())
        lost()

    await notes.database.run(notes.unit, work if notes.driver.is_async else sync_work)

    assert counts == [4, 4]


async def test_gather(notes: World) -> None:
    """Reads at once have the scopes that each of them sets, in one snapshot too."""

    def counted(shop: Any) -> Any:
        return shop.scoped(tenant, OURS).scoped(owner, 5).notes.count()

    for options in ({}, {"snapshot": True, "fallback": "sequential"}):
        assert await notes.database.gather(notes.unit, counted, counted, **options) == (4, 4)
