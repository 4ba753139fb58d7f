"""Windows and streams: what a cursor is good for, and what it is not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from conftest import SECRET, World, book
from pydantic import ValidationError
from repository.scenes import ON_SQLITE, OUTSIDE, PLACES, recorded, rival, scene
from servers import DRIVERS
from sqlalchemy import Index, String, create_engine, delete, desc, event, insert, text
from sqlalchemy.dialects import registry
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, joinedload, mapped_column

from bookshop.models import Author, Book, OrderLine
from fastkit.database import AsyncDatabase, Database
from fastkit.errors import DeclarationError, InvalidCursorError
from fastkit.pages import CountUpTo, PageQuery, Signer, Window, WindowQuery
from fastkit.repository import Contains, ListQuery, Repository, Sort
from fastkit.repository._explanation import wanted
from fastkit.repository._keyset import Keyset
from fastkit.schemas import Schema

pytestmark = pytest.mark.anyio
ON_SYNC = pytest.mark.parametrize(
    "driver", [driver for driver in DRIVERS if not driver.is_async], indirect=True, ids=lambda driver: driver.id
)


class BookOut(Schema):
    """What is shown of a book."""

    id: int
    title: str


class BookQuery(ListQuery[Book]):
    """What a client may ask of books."""

    title: Contains[str] = None
    sort = Sort("title", "price", "year", default="title")
    max_size = 50


class AuthorOut(Schema):
    """What is shown of an author."""

    id: int


@pytest.fixture
async def shelf(world: World) -> World:
    """Return a database with nine books, three of a year each."""
    async with world.shop() as shop:
        shop.authors.add(Author(id=1, name="Jane Austen"))
        shop.books.add_all(
            book(key, f"Volume {key}", author_id=1, year=1811 + key % 3, price=Decimal(key % 2)) for key in range(1, 10)
        )
        await shop.commit()
    return world


def keys(window: Window[Any]) -> list[int]:
    """Return the keys of what is in a window."""
    return [each.id for each in window.items]


class TestWhatAWindowIs:
    """Rows, and where they go on."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_it_goes_on_and_back(self, shelf: World, place: str) -> None:
        """By one statement each, and the ends are known."""
        async with scene(shelf, place) as at:
            read = at.shop.books.order_by(Book.year.desc()).into(BookOut).window
            with recorded(shelf) as sent:
                first = await read(WindowQuery(size=4))
                second = await read(WindowQuery(size=4, cursor=first.next_cursor))
                third = await read(WindowQuery(size=4, cursor=second.next_cursor))
                again = await read(WindowQuery(size=4, cursor=third.previous_cursor))
                beginning = await read(WindowQuery(size=4, cursor=again.previous_cursor))

            assert [keys(each) for each in (first, second, third)] == [[2, 5, 8, 1], [4, 7, 3, 6], [9]]
            assert (keys(again), keys(beginning)) == (keys(second), keys(first))
            assert first.previous_cursor is None
            assert third.next_cursor is None
            assert beginning.previous_cursor is None
            assert beginning.next_cursor is not None
            assert len(sent) == 5
            assert at.settled

    async def test_objects_come_in_windows_too(self, shelf: World) -> None:
        """With their loader options, of which a joined one takes no rows away."""
        async with shelf.shop() as shop:
            view = shop.books.with_options(joinedload(Book.author)).order_by(Book.year)
            first = await view.window(WindowQuery(size=2))
            second = await view.window(WindowQuery(size=2, cursor=first.next_cursor))

        assert [each.author.name for each in [*first.items, *second.items]] == ["Jane Austen"] * 4
        assert (keys(first), keys(second)) == ([3, 6], [9, 1])
        assert isinstance(first.items[0], Book)

    async def test_a_block_sees_its_own_rows(self, shelf: World) -> None:
        """What is pending is flushed first."""
        async with shelf.shop() as shop:
            shop.books.add(book(500, "Aaa", author_id=1))
            window = await shop.books.order_by(Book.title).into(BookOut).window(WindowQuery(size=1))
            await shop.rollback()

        assert keys(window) == [500]

    async def test_what_changes_in_between_moves_nothing(self, shelf: World) -> None:
        """Rows that are added or deleted before the place, or the row of the place itself, shift no window."""
        async with shelf.serving() as shop:
            read = shop.books.into(BookOut).window
            first = await read(WindowQuery(size=3))
            with rival(shelf) as other:
                other.execute(delete(Book).where(Book.id.in_([1, 3, 5])))
                other.commit()
            second = await read(WindowQuery(size=3, cursor=first.next_cursor))
            back = await read(WindowQuery(size=3, cursor=second.previous_cursor))

        assert [keys(each) for each in (first, second, back)] == [[1, 2, 3], [4, 6, 7], [2]]

    async def test_there_is_a_way_back_from_nothing(self, shelf: World) -> None:
        """If the rows that were promised are gone, the window is empty and leads to the row where the client was."""
        async with shelf.serving() as shop:
            read = shop.books.into(BookOut).window
            first = await read(WindowQuery(size=3))
            second = await read(WindowQuery(size=3, cursor=first.next_cursor))
            with rival(shelf) as other:
                other.execute(delete(Book).where(Book.id.not_in([4, 5, 6])))
                other.commit()
            before = await read(WindowQuery(size=3, cursor=second.previous_cursor))
            after = await read(WindowQuery(size=3, cursor=second.next_cursor))
            there = await read(WindowQuery(size=3, cursor=before.next_cursor))
            here = await read(WindowQuery(size=3, cursor=after.previous_cursor))

        assert (keys(before), before.previous_cursor, keys(after), after.next_cursor) == ([], None, [], None)
        assert (keys(there), keys(here)) == ([4, 5, 6], [4, 5, 6])

    async def test_an_empty_list_is_one_window(self, world: World) -> None:
        """With no way on."""
        async with world.serving() as shop:
            window = await shop.books.into(BookOut).window(WindowQuery())

        assert window == Window[BookOut](items=[], next_cursor=None, previous_cursor=None, size=20)

    async def test_a_window_can_be_mapped(self) -> None:
        """As a page can be."""
        window = Window[int](items=[1, 2], next_cursor="n", previous_cursor="p", size=2)

        assert window.map(str) == Window[str](items=["1", "2"], next_cursor="n", previous_cursor="p", size=2)


