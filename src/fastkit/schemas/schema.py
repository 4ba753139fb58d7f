"""The base class of request and response models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """
    A request or response model; any other Pydantic model works as well.

    It can be made from the attributes of an object: `BookOut.model_validate(book)`.

    >>> class BookOut(Schema):
    ...     id: int
    ...     title: str
    ...     author_name: Annotated[str, From("author.name")]
    """

    model_config = ConfigDict(from_attributes=True)
