"""Install fastkit into a FastAPI app: databases for its units, problem documents, checks at start."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts
from starlette.routing import Mount

from fastkit.database import AsyncDatabase, Database
from fastkit.deps._openapi import document
from fastkit.deps._problems import register
from fastkit.deps.conditional import WEAK_TAGS
from fastkit.deps.direct import page_of
from fastkit.deps.units import UNITS, is_database_for, no_database
from fastkit.errors import DeclarationError
from fastkit.pages import Window
from fastkit.repository import ListQuery, check_reader
from fastkit.repository._list_filters import check_paths
from fastkit.responses._conditional import Conditional
from fastkit.responses._told import Told
from fastkit.responses.etags import NotModified, not_modified
from fastkit.responses.problems import TYPE_BASE
from fastkit.uow import AsyncUnitOfWork, UnitOfWork


def install(
    app: FastAPI,
    units: Mapping[type[UnitOfWork | AsyncUnitOfWork], Database | AsyncDatabase],
    *,
    problem_types: str = TYPE_BASE,
    accept_weak_etags: bool = False,
    problems: Mapping[type[Exception], Told] | None = None,
) -> None:
    """
    Tell an app which unit of work lives on which database, and let every error be a problem document.

    >>> app = FastAPI(lifespan=database.lifespan)
    >>> install(app, {Shop: database})

    When the app starts, its routes are checked for what could only fail later.

    Args:
        app: The app; a mounted app needs a call of its own.
        units: The database of each unit of work.
        problem_types: What the `type` of a problem document begins with; an absolute URI that ends with a separator.
        accept_weak_etags: Whether If-Match takes weak entity tags for strong ones, for an app behind a proxy that
            weakens them where it compresses.
        problems: What exceptions that are not fastkit's are told as: a status, a `Problem`, or a function that makes
            one of the exception, as in `{PaymentDeclined: 402}`.

    Raises:
        DeclarationError: A unit and its database are of different colours, the app has started, or an exception is
            told as what is no error.
    """
    for unit, database in units.items():
        given: object = unit
        if not (isinstance(given, type) and issubclass(given, UnitOfWork | AsyncUnitOfWork)):
            raise DeclarationError(f"install(app, {{Shop: database}}) takes classes of units of work, not {given!r}.")
        unit._refuse_database(database)  # noqa: SLF001 - no name for apps
        if not is_database_for(unit, database):
            raise DeclarationError(
                f"{unit.__name__} and its {type(database).__name__} do not go together: "
                "UnitOfWork lives on Database, AsyncUnitOfWork on AsyncDatabase."
            )
    first_call = not hasattr(app.state, UNITS)
    setattr(app.state, UNITS, {**getattr(app.state, UNITS, {}), **units})
    setattr(app.state, WEAK_TAGS, accept_weak_etags)
    app.add_exception_handler(NotModified, not_modified)
    if first_call:
        app.router.middleware_stack = Conditional(app.router.middleware_stack)
    register(app, problem_types, problems)
    document(app, problem_types)
    if first_call:
        _check_at_start(app)


def _check_at_start(app: FastAPI) -> None:
    lifespan = app.router.lifespan_context

    @asynccontextmanager
    async def checked(running: Any) -> AsyncGenerator[Any]:
        check_routes(app)
        async with lifespan(running) as state:
            yield state

    app.router.lifespan_context = checked


def check_routes(app: FastAPI) -> None:
    """
    Look at every route for what would only fail when it is called; runs by itself when the app starts.

    Raises:
        DeclarationError: Every fault, with its route and the remedy.
    """
    faults = [fault for path, model, *called in _routes(app) for fault in _faults(app, path, model, *called)]
    faults += _hidden_routes(app)
    if faults:
        raise DeclarationError("\n".join(["These routes cannot work:", *(f"- {fault}" for fault in faults)]))


def _routes(app: FastAPI) -> Iterator[tuple[str, Any, Any, Any]]:
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute | APIWebSocketRoute):
            model = getattr(context.original_route, "response_model", None)
            yield context.path_format or "", model, context.endpoint, context.dependant
        elif isinstance(context.original_route, Mount):
            sub = context.original_route.app
            if isinstance(sub, FastAPI) and hasattr(sub.state, UNITS):
                check_routes(sub)  # the server starts only the outer app


def _hidden_routes(app: FastAPI) -> Iterator[str]:
    """Tell of routes that are never reached, because `crud_router` has made one for the same."""
    made: dict[tuple[str, str], str] = {}
    for context in iter_route_contexts(app.routes):
        for method in (context.methods or ()) if isinstance(context.original_route, APIRoute) else ():
            place = (method, str(context.path_format))
            if place in made:
                name = getattr(context.endpoint, "__qualname__", context.endpoint)
                rest = f"is never reached: give crud_router() leave_out={{{made[place]!r}}}."
                yield f"{method} {place[1]} ({name}) {rest}"
            elif action := getattr(context.endpoint, "fastkit_action", None):
                made[place] = action


def _asked(app: FastAPI, dependant: Any) -> Iterator[Any]:
    """Yield what a request would call: what is overridden is not called, nor what it asks for."""
    if dependant.call in app.dependency_overrides:
        return
    yield dependant.call
    for each in dependant.dependencies:
        yield from _asked(app, each)


def _faults_of(check: Callable[..., None], *arguments: Any) -> Iterator[str]:
    try:
        check(*arguments)
    except DeclarationError as error:
        yield str(error)


def _faults(app: FastAPI, path: str, model: Any, endpoint: Any, dependant: Any) -> Iterator[str]:
    where = f"{path} ({getattr(endpoint, '__qualname__', endpoint)})"
    streams = inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint)
    held = {getattr(each.call, "fastkit_holds", None) for each in dependant.dependencies} - {None} if streams else ()
    for name in sorted(unit.__name__ for unit in held if unit is not None):
        yield (
            f"{where}: it yields its response, which goes on after the request's {name} has ended. "
            f"Take unit_factory({name}) and open a unit inside the generator."
        )
    yield from (f"{where}: {fault}" for fault in _colour_faults(endpoint, dependant) if not streams)
    yield from (f"{where}: {fault}" for fault in _bare_lists(dependant))
    yield from (f"{where}: {fault}" for fault in _mistaken_lists(model, dependant))
    calls, installed = list(_asked(app, dependant)), getattr(app.state, UNITS, {})
    databases = [installed[unit] for call in calls if (unit := getattr(call, "fastkit_unit", None)) in installed]
    for call in calls:
        unit, parameter = getattr(call, "fastkit_unit", None), getattr(call, "fastkit_path", None)
        if unit is not None and unit not in installed:
            yield f"{where}: {no_database(unit)}"
        if lists := getattr(call, "fastkit_lists", None):
            yield from (f"{where}: {fault}" for fault in _faults_of(check_paths, lists))
        if getattr(call, "fastkit_windows", False) and any(each.signer is None for each in databases):
            yield f"{where}: windowed() needs keys to sign cursors with: AsyncDatabase(..., cursor_keys=[secret])."
        if reads := getattr(call, "fastkit_reads", None):
            yield from (f"{where}: {fault}" for fault in _faults_of(check_reader, *reads))
        if parameter is not None and not re.search(rf"{{{re.escape(parameter)}[:}}]", path):
            yield f"{where}: found() needs {{{parameter}}} in the path; name another one with found(..., path=...)."


def _bare_lists(dependant: Any) -> Iterator[str]:
    """Tell of list queries that FastAPI would read by itself: as a body, or without what `listed` does."""
    for field in (*dependant.query_params, *dependant.body_params):
        kind = field.field_info.annotation
        if isinstance(kind, type) and issubclass(kind, ListQuery):
            yield f"{field.name} is a list query: take Annotated[{kind.__name__}, listed({kind.__name__})]."
    for each in dependant.dependencies:
        yield from _bare_lists(each)


def _mistaken_lists(model: Any, dependant: Any) -> Iterator[str]:
    """Tell of the only list query of a route if it reads a page, and a window is returned, or the other way round."""
    returned = page_of(model)
    asked = [each.call for each in dependant.dependencies if hasattr(each.call, "fastkit_lists")]
    if returned is None or len(asked) != 1:
        return
    is_window, (call,) = returned[0] is Window, asked
    if call.fastkit_windows is not is_window:
        name = call.fastkit_lists.__name__
        right, wrong = ("windowed", "listed") if is_window else ("listed", "windowed")
        parameter = "cursor" if is_window else "page"
        yield (
            f"it returns a {returned[0].__name__} and takes {wrong}({name}), which reads no {parameter}: "
            f"take {right}({name})."
        )


def _colour_faults(endpoint: Any, dependant: Any) -> Iterator[str]:
    is_async = inspect.iscoroutinefunction(endpoint)
    for unit in {getattr(each.call, "fastkit_holds", None) for each in dependant.dependencies} - {None}:
        if unit is not None and issubclass(unit, AsyncUnitOfWork) and not is_async:
            yield f"{unit.__name__} is async, so its endpoint is `async def`."
        if unit is not None and issubclass(unit, UnitOfWork) and is_async:
            yield f"{unit.__name__} is sync and would block the event loop: make the endpoint a plain `def`."
