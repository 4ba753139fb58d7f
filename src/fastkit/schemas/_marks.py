"""What a type says of a field besides its values: who may write it, who may see it, whether it may be absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from fastkit.errors import DeclarationError

T = TypeVar("T")

_KEY = "fastkit"


@dataclass(frozen=True, slots=True)
class Mark:
    """
    One such word.

    Attributes:
        word: The word, as Python has it.
        keyword: The keyword of JSON Schema that says the same, if there is one.
        needs_schema: Whether it is a `Schema` that does what the word says.
    """

    word: str
    keyword: str | None = None
    needs_schema: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Leave the word where it is found again once annotations are resolved."""
        schema = handler(source)
        if self.needs_schema:
            schema = core_schema.no_info_before_validator_function(refuse, schema)
        known = schema.get("metadata") or {}
        found: Any = {**schema, "metadata": {**known, _KEY: (*known.get(_KEY, ()), self.word)}}
        return found  # type: ignore[no-any-return]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Say it in JSON Schema too."""
        found = handler(schema)
        return {**found, self.keyword: True} if self.keyword else found


READ_ONLY = Mark("ReadOnly", "readOnly")
WRITE_ONLY = Mark("WriteOnly", "writeOnly")
IF_LOADED = Mark("IfLoaded", needs_schema=True)

ReadOnly: TypeAlias = Annotated[T, READ_ONLY]
"""
A field that clients see and never write: `id: ReadOnly[int]`.

`apply()` does not write it, a partial model does not have it, and OpenAPI says `readOnly`.
"""

WriteOnly: TypeAlias = Annotated[T, Field(exclude=True, repr=False), WRITE_ONLY]
"""
A field that clients write and never see: `password: WriteOnly[str]`.

It is in no dump, no JSON and no `repr()`, and OpenAPI says `writeOnly`.
"""

IfLoaded: TypeAlias = Annotated[T, IF_LOADED]
"""
A field that is left out if the mapped object that a `Schema` is made from has not loaded it.

`reviews: IfLoaded[list[ReviewOut]]` queries nothing. A reader, `into(BookOut)`, reads it as any other field.
"""


def refuse(value: Any) -> Any:
    """Stand where a `Schema` does what the word says, and say so in any other model."""
    raise DeclarationError("IfLoaded[...] is for a field of a Schema: another model would query for it.")


def words_of(schema: Mapping[str, Any]) -> set[str]:
    """Return the words of a field, which are inside of its default and of its validators."""
    found: set[str] = set()
    inner: Any = schema
    while isinstance(inner, Mapping):
        found.update((inner.get("metadata") or {}).get(_KEY, ()))
        inner = None if inner["type"] == "model" else inner.get("schema")  # what is in there is of its own fields
    return found


def is_read_only(info: FieldInfo) -> bool:
    """Return whether nobody writes the field."""
    return READ_ONLY in info.metadata


def is_stored(info: FieldInfo) -> bool:
    """Return whether a new row gets the value of the field: also of one that no dump has because nobody may see it."""
    return WRITE_ONLY in info.metadata or (info.exclude is not True and not is_read_only(info))


def check_marks(model: type[BaseModel]) -> None:
    """
    Refuse words that cannot hold.

    Raises:
        DeclarationError: One is about a part of a field, or about one with a default that nobody would see.
    """
    for name, info in model.model_fields.items():
        for word in _misplaced(info):
            raise DeclarationError(
                f"{model.__name__}.{name}: {word} is about the whole field: write {word}[...] around its type, as in "
                f"{name}: {word}[str | None]."
            )
        if IF_LOADED in info.metadata and not info.is_required():
            raise DeclarationError(
                f"{model.__name__}.{name}: IfLoaded takes no default, because what is not loaded is left out."
            )


def _misplaced(info: FieldInfo) -> Iterator[str]:
    """Yield the words that are noted where they say nothing of the field: inside of a list or a union, or bare."""
    names = {id(ReadOnly): "ReadOnly", id(WriteOnly): "WriteOnly", id(IfLoaded): "IfLoaded"}
    yield from (names[id(each)] for each in info.metadata if id(each) in names)
    yield from (each.word for each in _inner_marks(info.annotation))


def _inner_marks(annotation: Any) -> Iterator[Mark]:
    if get_origin(annotation) is Annotated:
        yield from (each for each in annotation.__metadata__ if isinstance(each, Mark))
    for each in (*get_args(annotation), getattr(annotation, "__value__", None)):
        if each is not None and not isinstance(each, str | int):
            yield from _inner_marks(each)
