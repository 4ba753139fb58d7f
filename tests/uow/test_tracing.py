"""Spans of units of work: one for each outermost block, with its outcome, and with nothing of what is in the rows."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from conftest import AsyncShop, Shop, World
from deps.apps import answer, app_of, author, coloured
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, StatusCode

from bookshop.models import Author, Book
from fastkit import AsyncUnitOfWork, Retry, Status, UnitOfWork, transactional
from fastkit.deps import transaction, unit_of_work
from fastkit.errors import (
    CommitUnknownError,
    DeclarationError,
    NotFoundError,
    SerializationError,
    UncommittedChangesError,
    UniqueError,
)
from fastkit.repository import Repository
from fastkit.uow import Traced

pytestmark = pytest.mark.anyio


class Spans:
    """What has been traced."""

    def __init__(self) -> None:
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def __iter__(self) -> Iterator[ReadableSpan]:
        return iter(sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0))

    @property
    def names(self) -> list[str]:
        """Return the names in the order of their beginnings."""
        return [span.name for span in self]

    def of(self, name: str) -> list[ReadableSpan]:
        """Return the spans whose names begin so."""
        return [span for span in self if span.name.startswith(name)]

    @property
    def only(self) -> ReadableSpan:
        """Return the span of the only block."""
        (span,) = self.of("transaction")
        return span


@pytest.fixture
def spans() -> Spans:
    """Return what is traced in this test."""
    return Spans()


@pytest.fixture
def traced(stocked: World, spans: Spans) -> World:
    """Return a database with a traced unit of work."""
    if stocked.driver.is_async:

        class TracedShop(Traced, AsyncShop, tracer_provider=spans.provider):
            pass

    else:

        class TracedShop(Traced, Shop, tracer_provider=spans.provider):  # type: ignore[no-redef]  # the other colour
            pass

    stocked.unit = TracedShop
    return stocked


def outcome(span: ReadableSpan) -> Any:
    """Return the outcome that a span tells."""
    return dict(span.attributes or {}).get("fastkit.outcome")


def told(span: ReadableSpan) -> tuple[Any, StatusCode]:
    """Return the class of the error that a span tells, and whether it is one."""
    return dict(span.attributes or {}).get("error.type"), span.status.status_code


async def test_a_block_is_a_span_and_its_commit_a_child(traced: World, spans: Spans) -> None:
    """It has the name of the unit, its attributes and the outcome, and ends when the block does."""
    async with traced.shop() as shop:
        shop.authors.add(author())
        await shop.commit()
        still_open = spans.names
    block, commit = spans

    assert still_open == ["commit TracedShop"]
    assert (block.name, commit.name) == ("transaction TracedShop", "commit TracedShop")
    assert commit.parent == block.context
    assert block.parent is None
    assert block.start_time <= commit.start_time <= commit.end_time <= block.end_time
    assert dict(block.attributes or {}) == {
        "db.system.name": traced.naked.dialect_name,
        "fastkit.unit_of_work": "TracedShop",
        "fastkit.read_only": False,
        "fastkit.outcome": "committed",
    }
    assert block.status.status_code is StatusCode.UNSET
    assert not block.events


async def test_options_are_attributes(traced: World, spans: Spans) -> None:
    """What the block asked for: whether it only reads, and its isolation level."""
    async with traced.shop().block(read_only=True, isolation="REPEATABLE READ") as shop:
        await shop.books.all()
    found = dict(spans.only.attributes or {})

    assert found["fastkit.read_only"] is True
    assert found["fastkit.isolation"] == "REPEATABLE READ"
    assert found["fastkit.outcome"] == "rolled_back"
    assert told(spans.only) == (None, StatusCode.UNSET)


async def test_what_leaves_a_block_is_told_by_its_class(traced: World, spans: Spans) -> None:
    """An unexpected exception makes the span an error; nothing of its message is anywhere."""
    with pytest.raises(RuntimeError):
        async with traced.shop() as shop:
            await shop.books.all()
            raise RuntimeError("the secret of row 7")
    (event,) = spans.only.events

    assert outcome(spans.only) == "rolled_back"
    assert told(spans.only) == ("RuntimeError", StatusCode.ERROR)
    assert (event.name, dict(event.attributes or {})) == ("exception", {"exception.type": "RuntimeError"})
    assert spans.only.status.description is None
    assert all("secret" not in span.to_json() for span in spans)


async def test_what_is_the_clients_fault_is_no_error_of_the_span(traced: World, spans: Spans) -> None:
    """A row that is missing, a constraint: the class is told, and the status stays unset, as FastAPI does."""
    with pytest.raises(NotFoundError):
        async with traced.shop() as shop:
            await shop.books.get_one(99)
    with pytest.raises(UniqueError):
        async with traced.shop() as shop:
            shop.authors.add(Author(id=1, name="the secret name"))
            await shop.commit()
    missing, twice = spans.of("transaction")
    (commit,) = spans.of("commit")

    assert told(missing) == ("fastkit.errors.NotFoundError", StatusCode.UNSET)
    assert told(twice) == told(commit) == ("fastkit.errors.UniqueError", StatusCode.UNSET)
    assert outcome(twice) == "rolled_back"
    assert all("secret" not in span.to_json() for span in spans)


async def test_a_lost_change_is_an_error(traced: World, spans: Spans) -> None:
    """What is raised at the end of the block is on its span."""
    with pytest.raises(UncommittedChangesError):
        async with traced.shop() as shop:
            shop.authors.add(author())

    assert told(spans.only) == ("fastkit.errors.UncommittedChangesError", StatusCode.ERROR)
    assert outcome(spans.only) == "rolled_back"


async def test_nested_blocks_and_savepoints_are_no_spans(traced: World, spans: Spans) -> None:
    """One transaction is one span."""
    async with traced.shop() as shop:
        async with shop.begin():
            shop.authors.add(author())
        async with shop.savepoint():
            await shop.books.all()
        async with shop:
            await shop.commit()
        await shop.commit()

    assert spans.names == ["transaction TracedShop", "commit TracedShop"]


async def test_each_block_of_a_served_unit_is_a_span(traced: World, spans: Spans) -> None:
    """Reads outside of blocks are none."""
    async with traced.serving() as shop:
        await shop.books.all()
        async with shop.begin():
            shop.authors.add(author())
        await shop.books.all()
        async with shop:
            await shop.rollback()

    assert [outcome(span) for span in spans.of("transaction")] == ["committed", "rolled_back"]
    assert len(spans.of("commit")) == 1


async def test_the_span_is_current_inside_the_block(traced: World, spans: Spans) -> None:
    """Spans of the app, and those of its drivers, become children; after the block, everything is as before."""
    tracer = trace.get_tracer("shop", tracer_provider=spans.provider)
    with tracer.start_as_current_span("request") as request:
        async with traced.shop() as shop:
            with tracer.start_as_current_span("inside"):
                await shop.books.all()
            shop.after_commit(lambda: tracer.start_span("hook").end())
            await shop.commit()
        after = trace.get_current_span()
    parents = {span.name: span.parent and span.parent.span_id for span in spans}
    block = spans.only

    assert after is request
    assert trace.get_current_span() is INVALID_SPAN
    assert block.parent is not None
    assert block.parent.span_id == request.get_span_context().span_id
    assert parents["inside"] == parents["hook"] == block.context.span_id


async def test_what_the_commit_flushes_is_inside_its_span(traced: World, spans: Spans) -> None:
    """A statement of the flush, in whatever task it runs, finds the span of the commit current."""
    current: list[Any] = []
    from sqlalchemy import event

    def note(*_: Any) -> None:
        current.append(trace.get_current_span().get_span_context().span_id)

    async with traced.shop().begin() as shop:
        shop.authors.add(author())
        event.listen(traced.sync_engine, "before_cursor_execute", note)
    event.remove(traced.sync_engine, "before_cursor_execute", note)
    (commit,) = spans.of("commit")

    assert set(current) == {commit.context.span_id}


async def test_attempts_are_counted(traced: World, spans: Spans) -> None:
    """Each attempt of `run` is a span with its number; without retries there is no number."""
    attempts: list[int] = []

    async def work(shop: Any) -> None:
        attempts.append(1)
        shop.authors.add(author())
        if len(attempts) < 3:
            raise SerializationError("lost")

    run: Any = work if traced.driver.is_async else lambda shop: _finished(work(shop))
    await traced.database.run(traced.unit, run, retry=Retry(5, delay=0.0001))
    found = [(dict(span.attributes or {})["fastkit.attempt"], outcome(span)) for span in spans.of("transaction")]

    assert found == [(1, "rolled_back"), (2, "rolled_back"), (3, "committed")]
    assert told(spans.of("transaction")[0]) == ("fastkit.errors.SerializationError", StatusCode.UNSET)


def _finished(body: Any) -> Any:
    try:
        body.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


async def test_attempts_of_a_transactional_function_are_counted(traced: World, spans: Spans) -> None:
    """Each call counts from one; without `retry` nothing is counted."""
    lost = iter([True, False, False, False])

    def work(shop: Any) -> None:
        if next(lost):
            raise SerializationError("lost")

    async def work_async(shop: Any) -> None:
        work(shop)

    function: Any = work_async if traced.driver.is_async else work
    async with traced.serving() as shop:
        unit = getattr(shop, "naked", shop)
        for retry in (Retry(3, delay=0.0001), Retry(3), None):
            ended = transactional(retry=retry)(function)(unit)
            if traced.driver.is_async:
                await ended

    assert [dict(span.attributes or {}).get("fastkit.attempt") for span in spans.of("transaction")] == [1, 2, 1, None]


async def test_a_cancelled_block_ends_its_span(traced: World, spans: Spans) -> None:
    """A cancellation is told, and is no error."""
    if not traced.driver.is_async:
        pytest.skip("only tasks are cancelled")
    inside = asyncio.Event()

    async def work() -> None:
        async with traced.shop() as shop:
            await shop.books.all()
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert outcome(spans.only) == "rolled_back"
    assert told(spans.only) == ("asyncio.exceptions.CancelledError", StatusCode.UNSET)


async def test_an_unknown_commit_is_told(traced: World, spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks for commits of which nobody knows finds them by their outcome."""
    from sqlalchemy.exc import OperationalError

    def lost(*_: Any, **__: Any) -> None:
        unit._transaction.commit_sent = True
        raise ConnectionError("reset by peer")

    dressed = traced.shop()
    unit = getattr(dressed, "naked", dressed)
    with pytest.raises((CommitUnknownError, ConnectionError, OperationalError)):
        async with dressed as shop:
            shop.authors.add(author())
            monkeypatch.setattr(unit._guarded, "commit_open", lost)
            await shop.commit()

    assert unit.outcome.status is Status.UNKNOWN
    assert outcome(spans.only) == "unknown"
    assert told(spans.only)[0] == "fastkit.errors.CommitUnknownError"
    assert told(spans.only)[1] is StatusCode.ERROR


