"""Request and response models: where fields come from, which of them there are, who writes them; Pydantic alone."""

from fastkit.schemas._marks import IfLoaded, ReadOnly, WriteOnly
from fastkit.schemas.changes import apply
from fastkit.schemas.derived import omit, partial, pick
from fastkit.schemas.schema import Schema
from fastkit.schemas.source import From

__all__ = ["From", "IfLoaded", "ReadOnly", "Schema", "WriteOnly", "apply", "omit", "partial", "pick"]
