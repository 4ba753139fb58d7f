"""Response models that say where their fields come from; Pydantic alone."""

from fastkit.schemas.schema import Schema
from fastkit.schemas.source import From

__all__ = ["From", "Schema"]
