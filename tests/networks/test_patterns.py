"""registry/layouts/patterns.py: which keys a query sees, by hand, and that every pattern is masked attention."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmark.contract import Attention, FieldError, ImageShape
from benchmark.declaring.entries import load
from benchmark.declaring.registry import find
from benchmark.declaring.spec import resolve, spec_id
from benchmark.errors import UsageError
from benchmark.networks import cost
from benchmark.networks.attention import Attend, is_global, pairs, pairs_scored, set_kernel, visible_keys
from registry.backbones.dit import DiT
from registry.layouts.patterns import Axial, Block, Dilated, Scattered, ShiftedWindows
from registry.layouts.windows import Windows

SIDES = (5, 8, 10)
PATTERNS = (
    Axial(layers=1),
    Dilated(layers=1, window=3, dilation=2),
    Dilated(layers=1, window=5, dilation=3),
    Block(size=4, offset=0),
    Block(size=4, offset=2),
    Scattered(layers=1, others=8, key="scattered"),
)
ENTRIES = ("axial_head", "dilated_head", "shifted_windows_head", "scattered_3x3_head")


def picture(pattern: object, side: int, query: int) -> list[str]:
    """The keys of a query as rows of '#' and '.', the query itself as 'Q'."""
    keys = pattern.keys(side, query)
    cells = ["Q" if token == query else "#" if token in keys else "." for token in range(side**2)]
    return ["".join(cells[row * side : (row + 1) * side]) for row in range(side)]


def test_the_patterns_as_pictures() -> None:
    assert picture(PATTERNS[0], 5, 6) == [".#...", "#Q###", ".#...", ".#...", ".#..."]
    assert picture(PATTERNS[1], 5, 12) == ["#.#.#", ".....", "#.Q.#", ".....", "#.#.#"]
    assert picture(PATTERNS[1], 5, 5) == [".....", "Q.#..", ".....", "#.#..", "....."]
    assert picture(Block(size=2, offset=0), 5, 6) == ["##...", "#Q...", ".....", ".....", "....."]
    assert picture(Block(size=4, offset=2), 8, 0) == ["Q#......", "##......", *["........"] * 6]
    assert picture(Block(size=4, offset=2), 8, 27)[2:6] == ["..####..", "..#Q##..", "..####..", "..####.."]


def test_shifted_blocks_are_what_a_cyclic_shift_with_a_mask_computes() -> None:
    """Swin's way: roll by half a block, cut into blocks, and let no two tokens meet that were not neighbours before."""
    side, size, shift = 8, 4, 2
    place = torch.arange(side)
    rolled = (place - shift) % side
    region = torch.where(rolled < side - size, 0, torch.where(rolled < side - shift, 1, 2))
    block = rolled // size
    axis = (block[:, None] == block[None]) & (region[:, None] == region[None])
    expected = (axis[:, None, :, None] & axis[None, :, None, :]).reshape(side**2, side**2)
    assert torch.equal(visible_keys(Attention(pattern=Block(size=size, offset=shift)), side), expected)


def test_scattered_keys_are_nine_far_ones_and_the_same_everywhere() -> None:
    pattern = Scattered(layers=3, others=8, key="scattered")
    visible = visible_keys(Attention(pattern=pattern), 8)
    assert (visible.sum(1) == 9).all() and visible.diagonal().all()
    rows, columns = torch.arange(64) // 8, torch.arange(64) % 8
    distance = torch.hypot((rows[:, None] - rows).double(), (columns[:, None] - columns).double())
    assert 3.5 < distance[visible & ~torch.eye(64, dtype=torch.bool)].mean() < 4.8  # of all pairs: 4.2
    assert sorted(pattern.keys(8, 0)) == [0, 7, 30, 33, 40, 49, 54, 57, 59]  # by sha256sum
    assert pattern.keys(8, 0) != replace(pattern, key="others").keys(8, 0)
    with pytest.raises(FieldError, match="more than the 3 other tokens"):
        pattern.keys(2, 0)


