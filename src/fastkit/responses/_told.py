"""What an app says that exceptions of other people are, on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from typing_extensions import TypeAliasType

from fastkit.errors import DeclarationError, FastkitError
from fastkit.responses.problems import ABOUT_BLANK, STANDARD_MEMBERS, Problem

Told = TypeAliasType("Told", "int | Problem | Callable[[Any], Problem]")
"""A status, a problem, or a function that makes one of the exception."""

_ERRORS = range(400, 600)


def check_told(error: object, told: object) -> None:
    """
    Refuse what can never be a problem document.

    Raises:
        DeclarationError: It is about no class of exceptions, or about all of them; or it is no error.
    """
    if not (isinstance(error, type) and issubclass(error, Exception)) or error in {Exception, FastkitError}:
        raise DeclarationError(
            f"problems={{{getattr(error, '__name__', error)}: ...}} takes classes of exceptions, and not one that all "
            "others are of: what nothing is said of is a bug, which is answered by 500."
        )
    if isinstance(told, Problem):
        check_problem(error, told)
    elif isinstance(told, int):
        check_problem(error, Problem(status=told))
    elif not callable(told) or isinstance(told, type):
        raise DeclarationError(
            f"problems={{{error.__name__}: {told!r}}} says nothing: give a status such as 402, a Problem(...), or a "
            "function that makes a Problem of the exception."
        )


def check_problem(error: type[Exception], problem: object) -> Problem:
    """
    Return a problem that can be the answer to an error.

    Raises:
        DeclarationError: Its status is none of an error, its type no absolute URI, or a member has a reserved name.
    """
    if not isinstance(problem, Problem):
        raise DeclarationError(f"{error.__name__} was to be told as a Problem(...), not as a {type(problem).__name__}.")
    if problem.status not in _ERRORS:
        raise DeclarationError(
            f"{error.__name__} is told with status {problem.status}: that of an error is 400 to 599."
        )
    if problem.type != ABOUT_BLANK and not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S+$", problem.type):
        raise DeclarationError(
            f"{error.__name__} is told with the type {problem.type!r}, which is no absolute URI: "
            "write 'https://example.org/problems/sold-out'."
        )
    if reserved := sorted(STANDARD_MEMBERS & problem.members.keys()):
        raise DeclarationError(
            f"{error.__name__} is told with the members {', '.join(reserved)}, which every problem has by itself: "
            "rename them, or write Problem(detail=...)."
        )
    return problem
