"""The base class of request and response models."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema
from typing_extensions import Unpack

from fastkit.errors import DeclarationError
from fastkit.schemas._absent import AbsentError
from fastkit.schemas._building import derived
from fastkit.schemas._derivation import Derivation, Request, derivation_of, names_of
from fastkit.schemas._marks import check_marks
from fastkit.schemas._rules import fit

_WORDS = ("partial", "pick", "omit", "camel")


class Derivable(BaseModel):
    """A model whose subclasses may have fewer fields, or fields that may be absent."""

    __derivation__: ClassVar[Derivation] = Derivation()

    def __init_subclass__(
        cls,
        *,
        partial: bool = False,
        pick: Collection[str] | None = None,
        omit: Collection[str] | None = None,
        camel: bool = False,
        **options: Unpack[ConfigDict],
    ) -> None:
        """Keep what the class statement says: Pydantic collects the fields after this."""
        for word in options:
            if near := get_close_matches(word, _WORDS, n=1, cutoff=0.7):
                raise DeclarationError(f"class {cls.__name__}(..., {word}=...): did you mean {near[0]}=?")
        super().__init_subclass__(**options)
        if camel:
            _spell_in_camel_case(cls)
        request = Request(partial, names_of("pick", pick), names_of("omit", omit))
        cls.__derivation__ = derivation_of(cls, request)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return what Pydantic makes of the class, changed as its class statement says."""
        check_marks(cls)
        fit(cls, cls.__derivation__)
        return derived(cls, handler(source), cls.__derivation__)

    if not TYPE_CHECKING:  # a type checker would take every name for an attribute

        def __getattr__(self, name: str) -> Any:
            model = type(self)
            if not name.startswith("_") and (why := model.__derivation__.why(model, name)):
                raise AbsentError(why)
            return super().__getattr__(name)


class Schema(Derivable):
    """
    A request or response model; any other Pydantic model works as well.

    It can be made from the attributes of an object: `BookOut.model_validate(book)`.

    >>> class BookOut(Schema):
    ...     id: ReadOnly[int]
    ...     title: str
    ...     author_name: Annotated[str, From("author.name")]

    A class statement may ask for another model of the same fields, whose validators, constraints, aliases and
    descriptions are kept:

    >>> class BookPatch(BookOut, partial=True):  # every field may be absent, and absent is not null: see apply()
    ...     pass
    >>> class BookTitle(BookOut, pick={"id", "title"}):  # or omit={"author_name"}
    ...     pass
    >>> class Account(Schema, camel=True):  # the names in JSON; also of subclasses
    ...     first_name: str
    """

    model_config = ConfigDict(from_attributes=True)


def _spell_in_camel_case(model: Any) -> None:
    own = model.model_config.get("alias_generator")
    if own not in {None, to_camel}:
        raise DeclarationError(f"class {model.__name__}(..., camel=True): its alias_generator {own!r} says otherwise.")
    model.model_config.update(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)
