"""`for_update()`: it locks, it reads afresh, and it refuses what a lock could not make right."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import World, book
from repository.scenes import ON_SQLITE, recorded, rival, sync_session
from sqlalchemy import Connection, event, insert, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import joinedload, selectinload

from bookshop.models import Author, Book
from fastkit.errors import (
    DeclarationError,
    LockTimeoutError,
    NotFoundError,
    OutsideBlockError,
    ReadOnlyError,
    TransactionDoomedError,
    UnflushedChangesError,
)
from fastkit.pages import PageQuery

pytestmark = pytest.mark.anyio

BOOK: Any = Book.__table__
AUTHOR: Any = Author.__table__
VERBS = ("get", "get_one", "one", "first", "all", "page")


def set_title(connection: Connection, title: str) -> None:
    """Change the title of book 1 and commit."""
    connection.execute(update(BOOK).where(BOOK.c.id == 1).values(title=title))
    connection.commit()


def is_locked(world: World, table: Any, key: int) -> bool:
    """Return whether somebody else would have to wait for a row."""
    with rival(world) as other:
        try:
            other.execute(select(table.c.id).where(table.c.id == key).with_for_update(nowait=True))
        except OperationalError as error:
            return "lock" in str(error).lower()
    return False


async def read(view: Any, verb: str) -> Any:
    """Read book 1 with a verb."""
    if verb in {"get", "get_one"}:
        return await getattr(view, verb)(1)
    if verb in {"page", "slice"}:
        return (await getattr(view, verb)(PageQuery(), Book.id == 1)).items[0]
    found = await getattr(view, verb)(Book.id == 1)
    return found[0] if verb == "all" else found


class TestLock:
    """The lock itself, seen from another connection."""

    @pytest.mark.parametrize("verb", VERBS)
    async def test_a_row_stays_locked_until_the_block_ends(self, stocked: World, verb: str) -> None:
        """Somebody else cannot lock it, may lock the row beside it, and gets it after the block."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks: a block that may write is alone")
        async with stocked.shop() as shop:
            found = await read(shop.books.for_update(), verb)
            during = is_locked(stocked, BOOK, 1), is_locked(stocked, BOOK, 2)

        assert found.title == "Emma"
        assert during == (True, False)
        assert is_locked(stocked, BOOK, 1) is False

    async def test_a_plain_read_locks_nothing(self, stocked: World) -> None:
        """Without for_update() nobody waits."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks")
        async with stocked.shop() as shop:
            await shop.books.get_one(1)
            during = is_locked(stocked, BOOK, 1)

        assert during is False

    async def test_c16_on_sqlite_a_block_that_may_write_is_alone(self, stocked: World) -> None:
        """There a lock on the whole database does the same."""
        if stocked.server != "SQLite":
            pytest.skip("has row locks")
        async with stocked.shop() as shop:
            await shop.books.for_update().get_one(1)
            with rival(stocked) as other:
                other.exec_driver_sql("PRAGMA busy_timeout = 0")
                with pytest.raises(OperationalError, match="locked"):
                    set_title(other, "Not Emma")

    @pytest.mark.parametrize("option", [joinedload(Book.author), selectinload(Book.author)], ids=["joined", "selectin"])
    async def test_loaded_relationships_are_not_locked(self, stocked: World, option: Any) -> None:
        """Only rows of the model are; MariaDB has no word for that and locks what is joined."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks")
        async with stocked.shop() as shop:
            found = await shop.books.with_options(option).for_update().get_one(1)
            during = is_locked(stocked, BOOK, 1), is_locked(stocked, AUTHOR, 1)

        assert found.author.name == "Jane Austen"
        assert during[0] is True
        assert during[1] is False or stocked.server == "MariaDB"

    @pytest.mark.parametrize("verb", ["first", "one", "page", "all"])
    async def test_an_outer_joined_collection_can_be_locked_with(self, stocked: World, verb: str) -> None:
        """A lock, a joined collection and a limit go together on every database."""
        async with stocked.shop() as shop:
            view = shop.authors.with_options(joinedload(Author.books)).for_update()
            found = await (view.page(PageQuery()) if verb == "page" else getattr(view, verb)())
        author = {"page": lambda: found.items[0], "all": lambda: found[0]}.get(verb, lambda: found)()

        assert sorted(entity.id for entity in author.books) == [1, 2]

    async def test_the_lock_keeps_order_and_options(self, stocked: World) -> None:
        """Views can be stacked in any order."""
        async with stocked.shop() as shop:
            by_title = shop.books.order_by(Book.title.desc())
            first = await by_title.for_update().with_options(joinedload(Book.author)).all()
            author = first[0].author
            second = await shop.books.for_update().order_by(Book.title.desc()).all()

        assert [entity.id for entity in first] == [entity.id for entity in second] == [2, 1]
        assert author.id == 1

    async def test_nothing_found_is_told_as_usual(self, stocked: World) -> None:
        """A lock on no row is no error of its own."""
        async with stocked.shop() as shop:
            view = shop.books.for_update()
            found = await view.get(99), await view.first(Book.id == 99), await view.all(Book.id == 99)
            with pytest.raises(NotFoundError):
                await view.get_one(99)

        assert found == (None, None, [])


