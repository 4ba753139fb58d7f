"""Fields without a value: not sent, not loaded, or left out of a class."""

from __future__ import annotations

from typing import Any

try:
    from pydantic import MISSING
except ImportError:  # before Pydantic 2.14
    from pydantic.experimental.missing_sentinel import MISSING

__all__ = ["MISSING", "AbsentError", "without_absent"]


class AbsentError(AttributeError):
    """A field was read that this object, or its class, does not have."""


def without_absent(
    validated: tuple[dict[str, Any], Any, set[str]], missing: Any = MISSING
) -> tuple[Any, Any, set[str]]:
    """Return what Pydantic has validated without the fields that were not given."""
    values, extra, given = validated
    if not extra and len(values) == len(given):
        return validated
    return {name: value for name, value in values.items() if value is not missing}, extra, given
