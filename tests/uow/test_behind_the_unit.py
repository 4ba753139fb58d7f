"""C2, C5, C10, C11: what an app does through SQLAlchemy itself, past the unit, neither loses anything nor lies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any

import pytest
from conftest import World
from sqlalchemy import MetaData, create_engine, delete, event, func, lambda_stmt, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Session, relationship, selectinload
from sqlalchemy.pool import AssertionPool, SingletonThreadPool, StaticPool

from bookshop.models import Author, Book
from fastkit.database import READS, Database
from fastkit.database._statements import what_it_ends
from fastkit.errors import (
    DeclarationError,
    OutsideBlockError,
    TransactionDoomedError,
    UncommittedChangesError,
    UnitOfWorkError,
)
from fastkit.repository import Repository
from fastkit.uow import Status, UnitOfWork

pytestmark = pytest.mark.anyio


async def change_elsewhere(world: World, key: int, stock: int) -> None:
    """Let another writer change a book."""
    async with world.shop().begin() as other:
        await other.session.execute(update(Book).where(Book.id == key).values(stock=stock))


@pytest.mark.parametrize("way", ["for_update", "selectinload", "query", "count"])
async def test_c5_a_read_of_something_else_does_not_pass_for_a_refresh(stocked: World, way: str) -> None:
    """Loaded outside, changed elsewhere: whatever a block reads first, the object is fresh when it is asked for."""
    async with stocked.serving() as shop:
        emma, persuasion = await shop.books.get_one(1), await shop.books.get_one(2)
        await change_elsewhere(stocked, 2, 50)
        async with shop:
            if way == "for_update":
                await shop.books.for_update().get_one(1)
            elif way == "selectinload":
                await shop.authors.with_options(selectinload(Author.books)).all()
            elif way == "query":
                run = (await shop.books.all()) if stocked.driver.is_async else shop.naked.session.query(Book).all()
                assert len(run) == 2
            else:
                await shop.authors.count()
            again = await shop.books.get_one(2)
            again.stock += 1
            await shop.commit()

        assert again is persuasion
        assert (await shop.books.get_one(2)).stock == 51
        assert emma.stock == 5


@pytest.mark.parametrize("how", ["delete", "flushed delete", "bulk delete", "expunge"])
async def test_c5_what_was_loaded_before_may_go_in_the_block(stocked: World, how: str) -> None:
    """Get outside, delete inside, query: the usual endpoint that deletes."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        await shop.books.get_one(2)
        async with shop:
            if how == "bulk delete":
                await shop.session.execute(delete(Book).where(Book.id == 1))
            elif how == "expunge":
                shop.session.expunge(emma)
            else:
                await shop.books.delete(emma)
                if how == "flushed delete":
                    await shop.session.flush()
            left = [each.id for each in await shop.books.order_by(Book.id).all()]
            await shop.commit()

    assert left == ([1, 2] if how == "expunge" else [2])


async def test_c5_a_change_that_changes_nothing_breaks_no_commit(stocked: World) -> None:
    """The same value again, outside a block, then a read, then an empty block."""
    async with stocked.serving() as shop:
        emma = await shop.books.get_one(1)
        emma.title = emma.title
        await shop.books.count()
        async with shop:
            await shop.commit()
        async with shop.begin():
            pass

    assert shop.outcome.status is Status.COMMITTED


@pytest.mark.parametrize("verb", ["rollback", "close"])
async def test_c10_a_transaction_that_was_ended_behind_the_unit_is_not_committed(world: World, verb: str) -> None:
    """SQLAlchemy's own transaction is gone: commit() says so instead of telling COMMITTED."""
    shop = world.shop()
    with pytest.raises(TransactionDoomedError):
        async with shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            session = shop.session if world.driver.is_async else shop.naked.session
            transaction = (session.sync_session if world.driver.is_async else session).get_transaction()
            if world.driver.is_async:
                await session.run_sync(lambda _: getattr(transaction, verb)())
            else:
                getattr(transaction, verb)()
            await shop.commit()

    assert shop.outcome.status is Status.ROLLED_BACK


async def test_c2_the_session_is_not_emptied_behind_the_unit(world: World) -> None:
    """reset() and invalidate() would lose what was flushed; they are refused."""
    with pytest.raises(UnitOfWorkError, match="ends its block"):
        async with world.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            await shop.session.reset()


