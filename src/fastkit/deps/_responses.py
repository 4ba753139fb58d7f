"""Problems as responses of an OpenAPI schema."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from fastkit.errors import DeclarationError, FastkitError
from fastkit.responses.problems import MEDIA_TYPE, TYPE_BASE, phrase, problem_type

REFERENCE: Final = "#/components/schemas/fastkit.Problem"
"""What stands for the schema of a problem until the schema of the app is known, which may have a Problem itself."""

CONTENT: Final = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE}}}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "How to say who you are.", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}},
    503: {"Retry-After": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer"}}},
}


def problems(*errors: type[FastkitError] | int) -> dict[int | str, dict[str, Any]]:
    """
    Return what `responses=` takes, for an app, a router or a route that answers with these problems.

    >>> @app.post("/orders", responses=problems(OutOfStockError, 402))
    ... async def order(body: OrderIn, place: Annotated[PlaceOrder, provide(PlaceOrder)]) -> OrderOut: ...

    The schema has them only in an app that fastkit is installed into.

    Args:
        errors: Classes of errors, or statuses from 400 to 599.

    Raises:
        DeclarationError: One is neither.
    """
    found = by_status(errors, "problems(...)")
    return {status: response(status, kinds) for status, kinds in found.items()}


def by_status(errors: Iterable[Any], where: str) -> dict[int, list[type[FastkitError]]]:
    """
    Return errors by their statuses, in the order of these.

    Raises:
        DeclarationError: One is no error.
    """
    found: dict[int, list[type[FastkitError]]] = {}
    for each in errors:
        if not is_error(each):
            raise DeclarationError(
                f"{where} has {each!r}, which is neither a subclass of FastkitError nor a status from 400 to 599."
            )
        of_class = isinstance(each, type)
        found.setdefault(each.status if of_class else each, []).extend([each] if of_class else [])
    return dict(sorted(found.items()))


def is_error(each: object) -> bool:
    """Return whether something is a class of errors, or the status of one."""
    if isinstance(each, type):
        return issubclass(each, FastkitError)
    return isinstance(each, int) and 400 <= each <= 599  # noqa: PLR2004 - what HTTP calls errors


def response(status: int, errors: Iterable[type[FastkitError]] = ()) -> dict[str, Any]:
    """Return the response of one status, with an example for each error that has it."""
    titles = dict.fromkeys(error.title for error in errors)
    content: dict[str, Any] = {"schema": {"$ref": REFERENCE}}
    if examples := {_name(error): _example(error) for error in errors}:
        content["examples"] = examples
    told: dict[str, Any] = {"description": ", or ".join(titles) or phrase(status), "content": {MEDIA_TYPE: content}}
    return told | ({"headers": _HEADERS[status]} if status in _HEADERS else {})


def _name(error: type[FastkitError]) -> str:
    return problem_type(error).removeprefix(TYPE_BASE).rpartition("/")[2].rpartition("#")[2]


def _example(error: type[FastkitError]) -> dict[str, Any]:
    value = {"type": problem_type(error), "title": error.title, "status": error.status}
    return {"summary": error.title, "value": value}