class TestFresh:
    """A locked read is a read of the newest values."""

    @pytest.mark.parametrize("verb", VERBS)
    async def test_what_was_loaded_before_the_block_is_read_again(self, stocked: World, verb: str) -> None:
        """The same object, the values of now."""
        async with stocked.serving() as shop:
            emma = await shop.books.get_one(1)
            with rival(stocked) as other:
                set_title(other, "Emma, 2nd edition")
            async with shop:
                found = await read(shop.books.for_update(), verb)

                assert found is emma
                assert emma.title == "Emma, 2nd edition"

    async def test_what_was_read_in_the_block_is_read_again(self, stocked: World) -> None:
        """Where the isolation level shows newer values, the object has them."""
        if stocked.server != "PostgreSQL":
            pytest.skip("a snapshot, or a lock, keeps others' changes out of the block")
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            with rival(stocked) as other:
                set_title(other, "Emma, 2nd edition")
            stale = emma.title
            await shop.books.for_update().get_one(1)

            assert (stale, emma.title) == ("Emma", "Emma, 2nd edition")

    async def test_a_locked_read_keeps_relationships_that_were_loaded(self, stocked: World) -> None:
        """To lock a row is no reason to forget what was loaded along with it."""
        async with stocked.shop() as shop:
            emma = await shop.books.with_options(joinedload(Book.author)).get_one(1)
            await shop.books.for_update().get_one(1)

            assert emma.author.name == "Jane Austen"

    async def test_one_statement_locks_and_refreshes(self, stocked: World) -> None:
        """A lock costs no statement more."""
        async with stocked.serving() as shop:
            await shop.books.get_one(1)
            async with shop:
                with recorded(stocked) as sent:
                    await shop.books.for_update().get_one(1)

        assert len(sent) == 1
        assert ("FOR UPDATE" in sent[0]) is (stocked.server != "SQLite")


