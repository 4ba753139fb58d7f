"""Routes for a CRUD service, each one that an app could write itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any, get_args
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request, Response

from fastkit.deps.conditional import (
    Freshness,
    IfMatch,
    IfNoneMatch,
    RequiredIfMatch,
    UnlistedIfMatch,
    UnlistedIfNoneMatch,
)
from fastkit.deps.direct import DirectRoute
from fastkit.deps.found import _python_type, _snake_case
from fastkit.deps.listed import listed
from fastkit.deps.services import provide
from fastkit.errors import DeclarationError
from fastkit.pages import Page, PageQuery
from fastkit.repository import ListQuery, Selection
from fastkit.repository.versions import versioned
from fastkit.responses.etags import etag
from fastkit.service import AsyncCrudService, CrudService, Precondition, Shown
from fastkit.service.crud import Action

_KIND = inspect.Parameter.KEYWORD_ONLY


def crud_router(
    service: type[CrudService[Any, Any, Any] | AsyncCrudService[Any, Any, Any]],
    *,
    query: type[ListQuery[Any]] | None = None,
    leave_out: Collection[Action] = (),
    require_if_match: bool = False,
) -> APIRouter:
    """
    Return a router that lists, gets, creates, replaces, changes and deletes the rows of a CRUD service.

    >>> app.include_router(crud_router(Books, query=BookQuery), prefix="/books", tags=["books"])

    It is an ordinary `APIRouter`: leave an action out, and write its route with `@router.delete("/{book_id}")`.

    Args:
        service: The service, a subclass of `CrudService` or `AsyncCrudService` that names what it is about.
        query: What a client may filter and sort the list by; without it, only the page.
        leave_out: Actions to leave out: "list", "get", "create", "replace", "change", "delete".
        require_if_match: Whether a change without If-Match is answered 428; the model then needs a version.

    Raises:
        DeclarationError: The service does not say what it is about, its model has a composite primary key or no
            version where one is needed, or an action does not exist.
    """
    if unknown := {*leave_out} - {*get_args(Action)}:
        raise DeclarationError(f"crud_router(leave_out={[*leave_out]}): there is no {unknown.pop()!r}.")
    crud = _Crud(service, query, leave_out, require_if_match=require_if_match)
    router = APIRouter(route_class=DirectRoute)
    for action, (method, path, status, answers, summary) in crud.routes().items():
        if action not in leave_out:
            router.add_api_route(
                path,
                crud.endpoint(action),
                methods=[method],
                status_code=status,
                response_model=answers,
                summary=summary,
            )
    return router


class _Crud:
    """The routes of one service, while they are made."""

    def __init__(self, given: Any, query: Any, leave_out: Collection[Action], *, require_if_match: bool) -> None:
        kinds = (CrudService, AsyncCrudService)
        if not (isinstance(given, type) and issubclass(given, kinds)):
            raise DeclarationError(f"crud_router() takes a subclass of {' or '.join(each.__name__ for each in kinds)}.")
        service: Any = given
        model: Any = getattr(service, "model")  # noqa: B009 - declared as what it is in a subclass
        if getattr(service, "model", None) and len(Selection(model).primary_key) != 1:
            raise DeclarationError(
                f"crud_router({service.__name__}): the primary key of {model.__name__} has several columns. "
                "Write routes that take them from the path and call the service with a tuple."
            )
        service.check_declaration({*get_args(Action)} - {*leave_out})
        if require_if_match:
            versioned(model, f"crud_router({service.__name__}, require_if_match=True)")
        if query is not None and not issubclass(model, query.mapped_class()):
            raise DeclarationError(
                f"crud_router({service.__name__}): {query.__name__} is about {query.mapped_class().__name__}, and the "
                f"service about {model.__name__}."
            )
        self.service = service
        self.name = _snake_case(model.__name__)
        self._query = query
        self._requires = require_if_match
        self._is_async = issubclass(service, AsyncCrudService)

    def routes(self) -> dict[Action, tuple[str, str, int, Any, str]]:
        """Return method, path, status, response model and summary of each route."""
        one, shows, words = f"/{{{self.name}_id}}", self.service.shows, self.name.replace("_", " ")
        a = "an" if words[0] in "aeiou" else "a"
        page: Any = Page.__class_getitem__(shows)
        return {
            "list": ("GET", "", 200, page, f"List of {words}"),
            "create": ("POST", "", 201, shows, f"Create {a} {words}"),
            "get": ("GET", one, 200, shows, f"Get {a} {words}"),
            "replace": ("PUT", one, 200, shows, f"Replace {a} {words}"),
            "change": ("PATCH", one, 200, shows, f"Change {a} {words}"),
            "delete": ("DELETE", one, 204, None, f"Delete {a} {words}"),
        }

    def endpoint(self, action: Action) -> Callable[..., Any]:
        """Return the endpoint of an action, with the signature that FastAPI reads."""
        face: Any = (_ASYNC if self._is_async else _SYNC)[action]

        async def endpoint_async(**given: Any) -> Any:
            return await face(**self._named(given))

        def endpoint(**given: Any) -> Any:
            return face(**self._named(given))

        made: Any = endpoint_async if self._is_async else endpoint
        made.__signature__ = inspect.Signature(self._parameters(action))
        made.__name__ = f"{action}_{self.name}"
        made.__qualname__ = f"crud_router({self.service.__name__}).{action}"
        made.__doc__ = None
        made.fastkit_action = action
        made.problems = frozenset() if action in {"list", "create"} else frozenset({404})
        return made  # type: ignore[no-any-return]

    def _named(self, given: dict[str, Any]) -> dict[str, Any]:
        name = f"{self.name}_id"
        return {("ident" if key == name else key): value for key, value in given.items()}

    def _parameters(self, action: Action) -> list[inspect.Parameter]:
        """Return the parameters: the service, and what the action takes."""
        takes: dict[str, Any] = {"service": Annotated[self.service, provide(self.service)]}
        if action not in {"list", "create"}:
            key = Selection(self.service.model).primary_key[0]
            takes[f"{self.name}_id"] = Annotated[_python_type(key), Path()]
        takes |= self._taken(action)
        return [inspect.Parameter(name, _KIND, annotation=each) for name, each in takes.items()]

    def _taken(self, action: Action) -> dict[str, Any]:
        is_versioned = self.service.is_versioned()
        if_match = {"if_match": RequiredIfMatch if self._requires else IfMatch if is_versioned else UnlistedIfMatch}
        match action:
            case "list":
                listing = Query() if self._query is None else listed(self._query)
                return {"query": Annotated[self._query or PageQuery, listing]}
            case "get":
                dated = {"fresh": UnlistedIfNoneMatch} if self.service.is_dated() else {}
                return {"fresh": IfNoneMatch} if is_versioned else dated
            case "create":
                return {"data": self.service.creates, "request": Request, "response": Response}
            case "replace":
                return {"data": self.service.creates, "response": Response, **if_match}
            case "change":
                return {"data": self.service.changes, "response": Response, **if_match}
            case "delete":
                return if_match


def _told(response: Response, shown: Shown) -> Any:
    if shown.version is not None:
        response.headers["ETag"] = etag(shown.answer, shown.version)
    return shown.answer


def _unless_known(shown: Shown, fresh: Freshness | None) -> Any:
    if fresh is not None:  # a tag without a version would be one that no If-Match may name
        fresh.check(None if shown.version is None else shown.answer, shown.version, shown.modified)
    return shown.answer


def _location(request: Request, shown: Shown) -> str:
    """Return where a new row is, relative to the list, so that it is right behind any proxy (RFC 9110, 10.2.2)."""
    key = quote(str(shown.ident), safe="")
    last = quote(request.scope["path"].rpartition("/")[2], safe="")  # it may be a parameter of the prefix
    return f"{last}/{key}" if last else key


# What the routes do, in both colours.


def _list(service: Any, query: Any) -> Any:
    return service.page(query)


def _get(service: Any, ident: Any, fresh: Freshness | None = None) -> Any:
    return _unless_known(service.get(ident), fresh)


def _create(service: Any, data: Any, request: Request, response: Response) -> Any:
    shown = service.create(data)
    response.headers["Location"] = _location(request, shown)
    return _told(response, shown)


def _replace(service: Any, ident: Any, data: Any, response: Response, if_match: Precondition) -> Any:
    return _told(response, service.replace(ident, data, if_match))


def _change(service: Any, ident: Any, data: Any, response: Response, if_match: Precondition) -> Any:
    return _told(response, service.change(ident, data, if_match))


def _delete(service: Any, ident: Any, if_match: Precondition) -> None:
    service.delete(ident, if_match)


async def _list_async(service: Any, query: Any) -> Any:
    return await service.page(query)


async def _get_async(service: Any, ident: Any, fresh: Freshness | None = None) -> Any:
    return _unless_known(await service.get(ident), fresh)


async def _create_async(service: Any, data: Any, request: Request, response: Response) -> Any:
    shown = await service.create(data)
    response.headers["Location"] = _location(request, shown)
    return _told(response, shown)


async def _replace_async(service: Any, ident: Any, data: Any, response: Response, if_match: Precondition) -> Any:
    return _told(response, await service.replace(ident, data, if_match))


async def _change_async(service: Any, ident: Any, data: Any, response: Response, if_match: Precondition) -> Any:
    return _told(response, await service.change(ident, data, if_match))


async def _delete_async(service: Any, ident: Any, if_match: Precondition) -> None:
    await service.delete(ident, if_match)


_SYNC = {"list": _list, "get": _get, "create": _create, "replace": _replace, "change": _change, "delete": _delete}
_ASYNC = {
    "list": _list_async,
    "get": _get_async,
    "create": _create_async,
    "replace": _replace_async,
    "change": _change_async,
    "delete": _delete_async,
}
