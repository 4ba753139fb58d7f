"""mypy and pyright agree with what `tests/typing` says: types that are kept, mistakes that are told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

ROOT = Path(__file__).parent.parent
CHECKS = Path(__file__).parent / "typing"
Check: TypeAlias = Callable[[Path, Path], tuple[int, str]]
WRONG = """
from typing import assert_type
from bookshop.models import Author, Book
from fastkit import Repository

def read(books: Repository[Book]) -> None:
    assert_type(books.get_one(1), Author)
    books.get_one(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
"""


def mypy(path: Path, scratch: Path) -> tuple[int, str]:
    """Run mypy with the settings of the project; an ignore that is not needed is an error."""
    return run("mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), str(path))


def pyright(path: Path, scratch: Path) -> tuple[int, str]:
    """Run pyright with the settings of the project; an ignore that is not needed is an error, mypy's count for mypy."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pyright"]
    own = {"enableTypeIgnoreComments": False, "reportUnnecessaryTypeIgnoreComment": True}
    inside = os.path.relpath(path, scratch)  # pyright ignores an absolute path, and then finds nothing wrong
    places = {"include": [inside], "extraPaths": [str(ROOT / "examples"), str(ROOT / "src")]}
    config = scratch / "pyrightconfig.json"
    config.write_text(json.dumps({**settings, **own, **places}))
    return run("pyright", "--pythonpath", sys.executable, "--project", str(config))


def run(checker: str, *arguments: str) -> tuple[int, str]:
    """Return the exit code and the output of a type checker."""
    pytest.importorskip(checker)
    command = [sys.executable, "-m", checker, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_type_checker_agrees(check: Check, tmp_path: Path) -> None:
    """Every `assert_type` holds and every expected error is raised, where it is expected."""
    code, output = check(CHECKS, tmp_path)

    assert code == 0, output
    assert "No source files" not in output


@pytest.mark.parametrize(("check", "unused"), [(mypy, "unused-ignore"), (pyright, "Unnecessary")])
def test_a_type_checker_would_complain(check: Check, unused: str, tmp_path: Path) -> None:
    """A wrong type and an error that is not raised are told, so the check above is one."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    code, output = check(wrong, tmp_path)

    assert code != 0
    assert "Author" in output
    assert unused in output