class TestOptions:
    """What happens where somebody else has locked a row, and what others may do to the rows that are locked here."""

    @pytest.mark.parametrize("verb", [*VERBS, "slice"])
    async def test_nowait_raises_at_once(self, stocked: World, verb: str) -> None:
        """The error is that of a lock that was not given in time, whatever the database calls it."""
        async with stocked.shop() as shop:
            await shop.books.for_update().get_one(1)
            with pytest.raises(LockTimeoutError):
                async with stocked.shop() as other:
                    await read(other.books.for_update(nowait=True), verb)
            await shop.rollback()

        async with stocked.shop() as shop:
            assert (await read(shop.books.for_update(nowait=True), verb)).title == "Emma"

    @ON_SQLITE
    async def test_nowait_does_not_wait_for_the_writer(self, stocked: World) -> None:
        """Not even where changes have to be flushed before, and the connection waits again afterwards."""
        asked = text("PRAGMA busy_timeout").execution_options(fastkit_reads=True)
        sent: list[str] = []
        event.listen(stocked.sync_engine, "before_cursor_execute", lambda c, cur, statement, *_: sent.append(statement))
        with rival(stocked) as other:
            other.exec_driver_sql("BEGIN IMMEDIATE")
            with pytest.raises(LockTimeoutError):
                async with stocked.shop() as shop:
                    shop.authors.add(Author(id=7, name="Ovid"))
                    await shop.books.for_update(nowait=True).get_one(1)
        async with stocked.shop() as shop:
            await shop.books.for_update(nowait=True).get_one(1)

            assert await shop.session.scalar(asked) == 2000
        waits = [statement.partition("=")[2] for statement in sent if statement.startswith("PRAGMA busy_timeout=")]
        assert waits == ["0", "2000"] * 2

    async def test_the_error_of_nowait_dooms_the_block(self, stocked: World) -> None:
        """It is an error of the database: only a savepoint takes it back."""
        async with stocked.shop() as shop:
            await shop.books.for_update().get_one(1)
            with pytest.raises(TransactionDoomedError, match="LockTimeoutError was raised"):
                async with stocked.shop() as other:
                    with pytest.raises(LockTimeoutError):
                        await other.books.for_update(nowait=True).get_one(1)
                    await other.books.count()
            await shop.rollback()

    async def test_skip_locked_leaves_out_what_others_have_locked(self, stocked: World) -> None:
        """As if it were not there, by each verb; what is free is locked."""
        if stocked.server == "SQLite":
            pytest.skip("a block that may write is alone, so nothing is locked by others")
        async with stocked.shop() as shop:
            await shop.books.for_update().get_one(1)
            async with stocked.shop() as other:
                view = other.books.order_by(Book.id).for_update(skip_locked=True)
                found = [each.id for each in await view.all()], (await view.first()).id, (await view.one()).id
                pages = (await view.page(PageQuery(size=1))).items, (await view.slice(PageQuery(size=1))).items
                missing = await view.get(1), await view.first(Book.id == 1)
                with pytest.raises(NotFoundError):
                    await view.get_one(1)
                locked = is_locked(stocked, BOOK, 2)

        assert found == ([2], 2, 2)
        assert [[each.id for each in items] for items in pages] == [[2], [2]]
        assert (missing, locked) == ((None, None), True)

    @pytest.mark.parametrize("option", [None, joinedload(Book.author), joinedload(Book.reviews)])
    async def test_a_limit_counts_what_is_free(self, stocked: World, option: Any) -> None:
        """Rows that are skipped use up nothing of a limit, or a queue would starve behind its first rows."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks")
        async with stocked.shop() as shop:
            await shop.books.for_update().get_one(1)
            async with stocked.shop() as other:
                view = other.books.order_by(Book.id).for_update(skip_locked=True)
                found = await (view.with_options(option) if option is not None else view).first()

        assert found is not None
        assert found.id == 2

    @ON_SQLITE
    async def test_on_sqlite_skip_locked_finds_everything(self, stocked: World) -> None:
        """Nobody else can have locked anything."""
        async with stocked.shop() as shop:
            assert len(await shop.books.for_update(skip_locked=True).all()) == 2

    async def test_read_locks_let_each_other_in(self, stocked: World) -> None:
        """Two blocks read-lock the same row, and nobody can lock it to change it."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks")
        async with stocked.shop() as shop, stocked.shop() as other:
            await shop.books.for_update(read=True).get_one(1)
            found = await other.books.for_update(read=True, nowait=True).get_one(1)

            assert (found.title, is_locked(stocked, BOOK, 1)) == ("Emma", True)

    @pytest.mark.parametrize("key_share", [False, True])
    async def test_key_share_lets_others_refer_to_the_row(self, stocked: World, key_share: bool) -> None:
        """On PostgreSQL; elsewhere the lock is the stronger one, and others wait."""
        if stocked.server == "SQLite":
            pytest.skip("has no row locks")
        async with stocked.shop() as shop:
            await shop.authors.for_update(key_share=key_share).get_one(1)
            with rival(stocked) as other:
                wait = {"PostgreSQL": "SET lock_timeout = 50", "MariaDB": "SET innodb_lock_wait_timeout = 0"}
                other.exec_driver_sql(wait[stocked.server])
                try:
                    values = {"title": "x", "sku": "x", "year": 1, "language": "en", "price": 1, "stock": 1}
                    other.execute(insert(BOOK).values(author_id=1, **values))
                except OperationalError:
                    waited = True
                else:
                    waited = False
            locked = is_locked(stocked, AUTHOR, 1)

        assert waited is not (key_share and stocked.server == "PostgreSQL")
        assert locked is True

    @ON_SQLITE
    async def test_nowait_and_skip_locked_exclude_each_other(self, stocked: World) -> None:
        """A locked row is an error, or it is left out."""
        async with stocked.shop() as shop:
            with pytest.raises(DeclarationError, match="Ask for one of them"):
                shop.books.for_update(nowait=True, skip_locked=True)

    @pytest.mark.parametrize("option", ["nowait", "skip_locked", "key_share", "read"])
    @ON_SQLITE
    async def test_c5_outside_a_block_each_raises(self, stocked: World, option: str) -> None:
        """A lock needs a block whatever it is like."""
        async with stocked.serving() as shop:
            with pytest.raises(OutsideBlockError):
                await shop.books.for_update(**{option: True}).get_one(1)

            assert stocked.checked_out == 0


