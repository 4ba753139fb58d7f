"""The OpenAPI schema says how a row is changed: what a patch is sent as, and the version that its client has."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fastkit.responses.etags import TAGS_SCHEMA
from fastkit.schemas._nested import is_partial

_TAG = {"type": "string", "examples": ['"3"']}
_ETAG = {"description": "The version of what is answered.", "schema": _TAG}
_IF_MATCH = "The ETag of the version that the change starts from; another version is not changed (412)."
_IF_NONE_MATCH = "The ETags of what the client has; it is not sent again (304)."


def statuses_of(calls: Iterable[Any], method: str, path: str) -> set[int]:
    """Return the statuses of the problems that the headers of conditional requests give a route."""
    finders = [finder for call in calls if (finder := getattr(call, "fastkit_finder", None)) is not None]
    changed = [finder for finder in finders if finder.is_changed_by(method, path)]
    return {status for finder in changed for status in ((400, 412, 428) if finder.requires else (400, 412))}


def amend(operation: dict[str, Any], calls: Iterable[Any], method: str, route: Any) -> None:
    """
    Add the headers of conditional requests to an operation.

    Args:
        operation: The operation, as FastAPI has generated it.
        calls: What its route calls.
        method: Its method.
        route: Its route, as an included one where it is included.
    """
    for call in calls:
        finder = getattr(call, "fastkit_finder", None)
        if finder is not None and finder.is_changed_by(method, route.path_format):
            _add_parameter(operation, "If-Match", _IF_MATCH)
        elif finder is not None and finder.tells_state_of(method, route.original_route):
            _add_parameter(operation, "If-None-Match", _IF_NONE_MATCH)
            _tell_state(operation)
        elif getattr(call, "fastkit_not_modified", False):
            _tell_state(operation)


def take_merge_patch(operation: dict[str, Any], method: str, route: Any) -> None:
    """Say that a partial model may be sent as a JSON merge patch, as FastAPI accepts it (RFC 7396)."""
    field = getattr(route, "body_field", None)
    content = operation.get("requestBody", {}).get("content", {})
    if (
        method == "PATCH"
        and field is not None
        and is_partial(field.field_info.annotation)
        and "application/json" in content
    ):
        content.setdefault("application/merge-patch+json", content["application/json"])


def _add_parameter(operation: dict[str, Any], name: str, description: str) -> None:
    parameters = operation.setdefault("parameters", [])
    if not any(each.get("in") == "header" and each.get("name", "").lower() == name.lower() for each in parameters):
        header = {
            "name": name,
            "in": "header",
            "required": False,
            "description": description,
            "schema": {**TAGS_SCHEMA},
        }
        parameters.append(header)


def _tell_state(operation: dict[str, Any]) -> None:
    responses = operation.setdefault("responses", {})
    for status, response in responses.items():
        if re.fullmatch("2..", status):
            response.setdefault("headers", {}).setdefault("ETag", _ETAG)
    responses.setdefault("304", {"description": "Not Modified", "headers": {"ETag": _ETAG}})
