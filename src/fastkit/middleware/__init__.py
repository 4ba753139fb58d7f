"""Middleware, pure ASGI: what belongs to every request, whatever route answers it."""

from fastkit.middleware.request_id import RequestIdFilter, RequestIdMiddleware, request_id
from fastkit.middleware.routes import route_template
from fastkit.middleware.server_timing import ServerTimingMiddleware

__all__ = ["RequestIdFilter", "RequestIdMiddleware", "ServerTimingMiddleware", "request_id", "route_template"]
