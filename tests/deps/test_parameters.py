"""Parameters that `DirectRoute` reads are those that FastAPI reads, for whatever is declared and given."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from typing import Annotated, Any
from uuid import UUID

import pytest
from fastapi import FastAPI, Path, Query
from fastapi.dependencies import utils
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, Json
from starlette.datastructures import QueryParams

from fastkit.deps import _parameters
from fastkit.deps._parameters import digest_of, is_known, reader_of
from fastkit.pages import PageQuery, WindowQuery


class Colour(Enum):
    """Something to choose from."""

    RED = "red"
    BLUE = "blue"


class Loose(BaseModel):
    """A model that keeps what it does not know."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    first: int = 1
    second: list[str] = Field(default_factory=list, alias="b")


class Strict(BaseModel):
    """A model that refuses it."""

    model_config = ConfigDict(extra="forbid")

    a: int = Field(validation_alias=AliasChoices("a", "aa"))
    n: list[int] | None = None


def refuse_seven(value: int) -> int:
    """Raise for one value."""
    if value == 7:
        raise ValueError("seven")
    return value


def one(a: int) -> None:
    """Take one that must be there."""


def several(
    a: int = 1,
    b: str | None = None,
    n: Annotated[list[int], Query()] = [1, 2],  # noqa: B006 - FastAPI copies it
    d: Annotated[Decimal | None, Query(ge=0, alias="aa")] = None,
) -> None:
    """Take those of all kinds."""


def odd(
    a: Annotated[int, AfterValidator(refuse_seven)] = 7,
    b: Annotated[int, AfterValidator(refuse_seven), Query(validate_default=True)] = 7,
    n: Annotated[set[Colour] | None, Query()] = None,
    aa: Annotated[list[int], Query(default_factory=list)] = ...,  # type: ignore[assignment]
    x: Annotated[UUID | Colour, Query(validation_alias=AliasChoices("x", "first"))] = Colour.RED,
) -> None:
    """Take those that are seldom seen."""


def as_json(a: Annotated[Json[list[int]], Query()] = [], b: Annotated[str, Query(max_length=2)] = "") -> None:  # noqa: B006 - same
    """Take JSON in a parameter."""


def page(query: Annotated[PageQuery, Query()]) -> None:
    """Take a model."""


def window(query: Annotated[WindowQuery, Query()]) -> None:
    """Take a model."""


def loose(query: Annotated[Loose, Query()], a: int = 1) -> None:
    """Take a model and one beside it."""


def strict(query: Annotated[Strict, Query()]) -> None:
    """Take a model."""


def perhaps(query: Annotated[Strict | None, Query()] = None) -> None:
    """Take a model that may be missing."""


ENDPOINTS = [one, several, odd, as_json, page, window, loose, strict, perhaps]
NAMES = ["a", "aa", "b", "n", "x", "first", "second", "page", "size", "cursor", ""]
TEXTS = ["", "0", "1", "7", "-1", "red", "blue", "[1, 2]", "x", "é", "0" * 32, "1e3", "true", "\x00"]


def fields_of(endpoint: Callable[..., Any], path: str = "/") -> Any:
    """Return the parameters of an endpoint as FastAPI holds them."""
    return utils.get_dependant(path=path, call=endpoint)


def read(reader: Callable[[Any], dict[str, Any]], received: Any) -> Any:
    """Return what is read, or that it is not valid."""
    try:
        return reader(received)
    except _parameters.InvalidParameterError:
        return "invalid"


def read_by_fastapi(fields: Any, received: Any) -> Any:
    """Return the same of FastAPI."""
    values, errors = utils.request_params_to_args(fields, received)
    return "invalid" if errors else values


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda each: each.__name__)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS)), max_size=6))
def test_any_query_is_read_as_by_fastapi(endpoint: Callable[..., Any], parameters: list[tuple[str, str]]) -> None:
    """Missing, repeated, unknown and invalid ones, single, in lists and in models."""
    fields = fields_of(endpoint).query_params
    received = QueryParams(parameters)
    assert read(reader_of(fields, "query_params"), received) == read_by_fastapi(fields, received)


@given(st.sampled_from(["1", "7", "x", "", "red"]), st.sampled_from([1, "1", "red", None]))
def test_a_path_is_read_as_by_fastapi(first: str, second: Any) -> None:
    """Its parts are texts, or what a convertor of Starlette has made of them."""

    def endpoint(
        a: Annotated[int, AfterValidator(refuse_seven)], b: Annotated[Colour | int | None, Path()]
    ) -> None: ...

    fields = fields_of(endpoint, "/{a}/{b}").path_params
    received = {"a": first, "b": second}
    assert read(reader_of(fields, "path_params"), received) == read_by_fastapi(fields, received)


def test_each_gets_a_default_of_its_own() -> None:
    """A list that is the default is copied, as FastAPI does."""
    reader = reader_of(fields_of(several).query_params, "query_params")
    found = reader(QueryParams(""))
    assert found == {"a": 1, "b": None, "n": [1, 2], "d": None}
    found["n"].append(3)
    assert reader(QueryParams(""))["n"] == [1, 2]


@pytest.mark.parametrize("endpoint", [one, several, odd, page, window, loose, strict], ids=lambda each: each.__name__)
def test_it_is_not_fastapi_that_reads(monkeypatch: pytest.MonkeyPatch, endpoint: Callable[..., Any]) -> None:
    """What is plain is read without FastAPI."""

    def fail(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(utils, "request_params_to_args", fail)
    assert is_known(utils)
    assert read(reader_of(fields_of(endpoint).query_params, "query_params"), QueryParams("a=1")) is not None


@pytest.mark.parametrize("endpoint", [as_json, perhaps], ids=lambda each: each.__name__)
@pytest.mark.parametrize("source", ["query_params", "headers", "cookies"])
def test_what_is_special_is_left_to_fastapi(
    monkeypatch: pytest.MonkeyPatch, endpoint: Callable[..., Any], source: str
) -> None:
    """JSON in a parameter, a model that may be missing; headers and cookies."""
    asked = []
    monkeypatch.setattr(utils, "request_params_to_args", lambda *given: (asked.append(given), ({}, []))[1])
    assert reader_of(fields_of(endpoint).query_params, source)(QueryParams("")) == {}
    assert len(asked) == 1


def test_another_fastapi_reads_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where FastAPI's own text is another one, or cannot be had, it reads."""
    assert digest_of(utils) in _parameters._KNOWN
    assert digest_of(SimpleNamespace()) is None  # type: ignore[arg-type]
    changed = SimpleNamespace(**{**vars(utils), "get_validation_alias": lambda field: field.alias})
    assert digest_of(changed) not in _parameters._KNOWN  # type: ignore[arg-type]
    monkeypatch.setattr(_parameters, "is_known", lambda _: False)
    monkeypatch.setattr(utils, "request_params_to_args", lambda *_: ({"asked": True}, []))
    assert reader_of(fields_of(one).query_params, "query_params")(QueryParams("a=1")) == {"asked": True}


def test_the_app_of_a_test_is_fastapis() -> None:
    """The parameters above are those that an app would have."""
    app = FastAPI()
    app.get("/")(several)
    route: Any = app.routes[-1]
    assert [each.name for each in route.dependant.query_params] == ["a", "b", "n", "d"]
