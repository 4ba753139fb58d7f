"""Conditional requests (RFC 9110, section 13), on every database and in both colours."""

from datetime import timedelta
from email.utils import format_datetime
from typing import Annotated, Any, get_args

import pytest
from conftest import World
from deps.apps import PROBLEM, answer
from fastapi import Depends, FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import StreamingResponse
from repository.scenes import rival_engine
from sqlalchemy import event, text
from versions.shelf import LONG_AGO, Author, Book, BookOut, app_of, servers_with_tables, world_with_books

from fastkit.deps import DirectRoute, IfMatch, UnitRoute, found, install
from fastkit.errors import DeclarationError, PreconditionFailedError, StaleRowError
from fastkit.service import Precondition

pytestmark = pytest.mark.anyio
__all__ = ["servers_with_tables", "world_with_books"]  # fixtures
NEW = {"title": "Emma II"}


def stored(world: World, key: int = 1) -> tuple[str, int] | None:
    """Return title and version of a book, as somebody else sees them."""
    engine = rival_engine(world)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT title, version FROM vs_book WHERE id = :key"), {"key": key}).first()
    engine.dispose()
    return None if row is None else (row[0], row[1])


def overtake(world: World, title: str = "Rival") -> None:
    """Change the first book as somebody else would, who counts versions too."""
    engine = rival_engine(world)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE vs_book SET title = :title, version = version + 1 WHERE id = 1"), {"title": title}
        )
    engine.dispose()


@pytest.fixture(params=[DirectRoute, UnitRoute])
def app(shelf: World, request: pytest.FixtureRequest) -> Any:
    """Return the app, with routes of both classes."""
    return app_of(shelf, request.param)