def by_hand(q: Tensor, k: Tensor, v: Tensor, pattern: object, side: int) -> Tensor:
    """Attention of one query after the other over the keys that its rule names, in the order of the rule."""
    out = torch.empty_like(q)
    for image in range(len(q)):
        for head in range(q.shape[1]):
            for query in range(side**2):
                keys = list(pattern.keys(side, query))
                scores = (k[image, head, keys] @ q[image, head, query]) / math.sqrt(q.shape[3])
                out[image, head, query] = scores.softmax(0) @ v[image, head, keys]
    return out


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_a_pattern_is_attention_over_the_keys_it_names(pattern: object, side: int) -> None:
    q, k, v = torch.randn(3, 2, 2, side**2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
    layer = Attend(Attention(pattern=pattern), side)
    expected = by_hand(q, k, v, pattern, side)
    torch.testing.assert_close(layer(q, k, v), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.weights(q, k) @ v, expected, rtol=1e-12, atol=1e-12)
    halves = layer(*(x.bfloat16() for x in (q, k, v)))
    torch.testing.assert_close(halves.double(), expected, rtol=0.05, atol=0.05)
    assert pairs(Attention(pattern=pattern), side) == sum(len(pattern.keys(side, query)) for query in range(side**2))


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_flex_attention_computes_a_pattern(pattern: object) -> None:
    q, k, v = torch.randn(3, 1, 2, 64, 16, generator=torch.Generator().manual_seed(1))
    layer = Attend(Attention(pattern=pattern), 8)
    expected = layer(q, k, v)
    layer.kernel = "flex"
    torch.testing.assert_close(layer(q, k, v), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("border", ["truncated", "shifted"])
@pytest.mark.parametrize("window", [3, 5])
def test_a_window_is_the_pattern_of_its_keys(window: int, border: str) -> None:
    """Windows are the first case: said as a pattern, they see the same keys, and attention gives the same values."""

    class Said:
        def keys(self, side: int, query: int) -> list[int]:
            def axis(at: int) -> range:
                first = at - window // 2 if border == "truncated" else min(max(at - window // 2, 0), side - window)
                return range(max(first, 0), min(first + window, side))

            row, column = divmod(query, side)
            return [y * side + x for y in axis(row) for x in axis(column)]

    fast, said = Attention(window=window, border=border), Attention(pattern=Said())
    q, k, v = torch.randn(3, 2, 2, 100, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(visible_keys(fast, 10), visible_keys(said, 10)) and pairs(fast, 10) == pairs(said, 10)
    torch.testing.assert_close(Attend(fast, 10)(q, k, v), Attend(said, 10)(q, k, v), rtol=1e-5, atol=1e-6)


def test_a_pattern_that_names_every_key_is_global_and_one_that_names_none_is_refused() -> None:
    assert is_global(Attention(pattern=Block(size=8, offset=0)), 8) and pairs(Attention(pattern=Block(size=8, offset=0)), 8) == 64**2
    assert not is_global(Attention(pattern=Axial(layers=1)), 8)

    class Nothing:
        def keys(self, side: int, query: int) -> list[int]:
            return []

    with pytest.raises(FieldError, match="query 0 of 4 x 4 tokens"):
        visible_keys(Attention(pattern=Nothing()), 4)
    with pytest.raises(FieldError, match="two rules"):
        Attention(window=3, pattern=Axial(layers=1))
    with pytest.raises(FieldError, match="must be a Pattern"):
        Attention(pattern="axial")


def test_kernels_for_windows_refuse_a_pattern() -> None:
    network = DiT(hidden=16, depth=2, heads=2).build(ImageShape(3, 10), ShiftedWindows(layers=1, size=4).place(2))
    for kernel in ("bands", "natten"):
        with pytest.raises(UsageError, match="pattern"):
            set_kernel(network, kernel)
    set_kernel(network, "masked")


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_trains_and_is_counted_by_the_pairs_it_scores(name: str) -> None:
    spec = resolve({"model": "dit_mini", "layout": name, "dataset": "dead_leaves8", "recipe": "mini"}, subset=16, seed=0)
    assert [layer.local for layer in spec.attention] == [True] * 3 + [False] * 3
    scored = pairs_scored(cost.on_meta(spec))
    wanted = [sum(len(layer.pattern.keys(8, query)) for query in range(64)) for layer in spec.attention[:3]]
    assert list(scored) == [*wanted, 64**2, 64**2, 64**2]
    network = spec.model.config.build(spec.images, spec.attention)
    network(torch.randn(2, 3, 8, 8), torch.tensor([3, 500])).sum().backward()
    assert all(weight.grad is not None for weight in network.parameters() if weight.requires_grad)


def test_the_rule_is_part_of_the_id_and_windows_keep_theirs() -> None:
    def document(layout: object) -> dict:
        config = load(find("layout", layout)).to_json()
        axes = {axis: {"name": "x", "kind": "k", "config": {}} for axis in ("model", "dataset", "recipe")}
        return axes | {"layout": config, "subset": 1, "seed": 0}

    ids = {spec_id(document(name)) for name in (*ENTRIES, "global", "local_3x3_head")}
    assert len(ids) == 6
    changed = document("scattered_3x3_head")
    changed["layout"]["config"]["key"] = "others"
    assert spec_id(changed) not in ids
    assert load(find("layout", "local_3x3_head")).to_json()["config"] == {"windows": [3, 3, 3], "placement": "head", "border": "truncated"}
    assert Windows(windows=(3, 3, 3)).place(6)[0] == Attention(window=3)
