"""Business rules: check all of them, then tell every broken one at once."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from fastkit.errors import BrokenRule, RulesBrokenError


class Rules:
    """
    A collector of broken rules; lives as long as its `with`.

    Attributes:
        broken: The rules that were broken so far.
    """

    def __init__(self) -> None:
        self.broken: list[BrokenRule] = []

    def __call__(self, holds: bool, detail: str, *, at: str | None = None) -> bool:
        """
        Note *detail* unless the rule *holds*; return whether it does, so that a later rule can depend on it.

        Args:
            holds: Whether the rule is kept.
            detail: What is wrong, for the person who can change it.
            at: The place in the request: a field's name, "lines.3.quantity", or a JSON pointer, "/lines/3".
        """
        if not holds:
            self.broken.append(BrokenRule(detail, None if at is None else _pointer(at)))
        return bool(holds)


@contextmanager
def rules() -> Generator[Rules]:
    """
    Collect broken rules, and raise once, at the end, if there are any.

    >>> with rules() as rule:
    ...     rule(quantity > 0, "must be positive", at="quantity")
    ...     rule(not customer.blocked, "is blocked", at="customer_id")

    Raises:
        RulesBrokenError: At least one rule was broken; an exception from inside the block goes first.
    """
    collector = Rules()
    yield collector
    if collector.broken:
        raise RulesBrokenError(collector.broken)


def _pointer(place: str) -> str:
    """Return a JSON pointer (RFC 6901) for a dotted path; a pointer stays as it is."""
    if place.startswith("/") or not place:
        return place
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in place.split("."))