class TestListQueries:
    """A window of what a client asks for."""

    async def test_filters_and_order_hold_on_the_way(self, shelf: World) -> None:
        """Together with criteria of the code."""
        async with shelf.serving() as shop:
            query = BookQuery(title="volume", sort="-price,year", size=2)
            found, window = [], None
            while window is None or window.next_cursor is not None:
                asked = query.model_copy(update={"cursor": window.next_cursor if window else None})
                window = await shop.books.into(BookOut).window(asked, Book.id < 8)
                found += keys(window)

        assert found == [3, 1, 7, 5, 6, 4, 2]

    async def test_a_page_takes_no_cursor_and_a_window_no_number(self, shelf: World) -> None:
        """One of them would be ignored in silence."""
        async with shelf.serving() as shop:
            for read in (shop.books, shop.books.into(BookOut)):
                with pytest.raises(DeclarationError, match=r"BookQuery\(cursor=...\) asks for a window"):
                    await read.page(BookQuery(cursor="x"))
                with pytest.raises(DeclarationError, match=r"BookQuery\(cursor=...\) asks for a window"):
                    await read.slice(BookQuery(cursor="x"))
                with pytest.raises(DeclarationError, match=r"BookQuery\(page=2\) asks for a page"):
                    await read.window(BookQuery(page=2))

    def test_its_bounds_are_those_of_the_class(self) -> None:
        """And the length of a cursor has one."""
        with pytest.raises(ValidationError):
            BookQuery(size=51)
        with pytest.raises(ValidationError):
            WindowQuery(size=101)
        with pytest.raises(ValidationError):
            WindowQuery(cursor="x" * 5000)


