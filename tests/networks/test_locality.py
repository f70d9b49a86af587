"""Locality of attention maps against loops in float64 and against values worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.analysis.locality import NAMES, WINDOWS, locality
from benchmark.contract import Attention
from registry.backbones.attention import visible_keys


def by_loops(weights: list[list[float]], side: int, patch: int) -> dict[str, float]:
    """Return the numbers of one map, one query and one key at a time."""
    tokens = side**2
    found = dict.fromkeys(NAMES, 0.0)
    for query in range(tokens):
        total = math.fsum(abs(weight) for weight in weights[query])
        for key in range(tokens):
            share = abs(weights[query][key]) / total / tokens
            down, across = query // side - key // side, query % side - key % side
            found["distance"] += share * patch * math.sqrt(down**2 + across**2)
            for window in WINDOWS:
                if max(abs(down), abs(across)) <= (window - 1) // 2:
                    found[f"mass_{window}"] += share
            if share:
                found["entropy"] -= share * math.log(share * tokens)
    pairs = [(a, b) for a in range(tokens) for b in range(tokens) if a != b]
    for a, b in pairs:
        dot = math.fsum(x * y for x, y in zip(weights[a], weights[b], strict=True))
        found["position_invariance"] += dot / math.hypot(*weights[a]) / math.hypot(*weights[b]) / len(pairs)
    every = [weight for row in weights for weight in row]
    found["negative_mass"] = -math.fsum(w for w in every if w < 0) / math.fsum(abs(w) for w in every)
    return found


@pytest.mark.parametrize("signed", [False, True])
def test_numbers_are_those_of_loops(signed: bool) -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    maps = scores / scores.sum(3, keepdim=True) if signed else (3 * scores).softmax(3)
    found = locality(maps, patch=2)
    assert set(found) == set(NAMES)
    for n in range(2):
        for head in range(3):
            expected = by_loops(maps[n, head].tolist(), 4, 2)
            assert {name: values[n, head].item() for name, values in found.items()} == pytest.approx(expected, abs=1e-12)
    assert bool((found["negative_mass"] > 0).all()) is signed


@pytest.mark.parametrize("side", [4, 5, 8])
def test_the_uniform_map(side: int) -> None:
    """Two independent uniform tokens of a row of s lie k apart with probability 2 (s - k) / s^2, k > 0, and 1 / s for 0."""
    tokens = side**2
    found = numbers(torch.full((tokens, tokens), 1 / tokens))
    apart = [1 / side] + [2 * (side - k) / side**2 for k in range(1, side)]
    assert found["distance"] == pytest.approx(
        sum(p * q * math.sqrt(i**2 + j**2) for i, p in enumerate(apart) for j, q in enumerate(apart)), rel=1e-12
    )
    for window in WINDOWS:
        assert found[f"mass_{window}"] == pytest.approx(sum(apart[: window // 2 + 1]) ** 2, rel=1e-12)
    assert found["entropy"] == pytest.approx(2 * math.log(side), rel=1e-6)  # the map is in single precision
    assert found["position_invariance"] == pytest.approx(1, abs=1e-12)


def test_the_diagonal_map() -> None:
    found = numbers(torch.eye(64))
    assert found == {**dict.fromkeys(NAMES, 0.0), **{f"mass_{window}": 1.0 for window in WINDOWS}}


def test_a_map_with_equal_rows_does_not_look_at_the_position_however_concentrated_it_is() -> None:
    row = torch.zeros(16)
    row[[2, 9]] = torch.tensor([0.75, 0.25])
    found = numbers(row.expand(16, 16))
    assert found["position_invariance"] == pytest.approx(1, abs=1e-12)
    assert found["entropy"] == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), rel=1e-6)


def test_a_window_map() -> None:
    """3 x 3 on a 4 x 4 grid, cut off at the border: 4 corners see 4 tokens, 8 edges 6, 4 inner ones 9."""
    visible = visible_keys(Attention(window=3), 4).double()
    found = numbers(visible / visible.sum(1, keepdim=True))
    two = math.sqrt(2)
    corner, edge, inner = (2 + two) / 4, (3 + 2 * two) / 6, (4 + 4 * two) / 9
    assert found["distance"] == pytest.approx((4 * corner + 8 * edge + 4 * inner) / 16, rel=1e-12)
    assert found["entropy"] == pytest.approx((4 * math.log(4) + 8 * math.log(6) + 4 * math.log(9)) / 16, rel=1e-12)
    assert all(found[f"mass_{window}"] == pytest.approx(1, abs=1e-12) for window in WINDOWS)
    # cosine = common tokens / sqrt(product of their numbers), and both factor into rows and columns: along one axis
    # the windows {0 1} {0 1 2} {1 2 3} {2 3} have the Gram matrix below
    common = torch.tensor([[2, 2, 1, 0], [2, 3, 2, 1], [1, 2, 3, 2], [0, 1, 2, 2]], dtype=torch.float64)
    sizes = common.diagonal().sqrt()
    axis = (common / sizes / sizes[:, None]).sum().item()
    assert found["position_invariance"] == pytest.approx((axis**2 - 16) / (16 * 15), rel=1e-12)


def test_a_window_holds_the_mass_of_a_window_of_its_size_and_a_share_of_it_in_a_smaller_one() -> None:
    visible = visible_keys(Attention(window=5), 8).double()
    found = numbers(visible / visible.sum(1, keepdim=True))
    axis = [2 / 3, 3 / 4, *[3 / 5] * 4, 3 / 4, 2 / 3]  # of the tokens within 2, the share within 1, along one axis
    assert found["mass_3"] == pytest.approx((sum(axis) / 8) ** 2, rel=1e-12)
    assert found["mass_5"] == pytest.approx(1, abs=1e-12)


def test_distance_is_in_pixels() -> None:
    row = torch.zeros(4, 4)
    row[0, 1] = row[1, 0] = row[2, 3] = row[3, 2] = 1  # every token looks at its neighbour in the row
    assert locality(row, patch=4)["distance"].item() == 4


def test_one_token_and_no_square() -> None:
    assert numbers(torch.ones(1, 1))["position_invariance"] == 1
    with pytest.raises(ValueError, match="6 tokens are no square grid"):
        locality(torch.full((6, 6), 1 / 6))


def numbers(maps: Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in locality(maps).items()}
