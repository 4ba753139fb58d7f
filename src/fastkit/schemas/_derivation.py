"""Which fields a derived model has, and which of them may be absent."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, RootModel
from typing_extensions import Format, get_annotations

from fastkit.errors import DeclarationError


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a class statement asks for.

    Attributes:
        partial: Whether every field may be absent.
        pick: The only names to keep, or None for all.
        omit: The names to leave out, or None for none.
    """

    partial: bool = False
    pick: frozenset[str] | None = None
    omit: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Derivation:
    """
    How a model differs from what its annotations say.

    Attributes:
        optional: The fields that may be absent.
        gone: The names that its bases have and it has not, with the class that left each out.
        picked: The names that it was asked to keep.
        is_partial: Whether a class statement on its way said so; then nothing that reads a field may rely on it.
    """

    optional: frozenset[str] = frozenset()
    gone: dict[str, str] = field(default_factory=dict)
    picked: frozenset[str] = frozenset()
    is_partial: bool = False

    def why(self, model: type[BaseModel], name: str) -> str | None:
        """Return why the model has no value for a name, or None if it never had one."""
        if name in self.gone:
            return f"{model.__name__} has no {name!r}: {self.gone[name]} leaves it out."
        if name in self.optional and name not in model.model_fields:
            return f"{model.__name__} has no {name!r}, which is read-only: a partial model leaves it out."
        if name in self.optional:
            return (
                f"{model.__name__}.{name} was not sent: write it with apply(), or look into model_fields_set before "
                "reading it."
            )
        if name in model.model_fields:
            return (
                f"{model.__name__}.{name} was not loaded, or not given: look into model_fields_set before reading it."
            )
        return None


def derivation_of(model: type[BaseModel], request: Request) -> Derivation:
    """
    Return how a new class differs, by what it asks for and by what its bases are.

    Raises:
        DeclarationError: It names what no base has, or asks for what a root model cannot be.
    """
    if issubclass(model, RootModel) and request != Request():
        raise DeclarationError(f"{model.__name__}: a RootModel is one value, and has no fields to leave out.")
    own = set(get_annotations(model, format=Format.FORWARDREF))
    known, computed, optional, gone = _of_bases(model)
    left = _left_out(model, request, known | computed, _rules_of(model))
    gone = {**gone, **dict.fromkeys(left, model.__name__)}
    fields = known | own
    return Derivation(
        frozenset(fields if request.partial else optional - own) - gone.keys(),
        {name: where for name, where in gone.items() if name not in own},
        request.pick or frozenset(),
        request.partial or any(_known_of(base).is_partial for base in model.__bases__),
    )


def _of_bases(model: type[BaseModel]) -> tuple[set[str], set[str], set[str], dict[str, str]]:
    """Return the fields and computed fields of the bases, which may be absent, and which they left out."""
    fields: dict[str, bool] = {}
    computed: set[str] = set()
    gone: dict[str, str] = {}
    for base in reversed(model.__bases__):
        if issubclass(base, BaseModel):
            derivation = _known_of(base)
            fields.update({name: name in derivation.optional for name in base.model_fields})
            fields.update(dict.fromkeys(derivation.optional, True))  # those that are read-only are in no model_fields
            computed.update(base.model_computed_fields)
            gone.update(derivation.gone)
    optional = {name for name, may_be_absent in fields.items() if may_be_absent}
    return set(fields), computed, optional, {name: where for name, where in gone.items() if name not in fields}


def _known_of(base: type[Any]) -> Derivation:
    found: Derivation = getattr(base, "__derivation__", Derivation())
    return found


def _rules_of(model: type[BaseModel]) -> set[str]:
    """Return the names of the validators that look at the whole of a base, which may be left out as well."""
    bases = [base for base in model.__bases__ if issubclass(base, BaseModel)]
    return {name for base in bases for name in base.__pydantic_decorators__.model_validators}


def _left_out(model: type[BaseModel], request: Request, fields: set[str], rules: set[str]) -> set[str]:
    picked, omitted = request.pick, request.omit or frozenset()
    for word, names, known in (("pick", picked or (), fields), ("omit", omitted, fields | rules)):
        for name in sorted(names):
            if name not in known:
                raise DeclarationError(
                    f"{model.__name__}: {word} names {name!r}, which no base has{nearest(name, known)}."
                )
    return (set() if picked is None else fields - picked) | omitted


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the names that are like this one, as the end of a sentence."""
    public = [each for each in known if not each.startswith("_")]
    close = get_close_matches(name, public, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}" if close else f": it has {', '.join(sorted(public))}"


def names_of(word: str, given: Collection[str] | None) -> frozenset[str] | None:
    """
    Return the names that a class statement gives.

    Raises:
        DeclarationError: It is one text, whose letters are no names.
    """
    if isinstance(given, str):
        raise DeclarationError(f"{word}={given!r} is one text: give a set of names, as in {word}={{{given!r}}}.")
    return None if given is None else frozenset(given)