class TestCursors:
    """A cursor is of one list, and nobody else makes one."""

    async def test_a_cursor_of_another_list_is_refused(self, shelf: World) -> None:
        """Another order, direction, filter, model; another size is fine."""
        async with shelf.serving() as shop:
            reader = shop.books.into(BookOut)
            cursor = (await reader.window(BookQuery(title="v", sort="price", size=2))).next_cursor

            assert (await reader.window(BookQuery(title="v", sort="price", size=3, cursor=cursor))).items
            for other in (
                BookQuery(title="v", sort="-price", cursor=cursor),
                BookQuery(title="v", sort="price,year", cursor=cursor),
                BookQuery(title="w", sort="price", cursor=cursor),
                BookQuery(sort="price", cursor=cursor),
                WindowQuery(cursor=cursor),
            ):
                with pytest.raises(InvalidCursorError):
                    await reader.window(other)
            with pytest.raises(InvalidCursorError):
                await shop.authors.into(AuthorOut).window(WindowQuery(cursor=cursor))

    @ON_SQLITE
    async def test_a_changed_cursor_is_refused(self, shelf: World) -> None:
        """Whatever was changed in it, and whatever is no cursor at all."""
        async with shelf.serving() as shop:
            read = shop.books.into(BookOut).window
            cursor = (await read(WindowQuery(size=2))).next_cursor
            for place in range(len(cursor)):
                other = "A" if cursor[place] != "A" else "B"
                with pytest.raises(InvalidCursorError):
                    await read(WindowQuery(cursor=cursor[:place] + other + cursor[place + 1 :]))
            for junk in ("=", "a", "é", "*", "\0", cursor + cursor, cursor[:-1], cursor[1:], "A" * 4096):
                with pytest.raises(InvalidCursorError):
                    await read(WindowQuery(cursor=junk))

    async def test_a_key_can_be_rotated(self, tmp_path: Any) -> None:
        """The new one signs, the old one is read until it is dropped."""
        new, old = "n" * 32, "o" * 32
        signers = {name: Signer(each) for name, each in {"old": [old], "both": [new, old], "new": [new]}.items()}
        of_old, of_both = signers["old"].write("list", [1]), signers["both"].write("list", [1])

        assert signers["both"].read("list", of_old) == [1]
        assert signers["new"].read("list", of_both) == [1]
        with pytest.raises(InvalidCursorError):
            signers["new"].read("list", of_old)
        with pytest.raises(InvalidCursorError):
            signers["old"].read("list", of_both)

    @pytest.mark.parametrize("given", [["short"], [""], "short", [b"short"], [SECRET, "short"]])
    def test_a_key_must_be_a_secret(self, given: Any) -> None:
        """Told when the database is made."""
        with pytest.raises(DeclarationError, match="at least 32 characters"):
            Database("sqlite:///x.db", cursor_keys=given)
        with pytest.raises(DeclarationError, match="at least 32 characters"):
            AsyncDatabase("sqlite+aiosqlite:///x.db", cursor_keys=given)

    async def test_without_a_key_there_is_no_window(self, tmp_path: Any) -> None:
        """Told at the first one, whether or not anything follows it."""
        with Session(create_engine("sqlite://")) as session, pytest.raises(DeclarationError, match="cursor_keys"):
            Repository(session, Book).window(WindowQuery())

    async def test_a_plain_session_of_the_database_has_its_keys(self, shelf: World) -> None:
        """`database.session()`, in both colours."""
        session = shelf.naked.session()
        if shelf.driver.is_async:
            window = await session.run_sync(lambda each: Repository(each, Book).window(WindowQuery(size=2)))
            await session.close()
        else:
            window = Repository(session, Book).window(WindowQuery(size=2))
            session.close()

        assert keys(window) == [1, 2]
        assert window.next_cursor

    async def test_a_refusal_shows_no_value(self, shelf: World) -> None:
        """Neither of the cursor nor of the row; it says what to do."""
        async with shelf.serving() as shop:
            reader = shop.books.order_by(Book.title).into(BookOut)
            cursor = (await reader.window(WindowQuery(size=2))).next_cursor
            with pytest.raises(InvalidCursorError) as caught:
                await shop.books.into(BookOut).window(WindowQuery(cursor=cursor))

        assert str(caught.value).endswith("start again without one.")
        assert not caught.value.args
        assert cursor not in str(caught.value)
        assert "Volume" not in str(caught.value)


