"""
Entity tags and dates: what tells one state of a resource from another.

Source: RFC 9110, sections 8.8 (validators) and 13 (conditional requests).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from hashlib import blake2b
from typing import Any, Final

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response

from fastkit.repository.versions import version_told_of

TAGS_SCHEMA: Final[dict[str, Any]] = {"type": "string", "examples": ['"3"', "*"]}
"""The JSON schema of a header with entity tags."""

LONGEST_HEADER: Final = 8000  # characters; servers bound it, too
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_SETTLED = timedelta(seconds=2)
_REPEATED = ("cache-control", "content-location", "expires", "vary")  # by a 304, if the answer would have had them


def etag(shown: BaseModel, of: object = None) -> str:
    """
    Return the strong entity tag of a response model.

    >>> response.headers["ETag"] = etag(BookOut.model_validate(book), of=book)

    Args:
        shown: The response model that is answered.
        of: The object that it shows, of a class with a version (`version_id_col`), or that version as a text. Without
            it the tag is good for If-None-Match alone.

    Raises:
        DeclarationError: The class of the object has no version, or it is not known.
    """
    version = of if of is None or isinstance(of, str) else version_told_of(of)
    return f'"{tag_of(shown, version)}"'


def tag_of(shown: BaseModel, version: str | None) -> str:
    """
    Return what is in the quotes of an entity tag.

    The version of the row is what If-Match is about. The digest tells representations apart: the version says nothing
    of other rows that are shown, nor of a row that was deleted and made again.
    """
    told = digest_of(shown.model_dump_json(by_alias=True).encode())
    return told if version is None else f"{version}:{told}"


def digest_of(body: bytes) -> str:
    """Return a short text that is another one for another body."""
    return blake2b(body, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Tags:
    """
    The entity tags of a header `If-Match` or `If-None-Match`.

    Attributes:
        strong: What is in the quotes of the strong ones.
        weak: Same, of the weak ones.
        is_any: Whether it is `*`.
    """

    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()
    is_any: bool = False

    @classmethod
    def parse(cls, header: str) -> Tags | None:
        """Return the tags of a header, or None if it is no list of entity tags."""
        text = header.strip()
        if text == "*":
            return cls(is_any=True)
        if len(text) > LONGEST_HEADER or text.count('"') % 2:
            return None
        found: dict[bool, set[str]] = {True: set(), False: set()}
        for part in _parts(text):
            tag = _TAG.fullmatch(part)
            if tag is None:
                return None
            found[bool(tag[1])].add(tag[2])
        return cls(frozenset(found[False]), frozenset(found[True])) if any(found.values()) else None


def tags_field(headers: Headers, name: str) -> str | None:
    """Return the value of a header that is a list, of all its lines (RFC 9110, section 5.3), or None without one."""
    lines = headers.getlist(name)
    return ", ".join(lines) if lines else None


def _parts(text: str) -> list[str]:
    """Return what stands between commas that are not in quotes; a list may have empty elements."""
    parts = [""]
    for number, piece in enumerate(text.split('"')):
        if number % 2:
            parts[-1] += f'"{piece}"'
        else:
            first, *others = piece.split(",")
            parts[-1] += first
            parts += others
    return [part for each in parts if (part := each.strip())]


@dataclass(frozen=True, slots=True)
class Validators:
    """
    What tells one state of a representation from another.

    Attributes:
        tag: What is in the quotes of its entity tag, or None.
        modified: When it was changed last, or None.
    """

    tag: str | None = None
    modified: datetime | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers that tell it; no date that another change could still share."""
        told = {} if self.tag is None else {"ETag": f'"{self.tag}"'}
        if self.modified is not None and datetime.now(UTC) - self.modified > _SETTLED:
            told["Last-Modified"] = format_datetime(self.modified.astimezone(UTC), usegmt=True)
        return told

    def are_known_to(self, headers: Headers) -> bool:
        """Return whether a client that reads has this state already."""
        if (given := tags_field(headers, "if-none-match")) is not None:
            tags = Tags.parse(given)
            return tags is not None and (tags.is_any or self.tag in tags.strong | tags.weak)
        since = date_of(headers.get("if-modified-since"))
        # The very date that was told: a clock that was set back makes an older one of a newer row.
        return since is not None and self.modified is not None and self.modified.replace(microsecond=0) == since


def date_of(header: str | None) -> datetime | None:
    """Return the date of a header, or None if there is none in it."""
    try:
        found = parsedate_to_datetime(header) if header else None
    except (ValueError, OverflowError):
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)


class NotModified(Exception):  # noqa: N818 - not an error: the answer 304, which goes past the endpoint
    """
    The client has what it asks for.

    Attributes:
        headers: Those that the answer would have had.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.headers = dict(headers)


def told_or_unchanged(connection: HTTPConnection, response: Response, validators: Validators) -> None:
    """
    Write the validators into the headers of a response, if the client does not have it already.

    Raises:
        NotModified: It does.
    """
    if validators.are_known_to(connection.headers):
        kept = {name: response.headers[name] for name in _REPEATED if name in response.headers}
        raise NotModified(kept | validators.headers())
    response.headers.update(validators.headers())


async def not_modified(connection: HTTPConnection, exc: Exception) -> Response:
    """Answer 304, without a body."""
    if not isinstance(exc, NotModified):
        raise exc
    made: Any = Response(status_code=304, headers=exc.headers)
    return made  # type: ignore[no-any-return]