class TestRefusal:
    """What a lock could not make right."""

    @pytest.mark.parametrize("verb", VERBS)
    async def test_c5_an_object_that_was_changed_before_raises(self, stocked: World, verb: str) -> None:
        """The change may rest on values that were read without the lock."""
        async with stocked.shop() as shop:
            (await shop.books.get_one(1)).stock -= 1
            with pytest.raises(UnflushedChangesError, match="Book was changed before it was locked"):
                await read(shop.books.for_update(), verb)
            await shop.rollback()

    async def test_c5_a_new_value_equal_to_the_old_is_no_change(self, stocked: World) -> None:
        """What would not be written cannot be wrong."""
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            emma.title = "Emma"
            found = await shop.books.for_update().get_one(1)

        assert found is emma

    async def test_c5_other_changed_objects_do_not_matter(self, stocked: World) -> None:
        """A change of another row, or of another model, is flushed as before each read."""
        async with stocked.shop() as shop:
            (await shop.books.get_one(2)).stock = 99
            (await shop.authors.get_one(1)).name = "J. Austen"
            found = await shop.books.for_update().get_one(1)
            await shop.commit()

        assert found.title == "Emma"
        async with stocked.shop() as shop:
            assert (await shop.books.get_one(2)).stock == 99

    async def test_c5_flushed_changes_do_not_matter(self, stocked: World) -> None:
        """After a flush the row is locked by its own change."""
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            emma.stock = 7
            async with shop:
                await shop.commit()
            found = await shop.books.for_update().get_one(1)
            await shop.rollback()

        assert (found is emma, emma.stock) == (True, 7)

    async def test_c5_a_row_that_only_got_a_child_is_not_changed(self, stocked: World) -> None:
        """A collection is no column: to add a book is no reason to refuse the author's row."""
        async with stocked.shop() as shop:
            author = await shop.authors.with_options(selectinload(Author.books)).get_one(1)
            shop.books.add(book(3, "Sanditon", author=author))
            found = await shop.authors.for_update().get_one(1)
            await shop.rollback()

        assert found is author

    @pytest.mark.parametrize("verb", [*VERBS, "count", "exists"])
    async def test_c5_outside_a_block_it_raises(self, stocked: World, verb: str) -> None:
        """A lock that ends with its own statement protects nothing; no verb pretends otherwise."""
        async with stocked.serving() as shop:
            with pytest.raises(OutsideBlockError, match="open one first"):
                await read(shop.books.for_update(), verb) if verb in VERBS else await getattr(
                    shop.books.for_update(), verb
                )()

            assert stocked.checked_out == 0

    @ON_SQLITE
    async def test_c5_outside_a_block_it_raises_whatever_the_data(self, stocked: World) -> None:
        """An empty answer is no excuse: code that works in a test by luck fails there."""
        async with stocked.serving() as shop:
            view = shop.books.for_update()
            with pytest.raises(OutsideBlockError):
                await view.all(Book.id == 99)
            with pytest.raises(OutsideBlockError):
                await view.page(PageQuery(page=9))
            with pytest.raises(OutsideBlockError):
                await view.get(None)

    async def test_c22_in_a_read_only_block_it_raises(self, stocked: World) -> None:
        """Who only reads has nothing to lock; every database says the same."""
        async with stocked.serving() as shop, shop.block(read_only=True):
            with pytest.raises(ReadOnlyError):
                await shop.books.for_update().first()

    async def test_a_change_is_not_overwritten_by_a_locked_read(self, stocked: World) -> None:
        """Whoever swallows the error and commits stores the change, not the value that the lock found."""
        async with stocked.shop() as shop:
            emma = await shop.books.get_one(1)
            with sync_session(shop).no_autoflush:
                emma.title = "Emma, changed"
                with pytest.raises(UnflushedChangesError):
                    await shop.books.for_update().get_one(1)
                kept = emma.title
            await shop.rollback()

        assert kept == "Emma, changed"