class TestWhatCannotBeGoneOnFrom:
    """Told by the first window."""

    @pytest.mark.parametrize(
        ("ordering", "message"),
        [
            (["title"], "not by a text"),
            ([text("title")], "not by a text"),
        ],
    )
    @ON_SQLITE
    async def test_a_text_is_no_key(self, shelf: World, ordering: Sequence[Any], message: str) -> None:
        """It cannot be turned around or compared."""
        async with shelf.serving() as shop:
            with pytest.raises(DeclarationError, match=message):
                await shop.books.order_by(*ordering).window(WindowQuery())

    @ON_SQLITE
    async def test_a_locked_view_has_no_window(self, shelf: World) -> None:
        """Nobody would hold the lock while a client thinks."""
        async with shelf.shop() as shop:
            with pytest.raises(DeclarationError, match="for_update"):
                await shop.books.for_update().window(WindowQuery())
            await shop.rollback()


class TestSpeed:
    """What makes a window quick."""

    @ON_SYNC
    @pytest.mark.parametrize("down", [False, True])
    @pytest.mark.parametrize("names", [("id",), ("author_id", "title")])
    async def test_an_index_is_searched_from_the_row_on(
        self, shelf: World, names: tuple[str, ...], *, down: bool
    ) -> None:
        """By the plan that the database makes for it, in both directions."""
        fill(shelf)
        index = Index("ix_of_a_window", Book.author_id, Book.title, Book.id)
        Book.__table__.indexes.discard(index)  # type: ignore[attr-defined]
        ordering = [getattr(Book, name).desc() if down else getattr(Book, name) for name in names]
        with rival(shelf) as other:
            index.create(other)
            other.commit()
        try:
            async with shelf.serving() as shop:
                reader = shop.books.order_by(*ordering).into(BookOut)
                window = await reader.window(WindowQuery(size=5))
                for _ in range(5):
                    window = await reader.window(WindowQuery(size=5, cursor=window.next_cursor))
                sent: list[tuple[str, Any]] = []
                event.listen(shelf.sync_engine, "before_cursor_execute", lambda *said: sent.append((said[2], said[3])))
                await reader.window(WindowQuery(size=5, cursor=window.previous_cursor))
                await reader.window(WindowQuery(size=5, cursor=window.next_cursor))
            plans = [plan_of(shelf, *each) for each in sent if each[0].startswith("SELECT")]
        finally:
            with rival(shelf) as other:
                index.drop(other)
                other.commit()

        assert len(plans) == 2
        marks = {"SQLite": "SEARCH book", "PostgreSQL": "Index Cond", "MariaDB": "range"}
        assert all(marks[shelf.server] in plan for plan in plans), plans

    def test_what_a_reader_does_can_be_told(self, tmp_path: Any) -> None:
        """Its statements, and the index that is there or is missing."""
        database = Database(f"sqlite:///{tmp_path / 'x.db'}", cursor_keys=[SECRET])
        with database.session() as session:
            reader = Repository(session, Book).into(BookOut)
            told = reader.explain(BookQuery(title="x", sort="-price,year"), Book.stock > 0)
            by_key = reader.explain()
            by_expression = reader.order_by(Book.price * Book.stock).explain()
            lines = Repository(session, OrderLine).into(LineOut).explain()

        assert told.startswith("Book into BookOut takes 1 statement(s):\nSELECT book.id, book.title")
        assert "\nThis is what page(), slice(), window() and stream() send for that query" in told
        assert "\nThe ORDER BY is that of first(), page(), slice(), window() and stream(); all() sends none" in by_key
        assert "\nThe ORDER BY is that of all(), first()" in by_expression
        assert "stock >" in told
        told, by_key, by_expression = (each.splitlines()[-2] for each in (told, by_key, by_expression))
        assert told.endswith('Index("ix_book_price_desc_year_id", Book.price.desc(), Book.year, Book.id).')
        assert by_key.endswith("has the index that it wants: pk_book.")
        assert by_expression.endswith("no index of one table has these keys.")
        assert "LineOut" in lines


