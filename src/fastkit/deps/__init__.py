"""FastAPI: everything that an endpoint takes as an `Annotated` dependency."""

from fastkit.deps.found import found
from fastkit.deps.installation import check_routes, install
from fastkit.deps.listed import listed
from fastkit.deps.services import provide
from fastkit.deps.units import UnitRoute, transaction, unit_factory, unit_of_work

__all__ = [
    "UnitRoute",
    "check_routes",
    "found",
    "install",
    "listed",
    "provide",
    "transaction",
    "unit_factory",
    "unit_of_work",
]
