"""What is installed is what the docs say."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.resources import files
from pathlib import Path

import pytest

import fastkit

ROOT = Path(__file__).parent.parent
ROOMS = ["errors", "pages", "database", "repository", "uow", "service", "responses", "deps"]


def test_the_package_is_typed() -> None:
    """Type checkers find the marker of PEP 561."""
    assert files("fastkit").joinpath("py.typed").is_file()


def test_the_hard_dependencies_are_few() -> None:
    """Only pydantic, sqlalchemy, starlette, typing-extensions, and anyio, which comes with starlette."""
    required = [line for line in metadata.requires("fastkit-blocks") or [] if "extra ==" not in line]

    assert {re.split(r"[\[><=;~ ]", line)[0] for line in required} == {
        "anyio",
        "pydantic",
        "sqlalchemy",
        "starlette",
        "typing-extensions",
    }


def test_the_names_of_every_day_are_few_and_sorted() -> None:
    """The package itself exports at most twenty names, in order."""
    assert len(fastkit.__all__) <= 20
    assert fastkit.__all__ == sorted(fastkit.__all__, key=lambda name: (not name.isupper(), name.islower(), name))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_content_and_a_sign(room: str) -> None:
    """Each room says in a sentence what it is for."""
    module = __import__(f"fastkit.{room}", fromlist=["_"])

    assert module.__doc__


def test_nothing_names_an_index_or_a_machine() -> None:
    """No file of the project holds a package-index host or an absolute path of a machine."""
    banned = re.compile(rb"pypi\.org|pythonhosted|registry\.npmjs|deb\.debian\.org|/(?:work|root|farm)/|/home/\w")
    folders = ["src", "tests", "docs", "examples", "bench"]
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "cache" not in str(path)]
    texts = [path for path in [*paths, *ROOT.glob("*.*")] if path.is_file() and path != Path(__file__)]

    assert [path.name for path in texts if banned.search(path.read_bytes())] == []