async def test_a_block_that_a_generator_left_open_ends_with_its_owner(traced: World, spans: Spans) -> None:
    """Its span is not lost."""
    async with traced.serving() as shop:
        kept = traced.unit.__name__
        block = shop.block()
        await block.__aenter__()

    assert spans.names == [f"transaction {kept}"]
    assert outcome(spans.only) == "rolled_back"


async def test_requests_in_both_colours_have_spans(traced: World, spans: Spans) -> None:
    """An endpoint that opens a block, and `transaction`, whose `def` colour enters and leaves in threads of its own."""
    app, unit = app_of(traced), traced.unit

    async def own(shop: Annotated[Any, unit_of_work(unit)]) -> None:
        async with shop.begin():
            shop.authors.add(author("one"))

    async def whole(shop: Annotated[Any, transaction(unit)]) -> None:
        shop.authors.add(author("two"))

    app.add_api_route("/own", coloured(traced, own))
    app.add_api_route("/whole", coloured(traced, whole))
    statuses = [(await answer(app, path)).status_code for path in ("/own", "/whole")]

    assert statuses == [200, 200]
    assert [outcome(span) for span in spans.of("transaction")] == ["committed", "committed"]
    assert [span.parent for span in spans.of("commit")] == [span.context for span in spans.of("transaction")]
    assert trace.get_current_span() is INVALID_SPAN


