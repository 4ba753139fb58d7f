"""Cursors over HTTP: what was changed, taken to another list, or signed with a key that has gone, is a 400."""

import json
import string
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from security.driving import asked
from security.gadgets import KEYS, create_app
from security.grammar import Asked
from security.scenes import laboratory

from fastkit.database import AsyncDatabase
from fastkit.errors import InvalidCursorError
from fastkit.pages import Signer

pytestmark = pytest.mark.anyio

NEW = "another key of the tests, of 32 characters and more"
CHARACTERS = string.ascii_letters + string.digits + "-_"


@pytest.fixture
async def url(tmp_path: Any) -> str:
    """Return the URL of a laboratory."""
    url = f"sqlite+aiosqlite:///{tmp_path}/lab.db"
    async with laboratory(url):
        return url


@asynccontextmanager
async def app_with(url: str, keys: list[str]) -> Any:
    """Give the app with these keys."""
    async with AsyncDatabase(url, cursor_keys=keys) as database:
        yield create_app(database)


async def read(app: Any, path: str, query: str = "") -> tuple[int, Any]:
    """Return status and document of an answer."""
    status, _, body = await asked(app, Asked("GET", path, query.encode()))
    return status, json.loads(body)


async def cursor_of(app: Any, path: str = "/gadgets/feed", query: str = "size=2") -> str:
    """Return the cursor of the next window."""
    found: str = (await read(app, path, query))[1]["next_cursor"]
    return found


async def test_a_cursor_leads_on(url: str) -> None:
    """Else nothing below would tell anything."""
    async with app_with(url, KEYS) as app:
        status, document = await read(app, "/gadgets/feed", f"size=2&cursor={await cursor_of(app)}")

    assert (status, [each["id"] for each in document["items"]]) == (200, [3, 4])


@pytest.mark.parametrize(
    "query",
    ["sort=-name", "sort=price", "sort=name,price", "active=true", "q=gadget", "howMany_min=1", "name=g&maker=Acme"],
)
async def test_a_cursor_is_of_one_order_and_one_set_of_filters(url: str, query: str) -> None:
    """Another order or another filter is another list; the size of a window is not."""
    async with app_with(url, KEYS) as app:
        cursor = await cursor_of(app)

        assert (await read(app, "/gadgets/feed", f"{query}&cursor={cursor}"))[0] == 400
        assert (await read(app, "/gadgets/feed", f"size=5&cursor={cursor}"))[0] == 200


async def test_a_cursor_is_of_one_list(url: str) -> None:
    """The same rows in the same order, listed by another class, are another list."""
    async with app_with(url, KEYS) as app:
        own, others = await cursor_of(app), await cursor_of(app, "/gadgets/other")

        assert (await read(app, "/gadgets/other", f"cursor={own}"))[0] == 400
        assert (await read(app, "/gadgets/feed", f"cursor={others}"))[0] == 400
        assert (await read(app, "/gadgets/other", f"cursor={others}"))[0] == 200


async def test_keys_are_rotated_without_losing_a_client(url: str) -> None:
    """A cursor is read while its key is listed, signed by the first one from then on, and refused when it has gone."""
    async with app_with(url, KEYS) as app:
        old = await cursor_of(app)
    async with app_with(url, [NEW, *KEYS]) as app:
        status, document = await read(app, "/gadgets/feed", f"size=2&cursor={old}")
        new = document["next_cursor"]
    async with app_with(url, [NEW]) as app:
        gone = await read(app, "/gadgets/feed", f"cursor={old}")
        kept = await read(app, "/gadgets/feed", f"cursor={new}")

    assert (status, gone[0], kept[0]) == (200, 400, 200)
    assert gone[1]["type"].endswith("invalid-cursor")
    assert old not in json.dumps(gone[1])


async def test_a_cursor_of_values_that_no_row_has_is_signed_as_well(url: str) -> None:
    """Whoever has no key cannot write one, not even with a digest of zeroes or without one."""
    async with app_with(url, KEYS) as app:
        for made in (Signer([NEW]).write("x", [">", "a", 1]), "A" * 22, "A" * 40, "=", "-", "_"):
            assert (await read(app, "/gadgets/feed", f"cursor={made}"))[0] == 400


CURSOR = Signer(KEYS).write("context", [">", "gadget 2", 2, None])


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.integers(0, len(CURSOR) - 1), st.sampled_from(CHARACTERS + "=+/. %\0é"))
def test_no_character_can_be_changed(place: int, character: str) -> None:
    """Each one counts, the last one too, which has bits to spare."""
    changed = CURSOR[:place] + character + CURSOR[place + 1 :]
    if changed == CURSOR:
        return

    with pytest.raises(InvalidCursorError):
        Signer(KEYS).read("context", changed)


@given(st.one_of(st.text(), st.text(CHARACTERS, max_size=80), st.binary().map(lambda each: each.hex())))
def test_nothing_else_is_a_cursor(made: str) -> None:
    """Whatever it is, and nothing but the one error."""
    with pytest.raises(InvalidCursorError):
        Signer(KEYS).read("context", made)


@given(st.text(), st.text())
def test_a_context_is_not_another_one(one: str, other: str) -> None:
    """Nor does one flow into what is signed after it."""
    if one.encode("utf-8", "replace") == other.encode("utf-8", "replace"):
        return
    written = Signer(KEYS).write(one, [other])

    with pytest.raises(InvalidCursorError):
        Signer(KEYS).read(other, written)
    assert Signer(KEYS).read(one, written) == [other]
