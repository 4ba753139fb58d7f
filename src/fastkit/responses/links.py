"""Links to other pages of a list, for the header of an answer (RFC 8288)."""

from __future__ import annotations

from typing import Any

from starlette.datastructures import URL

from fastkit.pages import Page, Slice, Window


def links(url: URL, found: Page[Any] | Slice[Any] | Window[Any]) -> str:
    """
    Return the value of the header `Link` for one page of a list: `first`, `prev` and `next`, as far as there are such.

    >>> response.headers["Link"] = links(request.url, page)

    The links are relative to the request, so that they are right behind any proxy: `<?page=2&size=20>; rel="next"`.

    Args:
        url: What was asked for; its parameters stay, but for the page.
        found: What is answered.
    """
    if isinstance(found, Window):
        others = {"first": "", "prev": found.previous_cursor, "next": found.next_cursor}
        return _written(url, "cursor", {name: each for name, each in others.items() if each is not None})
    more = found.page * found.size < found.total if isinstance(found, Page) else found.has_more
    before = found.page - 1
    if isinstance(found, Page):
        before = min(before, -(-found.total // found.size) or 1)  # beyond the end: the last page
    pages = {"first": 1, "prev": before or None, "next": found.page + 1 if more else None}
    return _written(url, "page", {name: str(each) for name, each in pages.items() if each is not None})


def _written(url: URL, parameter: str, others: dict[str, str]) -> str:
    rest = url.remove_query_params([parameter])
    asked = {name: rest.include_query_params(**{parameter: each}) if each else rest for name, each in others.items()}
    return ", ".join(f'<?{each.query}>; rel="{name}"' for name, each in asked.items())
