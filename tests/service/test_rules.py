"""Business rules: all of them are told at once."""

from __future__ import annotations

import pytest

from fastkit.errors import BrokenRule, RulesBrokenError
from fastkit.service import Rules, rules

KEPT, BROKEN = True, False


def broken_by(at: str | None) -> BrokenRule:
    """Return the rule that is noted for a place."""
    collector = Rules()
    collector(holds=False, detail="is wrong", at=at)
    return collector.broken[0]


def test_rules_that_hold_raise_nothing() -> None:
    """Nothing is broken, nothing is told."""
    with rules() as rule:
        held = rule(holds=True, detail="must be positive")

    assert held is True
    assert rule.broken == []


def test_every_broken_rule_is_told_at_once() -> None:
    """The block goes on after the first; the error comes at its end, in the order of the rules."""
    with pytest.raises(RulesBrokenError) as caught, rules() as rule:
        rule(BROKEN, "must be positive", at="quantity")
        rule(KEPT, "never told", at="quantity")
        rule(BROKEN, "is blocked")

    assert caught.value.broken == (BrokenRule("must be positive", "/quantity"), BrokenRule("is blocked", None))


def test_a_rule_tells_whether_it_holds() -> None:
    """A later rule can depend on it; what is truthy counts as kept and is told as a bool."""
    with pytest.raises(RulesBrokenError) as caught, rules() as rule:
        if rule([], "must not be empty"):  # type: ignore[arg-type]  # truthiness is what users write
            rule(BROKEN, "not asked")
        kept = rule([1], "not told")  # type: ignore[arg-type]

    assert kept is True
    assert [broken.detail for broken in caught.value.broken] == ["must not be empty"]


def test_an_exception_from_inside_goes_first() -> None:
    """What went wrong is not hidden by a rule."""
    with pytest.raises(ZeroDivisionError), rules() as rule:
        rule(BROKEN, "must be positive")
        _ = 1 / 0


def test_two_collectors_are_strangers() -> None:
    """Nested rules are told where their own block ends."""
    with rules() as outer:
        with pytest.raises(RulesBrokenError) as caught, rules() as inner:
            inner(BROKEN, "inner")
        outer(KEPT, "outer")

    assert [broken.detail for broken in caught.value.broken] == ["inner"]


@pytest.mark.parametrize(
    ("place", "pointer"),
    [
        (None, None),
        ("quantity", "/quantity"),
        ("lines.3.quantity", "/lines/3/quantity"),
        ("/lines/3", "/lines/3"),
        ("", ""),
        ("a~b", "/a~0b"),
        ("a/b", "/a~1b"),
        ("ratio.km/h", "/ratio/km~1h"),
    ],
)
def test_a_place_becomes_a_json_pointer(place: str | None, pointer: str | None) -> None:
    """A dotted path is escaped as RFC 6901 section 3 asks; a pointer stays as it is."""
    assert broken_by(place).at == pointer
