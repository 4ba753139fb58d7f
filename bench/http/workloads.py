"""What is asked of each contestant; the same requests for all, but for the names of parameters and the cursors."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from bench.http.client import Request

GET = "get one"
LIST = "list 100"
TOTAL = "list 100, with total"
NESTED = "nested 50 x (1 + 5)"
DEEP = "page 90,000 deep"
CREATE = "create"
UPDATE = "load, change, commit"
EXPORT = "export 100,000"
WORKLOADS = (GET, LIST, TOTAL, NESTED, DEEP, EXPORT, UPDATE, CREATE)
"""In the order in which they run: what reads before what writes."""

KEYS, PAGES, DEPTH, SIZE = 1000, 5, 90_000, 100
BODY = (
    b'{"title": "A new voyage", "language": "en", "price": "12.30", "stock": 5, "pages": 320, "in_print": true,'
    b' "published_at": "2026-01-01T12:00:00", "author_id": 7}'
)
Ask = Callable[[int], Request]
"""The request with this running number."""

_stocks = itertools.count(1000)


def _update(number: int) -> Request:
    # A value that nobody has written yet, or there would be no UPDATE to send.
    return Request("PATCH", f"/books/{number % KEYS + 1}", body=b'{"stock": %d}' % next(_stocks))


def asks(size: str = "size") -> dict[str, Ask]:
    """Return the requests; *size* is the parameter that names the size of a page."""
    return {
        GET: lambda number: Request("GET", f"/books/{number % KEYS + 1}"),
        LIST: lambda number: Request("GET", "/books", f"page={number % PAGES + 1}&{size}={SIZE}"),
        TOTAL: lambda number: Request("GET", "/numbered", f"page={number % PAGES + 1}&{size}={SIZE}"),
        NESTED: lambda number: Request("GET", "/nested", f"page={number % PAGES + 1}&{size}=50"),
        DEEP: lambda number: Request("GET", "/deep", f"page={DEPTH // SIZE + 1 + number % PAGES}&{size}={SIZE}"),
        EXPORT: lambda _: Request("GET", "/export"),
        UPDATE: _update,
        CREATE: lambda _: Request("POST", "/books", body=BODY),
    }


def after(name: str = "cursor", size: str = "size", cursors: Sequence[str] | None = None) -> Ask:
    """Return the request for the deep page by cursor; without cursors, they are keys."""
    places = cursors or [str(DEPTH + SIZE * place) for place in range(PAGES)]
    return lambda number: Request("GET", "/deep", f"{name}={places[number % PAGES]}&{size}={SIZE}")