def fill(world: World) -> None:
    """Store so many books that a database looks for an index."""
    one = {"year": 1, "language": "en", "price": 1, "stock": 1, "author_id": 1}
    with rival(world) as other:
        numbers = range(1000, 6000)
        other.execute(insert(Book), [{"id": each, "title": f"x{each}", "sku": f"{each}", **one} for each in numbers])
        other.commit()
        other.execute(text("ANALYZE TABLE book" if world.server == "MariaDB" else "ANALYZE book"))
        other.commit()


def plan_of(world: World, statement: str, parameters: Any) -> str:
    """Return how the database runs a statement."""
    how = "EXPLAIN QUERY PLAN " if world.server == "SQLite" else "EXPLAIN "
    with rival(world) as other:
        return "\n".join(map(str, other.exec_driver_sql(how + statement, parameters)))


@pytest.mark.parametrize("name", ["postgresql", "mysql", "sqlite"])
def test_the_index_that_was_advised_is_found(name: str) -> None:
    """However it was written; to those of MariaDB the server appends the key."""

    class Base(DeclarativeBase):
        """The base of one."""

    class Concert(Base):
        """With an index of each spelling."""

        __tablename__ = "concert"
        __table_args__ = (Index(None, desc("price"), "title", "id"), Index("ix_day", "day"))

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(String(10))
        price: Mapped[int]
        day: Mapped[int]

    Index("ix_concert_title_desc_id", Concert.title.desc(), Concert.id)

    def told(*ordering: Any) -> str:
        dialect: Any = registry.load(name)()
        return wanted(Keyset.of(Concert, ordering, dialect), Concert, dialect)

    assert "has the index that it wants" in told(Concert.price.desc(), Concert.title)
    assert "has the index that it wants" in told(Concert.title.desc())
    assert "wants an index" in told(Concert.price, Concert.title)
    assert ("has the index" in told(Concert.day)) is (name == "mysql")
    assert told().endswith("that of the primary key.")


class LineOut(Schema):
    """What is shown of a line of an order."""

    quantity: int


class TestStreams:
    """Everything, a bit at a time."""

    @pytest.mark.parametrize("place", PLACES)
    async def test_a_stream_yields_every_row(self, shelf: World, place: str) -> None:
        """In batches, each a statement."""
        async with scene(shelf, place) as at:
            found = []
            with recorded(shelf) as sent:
                async for each in streamed(shelf, at.shop.books.into(BookOut), Book.id > 1, batch=3):
                    found.append(each.id)
                    assert at.settled

            assert found == [2, 3, 4, 5, 6, 7, 8, 9]
            assert len(sent) == 3

    async def test_a_stream_of_objects(self, shelf: World) -> None:
        """In an order of its own."""
        async with scene(shelf, OUTSIDE) as at:
            books = at.shop.books.order_by(Book.year.desc())

            assert [each.id async for each in streamed(shelf, books, batch=4)] == [2, 5, 8, 1, 4, 7, 3, 6, 9]

    async def test_a_stream_of_what_a_client_asks_for(self, shelf: World) -> None:
        """Its filters and its order; not its page."""
        async with scene(shelf, OUTSIDE) as at:
            query = BookQuery(title="volume", sort="-price", page=2, size=2)
            for source in (at.shop.books, at.shop.books.into(BookOut)):
                found = [each.id async for each in streamed(shelf, source, Book.id < 6, query=query, batch=2)]
                assert found == [1, 3, 5, 2, 4]

    async def test_a_stream_that_is_left_holds_nothing(self, shelf: World) -> None:
        """The connection went back after each batch."""
        async with shelf.serving() as shop:
            async for _ in streamed(shelf, shop.books.into(BookOut), batch=2):
                break

            assert shelf.checked_out == 0
            assert await shop.books.count() == 9

    @ON_SQLITE
    async def test_a_batch_has_rows(self, shelf: World) -> None:
        """None would never end."""
        async with shelf.serving() as shop:
            with pytest.raises(DeclarationError, match="at least one row"):
                [each async for each in streamed(shelf, shop.books, batch=0)]

    @ON_SQLITE
    async def test_a_locked_view_has_no_stream(self, shelf: World) -> None:
        """It would lock all rows bit by bit."""
        async with shelf.shop() as shop:
            with pytest.raises(DeclarationError, match="for_update"):
                [each async for each in streamed(shelf, shop.books.for_update())]
            await shop.rollback()


