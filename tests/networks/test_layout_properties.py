"""Layouts and windows of any size: where the local layers stand, and what a query sees, against the rule written as loops."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from benchmark.contract import Attention, FieldError
from benchmark.networks.attention import is_global, pairs, visible_keys
from registry.layouts.windows import Windows

ODD = some.integers(0, 8).map(lambda half: 2 * half + 1)
BORDERS = some.sampled_from(("truncated", "shifted"))


@settings(max_examples=80, deadline=None)
@given(some.lists(ODD, max_size=8).map(tuple), some.sampled_from(("head", "mix", "tail")), some.integers(0, 12), BORDERS)
def test_the_local_layers_stand_in_their_order_at_their_places(windows: tuple[int, ...], placement: str, depth: int, border: str) -> None:
    layout = Windows(windows=windows, placement=placement, border=border)
    if len(windows) > depth:
        with pytest.raises(FieldError, match="local layers"):
            layout.place(depth)
        return
    placed = layout.place(depth)
    local = [layer for layer in range(depth) if placed[layer].local]
    assert len(placed) == depth and tuple(placed[layer].window for layer in local) == windows
    assert all(placed[layer].border == border for layer in local)
    if placement == "head":
        assert local == list(range(len(windows)))
    elif placement == "tail":
        assert local == list(range(depth - len(windows), depth))
    elif windows:
        apart = [after - before for before, after in zip(local, [*local[1:], depth], strict=True)]
        assert local[0] == 0 and max(apart) <= -(-depth // len(windows))  # spread evenly


@settings(max_examples=60, deadline=None)
@given(ODD, some.integers(1, 9), BORDERS)
def test_a_query_sees_what_the_rule_says(window: int, side: int, border: str) -> None:
    attention = Attention(window=window, border=border)
    seen = visible_keys(attention, side)
    half = window // 2
    for query in range(side**2):
        wanted = set()
        row, column = divmod(query, side)
        if border == "shifted":
            size = min(window, side)
            top, left = (min(max(place - half, 0), side - size) for place in (row, column))
            wanted = {(r, c) for r in range(top, top + size) for c in range(left, left + size)}
        else:
            wanted = {(r, c) for r in range(side) for c in range(side) if max(abs(r - row), abs(c - column)) <= half}
        assert {divmod(int(key), side) for key in seen[query].nonzero()} == wanted
    assert pairs(attention, side) == int(seen.sum()) and is_global(attention, side) == bool(seen.all())


@given(some.integers(-5, 40))
def test_a_window_has_a_centre(window: int) -> None:
    if window > 0 and window % 2:
        assert Attention(window=window).local
    else:
        with pytest.raises(FieldError):
            Attention(window=window)
