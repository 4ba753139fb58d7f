"""Read what a class was given in brackets."""

from __future__ import annotations

import typing
from typing import Any, TypeVar


def type_argument(alias: Any, root: type[Any]) -> Any:
    """
    Return what *alias* gives for the only parameter of *root*, through any number of subclasses.

    >>> class Books(Repository[Book]): ...
    >>> type_argument(Books, Repository) is type_argument(Repository[Book], Repository) is Book
    True
    """
    origin = typing.get_origin(alias) or alias
    given = typing.get_args(alias)
    if origin is root:
        return given[0] if given else None
    for base in getattr(origin, "__orig_bases__", ()):
        base_origin = typing.get_origin(base) or base
        if isinstance(base_origin, type) and issubclass(base_origin, root):
            found = type_argument(base, root)
            parameters = getattr(origin, "__parameters__", ())
            return given[parameters.index(found)] if given and isinstance(found, TypeVar) else found
    inherited = [base for base in getattr(origin, "__bases__", ()) if issubclass(base, root) and base is not root]
    return type_argument(inherited[0], root) if inherited else None