async def test_branches_of_a_fan_out_are_children(traced: World, spans: Spans) -> None:
    """`gather` works in tasks or threads of its own; their spans still belong to the request."""
    tracer = trace.get_tracer("shop", tracer_provider=spans.provider)

    async def read(shop: Any) -> None:
        await shop.books.all()

    reads: Any = [read if traced.driver.is_async else lambda shop: shop.books.all()] * 4
    with tracer.start_as_current_span("request") as request:
        await traced.database.gather(traced.unit, *reads)
    parents = {span.parent.span_id for span in spans.of("transaction") if span.parent}

    assert len(spans.of("transaction")) == 4
    assert parents == {request.get_span_context().span_id}


class Broken:
    """A tracer that fails where it can."""

    def __init__(self, fails: str) -> None:
        self._fails = fails

    def start_span(self, name: str, **_: Any) -> Any:
        """Fail, or return a span that fails."""
        if self._fails == "start" or (self._fails == "commit" and name.startswith("commit")):
            raise RuntimeError("the exporter is broken")
        return _BrokenSpan(INVALID_SPAN.get_span_context()) if self._fails == "end" else INVALID_SPAN


class _BrokenSpan(NonRecordingSpan):
    def end(self, end_time: int | None = None) -> None:
        raise RuntimeError("the exporter is broken")


