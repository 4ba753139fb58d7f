"""Regular expressions: none of them can be made to take a time that grows faster than the text."""

import ast
import re
import re._parser as parser  # type: ignore[import-not-found]
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
REPEATS = {parser.MAX_REPEAT, parser.MIN_REPEAT, parser.POSSESSIVE_REPEAT}
MANY = 20
"""A repetition up to so many times is not one that a long text can use."""


def patterns_in(source: str) -> Iterator[str]:
    """Yield the regular expressions of a file: what is given to `re`, and to Pydantic as a pattern."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        given = [each.value for each in node.keywords if each.arg == "pattern"]
        if isinstance(function, ast.Attribute) and function.attr in CALLS and ast.unparse(function.value) == "re":
            given += node.args[:1]
        for each in given:
            yield text_of(each)


def text_of(node: ast.expr) -> str:
    """Return a text that stands in the source, also one that is put together there; what is unknown is a letter."""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(each) for each in node.values)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "x"


ALL = sorted(
    {
        (str(file.relative_to(ROOT)), pattern)
        for folder in ("src", "examples")
        for file in (ROOT / folder).rglob("*.py")
        for pattern in patterns_in(file.read_text())
    }
)


def faults_of(pattern: str) -> list[str]:
    """Return how a pattern could take more than linear time; empty if in none of the ways that are looked for."""
    return list(_faults(parser.parse(pattern), inside=False))


def _faults(parsed: Any, *, inside: bool) -> Iterator[str]:
    for kind, value in parsed:
        if kind in REPEATS:
            least, most, inner = value
            is_many = most == parser.MAXREPEAT or most > MANY
            if is_many and inside and most != least:
                yield "a repetition inside of a repetition"
            yield from _faults(inner, inside=inside or is_many)
        elif kind is parser.SUBPATTERN:
            yield from _faults(value[-1], inside=inside)
        elif kind is parser.BRANCH:
            if inside and len(value[1]) > 1:
                yield "a choice inside of a repetition"
            for each in value[1]:
                yield from _faults(each, inside=inside)
        elif kind is parser.GROUPREF:
            yield "a reference to a group"
        elif kind in {parser.ASSERT, parser.ASSERT_NOT}:
            yield from _faults(value[1], inside=inside)


REVIEWED: dict[str, str] = {
    r"^ *[^@\s\x85]+@[^@\s\x85.]+(\.[^@\s\x85.]+)+ *$": "a dot, which the inner one cannot take, begins each turn",
}
"""Patterns that have one of these shapes and are linear all the same, with the reason."""


def test_there_are_patterns() -> None:
    """They are found where they are written."""
    assert len(ALL) > 15
    assert any(pattern == r"^[a-z]{2,3}$" for _, pattern in ALL)


@pytest.mark.parametrize(("file", "pattern"), ALL)
def test_no_pattern_is_of_a_dangerous_shape(file: str, pattern: str) -> None:
    """No repetition in a repetition, no choice in one, no reference back; what has one anyway was looked at."""
    assert pattern in REVIEWED or faults_of(pattern) == []


@pytest.mark.parametrize(
    "pattern", [r"(a+)+", r"(?:a*b?)*c", r"(a|aa)+$", r"(\w+)\1", r"(?:x{1,50}){1,50}", r"(?=(a+)*)b"]
)
def test_a_dangerous_shape_would_be_found(pattern: str) -> None:
    """What is known to explode is told."""
    assert faults_of(pattern)


def test_what_was_reviewed_is_still_there() -> None:
    """No reason is kept for a pattern that has gone."""
    assert {*REVIEWED} <= {pattern for _, pattern in ALL}


def test_a_pattern_is_read_from_the_source() -> None:
    """From calls of `re`, and from what Pydantic is given; put together or not."""
    source = 're.compile("a" rf"b{x}c" + "d")\nField(pattern="e")\nother.compile("f")\nre.sub("g", "", y)'

    assert [*patterns_in(source)] == ["abxcd", "e", "g"]
    assert re.compile("abxcd")
