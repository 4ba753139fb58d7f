"""Reads as JSON: the bytes of response models, without making one for each row where nobody could tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from types import ModuleType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticSerializationError, to_json
from sqlalchemy import Select
from sqlalchemy.orm import Session

from fastkit.pages import Page, Slice, Window
from fastkit.repository._json_plan import JsonPlan, UnexpectedRowsError, json_plan_of
from fastkit.repository._plain import NotPlainError
from fastkit.repository._plan import Fetch
from fastkit.repository._projection import Projection

msgspec: ModuleType | None
try:
    import msgspec
except ImportError:  # it comes with the extra `fast`
    msgspec = None

B = TypeVar("B", bound=BaseModel)

_CHECKED = "after a look at the types of each column, or of response models where these are not as expected"
_PARTS = (Page, Slice, Window)
_WRITTEN_OTHERWISE = {float, timedelta}
"""What msgspec writes in another way than Pydantic: 1e16 for 1e+16, P0D for PT0S."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """
    How the rows of a mapped class become the JSON of a response model; made once for each pair.

    Attributes:
        plan: What is made of each row, or None if that must be response models.
        encode: Encodes what the plan makes, alone or in a list or a dictionary.
        way: The same in words.
        encode_lines: Encodes a list of what the plan makes, a line for each; None if they are encoded one by one.
    """

    plan: JsonPlan | None
    encode: Callable[[Any], bytes]
    way: str
    encode_lines: Callable[[Any], bytes] | None = None


@cache
def encoding_of(schema: Any, model: Any) -> Encoding:
    """Return the fastest way to JSON whose bytes are those of the response model."""
    try:
        plan = json_plan_of(schema, model, None)
    except NotPlainError as reason:
        return Encoding(None, to_json, f"response models, because {reason}")
    if msgspec is None:
        return Encoding(plan, _to_json, f"dictionaries {_CHECKED}; the extra `fast` makes it faster")
    if strange := plan.types & _WRITTEN_OTHERWISE:
        names = ", ".join(sorted(each.__name__ for each in strange))
        return Encoding(plan, _to_json, f"dictionaries {_CHECKED}; msgspec writes {names} in another way")
    try:
        structs = json_plan_of(schema, model, _struct)
    except ValueError as reason:  # a name with a quotation mark, which msgspec does not escape
        return Encoding(plan, _to_json, f"dictionaries {_CHECKED}; {reason}")
    encoder = msgspec.json.Encoder(decimal_format="string")
    way = f"structs of msgspec {_CHECKED}"
    return Encoding(structs, _telling(encoder.encode), way, _telling(encoder.encode_lines))


def _to_json(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="null")  # as the configuration of a model has it


def _telling(encoder: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return an encoder of msgspec that refuses what Pydantic refuses, with the same error."""

    def encode(value: Any) -> bytes:
        try:
            return encoder(value)
        except ValueError as error:  # half of a character, which JSON cannot have
            raise PydanticSerializationError(f"Error serializing to JSON: {error}") from None

    return encode


def _struct(name: str, aliases: Sequence[str]) -> Callable[..., Any]:
    assert msgspec is not None  # noqa: S101 - the caller looked
    names = [f"field_{number}" for number in range(len(aliases))]
    made: Callable[..., Any] = msgspec.defstruct(
        name, names, rename=dict(zip(names, aliases, strict=True)), gc=False, frozen=True
    )
    return made


@dataclass(frozen=True, slots=True)
class JsonProjection(Projection[Any]):
    """
    A projection whose results can be encoded: of response models, or of what is quicker and becomes the same bytes.

    Attributes:
        encoding: How.
    """

    encoding: Encoding

    @classmethod
    def like(cls, projection: Projection[Any]) -> Self:
        """Return the projection of the same rows."""
        model: Any = projection.selection.model
        schema: Any = projection.schema
        encoding = encoding_of(schema, model)
        return cls(projection.selection, projection.schema, projection.ready, encoding)

    def _made(self, session: Session, rows: Sequence[Sequence[Any]], fetch: Fetch | None = None) -> list[Any]:
        read: list[Sequence[Sequence[Any]]] = []

        def remembered(statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
            read.append(self._fetch(session, statement, parameters))
            return read[-1]

        def again(statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
            return read.pop(0) if read else self._fetch(session, statement, parameters)  # both plans ask in one order

        if self.encoding.plan is not None:
            try:
                made = self.encoding.plan.assemble(remembered, rows)
            except UnexpectedRowsError:
                fetch = again
            else:
                self._keep(rows, read)
                return made
        return Projection._made(self, session, rows, fetch)  # noqa: SLF001 - its own; super() knows no class with slots

    def _keep(self, rows: Sequence[Sequence[Any]], read: Sequence[Sequence[Sequence[Any]]]) -> None:
        """Do nothing with rows, and with those read for them: nobody will need response models of them."""

    def json(self, session: Session, verb: str, *arguments: Any, **more: Any) -> bytes | None:
        """Return the JSON of what a verb reads, or None for nothing."""
        found = getattr(self, verb)(session, *arguments, **more)
        return None if found is None else self._encoded(found)

    def lines(self, session: Session, *arguments: Any) -> tuple[bytes, Sequence[Any] | None]:
        """Return the next part of a stream, a line for each row, and where the part after it begins."""
        found, after = self.batch(session, *arguments)
        if self.encoding.encode_lines is not None and not _are_models(found):
            return self.encoding.encode_lines(found), after
        return b"".join(self._encoded(each) + b"\n" for each in found), after

    def items(self, session: Session, *arguments: Any) -> tuple[bytes, Sequence[Any] | None]:
        """Same as `lines`, but what stands between the brackets of an array."""
        found, after = self.batch(session, *arguments)
        return self._encoded(found)[1:-1], after

    def _encoded(self, found: Any) -> bytes:
        items = found if isinstance(found, list) else found.items if isinstance(found, _PARTS) else [found]
        if not _are_models(items):
            return self.encoding.encode(found.__dict__ if isinstance(found, _PARTS) else found)
        kind = type(found) if isinstance(found, list | Page | Slice | Window) else None
        schema: Any = self.schema
        adapter = _adapter(kind, schema)
        return adapter.dump_json(adapter.validate_python(found), by_alias=True)


def _are_models(items: Sequence[Any]) -> bool:
    return any(isinstance(each, BaseModel) for each in items[:1])


@cache
def _adapter(kind: Any, schema: Any) -> TypeAdapter[Any]:
    """Return what makes JSON of response models as FastAPI does."""
    return TypeAdapter(schema if kind is None else kind[schema])


def explained(projection: Projection[Any], session: Session, *arguments: Any) -> str:
    """Return what is read, in words, and what it takes to make JSON of it."""
    encoding = JsonProjection.like(projection).encoding
    return f"{projection.explain(session, *arguments)}\nJSON is made of {encoding.way}."