@pytest.mark.parametrize("fails", ["start", "commit", "end"])
async def test_a_broken_tracer_breaks_no_block(traced: World, fails: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is committed stays so, the caller is told nothing else, and the log says what is wrong."""
    traced.unit._tracer = Broken(fails)
    with caplog.at_level(logging.ERROR, "fastkit.uow"):
        async with traced.shop().begin() as shop:
            shop.authors.add(author())
        with pytest.raises(KeyError):
            async with traced.shop():
                raise KeyError

    assert shop.outcome.status is Status.COMMITTED
    assert "A span of a unit of work" in caplog.text
    assert trace.get_current_span() is INVALID_SPAN


def test_traced_stands_first() -> None:
    """Behind the unit of work it would see no end of a block, so that is told at import."""
    with pytest.raises(DeclarationError, match=r"class Late\(Traced, UnitOfWork\)"):

        class Late(AsyncUnitOfWork, Traced):
            pass


def test_a_unit_that_is_traced_finds_the_names_of_its_class_body() -> None:
    """Repositories are still found by annotations that only the function around the class knows."""

    class Books(Repository[Book]):
        pass

    class Local(Traced, UnitOfWork):
        books: "Books"

    class Inheriting(Local):
        more: "Books"

    assert [Local.books.repository, Inheriting.more.repository] == [Books, Books]  # type: ignore[attr-defined,comparison-overlap]


def test_the_provider_may_be_set_later_and_is_inherited(spans: Spans, tmp_path: Any) -> None:
    """A subclass traces where its parent does; without one given, OpenTelemetry's own is asked for each span."""

    class Parent(Traced, UnitOfWork, tracer_provider=spans.provider):
        pass

    class Child(Parent):
        pass

    class Plain(Traced, UnitOfWork):
        pass

    assert Child._tracer is Parent._tracer
    assert Plain._tracer is not Parent._tracer
    assert isinstance(Plain._tracer, trace.ProxyTracer)


WITHOUT_OPENTELEMETRY = """
import sys
sys.modules["opentelemetry"] = None
from fastkit import UnitOfWork
from fastkit.errors import DeclarationError
from fastkit.uow import Traced
try:
    class Shop(Traced, UnitOfWork): pass
except DeclarationError as error:
    print(error)
"""


def test_without_opentelemetry_only_tracing_is_missing() -> None:
    """Everything else of the room is there, and who wants spans is told what to install."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_OPENTELEMETRY], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "Shop is Traced, which needs OpenTelemetry: install opentelemetry-api."


def test_the_room_does_not_import_opentelemetry() -> None:
    """A script that traces nothing does not wait for it."""
    code = "import sys, fastkit, fastkit.uow; print('opentelemetry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"
