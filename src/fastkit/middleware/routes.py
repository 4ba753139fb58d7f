"""Which route serves a request, for logs and metrics, where a path would be a new name for each row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def route_template(scope: Mapping[str, Any]) -> str | None:
    """
    Return the route that serves a request as it was declared, `/books/{book_id}`, or None if none does (yet).

    It is known once the router has looked: ask after the app inside has been called. The prefixes of included routers
    are there, which `scope["route"].path` lacks. So is the place of a mounted app, unless that has parameters itself.

    Args:
        scope: The scope of an ASGI request, after it was passed on.
    """
    of_fastapi = scope.get("fastapi")
    route = scope.get("route")
    context = of_fastapi.get("effective_route_context") if isinstance(of_fastapi, Mapping) else None
    if context is not None and getattr(context, "original_route", None) is route:
        route = context
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if not isinstance(path, str):
        return None
    parameters = scope.get("path_params") or ()
    mounted = str(scope.get("root_path", "")).removeprefix(str(scope.get("app_root_path", "")))
    if "app_root_path" not in scope or path.count("{") != len(parameters):
        return path  # not mounted, or mounted where the place itself is different for each client
    return mounted + path