async def test_c11_what_fails_after_the_commit_does_not_undo_it(world: World, caplog) -> None:
    """A listener of the app, called by SQLAlchemy after COMMIT, raises: the row is stored, and that is told."""

    def fail(session: Session) -> None:
        raise LookupError("the search index is away")

    event.listen(Session, "after_commit", fail)
    shop = world.shop()
    try:
        with pytest.raises(LookupError):
            async with shop:
                shop.authors.add(Author(name="Ovid"))
                await shop.commit()
    finally:
        event.remove(Session, "after_commit", fail)

    assert shop.outcome.status is Status.COMMITTED
    assert world.checked_out == 0
    assert "rollback failed" not in caplog.text
    async with world.serving() as shop:
        assert await shop.authors.count() == 1


async def test_c11_an_interrupt_after_the_commit_is_no_rollback(world: World, monkeypatch) -> None:
    """Ctrl-C just after the driver's COMMIT: nobody is told that nothing was stored."""
    dialect = world.sync_engine.dialect
    real = dialect.do_commit

    def commit_and_interrupt(connection) -> None:
        real(connection)
        raise KeyboardInterrupt

    shop = world.shop()
    monkeypatch.setattr(dialect, "do_commit", commit_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        if world.driver.is_async:
            pytest.skip("the loop of the tests takes a KeyboardInterrupt in a task of its own for its own")
        async with shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()

    assert shop.outcome.status is Status.UNKNOWN


async def test_c2_a_lambda_statement_is_what_it_is(world: World) -> None:
    """An insert in a lambda writes; a select in one reads."""
    insert = lambda_stmt(lambda: Author.__table__.insert().values(name="Ovid"))
    with pytest.raises(UncommittedChangesError, match="INSERT author"):
        async with world.shop() as shop:
            await shop.session.execute(insert)

    async with world.serving() as shop:
        with pytest.raises(OutsideBlockError):
            await shop.session.execute(insert)
        assert (await shop.session.execute(lambda_stmt(lambda: select(Author)))).all() == []


async def test_c2_a_text_that_says_that_it_reads_is_believed_on_every_layer(stocked: World) -> None:
    """On the text, on its columns, on the statement around it, and on the call."""
    marked = {READS: True}
    plain = text("SELECT id FROM author")
    statements = [
        plain.execution_options(**marked),
        plain.execution_options(**marked).columns(Author.id),
        plain.columns(Author.id).execution_options(**marked),
        select(Author).from_statement(plain).execution_options(**marked),
    ]
    async with stocked.serving() as shop:
        for statement in statements:
            assert len((await shop.session.execute(statement)).all()) == 1
        assert len((await shop.session.execute(plain, execution_options=marked)).all()) == 1


async def test_c5_a_lock_needs_a_block_in_any_words(stocked: World) -> None:
    """A plain select with_for_update outside a block would lock nothing, or for a moment."""
    async with stocked.serving() as shop:
        with pytest.raises(OutsideBlockError, match="locks rows"):
            await shop.session.execute(select(Book).with_for_update())
        with pytest.raises(OutsideBlockError, match="locks rows"):
            await shop.session.get(Book, 1, with_for_update=True)


async def test_c5_rows_may_be_fetched_bit_by_bit_outside_a_block(stocked: World) -> None:
    """yield_per needs a transaction on PostgreSQL, and gets one."""
    async with stocked.serving() as shop:
        found = await shop.session.execute(select(Book).execution_options(yield_per=1))

        assert len(found.all()) == 2


async def test_c24_values_stay_out_of_errors_that_nobody_translates(world: World) -> None:
    """A bug of the app stays SQLAlchemy's error, without the parameters."""
    async with world.serving() as shop:
        with pytest.raises(SQLAlchemyError) as caught:
            await shop.session.execute(select(func.no_such_function("s3cret")))

    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("pool", [StaticPool, SingletonThreadPool, AssertionPool])
def test_c10_a_pool_of_one_connection_is_refused(pool) -> None:
    """Units of work on it would share a transaction."""
    with pytest.raises(DeclarationError, match="one transaction"):
        Database(create_engine("sqlite://", poolclass=pool))


@pytest.mark.parametrize("how", ["engine", "options"])
def test_c1_an_engine_in_autocommit_is_refused(how: str) -> None:
    """Nothing on it could be rolled back."""
    url, options = "postgresql+psycopg://localhost/shop", {"isolation_level": "AUTOCOMMIT"}
    with pytest.raises(DeclarationError, match="AUTOCOMMIT stores each statement at once"):
        Database(create_engine(url, **options)) if how == "engine" else Database(url, engine_options=options)
    with pytest.raises(DeclarationError, match="AUTOCOMMIT stores each statement at once"):
        Database(create_engine(url).execution_options(**options))


@pytest.mark.parametrize("sql", ["COMMIT", " /* so */ commit", "-- x\nEND", "rollback", "BEGIN", "start transaction"])
async def test_c2_a_text_that_ends_the_transaction_is_refused(world: World, sql: str) -> None:
    """It would store what is to be rolled back, or lose what is to be stored; nothing of it is sent."""
    with pytest.raises(LookupError):
        async with world.shop() as shop:
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()
            with pytest.raises(UnitOfWorkError, match="ends the transaction behind its unit"):
                await shop.session.execute(text(sql))
            assert await shop.authors.count() == 1
            raise LookupError

    async with world.shop() as shop:
        assert await shop.authors.count() == 0


@pytest.mark.parametrize(
    "sql", ["TRUNCATE review", "create table x (id int)", "set autocommit = 1", "LOCK TABLES book READ"]
)
async def test_c2_what_commits_by_itself_on_mariadb_is_refused(world: World, sql: str) -> None:
    """Elsewhere it is an ordinary statement."""
    if world.server != "MariaDB":
        pytest.skip("MariaDB commits by itself")
    async with world.shop() as shop:
        with pytest.raises(UnitOfWorkError, match="ends the transaction behind its unit"):
            await shop.session.execute(text(sql))
        await shop.rollback()


@pytest.mark.parametrize(
    "sql",
    [
        "ROLLBACK TO x",
        "ending",
        "SELECT 'COMMIT'",
        "UPDATE book SET title = 'begin'",
        "CREATE TEMPORARY TABLE t (i int)",
    ],
)
def test_c2_what_ends_nothing_is_let_through(sql: str) -> None:
    """A word is a whole word, and at the beginning."""
    assert what_it_ends(text(sql), "mariadb") is None


async def test_c2_a_request_that_ends_with_its_block_open_is_told(world: World) -> None:
    """The owner ends, the block was never left: what it wrote is not lost in silence."""
    with pytest.raises(UncommittedChangesError, match="Author"):
        async with world.serving() as shop:
            block = shop.block()
            await block.__aenter__()
            shop.authors.add(Author(name="Ovid"))
            await shop.session.flush()

    assert world.checked_out == 0


async def test_c22_a_block_keeps_its_isolation_and_its_database(world: World) -> None:
    """Neither is changed through the session."""
    async with world.shop() as shop:
        with pytest.raises(UnitOfWorkError, match="isolation"):
            await shop.session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        with pytest.raises(UnitOfWorkError, match="one database"):
            await shop.session.execute(select(Book), bind_arguments={"bind": world.sync_engine})


# -- blocks that a generator leaves open


async def _books(shop: Any, how: str) -> AsyncGenerator[Book]:
    async with shop if how == "block" else shop.savepoint():
        for each in await shop.books.order_by(Book.id).all():
            yield each


@pytest.mark.parametrize("how", ["block", "savepoint"])
async def test_c1_a_commit_around_a_block_that_was_left_open_is_refused(stocked: World, how: str) -> None:
    """A nested block in a generator that nobody finished: commit() would only flush, and be lost in silence."""
    if not stocked.driver.is_async:
        pytest.skip("see the sync one")
    unit = stocked.shop()
    with pytest.raises(UnitOfWorkError, match="in a generator that was not finished"):
        async with unit as shop:
            found = _books(shop, how)
            async for each in found:
                each.stock = 77
                break
            await shop.commit()
    await found.aclose()

    assert unit.outcome.status is Status.ROLLED_BACK
    assert stocked.checked_out == 0
    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 5


@pytest.mark.parametrize("how", ["block", "savepoint"])
async def test_c2_leaving_around_a_block_that_was_left_open_is_told(stocked: World, how: str) -> None:
    """Without a commit too; the connection is back, and the generator may end whenever it likes."""
    if not stocked.driver.is_async:
        pytest.skip("see the sync one")
    unit = stocked.shop()
    with pytest.raises(UncommittedChangesError):
        async with unit as shop:
            found = _books(shop, how)
            (await anext(found)).stock = 77

    assert stocked.checked_out == 0
    await found.aclose()
    assert unit.outcome.status is Status.ROLLED_BACK


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("how", ["block", "savepoint"])
async def test_c1_a_sync_block_that_was_left_open_is_told(stocked: World, how: str, commits: bool) -> None:
    """The same without async; the test's own disguise of sync units would hide whose `with` it is."""
    if stocked.driver.is_async:
        pytest.skip("see the async ones")

    def books(shop: Any) -> Iterator[Book]:
        with shop if how == "block" else shop.savepoint():
            yield from shop.books.order_by(Book.id).all()

    unit = stocked.unit(stocked.naked)
    with pytest.raises(UnitOfWorkError if commits else UncommittedChangesError):
        with unit as shop:
            found = books(shop)
            next(found).stock = 77
            if commits:
                shop.commit()
    found.close()  # type: ignore[attr-defined]

    assert unit.outcome.status is Status.ROLLED_BACK
    assert stocked.checked_out == 0


async def test_c6_a_generator_that_is_finished_leaves_nothing_open(stocked: World) -> None:
    """Then its block or savepoint is one as any other."""
    async with stocked.shop() as shop:
        for how in ("block", "savepoint"):
            async for each in _books(shop, how):
                each.stock += 1
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(shop.savepoint())
            await stack.enter_async_context(shop.block())
        await shop.commit()

    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 7


# -- reads that look like none


async def test_c5_a_lazily_loaded_list_is_refreshed(stocked: World) -> None:
    """Its rows were asked for again, so objects that were loaded before the block show what they say."""

    class Parent(DeclarativeBase):
        """A base of its own, for a relationship that loads lazily."""

    class Writer(Parent):
        """An author whose books load lazily."""

        __table__ = Author.__table__.to_metadata(MetaData())

    class Volume(Parent):
        """A book of such an author."""

        __table__ = Book.__table__.to_metadata(Writer.__table__.metadata)

    Writer.volumes = relationship(Volume, order_by=Volume.id)  # type: ignore[attr-defined]
    if stocked.driver.is_async:
        pytest.skip("async code loads nothing lazily")
    kind = type(
        "Archive", (UnitOfWork,), {"__annotations__": {"writers": Repository[Writer], "volumes": Repository[Volume]}}
    )
    with kind.serving(stocked.naked) as shop:
        writer, volume = shop.writers.get_one(1), shop.volumes.get_one(1)
        async with stocked.shop() as other:
            await other.session.execute(update(Book).values(stock=100))
            await other.commit()
        with shop.begin():
            shop.writers.get_one(1).volumes[0].stock -= 1

        assert writer.volumes[0] is volume
        assert volume.stock == 99
    async with stocked.shop() as shop:
        assert (await shop.books.get_one(1)).stock == 99


# -- listeners of the app


@contextmanager
def _listening(shop: Any, name: str, function: Callable[[Session], None]) -> Iterator[None]:
    session = shop.session if isinstance(shop.session, Session) else getattr(shop.session, "sync_session", None)
    target = session or shop.naked.session
    event.listen(target, name, function)
    try:
        yield
    finally:
        event.remove(target, name, function)


@pytest.mark.parametrize("name", ["before_flush", "after_commit"])
async def test_c20_a_listener_may_call_the_unit(world: World, name: str) -> None:
    """It runs for whoever commits, in both colours."""
    ran: list[str] = []
    async with world.shop() as shop:

        def listener(session: Session, *more: object) -> None:
            shop.after_commit(lambda: ran.append(name))

        with _listening(shop, name, listener):
            shop.authors.add(Author(name="Ovid"))
            await shop.commit()

    assert shop.outcome.status is Status.COMMITTED
    assert ran == [name]


async def test_c17_hooks_run_although_a_listener_fails_after_the_commit(world: World) -> None:
    """What is stored is announced, in both colours; the error of the listener is told."""
    ran: list[int] = []
    unit = world.shop()
    with pytest.raises(LookupError):
        async with unit as shop:

            def listener(session: Session) -> None:
                raise LookupError

            with _listening(shop, "after_commit", listener):
                shop.after_commit(lambda: ran.append(1))
                shop.authors.add(Author(name="Ovid"))
                await shop.commit()

    assert unit.outcome.status is Status.COMMITTED
    assert (ran, unit.outcome.hook_errors) == ([1], ())


async def test_c2_what_a_listener_adds_before_the_commit_is_stored(world: World) -> None:
    """Though the block itself had nothing to send."""
    async with world.shop() as shop:

        def listener(session: Session) -> None:
            session.add(Author(name="Ovid"))

        with _listening(shop, "before_commit", listener):
            await shop.commit()

    async with world.shop() as shop:
        assert await shop.authors.count() == 1
