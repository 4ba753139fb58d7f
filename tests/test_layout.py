"""The tests keep the style of the house: one sentence on each."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_every_test_says_what_it_expects(path: Path) -> None:
    """Each test function has a docstring."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    silent = [node.name for node in functions if node.name.startswith("test_") and not ast.get_docstring(node)]

    assert silent == []