async def streamed(world: World, source: Any, *where: Any, **options: Any) -> Any:
    """Yield what a source of either colour streams."""
    if world.driver.is_async:
        async for each in source.stream(*where, **options):
            yield each
    else:
        for each in source.naked.stream(*where, **options):
            yield each


class TestTotals:
    """How many rows there are, at what price."""

    async def test_a_page_that_tells_it_is_not_counted(self, shelf: World) -> None:
        """The last page, and a first one that has room left."""
        async with shelf.serving() as shop:
            for read in (shop.books, shop.books.into(BookOut)):
                with recorded(shelf) as sent:
                    small = await read.page(PageQuery(size=20))
                    last = await read.page(PageQuery(size=4, page=3))
                assert (small.total, last.total, len(sent)) == (9, 9, 2)
                with recorded(shelf) as sent:
                    full = await read.page(PageQuery(size=3, page=3))
                    beyond = await read.page(PageQuery(size=4, page=9))
                assert (full.total, beyond.total, len(sent)) == (9, 9, 4)

    async def test_a_count_can_have_a_limit(self, shelf: World) -> None:
        """Beyond it, the total says that there are more."""
        async with shelf.serving() as shop:
            for read in (shop.books, shop.books.into(BookOut)):
                page = await read.page(PageQuery(size=2), count=CountUpTo(4))
                exact = await read.page(PageQuery(size=2), Book.id < 5, count=CountUpTo(4))
                deep = await read.page(PageQuery(size=2, page=4), count=CountUpTo(4))

                assert (page.total, exact.total, deep.total) == (5, 4, 9)
                assert len(deep.items) == 2

    async def test_a_list_query_is_counted_so_too(self, shelf: World) -> None:
        """With its filters."""
        async with shelf.serving() as shop:
            page = await shop.books.into(BookOut).page(BookQuery(title="volume", size=2), count=CountUpTo(3))

        assert page.total == 4

    async def test_postgresql_estimates(self, shelf: World) -> None:
        """From what it knows of the table; elsewhere that is refused."""
        if shelf.server != "PostgreSQL":
            async with shelf.serving() as shop:
                with pytest.raises(DeclarationError, match="CountUpTo"):
                    await shop.books.page(PageQuery(size=2), count="estimated")
            return
        with rival(shelf) as other:
            other.execute(text("ANALYZE book"))
            other.commit()
        async with shelf.serving() as shop:
            for read in (shop.books, shop.books.into(BookOut)):
                page = await read.page(PageQuery(size=2), count="estimated")
                narrowed = await read.page(PageQuery(size=1), Book.year == 1811, count="estimated")
                shown = await read.page(PageQuery(size=2), Book.title != "x", count="estimated")

                assert (page.total, narrowed.total) == (9, 3)
                assert 7 <= shown.total <= 9

    def test_a_limit_of_nothing_is_refused(self) -> None:
        """A slice counts nothing."""
        with pytest.raises(DeclarationError, match="slice"):
            CountUpTo(0)
