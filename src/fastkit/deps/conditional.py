"""What a request makes its answer depend on: the versions that its client has seen (RFC 9110, section 13)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, TypeAlias

from fastapi import Depends, Header, Response
from pydantic import BaseModel, WithJsonSchema
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from fastkit.errors import PreconditionRequiredError
from fastkit.responses.etags import (
    TAGS_SCHEMA,
    Tags,
    Validators,
    date_of,
    tag_of,
    tags_field,
    told_or_unchanged,
)
from fastkit.service import Precondition

WEAK_TAGS = "fastkit_accept_weak_etags"
"""Attribute of `app.state`: whether If-Match accepts weak entity tags, for proxies that weaken them."""

SAYS_IF_MATCH = "The ETag of the version that the change starts from; another version is not changed (412)."


def precondition_of(connection: HTTPConnection) -> Precondition:
    """
    Return what a request that changes something asks of the row that it changes.

    Source: RFC 9110, section 13.2.2: If-Match goes before If-Unmodified-Since, then comes If-None-Match.

    Raises:
        HTTPException: A header is no list of entity tags: status 400.
    """
    headers = connection.headers
    matches, excludes = (_tags(headers, name) for name in ("If-Match", "If-None-Match"))
    versions: frozenset[str] | None = None
    if matches is not None and not matches.is_any:
        is_lenient = getattr(connection.app.state, WEAK_TAGS, False)
        versions = _versions(matches.strong | matches.weak if is_lenient else matches.strong)
    if excludes is not None and excludes.is_any:
        versions = frozenset()  # create only, and here is something
    not_versions = frozenset[str]() if excludes is None else _versions(excludes.strong | excludes.weak)
    since = date_of(headers.get("if-unmodified-since")) if matches is None else None
    return Precondition(versions, not_versions, since)


def _tags(headers: Headers, name: str) -> Tags | None:
    given = tags_field(headers, name)
    if given is None:
        return None
    tags = Tags.parse(given)
    if tags is None:
        raise HTTPException(400, f'The header {name} takes entity tags in double quotes, such as "3", or *.')
    return tags


def _versions(tags: frozenset[str]) -> frozenset[str]:
    """Return the versions in entity tags; what follows a colon tells representations of one version apart."""
    return frozenset(tag.partition(":")[0] for tag in tags)


def required(connection: HTTPConnection) -> None:
    """
    Refuse a request that does not say which version it starts from.

    Raises:
        PreconditionRequiredError: There is no If-Match.
    """
    if "if-match" not in connection.headers:
        raise PreconditionRequiredError


_IfMatchHeader: TypeAlias = Annotated[
    str | None, WithJsonSchema(TAGS_SCHEMA), Header(alias="If-Match", description=SAYS_IF_MATCH)
]


async def _if_match(connection: HTTPConnection, if_match: _IfMatchHeader = None) -> Precondition:
    return precondition_of(connection)


async def _required_if_match(connection: HTTPConnection, if_match: _IfMatchHeader = None) -> Precondition:
    required(connection)
    return precondition_of(connection)


async def _unlisted_if_match(connection: HTTPConnection) -> Precondition:
    return precondition_of(connection)


class Freshness:
    """Compares what a client has with what it would get; lives as long as its request."""

    def __init__(self, connection: HTTPConnection, response: Response) -> None:
        self._connection = connection
        self._response = response

    def check(
        self, state: BaseModel | None = None, version: str | None = None, modified: datetime | None = None
    ) -> None:
        """
        Answer 304 if the client has this state already, and tell it by ETag and Last-Modified otherwise.

        Args:
            state: What is another one whenever the answer is: the answer itself, or the versions of a list. Without
                it there is no ETag.
            version: The version of the row, for If-Match to be compared with.
            modified: When the answer was changed last; for two seconds after that it is not told.

        Raises:
            NotModified: The client has it; whatever follows in the endpoint is left out.
        """
        tag = None if state is None else tag_of(state, version)
        told_or_unchanged(self._connection, self._response, Validators(tag, modified))


_IfNoneMatchHeader: TypeAlias = Annotated[
    str | None,
    WithJsonSchema(TAGS_SCHEMA),
    Header(alias="If-None-Match", description="ETags of what the client has (304)."),
]


async def _if_none_match(
    connection: HTTPConnection, response: Response, if_none_match: _IfNoneMatchHeader = None
) -> Freshness:
    return Freshness(connection, response)


async def _unlisted_if_none_match(connection: HTTPConnection, response: Response) -> Freshness:
    return Freshness(connection, response)


def _tells(dependency: Any, *problems: int, not_modified: bool = False) -> Any:
    """Write on a dependency what the OpenAPI schema wants to know of it."""
    dependency.problems = frozenset(problems)
    dependency.fastkit_not_modified = not_modified
    return Depends(dependency)


IfMatch: TypeAlias = Annotated[Precondition, _tells(_if_match, 400, 412)]
"""
What the client says that it has seen, for the service that changes it.

>>> @app.patch("/books/{book_id}")
... async def change(book_id: int, patch: BookPatch, if_match: IfMatch, change: ChangeBookDep) -> BookOut:
...     return await change(book_id, patch, if_match)
"""

UnlistedIfMatch: TypeAlias = Annotated[Precondition, Depends(_unlisted_if_match)]
"""Same as `IfMatch`, for rows that have no version to name: the schema does not ask for one."""

RequiredIfMatch: TypeAlias = Annotated[Precondition, _tells(_required_if_match, 400, 412, 428)]
"""Same as `IfMatch`, but a request without one is answered 428."""

UnlistedIfNoneMatch: TypeAlias = Annotated[Freshness, _tells(_unlisted_if_none_match, not_modified=True)]
"""Same as `IfNoneMatch`, for answers that have a date and no tag: the schema does not ask for one."""

IfNoneMatch: TypeAlias = Annotated[Freshness, _tells(_if_none_match, not_modified=True)]
"""
Spares a client what it has already.

>>> @app.get("/books")
... async def books(shop: ShopDep, query: BookQueryDep, if_none_match: IfNoneMatch) -> Page[BookOut]:
...     reader = shop.books.into(BookOut)
...     if_none_match.check(await reader.versions().page(query))
...     return await reader.page(query)
"""
