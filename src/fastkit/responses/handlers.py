"""
Exception handlers that answer with problem documents, wherever an error is raised.

A Starlette app takes them with `Starlette(exception_handlers=ProblemHandlers().table())`; a FastAPI app gets them
from `fastkit.deps.install`. Where an error is raised decides who sees it:

- In a route or a dependency: the handler of its class, whose answer runs through the app's middleware.
- In a middleware: Starlette's outermost layer, which knows only `unhandled`; that looks for the handler of the class.
- In a mounted app: that app's own handlers. Give them to each mounted app, or its clients read plain text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from http import HTTPStatus
from inspect import iscoroutinefunction
from secrets import token_hex
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ExceptionHandler
from starlette.websockets import WebSocketState

from fastkit.errors import DeclarationError, FastkitError
from fastkit.responses._outermost import settle
from fastkit.responses._request_id import request_id_header, request_id_of
from fastkit.responses._told import Told, check_problem, check_told
from fastkit.responses.problems import ABOUT_BLANK, TYPE_BASE, Problem, ProblemResponse, problem_type

_HIDDEN_DETAIL = "What happened is in the server's log, under this reference."
_OPEN = "fastkit.open_socket"
_BUG = HTTPStatus.INTERNAL_SERVER_ERROR.value

_log = logging.getLogger("fastkit.responses.problems")


@dataclass(frozen=True, slots=True)
class ProblemHandlers:
    """
    Exception handlers that answer with problem documents; made once, live as long as the app.

    A WebSocket whose handshake is under way is refused with the same problem; once it is open, and where an error is
    a bug, the error is raised again, and the server closes it.

    Attributes:
        base: What the `type` of a problem begins with, an absolute URI that ends with a separator, such as
            `https://errors.example.com/`.
        problems: What other exceptions are told as: a status, a `Problem`, or a function that makes one of the
            exception. A subclass is told as its nearest parent is.

    Raises:
        DeclarationError: The base is not absolute or ends without a separator, or what is told can be no problem.

    Example:
        >>> handlers = ProblemHandlers("https://errors.example.com/", {TimeoutError: 504}).table()
    """

    base: str = TYPE_BASE
    problems: Mapping[type[Exception], Told] = field(default_factory=dict[type[Exception], Told])

    def __post_init__(self) -> None:
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", self.base) or self.base[-1] not in ":/#=":
            raise DeclarationError(
                f"The base of problem types {self.base!r} is no absolute URI that ends with one of ':/#='. "
                "Write for example 'https://errors.example.com/'."
            )
        for error, told in self.problems.items():
            check_told(error, told)

    def table(self) -> dict[type[Exception], ExceptionHandler]:
        """Return the handlers by the class they are for, as Starlette's `exception_handlers` takes them."""
        registered = {error: partial(self.registered, error=error, told=told) for error, told in self.problems.items()}
        return {
            FastkitError: self.fastkit_error,
            HTTPException: self.http_exception,
            ExceptionGroup: self.group,
            Exception: self.unhandled,
            **registered,
        }

    async def fastkit_error(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer with what the class says, and with the message only where the class says it is public."""
        if not isinstance(exc, FastkitError) or not _can_answer(connection):
            raise exc
        detail, members = self.told(connection, exc) if exc.public else (_HIDDEN_DETAIL, dict(exc.members()))
        if not exc.public or exc.status >= _BUG:
            members["reference"] = logged(connection, exc, exc.status)
        is_bug = not exc.public and exc.status == _BUG and not exc.type
        problem = Problem(
            type=ABOUT_BLANK if is_bug else problem_type(type(exc), self.base),  # whose bug is not for clients
            title="" if is_bug else exc.title,
            status=exc.status,
            detail=detail,
            members=members,
        )
        return ProblemResponse(problem, exc.headers())

    def told(self, connection: HTTPConnection, exc: FastkitError) -> tuple[str | None, dict[str, Any]]:
        """Return the detail and the members of a public error, for whom the request knows more of."""
        return str(exc) or None, dict(exc.members())

    async def registered(
        self, connection: HTTPConnection, exc: Exception, *, error: type[Exception], told: Told
    ) -> Response:
        """Answer with what the app has said about a class of exceptions; a status alone shows nothing of them."""
        if connection.scope["type"] != "http":
            raise exc
        if isinstance(told, int):
            problem = Problem(status=told, type=problem_type(error, self.base), detail=_HIDDEN_DETAIL)
        else:
            problem = check_problem(error, told if isinstance(told, Problem) else told(exc))
        if isinstance(told, int) or problem.status >= _BUG:
            reference = logged(connection, exc, problem.status)
            problem = replace(problem, members={**problem.members, "reference": reference})
        return ProblemResponse(problem)

    async def http_exception(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer with the status and headers of the exception; a detail that is no text is `details`."""
        if not isinstance(exc, HTTPException):
            raise exc
        given: Any = exc.detail  # FastAPI's subclass takes any JSON here
        text = given if isinstance(given, str) else None
        if not _can_answer(connection):
            raise exc
        members = {} if given is None or text is not None else {"details": given}
        return ProblemResponse(Problem(status=exc.status_code, detail=text or None, members=members), exc.headers)

    async def group(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Answer as for the only error of a group, such as a task group makes; a group of several is a bug."""
        only = only_error(exc)
        handler = self._handler_of(connection, only)
        if handler is None or connection.scope["type"] != "http":
            raise exc
        return await _called(handler, connection, only)

    async def unhandled(self, connection: HTTPConnection, exc: Exception) -> Response:
        """
        Answer 500 with a reference that finds the traceback in the log, and nothing of the exception.

        An error that has a handler, and was raised where none could see it, is answered by that.
        """
        if connection.scope["type"] != "http":
            raise exc
        response = await self._late(connection, exc) or self.bug(connection, exc)
        response.headers.update(request_id_header(connection.scope))  # outside of the middleware that does it else
        return response

    def bug(self, connection: HTTPConnection, exc: Exception) -> Response:
        """Return the answer to a bug, which is in the log."""
        members = {"reference": logged(connection, exc, _BUG)}
        return ProblemResponse(Problem(status=_BUG, detail=_HIDDEN_DETAIL, members=members))

    async def _late(self, connection: HTTPConnection, exc: Exception) -> Response | None:
        only = only_error(exc)
        handler = self._handler_of(connection, only)
        if handler is None:
            return None
        try:
            response = await _called(handler, connection, only)
        except Exception as failed:  # noqa: BLE001 - an answer to an error must not fail
            logged(connection, failed, _BUG)
            return None
        settle(connection.scope, exc)
        return response

    def _handler_of(self, connection: HTTPConnection, exc: Exception) -> ExceptionHandler | None:
        """Return the handler that an error would have met in a route, or None."""
        given = getattr(connection.scope.get("app"), "exception_handlers", {})
        handlers: dict[Any, ExceptionHandler] = {**self.table(), **given}
        if isinstance(exc, HTTPException) and exc.status_code in handlers:
            return handlers[exc.status_code]
        kinds = (kind for kind in type(exc).__mro__ if kind not in {Exception, ExceptionGroup})
        return next((handlers[kind] for kind in kinds if kind in handlers), None)


def _can_answer(connection: HTTPConnection) -> bool:
    """Return whether there is somebody to answer: no WebSocket that is open can be."""
    state = getattr(connection, "application_state", None)
    if state is WebSocketState.CONNECTED:
        connection.scope[_OPEN] = True  # for Starlette's outer layer, which looks at it afresh
    return connection.scope["type"] == "http" or (state is WebSocketState.CONNECTING and _OPEN not in connection.scope)


async def _called(handler: Any, connection: HTTPConnection, exc: Exception) -> Response:
    unwrapped = handler.func if isinstance(handler, partial) else handler
    if iscoroutinefunction(unwrapped) or iscoroutinefunction(getattr(unwrapped, "__call__", None)):  # noqa: B004
        response: Response = await handler(connection, exc)
        return response
    return await run_in_threadpool(handler, connection, exc)


def only_error(exc: Exception) -> Exception:
    """Return the only error in a group of groups; what is none, or has several, as it is."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc


def logged(connection: HTTPConnection, exc: BaseException, status: int) -> str:
    """Log the error with its traceback and return the reference that finds it; the query string stays out."""
    reference = token_hex(8)
    blameless = status < _BUG or status == HTTPStatus.SERVICE_UNAVAILABLE
    request_id = request_id_of(connection.scope)
    _log.log(
        logging.WARNING if blameless else logging.ERROR,
        "%s %r answered %d, reference %s%s",
        connection.scope.get("method"),
        connection.scope.get("path"),
        status,
        reference,
        "" if request_id is None else f", request {request_id}",
        exc_info=exc,
    )
    return reference
