"""Where a request keeps its id, so that every answer to it can name it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

REQUEST_ID: Final = "fastkit.request_id"
"""Key of an ASGI scope: the name of the header and the id of the request, a tuple of two texts."""


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """Return the id of a request, or None if no middleware has given it one."""
    found: tuple[str, str] | None = scope.get(REQUEST_ID)
    return None if found is None else found[1]


def request_id_header(scope: Mapping[str, Any]) -> dict[str, str]:
    """Return the header that tells a client the id of its request; empty if it has none."""
    found: tuple[str, str] | None = scope.get(REQUEST_ID)
    return {} if found is None else {found[0]: found[1]}
