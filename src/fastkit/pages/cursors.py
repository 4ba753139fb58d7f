"""Signed cursors: a place in a list, written so that a client can keep it and cannot change it."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any
from uuid import UUID

from fastkit.errors import DeclarationError, InvalidCursorError

LONGEST_CURSOR = 4096
"""So many characters; a query string has room for them."""

_SHORTEST_KEY = 32
_DIGEST = 16  # bytes of the signature: 128 bits

_Kind = tuple[str, Callable[[Any], Any], Callable[[Any], Any]]
_KINDS: dict[type[Any], _Kind] = {
    Decimal: ("n", str, Decimal),
    datetime: ("t", datetime.isoformat, datetime.fromisoformat),
    date: ("d", date.isoformat, date.fromisoformat),
    time: ("h", time.isoformat, time.fromisoformat),
    timedelta: ("s", lambda each: [each.days, each.seconds, each.microseconds], lambda parts: timedelta(*parts)),
    UUID: ("u", lambda each: each.hex, UUID),
    bytes: ("b", lambda each: urlsafe_b64encode(each).decode(), urlsafe_b64decode),
}
for _kind in (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network):
    _KINDS[_kind] = (_kind.__name__, str, _kind)
_READ = {tag: read for tag, _, read in _KINDS.values()}
_PLAIN = (bool, int, float, str)


class Signer:
    """
    Writes and reads cursors, signed by HMAC-SHA256 (RFC 2104).

    The first key signs, all of them are tried to read: to rotate, put the new key first, and drop the old one when its
    cursors have been used up. A cursor is bound to its context; it is signed, not encrypted.

    Args:
        keys: Secrets of at least 32 characters each, such as those that `secrets.token_urlsafe()` makes.

    Raises:
        DeclarationError: A key is too short, or there is none.
    """

    def __init__(self, keys: Sequence[str | bytes]) -> None:
        listed = [keys] if isinstance(keys, str | bytes) else list(keys)
        self._keys = [key.encode() if isinstance(key, str) else bytes(key) for key in listed]
        if not self._keys or any(len(key) < _SHORTEST_KEY for key in self._keys):
            raise DeclarationError(
                f"cursor_keys are secrets of at least {_SHORTEST_KEY} characters, the same in each process of the app: "
                "make one by secrets.token_urlsafe(), and keep it with the app's other secrets."
            )

    def write(self, context: str, values: Sequence[Any]) -> str:
        """
        Return the cursor of these values.

        Raises:
            DeclarationError: A value that no cursor can hold.
        """
        payload = json.dumps([_written(value) for value in values], separators=(",", ":"), ensure_ascii=False).encode()
        cursor = urlsafe_b64encode(self._digest(self._keys[0], context, payload) + payload).rstrip(b"=").decode()
        if len(cursor) > LONGEST_CURSOR:
            raise DeclarationError(
                f"A cursor is too long, {len(cursor)} characters: sort by something shorter than whole texts."
            )
        return cursor

    def read(self, context: str, cursor: str) -> list[Any]:
        """
        Return the values of a cursor.

        Raises:
            InvalidCursorError: It was changed, or was written for another context.
        """
        try:
            decoded = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        except ValueError:
            raise InvalidCursorError from None
        if urlsafe_b64encode(decoded).rstrip(b"=") != cursor.encode():
            raise InvalidCursorError  # base64 has several spellings of the same, of which only one was written
        digest, payload = decoded[:_DIGEST], decoded[_DIGEST:]
        if not any(hmac.compare_digest(digest, self._digest(key, context, payload)) for key in self._keys):
            raise InvalidCursorError
        return [_read(value) for value in json.loads(payload)]

    @staticmethod
    def _digest(key: bytes, context: str, payload: bytes) -> bytes:
        told = context.encode()
        return hmac.digest(key, len(told).to_bytes(4) + told + payload, sha256)[:_DIGEST]


def _written(value: Any) -> Any:
    if value is None or isinstance(value, _PLAIN):
        return value
    for kind in type(value).__mro__:
        if kind in _KINDS:
            tag, write, _ = _KINDS[kind]
            return [tag, write(value)]
    raise DeclarationError(f"No cursor can hold a {type(value).__name__}: sort by something else.")


def _read(value: Any) -> Any:
    return _READ[value[0]](value[1]) if isinstance(value, list) else value
