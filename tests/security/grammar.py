"""Requests that clients should not send: query strings, paths, headers and bodies, each made of a seeded generator."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

CANARY = "zq7canary"
"""A value that no answer and no statement may repeat."""

INTEGERS = [
    *("0", "-0", "1", "2", "-1", "+1", " 1", "1 ", "1_000", "00000001", "0x10", "0b1", "1e3", "1.0", "1.5", "1,5"),
    *("2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "9223372036854775808"),
    *(
        "-9223372036854775809",
        "18446744073709551616",
        "9" * 40,
        "9" * 400,
        "9" * 5000,
        "-" + "9" * 4301,
        "1" + "0" * 309,
    ),
    *("%D9%A1%D9%A2", "%EF%BC%91", "1%00", "%2B1", "--1", "1e400", "1e-400", "Infinity", "-inf", "nan", "NaN", "-nan"),
]
DECIMALS = [
    *(
        "0.005",
        "0.1",
        "1e2",
        "1E+2",
        "1e400",
        "1e-400",
        "1e999999",
        "-1e999999",
        "9" * 30 + ".99",
        "." + "9" * 300,
        ".",
    ),
    *("1.", ".5", "1e", "sNaN", "Infinity", "-Infinity", "nan123", "1e+1000000000", "1/2", "0E-999", "-0.0", "1 000"),
]
MOMENTS = [
    *(
        "2026-01-01",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01 00:00:00+00:00",
        "0001-01-01",
        "9999-12-31",
    ),
    *("0001-01-01T00:00:00%2B23:59", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59.999999Z", "0000-00-00"),
    *(
        "10000-01-01",
        "-0001-01-01",
        "2026-02-30",
        "2026-01-01T25:00:00",
        "2026-01-01T23:59:60Z",
        "0",
        "-1",
        "1e20",
        "1e11",
    ),
    *("253402300799", "253402300800", "-62135596800", "-62135596801", "99999999999999999999", "infinity", "-infinity"),
    *(
        "now",
        "today",
        "2026-01-01T00:00:00%2B24:00",
        "2026-01-01T00:00:00.1234567Z",
        "2026-W01-1",
        "20260101",
        "T00:00",
    ),
    *("23:59", "24:00", "00:00:00Z", "12:00:00%2B01:00", "86399.9", "86400", "P1D", "0001-01-01T00:00:00Z"),
]
WORDS = [
    *("", "%00", "a%00b", "%ED%A0%80", "%ED%BF%BF", "%C0%AF", "%F8%88%80%80%80", "%FF", "%", "%zz", "%u0041", "%E2%82"),
    *(
        "%F0%9F%98%80",
        "%EF%BF%BF",
        "%C2%A0",
        "%E2%80%AE",
        "%0D%0A",
        "%09",
        "%1B",
        "%25",
        "%25%25",
        "_",
        "%5C",
        "%5C%25",
    ),
    *(
        "'",
        "%22",
        "''",
        "%27%20OR%20%271%27=%271",
        "%27;%20DROP%20TABLE%20book;--",
        "$1",
        ":name",
        "%28%28",
        "%3F",
        "{}",
    ),
    *("a" * 200, "a" * 201, "%25" * 150, "_" * 200, "a" * 5000, "(a" * 50, "%2B" * 100, "null", "None", "true", "[]"),
    *("%C5%BF", "%C4%B0", "%DF", "%EF%AC%80" * 60, "emma", "austen", "acme", "gadget", "red", "blue", "RED", "en"),
    *("00000000-0000-0000-0000-000000000001", "00000000000000000000000000000001", "urn:uuid:" + "0" * 31 + "1"),
    *("{00000000-0000-0000-0000-000000000001}", "0" * 32, "f" * 33, "yes", "no", "on", "off", "1", "0", "t", "False"),
]
SORTS = [
    "",
    "-",
    "--name",
    ",",
    ",,,",
    "name,name",
    "-price,title",
    "price",
    "-worth",
    "title desc",
    "title;",
    "id",
    "__class__",
]
SORTS += [
    "seenAt",
    "seen_at,-big",
    "big",
    "-big,name",
    "worth,-worth",
    ",".join(["name"] * 60),
    "metadata",
    "author.name",
]
STRANGE = [
    "",
    "%00",
    "a[b]",
    "a[b][c]",
    "[" * 200,
    "__proto__",
    "constructor",
    "%ED%A0%80",
    "%FF",
    "a" * 4000,
    "sort[]",
    "page ",
]
STRANGE += [
    "$where",
    "size%00",
    "SIZE",
    "Page",
    "order",
    "_asks",
    "model_config",
    "filters",
    "%22",
    "price_min_max",
    "price__gte",
]


DECIMALS_THAT_FIT = ["1", "0.5", "-3.25", "1e2", "99999999.99", "100000000", "1e12", *DECIMALS[:8]]
MOMENTS_THAT_FIT = [*MOMENTS[:9], "23:59", "12:00:00.5", "2026-06-01"]
WORDS_THAT_FIT = [*WORDS[:8], *WORDS[12:40], "acme", "en"]
FITTING: dict[str, Sequence[str]] = {
    **dict.fromkeys(("id", "author_id", "exactly", "big", "bigger", "howMany", "year", "page", "size"), INTEGERS[:30]),
    **dict.fromkeys(("price", "costs", "ratio"), DECIMALS_THAT_FIT),
    **dict.fromkeys(("madeOn", "seenAt", "opens"), MOMENTS_THAT_FIT),
    **dict.fromkeys(("active", "isNew", "many"), ("true", "false", "1", "0")),
    **dict.fromkeys(("name", "first", "q", "maker", "makers", "author", "language"), WORDS_THAT_FIT),
    "colour": ["red", "blue"],
    "code": [f"00000000-0000-0000-0000-00000000000{each}" for each in range(9)],
}
"""Values that a parameter may well have."""


@dataclass
class Target:
    """
    A path with the parameters that it knows.

    Attributes:
        path: The path; `*` stands for something that a client chooses.
        names: Names of parameters.
        feeds: Whether its answers have cursors.
        body: A valid body, or None.
        methods: Which methods it is asked by.
        cursors: Cursors that were answered.
    """

    path: str
    names: Sequence[str] = ()
    feeds: bool = False
    body: Any = None
    methods: Sequence[str] = ("GET",)
    cursors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: bytes = b""
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()

    @property
    def size(self) -> int:
        """Return how many bytes it has."""
        return len(self.path) + len(self.query) + len(self.body)


class Requests:
    """Makes requests for some targets; the same ones for the same seed."""

    def __init__(self, targets: Sequence[Target], seed: int) -> None:
        self.random = Random(seed)
        self.listed = [each for each in targets if each.body is None]
        self.written = [each for each in targets if each.body is not None]
        self.names = sorted({name for each in targets for name in each.names})
        self.cursors = [cursor for each in targets for cursor in each.cursors]

    # -- query strings

    def query(self) -> Asked:
        """Return a request for a list, or a row, with parameters."""
        target, random = self.random.choice(self.listed), self.random
        path = target.path.replace("*", self.value("id") or "-")
        count = random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8)) if random.random() > 0.001 else random.choice((400, 10_000))
        pairs = [self.pair(target) for _ in range(min(count, 8))]
        if count > 8:
            name = random.choice([*target.names, "unknown", *STRANGE[:4]])
            several = random.random() < 0.5
            pairs += [f"{name}{each if several else ''}={random.choice(INTEGERS[:9])}" for each in range(count)]
        text = "&".join(pairs)
        if random.random() < 0.02:
            text = self.spoilt(text)
        method = (
            target.methods[0] if random.random() < 0.99 else random.choice(("HEAD", "PUT", "OPTIONS", "TRACE", "FOO"))
        )
        return Asked(method, path, text.encode("latin-1", "replace"))

    def pair(self, target: Target) -> str:
        """Return a parameter."""
        random = self.random
        chance = random.random()
        if chance < 0.94 and target.names:
            name = random.choice(target.names)
        elif chance < 0.96 and self.names:
            name = random.choice(self.names)
        elif chance < 0.98 and target.names:
            name = self.near(random.choice(target.names))
        else:
            name = random.choice(STRANGE)
        value = (
            random.choice(target.cursors)
            if name == "cursor" and target.cursors and random.random() < 0.2
            else self.value(name)
        )
        return (
            f"{name}={value}"
            if random.random() < 0.98
            else random.choice((name, f"={value}", f"{name}=={value}", "&", ";"))
        )

    def value(self, name: str) -> str:
        """Return a value, most often of the kind that the name is for."""
        random = self.random
        if name == "sort" and random.random() < 0.8:
            return random.choice(SORTS)
        if name == "cursor":
            return self.tampered()
        fitting = FITTING.get(name.removesuffix("_min").removesuffix("_max"))
        if fitting and random.random() < 0.75:
            return random.choice(fitting)
        pool = random.choice((INTEGERS, INTEGERS, DECIMALS, MOMENTS, WORDS, WORDS, None))
        if pool is None:
            return random.choice((CANARY, CANARY + "%00", "1" + CANARY, quote(self.text(), safe="")))
        return random.choice(pool)

    def near(self, name: str) -> str:
        """Return a name that is nearly this one."""
        place = self.random.randrange(len(name) + 1)
        return self.random.choice(
            (
                name[:place] + name[place + 1 :],
                name.upper(),
                name + "_min",
                name + "[]",
                name[:place] + "x" + name[place:],
            )
        )

    def tampered(self) -> str:
        """Return a cursor that is none, or none of this list."""
        random = self.random
        cursor = random.choice(self.cursors) if self.cursors else "AAAA"
        place = random.randrange(len(cursor))
        return random.choice(
            (
                cursor,
                cursor[:place],
                cursor[:place] + random.choice("AZ9_-") + cursor[place + 1 :],
                cursor + "=",
                cursor + "AA",
                cursor * 30,
                "A" * random.choice((1, 2, 3, 4, 22, 4096, 4097)),
                random.choice(WORDS),
            )
        )

    def spoilt(self, text: str) -> str:
        """Return a text with some characters that are not allowed there."""
        place = self.random.randrange(len(text) + 1)
        return (
            text[:place]
            + self.random.choice(("\x00", "\xff", "#", "?", " ", "\r\n", "%", "\xed\xa0\x80", "&&", ";"))
            + text[place:]
        )

    def text(self) -> str:
        """Return any text, without lone surrogates."""
        return "".join(
            chr(self.random.choice((self.random.randrange(1, 0x250), self.random.randrange(0xE000, 0x110000))))
            for _ in range(self.random.randrange(9))
        )

    # -- bodies

    def write(self) -> Asked:
        """Return a request with a body."""
        random = self.random
        target = random.choice(self.written)
        body = self.encoded(target.body)
        kind = (
            b"application/json"
            if random.random() < 0.95
            else random.choice(
                (
                    b"text/plain",
                    b"",
                    b"application/xml",
                    b"application/json; charset=utf-16",
                    b"multipart/form-data; boundary=x",
                    b"\xff",
                    b"application/merge-patch+json",
                )
            )
        )
        headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
        if random.random() < 0.05:
            headers.append(
                (
                    random.choice((b"if-match", b"if-none-match", b"accept", b"x-request-id", b"range", b"cookie")),
                    random.choice((b"*", b'"1"', b"\xff\xfe", b"a" * 5000, b"", b'W/"x"')),
                )
            )
        path = target.path.replace("*", self.value("id") or "-")
        return Asked(random.choice(target.methods), path, b"", body, headers)

    def encoded(self, valid: Any) -> bytes:
        """Return a body: nearly always JSON, of values that are right but for a few."""
        random = self.random
        chance = random.random()
        if chance < 0.0005:
            return self.huge()
        if chance < 0.05:
            return random.choice(
                (
                    b"",
                    b"null",
                    b"[]",
                    b"{}",
                    b'"x"',
                    b"1",
                    b"tru",
                    b"{",
                    b"[[[",
                    b"\xff\xfe{\x00}\x00",
                    b"\xef\xbb\xbf{}",
                    b"\x00",
                    b'{"a":1}{"b":2}',
                    b"{'a': 1}",
                    b'{"a":}',
                    b"/**/{}",
                )
            )
        if chance < 0.1:
            return self.raw(99)
        made = self.mutated(json.loads(json.dumps(valid)))
        text = json.dumps(made, ensure_ascii=random.random() < 0.5)
        for mark in set(re.findall(r'"@raw@\d+"', text)):
            text = text.replace(mark, self.raw(random.choice((3, 30, 300))).decode("latin-1"))
        body = text.encode("utf-8", "surrogatepass")
        if random.random() < 0.03:
            place = random.randrange(len(body) + 1)
            body = (
                body[:place]
                + random.choice((b"\x00", b"\xff", b"\\ud800", b",", b"}", b"\\", b"\xc0\xaf"))
                + body[place:]
            )
        if random.random() < 0.03 and body[:1] == b"{":
            body = b'{"name":"' + CANARY.encode() + b'",' + body[1:]  # a name twice
        return body

    def huge(self) -> bytes:
        """Return a body that is deep, or has a number of a million digits, or very many members."""
        return self.random.choice(
            (
                b"[" * 100_000,
                b"[" * 100_000 + b"]" * 100_000,
                b'{"parts":' * 100_000 + b"1" + b"}" * 100_000,
                b'{"howMany":' + b"9" * 1_000_000 + b"}",
                b'{"name":"' + b"\\u0000" * 100_000 + b'"}',
                b"{" + b",".join(b'"%d":1' % each for each in range(50_000)) + b"}",
                b"[" + b"1," * 100_000 + b"1]",
                b'{"price":1e' + b"9" * 1000 + b"}",
            )
        )

    def raw(self, depth: int) -> bytes:
        """Return JSON that Python's own writer does not write."""
        return self.random.choice(
            (
                *(
                    b"NaN",
                    b"Infinity",
                    b"-Infinity",
                    b"1e400",
                    b"-0",
                    b"1E999999",
                    b"9" * 5000,
                    b"0.1e-999",
                    b"1" + b"0" * 400,
                ),
                *(
                    b'"\\ud800"',
                    b'"\\udfff\\ud800"',
                    b'"\\u0000"',
                    b'"a\\u0000b"',
                    b'"\x00"',
                    b'"\xed\xa0\x80"',
                    b'"\\x"',
                ),
                *(
                    b"[" * depth + b"]" * depth,
                    b'{"a":' * depth + b"1" + b"}" * depth,
                    b'{"a":1,"a":2}',
                    b"01",
                    b"+1",
                    b".5",
                ),
            )
        )

    def mutated(self, value: Any) -> Any:
        """Return the value with a few things changed."""
        random = self.random
        if isinstance(value, list):
            made = [self.mutated(each) for each in value]
            return made * random.choice((0, 1, 1, 1, 1, 2, 20))
        if not isinstance(value, dict):
            return value
        made = {}
        for key, each in value.items():
            chance = random.random()
            if chance < 0.04:
                continue
            made[self.near(key) if chance < 0.06 else key] = (
                self.scalar() if random.random() < 0.15 else self.mutated(each)
            )
        if random.random() < 0.05:
            made[random.choice(("__proto__", "id", "secret", "a" * 5000, "\ud800", "\0", "", "maker", "__class__"))] = (
                self.scalar()
            )
        return made

    def scalar(self) -> Any:
        """Return any value."""
        random = self.random
        return random.choice(
            (
                *(
                    None,
                    True,
                    False,
                    0,
                    -1,
                    1,
                    2**31 - 1,
                    2**31,
                    2**63 - 1,
                    2**63,
                    -(2**63) - 1,
                    10**40,
                    10**400,
                    1.5,
                    1e308,
                ),
                *(
                    "",
                    "x" * 51,
                    "x" * 3000,
                    "\0",
                    "a\0b",
                    "\ud800",
                    "\udfff",
                    "é",
                    "\U0001f600",
                    CANARY,
                    "' OR 1=1 --",
                    "1",
                    "1e5",
                ),
                *(
                    "NaN",
                    "Infinity",
                    "1e400",
                    "9" * 30,
                    "9999-12-31T23:59:59Z",
                    "0001-01-01T00:00:00+23:59",
                    "10000-01-01",
                    -62135596801,
                ),
                *(
                    [],
                    {},
                    [[]],
                    [None] * 50,
                    {"a": {}},
                    {"": CANARY},
                    {"\0": 1},
                    "@raw@1",
                    "@raw@2",
                    "@raw@3",
                    random.random(),
                ),
                *(
                    "00000000-0000-0000-0000-000000000001",
                    f"{random.getrandbits(128):032x}",
                    "red",
                    "RED",
                    random.choice(MOMENTS),
                ),
            )
        )
