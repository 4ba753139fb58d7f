"""FastAPI: everything that an endpoint takes as an `Annotated` dependency."""

from fastkit.deps._responses import problems
from fastkit.deps.conditional import IfMatch, IfNoneMatch, RequiredIfMatch
from fastkit.deps.crud import crud_router
from fastkit.deps.direct import DirectRoute
from fastkit.deps.found import found
from fastkit.deps.installation import check_routes, install
from fastkit.deps.listed import listed, windowed
from fastkit.deps.services import provide
from fastkit.deps.units import UnitFactory, UnitRoute, transaction, unit_factory, unit_of_work

__all__ = [
    "DirectRoute",
    "IfMatch",
    "IfNoneMatch",
    "RequiredIfMatch",
    "UnitFactory",
    "UnitRoute",
    "check_routes",
    "crud_router",
    "found",
    "install",
    "listed",
    "problems",
    "provide",
    "transaction",
    "unit_factory",
    "unit_of_work",
    "windowed",
]
