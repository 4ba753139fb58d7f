"""Tell whether a class is a model."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import class_mapper
from sqlalchemy.orm.exc import UnmappedClassError

from fastkit.errors import DeclarationError


def mapped(model: Any, place: str) -> type[Any]:
    """
    Return *model* if SQLAlchemy maps it.

    Raises:
        DeclarationError: It is not a mapped class; the message names *place*.
    """
    try:
        class_mapper(model, configure=False)
    except (ArgumentError, UnmappedClassError) as error:
        name = "what stands in its brackets" if model is None else repr(getattr(model, "__name__", model))
        raise DeclarationError(
            f"{place}: {name} is not a class that SQLAlchemy maps. Name the model in brackets, as in Repository[Book]."
        ) from error
    return cast("type[Any]", model)
