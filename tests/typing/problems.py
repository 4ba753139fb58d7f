"""What type checkers know of problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, assert_type

from fastapi import FastAPI

from fastkit import Service, UnitOfWork
from fastkit.deps import install, problems
from fastkit.errors import FastkitError, NotFoundError
from fastkit.responses import Problem


class Declined(Exception):  # noqa: N818 - a name of somebody else's library
    """What a library raises."""

    code = 7


class QuotaError(FastkitError):
    """An error that says everything of itself."""

    status = 429
    title = "Quota exceeded"
    public = True
    type = "https://errors.example.com/quota"
    kinds: ClassVar[tuple[str, ...]] = ("daily",)

    def headers(self) -> Mapping[str, str]:
        """Return when to come back."""
        return {"Retry-After": "5"}


class Shop(UnitOfWork):
    """A unit without repositories."""


class PlaceOrder(Service[Shop]):
    """A use case that names its errors."""

    problems = (QuotaError, NotFoundError)


def told(exc: Declined) -> Problem:
    """Return what an exception is told as."""
    return Problem(status=402, members={"code": exc.code})


def registrations(app: FastAPI) -> None:
    """Take a status, a problem and functions, one beside the other."""
    install(app, {}, problems={Declined: 402, KeyError: Problem(status=404)})
    install(app, {}, problems={Declined: told, KeyError: lambda exc: Problem(status=404, detail=str(exc))})
    install(app, {}, problems={Declined: "402"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


def declarations() -> None:
    """Take classes of errors and statuses, and nothing else."""
    assert_type(problems(QuotaError, NotFoundError, 402), dict[int | str, dict[str, Any]])
    problems(KeyError)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(QuotaError().headers(), Mapping[str, str])
