"""Whatever the model and whatever is sent: partial models take parts of what whole ones take, and `apply` merges."""

from __future__ import annotations

import copy
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, create_model

from fastkit.schemas import Schema, apply, omit, partial, pick

KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (int, st.integers(-5, 5)),
    "bounded": (Annotated[int, Field(ge=0, le=3)], st.integers(-1, 4)),
    "text": (Annotated[str, Field(max_length=2)], st.text("ab", max_size=3)),
    "maybe": (int | None, st.none() | st.integers(-5, 5)),
    "list": (list[int], st.lists(st.integers(-5, 5), max_size=2)),
    "decimal": (Decimal, st.decimals(-5, 5, places=2)),
}
ANYTHING = st.one_of(st.none(), st.integers(-5, 5), st.text("ab", max_size=3), st.lists(st.none(), max_size=1))


@st.composite
def cases(draw: st.DrawFn) -> tuple[type[BaseModel], dict[str, Any], set[str]]:
    """Return a model, what is sent by the names that a client knows, and some names of fields."""
    kinds = draw(st.dictionaries(st.sampled_from("abcd"), st.sampled_from(sorted(KINDS)), min_size=1))
    fields: dict[str, Any] = {}
    for name, kind in kinds.items():
        options: dict[str, Any] = {"alias": f"{name}Alias"} if draw(st.booleans()) else {}
        if draw(st.booleans()):
            options["default"] = None
        fields[name] = (KINDS[kind][0], Field(**options))
    model = create_model("Model", __base__=Schema if draw(st.booleans()) else BaseModel, **fields)
    sent = {
        model.model_fields[name].alias or name: draw(
            KINDS[kind][1] | ANYTHING if draw(st.booleans()) else KINDS[kind][1]
        )
        for name, kind in kinds.items()
        if draw(st.integers(0, 4))
    }
    return model, sent, set(draw(st.sets(st.sampled_from(sorted(kinds)), min_size=1)))


def fits(model: type[BaseModel], sent: dict[str, Any]) -> dict[str, Any] | None:
    """Return the values that each field makes of what was sent for it, or None if one refuses."""
    values = {}
    for name, info in model.model_fields.items():
        if (key := info.alias or name) in sent:
            adapter: TypeAdapter[Any] = TypeAdapter(Annotated[info.annotation, "of a field", *info.metadata])
            try:
                values[name] = adapter.validate_python(sent[key])
            except ValidationError:
                return None
    return values


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_a_partial_model_takes_parts(case: Any) -> None:
    """Exactly what each field takes by itself; what is not sent is nowhere."""
    model, sent, _ = case
    patch_model = partial(model)
    expected = fits(model, sent)
    try:
        patch = patch_model.model_validate(sent)
    except ValidationError:
        assert expected is None
        return

    assert expected == patch.model_dump() == {name: getattr(patch, name) for name in patch.model_fields_set}
    assert patch_model.model_validate(patch.model_dump(by_alias=True)) == patch
    assert patch_model.model_validate_json(patch.model_dump_json(by_alias=True)) == patch
    assert copy.deepcopy(patch) == patch


@settings(max_examples=60, deadline=None)
@given(case=cases(), now=st.dictionaries(st.sampled_from("abcd"), st.integers(-5, 5)))
def test_apply_merges(case: Any, now: dict[str, Any]) -> None:
    """The object is then what it was with what was sent in its place, and the answer is what differs."""
    model, sent, _ = case
    now = {name: now.get(name) for name in "abcd"}
    values = fits(model, sent)
    if values is None:
        return
    target = SimpleNamespace(**now)
    changed = apply(target, partial(model).model_validate(sent))

    assert vars(target) == now | values
    assert changed == {name for name, value in values.items() if now[name] != value}
    assert apply(target, partial(model).model_validate(sent)) == frozenset()


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_pick_and_omit_dump_parts(case: Any) -> None:
    """A dump of what was picked is that part of the dump of the whole, in the same order; the rest is the other one."""
    model, sent, names = case
    try:
        whole = model.model_validate(sent)
    except ValidationError:
        return
    picked, rest = pick(model, names).model_validate(sent), omit(model, names).model_validate(sent)
    for options in ({}, {"by_alias": True}, {"exclude_unset": True}, {"mode": "json"}):
        dumped = whole.model_dump(**options)
        parts = [picked.model_dump(**options), rest.model_dump(**options)]
        assert parts[0] | parts[1] == dumped
        assert list(parts[0]) == [name for name in dumped if name in parts[0]]
        assert not parts[0].keys() & parts[1].keys()
    assert set(picked.model_dump()) == names
