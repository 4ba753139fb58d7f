"""FastAPI: everything that an endpoint takes as an `Annotated` dependency."""

from fastkit.deps.direct import DirectRoute
from fastkit.deps.found import found
from fastkit.deps.installation import check_routes, install
from fastkit.deps.listed import listed, windowed
from fastkit.deps.services import provide
from fastkit.deps.units import UnitFactory, UnitRoute, transaction, unit_factory, unit_of_work

__all__ = [
    "DirectRoute",
    "UnitFactory",
    "UnitRoute",
    "check_routes",
    "found",
    "install",
    "listed",
    "provide",
    "transaction",
    "unit_factory",
    "unit_of_work",
    "windowed",
]
