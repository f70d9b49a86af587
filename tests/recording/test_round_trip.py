"""Any record that can be made can be written and read back as it was, under one id; and no text that is none is read as one."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from benchmark.declaring.fields import to_json
from benchmark.declaring.spec import spec_id
from benchmark.recording import record
from benchmark.recording.record import Curves
from tests.records import make_record

NUMBERS = some.floats(-1e6, 1e6, allow_nan=False)
NAMES = some.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-(10**15), 10**15) | NUMBERS | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@some.composite
def records(draw: some.DrawFn) -> record.Record:
    """A record of any curves, names and configuration."""
    count = draw(some.integers(1, 5))
    train, test = (tuple(draw(some.lists(NUMBERS, min_size=count, max_size=count))) for _ in range(2))
    made = make_record(train=train, test=test, model=draw(NAMES), dataset=draw(NAMES), seed=draw(some.integers(0, 10**9)))
    spec = made.spec | {"model": made.spec["model"] | {"config": draw(some.dictionaries(some.text(max_size=8), JSON, max_size=3))}}
    notes = tuple(draw(some.lists(some.text(max_size=20), max_size=3)))
    return replace(made, spec=spec, id=spec_id(spec), training=replace(made.training, notes=notes), created=draw(some.text(max_size=20)))


@settings(max_examples=50, deadline=None)
@given(records())
def test_what_is_written_is_read_back(made: record.Record) -> None:
    text = record.text_of(made)
    again = record.parsed(text)
    assert again == made and record.text_of(again) == text and again.row == made.row


@settings(max_examples=50, deadline=None)
@given(records(), some.randoms(use_true_random=False))
def test_an_id_is_one_of_the_content_not_of_its_order(made: record.Record, shuffled: Any) -> None:
    def turned(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = list(value)
        shuffled.shuffle(names)
        return {name: turned(value[name]) for name in names}

    assert spec_id(turned(made.spec)) == made.id
    for axis in ("model", "layout", "dataset", "recipe"):
        other = made.spec | {axis: made.spec[axis] | {"name": made.spec[axis]["name"] + "x"}}
        assert spec_id(other) != made.id
    assert spec_id(made.spec | {"seed": made.spec["seed"] + 1}) != made.id


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_what_is_no_record_is_refused_as_such(value: Any) -> None:
    with pytest.raises(ValueError):
        record.parsed(json.dumps(value))


@settings(max_examples=60, deadline=None)
@given(some.sampled_from(sorted(to_json(make_record()))), JSON)
def test_a_field_of_another_kind_is_refused_or_kept_as_it_is(name: str, value: Any) -> None:
    document = to_json(make_record()) | {name: value}
    try:
        made = record.parsed(json.dumps(document))
    except ValueError:
        return
    assert to_json(made) == to_json(record.parsed(record.text_of(made)))


@settings(max_examples=60, deadline=None)
@given(some.lists(some.tuples(NUMBERS, NUMBERS), min_size=1, max_size=6))
def test_a_gap_is_never_negative_and_its_mean_is_the_headline(pairs: list[tuple[float, float]]) -> None:
    curves = Curves(train=tuple(a for a, _ in pairs), test=tuple(b for _, b in pairs))
    assert min(curves.gap) >= 0 and math.isclose(record.mean(curves.gap), sum(max(a - b, 0.0) for a, b in pairs) / len(pairs), abs_tol=1e-6)
