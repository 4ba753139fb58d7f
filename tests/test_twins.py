"""Both colours are the same: the same verbs, the same arguments, and faces that decide nothing."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from colours import TWINS

from fastkit.database import AsyncDatabase, Database
from fastkit.repository import AsyncBulk, AsyncReader, AsyncReads, AsyncRepository, Bulk, Reader, Reads, Repository
from fastkit.uow import AsyncBlock, AsyncSavepoint, AsyncUnitOfWork, Block, Savepoint, UnitOfWork

PAIRS = [
    (Bulk, AsyncBulk),
    (Reads, AsyncReads),
    (Reader, AsyncReader),
    (Repository, AsyncRepository),
    (UnitOfWork, AsyncUnitOfWork),
    (Block, AsyncBlock),
    (Savepoint, AsyncSavepoint),
    (Database, AsyncDatabase),
]
FACES = [Bulk, AsyncBulk, Reads, AsyncReads, Reader, AsyncReader, Repository, AsyncRepository]
DUNDERS = {"__enter__": "__aenter__", "__exit__": "__aexit__"}
COLOURS = [
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bGuardedSession\b", "Session"),
    (r"\b(Async)?(Generator|Iterator)\b", r"\2"),
    (r"\bA\b", "U"),
    (r"\bAwaitable\[(\w+)\]", r"\1"),
]
named = pytest.mark.parametrize(("sync", "twin"), PAIRS, ids=lambda kind: kind.__name__)


def surface(kind: type[Any]) -> dict[str, Any]:
    """Return the public members of a class, and how it is made and entered, under their sync names."""
    async_names = {twin: name for name, twin in DUNDERS.items()}
    found = {}
    for name in dir(kind):
        if not name.startswith("_") or name in {"__init__", *DUNDERS, *async_names}:
            found[async_names.get(name, name)] = inspect.getattr_static(kind, name)
    return found


def function_of(member: Any) -> Callable[..., Any] | None:
    """Return the function behind a method, a classmethod or a property."""
    if isinstance(member, property):
        return member.fget
    member = getattr(member, "__func__", member)
    return inspect.unwrap(member) if inspect.isfunction(member) else None


def colourless(annotation: Any) -> str:
    """Return an annotation as text without its colour."""
    text = annotation if isinstance(annotation, str) else repr(annotation)
    for pattern, plain in COLOURS:
        text = re.sub(pattern, plain, text)
    return text


def signature_of(member: Any) -> list[tuple[str, Any, Any, str]] | None:
    """Return the parameters with their kinds, defaults and colourless types, and last what is returned."""
    function = function_of(member)
    if function is None:
        return None
    signature = inspect.signature(function)
    parameters = [
        (each.name, each.kind, each.default, colourless(each.annotation)) for each in signature.parameters.values()
    ]
    return [*parameters, ("return", None, None, colourless(signature.return_annotation))]


@named
def test_twins_have_the_same_names(sync: type[Any], twin: type[Any]) -> None:
    """What one colour can, the other can."""
    assert sorted(surface(sync)) == sorted(surface(twin))


@named
def test_twins_have_the_same_signatures(sync: type[Any], twin: type[Any]) -> None:
    """Each pair of methods has the same parameters, defaults and types, but for the colour."""
    different = {
        name: (signature_of(member), signature_of(surface(twin)[name]))
        for name, member in surface(sync).items()
        if name in surface(twin) and signature_of(member) != signature_of(surface(twin)[name])
    }

    assert different == {}


@named
def test_twins_are_the_same_kind_of_member(sync: type[Any], twin: type[Any]) -> None:
    """A property is a property in both colours, a class method a class method."""
    kinds = {name: type(member) for name, member in surface(sync).items()}

    assert kinds == {name: type(member) for name, member in surface(twin).items()}


def _waits(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


@named
def test_what_asks_the_database_is_awaited(sync: type[Any], twin: type[Any]) -> None:
    """No sync method is a coroutine; the twin awaits exactly what may have to wait."""
    waits = {name for name, member in surface(twin).items() if _waits(function_of(member))}
    at_once = {"add", "add_all", "begin", "block", "engine_for", "for_update", "order_by", "select", "session"}
    at_once |= {
        "after_commit",
        "bulk",
        "into",
        "json",
        "explain",
        "avoid",
        "dialect",
        "dialect_name",
        "pool",
        "replicas",
        "savepoint",
        "scoped",
        "unscoped",
    }
    kept = {name for name, member in surface(twin).items() if function_of(member) and name not in waits}

    assert not any(inspect.iscoroutinefunction(function_of(member)) for member in surface(sync).values())
    assert kept <= at_once | {
        "with_options",
        "versions",
        "lifespan",
        "serving",
        "outcome",
        "capacity",
        "checked_out",
        "__init__",
    }


@named
def test_every_public_member_has_a_docstring(sync: type[Any], twin: type[Any]) -> None:
    """A reader of either colour finds words."""
    missing = [
        f"{kind.__name__}.{name}"
        for kind in (sync, twin)
        for name, member in surface(kind).items()
        if not name.startswith("__") and function_of(member) and not inspect.getdoc(function_of(member))
    ]

    assert missing == []


@pytest.mark.parametrize("face", FACES, ids=lambda kind: kind.__name__)
def test_a_face_decides_nothing(face: type[Any]) -> None:
    """A method of a face has at most three statements, no branch, no loop and no try."""
    deciding = {}
    for name, member in vars(face).items():
        function = function_of(member)
        if function is None:
            continue
        definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(definition, ast.FunctionDef | ast.AsyncFunctionDef)
        body = definition.body[1:] if ast.get_docstring(definition) else definition.body
        branches = [
            type(node).__name__
            for node in ast.walk(definition)
            if isinstance(node, ast.If | ast.IfExp | ast.For | ast.While | ast.Try | ast.Match | ast.BoolOp)
        ]
        if len(body) > 3 or branches:
            deciding[name] = (len(body), branches)

    assert deciding == {}


def test_a_class_has_at_most_twelve_verbs_of_its_own() -> None:
    """The house style: small classes that compose."""
    for kind in (*FACES, UnitOfWork, AsyncUnitOfWork, Database, AsyncDatabase):
        own = [name for name, member in vars(kind).items() if not name.startswith("_") and function_of(member)]

        assert len(own) <= 12, (kind, own)


def test_every_pair_is_dressed_by_the_tests() -> None:
    """One test body serves both colours because the tests know all pairs."""
    assert set(PAIRS) <= set(TWINS.items())
