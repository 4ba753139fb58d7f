"""Spans of units of work for OpenTelemetry: what was opened, committed, repeated; no values, no SQL, no messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from fastkit.errors import DeclarationError, FastkitError
from fastkit.uow._life import UnitLife
from fastkit.uow.blocks import BlockOptions

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer, TracerProvider

log = logging.getLogger("fastkit.uow")

_SERVER_ERROR = 500


class Traced(UnitLife):
    """
    Makes each outermost block of a unit of work a span, in both colours.

    >>> class Shop(Traced, AsyncUnitOfWork):
    ...     books: AsyncRepository[Book]

    The span `transaction Shop` is current inside the block; `commit Shop` is its child. Attributes: `db.system.name`,
    `fastkit.unit_of_work`, `fastkit.read_only`, `fastkit.isolation` if one was asked for, `fastkit.attempt` if it is
    run again when it loses a race, and `fastkit.outcome`: committed, rolled_back or unknown. Of an exception there is
    the class alone. What fails here is logged, and changes nothing for the unit.

    Args:
        tracer_provider: Makes the spans, `class Shop(Traced, UnitOfWork, tracer_provider=...)`; OpenTelemetry's own,
            which may be set later, if it is left out.

    Raises:
        DeclarationError: `Traced` stands behind the unit of work, or OpenTelemetry's API is not installed.

    Source: OpenTelemetry semantic conventions, "Recording errors" and "Database".
    """

    _tracer: ClassVar[Tracer | None] = None
    _span: Span | None = None
    _context_before: Context
    _attempt: int | None = None

    def __init_subclass__(cls, *, tracer_provider: TracerProvider | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if any(vars(base).get("_exit") for base in cls.__mro__[: cls.__mro__.index(Traced)]):
            raise DeclarationError(f"{cls.__qualname__}: write Traced first, class {cls.__name__}(Traced, UnitOfWork).")
        if tracer_provider is not None or cls._tracer is None:
            cls._tracer = _tracer_of(tracer_provider, cls.__qualname__)

    def _enter(self, options: BlockOptions, frame: FrameType) -> None:
        is_outermost = not self._depth
        super()._enter(options, frame)
        if is_outermost:
            self._begin_span(options)

    def _exit(self, error: BaseException | None, frame: FrameType, *, commits: bool) -> Any:
        leave = partial(cast("Any", super())._exit, error, frame, commits=commits)  # noqa: SLF001 - of either colour
        if self._is_async:
            return self._exit_awaited(leave, error)
        with self._ending(error):
            return leave()

    async def _exit_awaited(self, leave: Callable[[], Awaitable[None]], error: BaseException | None) -> None:
        with self._ending(error):
            await leave()

    def _commit(self) -> None:
        if self._span is None or self._depth > 1:
            super()._commit()
            return
        with self._commit_span():
            super()._commit()

    def _retire(self, error: BaseException | None) -> None:
        try:
            super()._retire(error)
        finally:
            self._end_span(error)

    @contextmanager
    def _repeating(self) -> Generator[None]:
        with super()._repeating():
            self._attempt = 0
            try:
                yield
            finally:
                self._attempt = None

    @contextmanager
    def _ending(self, error: BaseException | None) -> Generator[None]:
        """End the span of the outermost block when that is left, with the exception that its caller sees."""
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            if not self._depth:
                self._end_span(error)

    def _begin_span(self, options: BlockOptions) -> None:
        from opentelemetry import context, trace

        if self._attempt is not None:
            self._attempt += 1
        with _harmless():
            span = self._tracer_in_use.start_span(
                f"transaction {self._unit_name}", attributes=self._attributes(options)
            )
            self._context_before = context.get_current()
            context.attach(trace.set_span_in_context(span))
            self._span = span

    def _attributes(self, options: BlockOptions) -> dict[str, Any]:
        found = {
            "db.system.name": self._database.dialect_name,
            "fastkit.unit_of_work": self._unit_name,
            "fastkit.read_only": bool(options.read_only),
            "fastkit.isolation": options.isolation,
            "fastkit.attempt": self._attempt,
        }
        return {name: value for name, value in found.items() if value is not None}

    def _end_span(self, error: BaseException | None) -> None:
        if self._span is None:
            return
        from opentelemetry import context, trace

        span, self._span = self._span, None
        with _harmless():
            # Not by the token: this may be another thread, or another task, than the one that began.
            if trace.get_current_span() is span:
                context.attach(self._context_before)
            span.set_attribute("fastkit.outcome", self._outcome.status.name.lower())
            _tell(span, error)
            span.end()

    @contextmanager
    def _commit_span(self) -> Generator[None]:
        begun, raised = self._begin_commit(), None
        try:
            yield
        except BaseException as error:
            raised = error
            raise
        finally:
            if begun is not None:
                self._end_commit(*begun, raised)

    def _begin_commit(self) -> tuple[Span, Token[Context]] | None:
        from opentelemetry import context, trace

        with _harmless():
            around = trace.set_span_in_context(cast("Span", self._span))
            span = self._tracer_in_use.start_span(f"commit {self._unit_name}", context=around)
            return span, context.attach(trace.set_span_in_context(span))
        return None

    def _end_commit(self, span: Span, token: Token[Context], error: BaseException | None) -> None:
        from opentelemetry import context

        with _harmless():
            context.detach(token)
            _tell(span, error)
            span.end()

    @property
    def _unit_name(self) -> str:
        return type(self).__name__

    @property
    def _tracer_in_use(self) -> Tracer:
        return cast("Tracer", self._tracer)


def _tracer_of(provider: TracerProvider | None, unit: str) -> Tracer:
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise DeclarationError(f"{unit} is Traced, which needs OpenTelemetry: install opentelemetry-api.") from error
    return trace.get_tracer("fastkit", tracer_provider=provider)


def _tell(span: Span, error: BaseException | None) -> None:
    """Note the class of an exception; one that is the client's fault, or a cancellation, does not make it an error."""
    from opentelemetry.trace import StatusCode

    if error is None:
        return
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    span.set_attribute("error.type", name)
    span.add_event("exception", {"exception.type": name})
    is_expected = isinstance(error, FastkitError) and error.status < _SERVER_ERROR
    if isinstance(error, Exception) and not is_expected:
        span.set_status(StatusCode.ERROR)


@contextmanager
def _harmless() -> Generator[None]:
    """Log what goes wrong with a span: no work is lost for it."""
    try:
        yield
    except Exception:
        log.exception("A span of a unit of work could not be made or ended.")
