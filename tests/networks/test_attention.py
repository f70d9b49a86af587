"""Attention against an independent float64 computation, one query and one key at a time."""

import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.contract import Attention
from registry.backbones.attention import Attend, SelfAttention, is_global, visible_keys

WINDOWS = [(3, 1), (4, 3), (5, 3), (5, 5), (5, 7), (5, 9), (6, 5), (6, 11), (3, 13)]  # side, window


def sees(query: int, key: int, side: int, window: int, border: str) -> bool:
    """Tell whether `query` sees `key`, from the words of the rule rather than from a mask."""
    for a, b in ((query // side, key // side), (query % side, key % side)):
        if border == "truncated":
            if abs(a - b) > (window - 1) / 2:
                return False
        else:
            width = min(window, side)
            # of all windows of that width inside the image, the one whose centre is nearest to the query
            start = min(range(side - width + 1), key=lambda s: abs(s + (width - 1) / 2 - a))
            if not start <= b < start + width:
                return False
    return True


def by_hand(q: Tensor, k: Tensor, v: Tensor, side: int, window: int, border: str) -> Tensor:
    """Attend in float64 by plain loops over images, heads, queries and keys."""
    out = torch.zeros_like(v, dtype=torch.float64)
    for n in range(q.shape[0]):
        for head in range(q.shape[1]):
            for query in range(side**2):
                keys = [key for key in range(side**2) if sees(query, key, side, window, border)]
                products = [(q[n, head, query] * k[n, head, key]).tolist() for key in keys]
                scores = [math.fsum(product) / math.sqrt(q.shape[3]) for product in products]
                weights = [math.exp(score - max(scores)) for score in scores]
                for weight, key in zip(weights, keys, strict=True):
                    out[n, head, query] += weight / math.fsum(weights) * v[n, head, key]
    return out


def qkv(side: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    return tuple((2 * torch.randn(3, 2, 2, side**2, 3, dtype=torch.float64, generator=generator)).to(dtype))


@pytest.mark.parametrize("border", ["truncated", "shifted"])
@pytest.mark.parametrize(("side", "window"), WINDOWS)
def test_a_window_is_attention_over_the_keys_it_holds(side: int, window: int, border: str) -> None:
    q, k, v = qkv(side)
    attended = Attend(Attention(window=window, border=border), side)(q, k, v)
    torch.testing.assert_close(attended, by_hand(q, k, v, side, window, border), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("border", ["truncated", "shifted"])
@pytest.mark.parametrize(("side", "window"), WINDOWS)
def test_a_window_is_masked_global_attention(side: int, window: int, border: str) -> None:
    q, k, v = qkv(side, torch.float32)
    scores = q @ k.mT / math.sqrt(q.shape[3])
    for query in range(side**2):
        for key in range(side**2):
            if not sees(query, key, side, window, border):
                scores[..., query, key] = -torch.inf
    attended = Attend(Attention(window=window, border=border), side)(q, k, v)
    torch.testing.assert_close(attended, scores.softmax(-1) @ v, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_a_window_that_covers_the_image_from_everywhere_is_global(side: int) -> None:
    q, k, v = qkv(side, torch.float32)
    everything = F.scaled_dot_product_attention(q, k, v)
    for window in range(1, 2 * side + 2, 2):
        for border in ("truncated", "shifted"):
            attention = Attention(window=window, border=border)
            covers = all(sees(query, key, side, window, border) for query in range(side**2) for key in range(side**2))
            attend = Attend(attention, side)
            assert is_global(attention, side) is covers
            assert bool(visible_keys(attention, side).all()) is covers
            assert (attend.mask is None) is covers  # no mask, so that the fast kernels of the library apply
            if covers:
                assert torch.equal(attend(q, k, v), everything)


def test_a_truncated_window_as_wide_as_the_image_still_cuts_the_corners() -> None:
    assert not is_global(Attention(window=5), 5)
    assert is_global(Attention(window=9), 5)
    assert is_global(Attention(window=5, border="shifted"), 5)


@pytest.mark.parametrize(("border", "corner", "edge", "inside"), [("truncated", 9, 15, 25), ("shifted", 25, 25, 25)])
def test_how_many_keys_a_window_of_five_holds(border: str, corner: int, edge: int, inside: int) -> None:
    counts = visible_keys(Attention(window=5, border=border), 8).sum(1).reshape(8, 8)
    assert (counts[0, 0], counts[0, 4], counts[4, 4]) == (corner, edge, inside)


def test_self_attention_is_its_formula() -> None:
    side, hidden, heads = 3, 12, 3
    layer = SelfAttention(hidden, heads, Attention(window=3), side).double()
    x = qkv(side)[0].flatten(0, 1)[:2, :, :].repeat(1, 1, 4)  # (2, 9, 12)
    q, k, v = (x @ layer.qkv.weight.T + layer.qkv.bias).split(hidden, dim=2)
    per_head = [part.reshape(2, side**2, heads, 4).transpose(1, 2) for part in (q, k, v)]
    attended = by_hand(*(part.detach() for part in per_head), side, 3, "truncated")
    joined = torch.cat(list(attended.unbind(1)), dim=2)
    torch.testing.assert_close(layer(x), joined @ layer.proj.weight.T + layer.proj.bias, rtol=1e-12, atol=1e-12)


def test_the_mask_moves_with_the_module_and_stays_out_of_checkpoints() -> None:
    layer = SelfAttention(8, 2, Attention(window=3), 4)
    assert set(layer.state_dict()) == {"qkv.weight", "qkv.bias", "proj.weight", "proj.bias"}
    assert "attend.mask" in dict(layer.named_buffers())
    assert torch.equal(copy.deepcopy(layer).attend.mask, layer.attend.mask)
    assert layer.to("meta").attend.mask.is_meta


def test_a_query_outside_the_window_of_a_key_gets_no_gradient_from_it() -> None:
    side = 6
    layer = SelfAttention(8, 2, Attention(window=3), side)
    x = torch.randn(1, side**2, 8, requires_grad=True)
    layer(x)[0, 0].sum().backward()  # the query in the corner
    reached = x.grad[0].abs().sum(1).reshape(side, side) > 0
    expected = torch.zeros(side, side, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(reached, expected)


def test_bf16_autocast_takes_the_mask() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(16, 2, Attention(window=3), 4)
    x = torch.randn(2, 16, 16)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(x)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [4, 3])
def test_zeros_in_odd_heads_change_nothing(heads: int, window: int | None) -> None:
    """Neither the estimate nor a gradient, in float64; 12 x 12 tokens are computed with zeros, heads of 7 and of 12 alike."""
    torch.manual_seed(0)
    hidden = {4: 28, 3: 36}[heads]
    padded = SelfAttention(hidden, heads, Attention(window=window), 12).double()
    plain = copy.deepcopy(padded)
    plain.padding = 0
    assert padded.padding == {4: 1, 3: 4}[heads]
    x = torch.randn(2, 144, hidden, dtype=torch.float64, requires_grad=True)
    assert padded.project(x)[0].shape == (2, heads, 144, hidden // heads + padded.padding)
    results = []
    for layer in (padded, plain):
        out = layer(x)
        results.append([out, layer.maps(x), *torch.autograd.grad(out.sin().sum(), (x, *layer.parameters()))])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert SelfAttention(28, 4, Attention(), 8).padding == 0  # the grid of the mini track