class TestReading:
    """GET: a client that has it does not get it again."""

    async def test_a_tag_tells_the_version_and_comes_back_as_304(self, app: Any) -> None:
        """The tag of a row is that of its version and JSON; who sends it back gets no body."""
        first = await answer(app, "/books/1")
        again = await answer(app, "/books/1", headers={"If-None-Match": first.headers["ETag"]})

        assert first.status_code == 200
        assert first.headers["ETag"].startswith('"1:')
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert "content-type" not in again.headers

    @pytest.mark.parametrize("given", ["*", "W/{tag}", '"x", {tag}', '"a,b" ,, {tag}', " {tag} "])
    async def test_none_match_compares_weakly(self, app: Any, given: str) -> None:
        """Lists, weak tags and the star are understood."""
        tag = (await answer(app, "/books/1")).headers["ETag"]

        again = await answer(app, "/books/1", headers={"If-None-Match": given.format(tag=tag)})

        assert again.status_code == 304

    @pytest.mark.parametrize("given", ['"1"', '"x"', "1", '"', "W/", 'w/"1"'])
    async def test_another_tag_and_nonsense_get_the_answer(self, app: Any, given: str) -> None:
        """What does not match, or cannot be read, spares nothing."""
        again = await answer(app, "/books/1", headers={"If-None-Match": given})

        assert (again.status_code, again.json()["title"]) == (200, "Emma")

    async def test_the_date_is_for_who_sends_no_tag(self, app: Any) -> None:
        """If-Modified-Since is looked at without If-None-Match only, and matches the very date."""
        date = format_datetime(LONG_AGO, usegmt=True)
        later = format_datetime(LONG_AGO + timedelta(days=1), usegmt=True)

        assert (await answer(app, "/books/1")).headers["Last-Modified"] == date
        assert (await answer(app, "/books/1", headers={"If-Modified-Since": date})).status_code == 304
        assert (await answer(app, "/books/1", headers={"If-Modified-Since": later})).status_code == 200
        assert (await answer(app, "/books/1", headers={"If-Modified-Since": "nonsense"})).status_code == 200
        both = {"If-Modified-Since": date, "If-None-Match": '"x"'}
        assert (await answer(app, "/books/1", headers=both)).status_code == 200

    async def test_no_date_that_another_change_may_share(self, shelf: World) -> None:
        """A row that was changed just now tells no date: a second change in the same second would have it too."""
        app = app_of(shelf)
        changed = await answer(app, "/books/1", "PUT", json=NEW)
        fresh = await answer(app, "/books/1")

        assert changed.status_code == 200
        assert "Last-Modified" not in fresh.headers
        assert fresh.headers["ETag"].startswith('"2:')

    async def test_another_row_changes_the_tag(self, app: Any, shelf: World) -> None:
        """What is shown of another row is in the tag, though the version is not another one; and there is no date."""
        first = await answer(app, "/deep/1")
        engine = rival_engine(shelf)
        with engine.begin() as connection:
            connection.execute(text("UPDATE vs_author SET name = 'J. A.'"))
        engine.dispose()
        again = await answer(app, "/deep/1", headers={"If-None-Match": first.headers["ETag"]})

        assert (again.status_code, again.json()["author"]) == (200, {"name": "J. A."})
        assert again.headers["ETag"].startswith('"1:')
        assert "Last-Modified" not in first.headers

    async def test_an_answer_of_its_own_has_no_tag(self, app: Any) -> None:
        """Where the endpoint answers something else, the version does not vouch for it."""
        first = await answer(app, "/titles/1", headers={"If-None-Match": "*"})

        assert (first.status_code, first.json()) == (200, {"title": "Emma"})
        assert "ETag" not in first.headers

    async def test_who_is_refused_learns_nothing(self, shelf: World) -> None:
        """A refusal behind `found`, an error of the endpoint and another status go before the 304, and have no tag."""
        if not shelf.driver.is_async:
            pytest.skip("the endpoints of this test are async")
        app, unit = FastAPI(), shelf.unit

        async def refuse(path: str = "") -> None:
            if path == "refused":
                raise HTTPException(403)

        @app.get("/{path}/{book_id}", response_model=BookOut)  # noqa: FAST003 - found() reads it
        async def book(
            path: str,
            book: Annotated[Any, found(unit.books, BookOut)],
            _: Annotated[None, Depends(refuse)],
            response: Response,
        ) -> Any:
            if path == "missing":
                raise HTTPException(404)
            if path == "teapot":
                response.status_code = 418
            return book if path != "other" else BookOut(id=7, title="Other", stock=0)

        install(app, {unit: shelf.naked})
        statuses = {"plain": 304, "refused": 403, "missing": 404, "teapot": 418, "other": 200}
        tag = (await answer(app, "/plain/1")).headers["ETag"]
        for path, status in statuses.items():
            given = await answer(app, f"/{path}/1", headers={"If-None-Match": tag})
            assert (path, given.status_code) == (path, status)
            assert ("ETag" in given.headers) is (status in {200, 304})

    async def test_a_stream_and_a_tag_of_ones_own_stay(self, shelf: World) -> None:
        """What has a tag already keeps it, and what is sent in parts has none."""
        if not shelf.driver.is_async:
            pytest.skip("the endpoints of this test are async")
        app, unit = FastAPI(), shelf.unit

        @app.get("/own/{book_id}", response_model=BookOut)  # noqa: FAST003 - found() reads it
        async def own(book: Annotated[Any, found(unit.books, BookOut)], response: Response) -> Any:
            response.headers["ETag"] = '"mine"'
            return book

        @app.get("/parts/{book_id}", response_model=BookOut)  # noqa: FAST003 - found() reads it
        async def parts(book: Annotated[Any, found(unit.books, BookOut)]) -> Any:
            return StreamingResponse(iter([b"{", b"}"]))

        install(app, {unit: shelf.naked})

        assert (await answer(app, "/own/1")).headers["ETag"] == '"mine"'
        streamed = await answer(app, "/parts/1", headers={"If-None-Match": "*"})
        assert (streamed.status_code, streamed.content, "ETag" in streamed.headers) == (200, b"{}", False)

    async def test_a_missing_row_is_404_whatever_is_asked(self, app: Any) -> None:
        """Preconditions are ignored where the answer would be an error without them."""
        assert (await answer(app, "/books/9", headers={"If-None-Match": "*"})).status_code == 404
        assert (await answer(app, "/books/9", "PUT", json=NEW, headers={"If-Match": '"1"'})).status_code == 404

    async def test_versions_of_any_kind_are_told(self, app: Any) -> None:
        """A UUID as version works as a number does."""
        first = await answer(app, "/labels/1")
        version = first.headers["ETag"].strip('"').partition(":")[0]
        done = await answer(app, "/books/1/labels/1", "PUT", headers={"If-Match": first.headers["ETag"]})
        late = await answer(app, "/books/1/labels/1", "PUT", headers={"If-Match": first.headers["ETag"]})

        assert len(version) == 32
        assert [done.status_code, late.status_code] == [200, 412]

    async def test_a_list_is_told_by_its_versions(self, app: Any, shelf: World) -> None:
        """The keys and versions of a page tell whether a client has it; any change gives another tag."""
        statements: list[str] = []
        event.listen(shelf.sync_engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        first = await answer(app, "/books")
        statements.clear()
        same = await answer(app, "/books", headers={"If-None-Match": first.headers["ETag"]})
        sent = [each for each in statements if "vs_book" in each]
        overtake(shelf)
        other = await answer(app, "/books", headers={"If-None-Match": first.headers["ETag"]})

        assert (first.status_code, same.status_code, other.status_code) == (200, 304, 200)
        assert all("title" not in each for each in sent)
        assert [each["title"] for each in other.json()["items"]] == ["Rival", "Persuasion", "Lady Susan"]


class TestChanging:
    """PUT, PATCH and DELETE: only the version that the client has seen."""

    async def test_the_version_that_was_seen_is_changed(self, app: Any, shelf: World) -> None:
        """The tag of a GET lets the change through, and the answer has the next one."""
        tag = (await answer(app, "/books/1")).headers["ETag"]
        changed = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Match": tag})
        read = await answer(app, "/books/1")

        assert changed.status_code == 200
        assert changed.headers["ETag"] == read.headers["ETag"]
        assert stored(shelf) == ("Emma II", 2)

    @pytest.mark.parametrize("given", ['"2"', '"x", "7:abc"', 'W/"1"', '"01"'])
    async def test_another_version_is_412_and_nothing_is_written(self, app: Any, shelf: World, given: str) -> None:
        """A tag that does not match strongly is a problem document, and the row stays."""
        refused = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Match": given})

        assert (refused.status_code, refused.headers["content-type"]) == (412, PROBLEM)
        assert refused.json()["type"] == "urn:fastkit:problem:precondition-failed"
        assert stored(shelf) == ("Emma", 1)

    @pytest.mark.parametrize("given", ["*", '"1"', '"7", "1:anything"'])
    async def test_any_of_a_list_will_do(self, app: Any, shelf: World, given: str) -> None:
        """The star, and a list with the right version in it; the representation does not matter."""
        changed = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Match": given})

        assert changed.status_code == 200
        assert stored(shelf) == ("Emma II", 2)

    async def test_two_lines_are_one_list(self, app: Any, shelf: World) -> None:
        """A header that is sent twice, as some proxies split it, is the list of both (RFC 9110, section 5.3)."""
        tag = (await answer(app, "/books/1")).headers["ETag"]
        known = await answer(app, "/books/1", headers=[("If-None-Match", '"x"'), ("If-None-Match", tag)])
        create = [("If-None-Match", '"x"'), ("If-None-Match", "*")]
        refused = await answer(app, "/books/1", "PUT", json=NEW, headers=create)
        changed = await answer(app, "/books/1", "PUT", json=NEW, headers=[("If-Match", '"x"'), ("If-Match", tag)])

        assert [known.status_code, refused.status_code, changed.status_code] == [304, 400, 200]
        assert stored(shelf) == ("Emma II", 2)

    @pytest.mark.parametrize("given", ["1", "", '"1', "W/*", '"1" "2"', '"1""', '"1", "', '"1", ' + '"x", ' * 2000])
    async def test_nonsense_is_400_and_nothing_is_written(self, app: Any, shelf: World, given: str) -> None:
        """A header that cannot be read must not be taken for none."""
        refused = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Match": given})

        assert (refused.status_code, refused.headers["content-type"]) == (400, PROBLEM)
        assert stored(shelf) == ("Emma", 1)

    async def test_none_match_is_for_creating_only(self, app: Any, shelf: World) -> None:
        """If-None-Match of something that is there refuses the change; of another tag it does not."""
        for given, status in (("*", 412), ('W/"1"', 412), ('"2"', 200)):
            done = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-None-Match": given})
            assert done.status_code == status

        assert stored(shelf) == ("Emma II", 2)

    async def test_the_date_counts_without_a_tag(self, app: Any, shelf: World) -> None:
        """If-Unmodified-Since is looked at without If-Match only."""
        before, since = (format_datetime(LONG_AGO + timedelta(days=each), usegmt=True) for each in (-1, 0))
        late = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Unmodified-Since": before})
        both = await answer(
            app, "/books/1", "PUT", json=NEW, headers={"If-Unmodified-Since": before, "If-Match": '"1"'}
        )
        again = await answer(app, "/books/2", "PUT", json=NEW, headers={"If-Unmodified-Since": since})
        any_tag = {"If-Unmodified-Since": before, "If-Match": "*"}
        star = await answer(app, "/books/1", "PUT", json={"title": "Emma III"}, headers=any_tag)

        assert [late.status_code, both.status_code, again.status_code, star.status_code] == [412, 200, 200, 200]
        assert stored(shelf) == ("Emma III", 3)

    async def test_where_it_is_required_a_change_without_it_is_428(self, app: Any, shelf: World) -> None:
        """The answer says what to send; with it the row goes."""
        refused = await answer(app, "/books/1", "DELETE")
        wrong = await answer(app, "/books/1", "DELETE", headers={"If-Match": '"3"'})
        strict = await answer(app, "/strict/1", "PATCH", json=NEW)
        kept = stored(shelf)
        done = await answer(app, "/books/1", "DELETE", headers={"If-Match": '"1"'})

        assert [refused.status_code, wrong.status_code, strict.status_code] == [428, 412, 428]
        assert "If-Match" in refused.json()["detail"]
        assert kept == ("Emma", 1)
        assert (done.status_code, stored(shelf)) == (204, None)

    async def test_a_parent_in_the_path_is_not_what_is_changed(self, app: Any) -> None:
        """If-Match is about the last thing that the path names."""
        tag = (await answer(app, "/labels/1")).headers["ETag"]

        done = await answer(app, "/books/1/labels/1", "PUT", headers={"If-Match": tag})

        assert done.status_code == 200

    async def test_what_has_no_version_is_none_that_was_seen(self, app: Any) -> None:
        """If-Match with a tag cannot be true for a row without a version; what cannot be read is 400."""
        for given, status in (('"1"', 412), ("1", 400), ("*", 200)):
            done = await answer(app, "/authors/1", "PUT", json={"name": "X"}, headers={"If-Match": given})
            assert done.status_code == status

    async def test_services_check_what_they_read(self, app: Any, shelf: World) -> None:
        """`IfMatch` in the hands of the endpoint does the same."""
        for given, status in (('"2"', 412), ('"1"', 200), ('"1"', 412)):
            done = await answer(app, "/services/1", "PATCH", json=NEW, headers={"If-Match": given})
            assert done.status_code == status
        done = await answer(app, "/services/1", "PATCH", json=NEW)

        assert done.status_code == 200

    async def test_a_lock_comes_with_a_block_that_commits(self, app: Any, shelf: World) -> None:
        """`found(Shelf.books.for_update())` opens the block of `transaction`."""
        refused = await answer(app, "/locked/1", "PUT", json=NEW, headers={"If-Match": '"4"'})
        done = await answer(app, "/locked/1", "PUT", json=NEW, headers={"If-Match": '"1"'})

        assert [refused.status_code, done.status_code] == [412, 200]
        assert stored(shelf) == ("Emma II", 2)

    async def test_weak_tags_count_where_the_app_says_so(self, shelf: World) -> None:
        """Behind a proxy that weakens tags, the app may take them for strong ones."""
        app = app_of(shelf, accept_weak_etags=True)

        done = await answer(app, "/books/1", "PUT", json=NEW, headers={"If-Match": 'W/"1:abc"'})

        assert done.status_code == 200


class TestRaces:
    """Somebody else writes between the check and the write."""

    async def test_the_row_is_pinned_to_the_version_that_was_checked(self, shelf: World) -> None:
        """A refresh in a block reads a newer version; what was checked before may not be written on that."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            overtake(shelf)
            with pytest.raises(PreconditionFailedError):
                async with unit:
                    again = await unit.books.get_one(1)
                    assert (again is book, again.version, again.title) == (True, 2, "Rival")
                    again.title = "Lost"
                    await unit.commit()

        assert stored(shelf) == ("Rival", 2)

    async def test_a_lock_does_not_unpin(self, shelf: World) -> None:
        """Reading with a lock is reading a newer version, too."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            overtake(shelf)
            with pytest.raises(PreconditionFailedError):
                async with unit:
                    locked = await unit.books.for_update().get_one(1)
                    await unit.books.delete(locked)
                    await unit.commit()

        assert stored(shelf) == ("Rival", 2)

    @pytest.mark.parametrize("checked", [True, False])
    async def test_the_update_itself_compares(self, shelf: World, checked: bool) -> None:
        """Where nobody reads again, the WHERE of the UPDATE finds no row: 412 with a precondition, 409 without."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            if checked:
                Precondition(frozenset({"1"})).check(book)
            overtake(shelf)
            with pytest.raises(StaleRowError) as caught:
                async with unit:
                    book.title = "Lost"
                    await unit.commit()

        assert caught.value.status == (412 if checked else 409)
        assert type(caught.value) is (PreconditionFailedError if checked else StaleRowError)
        assert stored(shelf) == ("Rival", 2)

    async def test_another_row_that_was_lost_is_409(self, shelf: World) -> None:
        """A lost race for a row of another table is no matter of the precondition."""
        async with shelf.serving() as unit:
            label, book = await unit.labels.get_one(1), await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            engine = rival_engine(shelf)
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM vs_label"))
            engine.dispose()
            with pytest.raises(StaleRowError) as caught:
                async with unit:
                    label.text, book.title = "Lost", "Lost"
                    await unit.commit()

        assert type(caught.value) is StaleRowError

    async def test_the_version_is_that_of_the_row(self, shelf: World) -> None:
        """What the app writes into the attribute is not what the client has seen."""
        async with shelf.shop() as unit:
            book = await unit.books.get_one(1)
            book.version = 9
            Precondition(frozenset({"1"})).check(book)
            await unit.commit()

        assert stored(shelf) == ("Emma", 9)

    @pytest.mark.parametrize("way", ["forgotten", "expunged", "changed to the same", "rolled back", "deleted in vain"])
    async def test_nothing_unpins_but_a_write_that_is_committed(self, shelf: World, way: str) -> None:
        """An object that is let go, a flush that sends nothing and a block that is rolled back leave the row pinned."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            async with unit:
                if way == "expunged":
                    unit.session.expunge(book)
                elif way == "deleted in vain":
                    await unit.books.delete(book)
                elif way != "forgotten":
                    book.title = "Emma" if way == "changed to the same" else "Half"
                await unit.session.flush()
                await unit.rollback()
            del book
            overtake(shelf)
            with pytest.raises(PreconditionFailedError):
                async with unit:
                    again = await unit.books.for_update().get_one(1)
                    again.title = "Lost"
                    await unit.commit()

        assert stored(shelf) == ("Rival", 2)

    async def test_a_savepoint_that_is_rolled_back_does_not_unpin(self, shelf: World) -> None:
        """With the savepoint goes the lock of its UPDATE; what was written before it stays locked, and is no pin's."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            with pytest.raises(PreconditionFailedError):
                async with unit:
                    async with unit.savepoint() as savepoint:
                        book.title = "Half"
                        await unit.session.flush()
                        await savepoint.rollback()
                    statement = text("UPDATE vs_book SET title = 'Rival', version = 2 WHERE id = 1")
                    await unit.session.execute(statement)  # in the place of somebody else, who would wait on SQLite
                    await unit.session.refresh(book)
                    book.title = "Lost"
                    await unit.commit()
            async with unit:
                book = await unit.books.get_one(1)
                book.title = "Mine"
                async with unit.savepoint() as savepoint:
                    book.title = "Half"
                    await unit.session.flush()
                    await savepoint.rollback()
                book.title = "Mine again"
                await unit.commit()

        assert stored(shelf) == ("Mine again", 3)

    async def test_a_pin_is_good_for_one_write(self, shelf: World) -> None:
        """Having written, the unit goes on with its own version, and later with that of others."""
        async with shelf.serving() as unit:
            book = await unit.books.get_one(1)
            Precondition(frozenset({"1"})).check(book)
            async with unit:
                book.title = "Mine"
                await unit.commit()
            overtake(shelf)
            async with unit:
                book = await unit.books.get_one(1)
                book.title = "Mine again"
                await unit.commit()

        assert stored(shelf) == ("Mine again", 4)

    async def test_a_race_over_http_is_412_and_overwrites_nothing(self, shelf: World) -> None:
        """Somebody else writes after the check of the route: 412 with If-Match, 409 without."""
        if shelf.server == "SQLite":
            pytest.skip("nobody can write between")
        for headers, status in (({"If-Match": '"1"'}, 412), ({}, 409)):
            app, waiting = app_of(shelf), [True]

            def meddle(connection: Any, cursor: Any, statement: str, *_: Any, waiting: Any = waiting) -> None:
                if waiting and statement.startswith("UPDATE vs_book"):
                    waiting.clear()
                    overtake(shelf)

            event.listen(shelf.sync_engine, "before_cursor_execute", meddle)
            done = await answer(app, "/books/1", "PUT", json=NEW, headers=headers)
            event.remove(shelf.sync_engine, "before_cursor_execute", meddle)
            assert (done.status_code, stored(shelf)[0]) == (status, "Rival")  # type: ignore[index]


def test_an_unversioned_class_is_told_of_at_once() -> None:
    """A precondition about a class without a version is a mistake of the app, whatever the client sends."""
    with pytest.raises(DeclarationError, match="Author has no version"):
        Precondition().check(Author(id=1))
    with pytest.raises(DeclarationError, match="was not read"):
        Precondition(frozenset({"1"})).check(Book(id=1))


async def test_a_websocket_finds_its_row_or_is_refused(shelf: World) -> None:
    """What `found` and `IfMatch` give is there for a WebSocket too; a missing row refuses the handshake with 404."""
    if not shelf.driver.is_async:
        pytest.skip("the endpoints of this test are async")
    app, unit = app_of(shelf), shelf.unit

    async def talk(websocket: WebSocket, book: Annotated[Any, found(unit.books, BookOut)], if_match: IfMatch) -> None:
        await websocket.accept()
        await websocket.send_json({"title": book.title, "given": if_match.is_given})
        await websocket.close()

    app.add_api_websocket_route("/talk/{book_id}", talk)

    assert [each["type"] for each in await shake_hands(app, "/talk/1")] == [
        *("websocket.accept", "websocket.send", "websocket.close")
    ]
    assert [each.get("status") for each in await shake_hands(app, "/talk/9")] == [404, None]


async def shake_hands(app: Any, path: str) -> list[Any]:
    """Open a WebSocket and return what the app sends."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": path, "headers": [], "query_string": b"", "subprotocols": []}
    await app(scope, receive, send)
    return sent


async def test_a_dependency_can_be_overridden(shelf: World) -> None:
    """A test that overrides the unit overrides it for `found`, too; and `IfMatch` itself can be replaced."""
    app = app_of(shelf)
    (if_match,) = (each for each in get_args(IfMatch) if hasattr(each, "dependency"))
    app.dependency_overrides[if_match.dependency] = lambda: Precondition(frozenset({"7"}))

    refused = await answer(app, "/services/1", "PATCH", json=NEW)

    assert refused.status_code == 412
