"""Gated positional self-attention against loops in float64 written from the paper's formulas (d'Ascoli et al. 2021)."""

import copy
import math

import pytest
import torch
from torch import Tensor

from benchmark.contract import Attention, FieldError, ImageShape
from registry.backbones.attention import SelfAttention
from registry.backbones.dit_gpsa import (
    GatedPositionalAttention,
    GatedPositionalDiT,
    centres,
)

SIDE = 4


def softmax(scores: dict[int, float]) -> dict[int, float]:
    top = max(scores.values())
    weights = {key: math.exp(score - top) for key, score in scores.items()}
    total = math.fsum(weights.values())
    return {key: weight / total for key, weight in weights.items()}


def in_window(query: int, key: int, window: int | None) -> bool:
    reach = SIDE if window is None else window // 2
    return abs(query // SIDE - key // SIDE) <= reach and abs(query % SIDE - key % SIDE) <= reach


def dense_map(layer: GatedPositionalAttention, x: Tensor, head: int, window: int | None) -> Tensor:
    """Return one head's map (tokens, tokens) for x: (tokens, hidden), one query and one key at a time."""
    hidden, width = x.shape[1], x.shape[1] // layer.heads
    rows = x.double() @ layer.qkv.weight.double().T + layer.qkv.bias.double()
    q, k = (rows[:, part * hidden + head * width : part * hidden + (head + 1) * width].tolist() for part in (0, 1))
    v = layer.position[head].tolist()
    gate = 1 / (1 + math.exp(-layer.gate[head].item()))
    out = torch.zeros(SIDE**2, SIDE**2, dtype=torch.float64)
    for i in range(SIDE**2):
        keys = [j for j in range(SIDE**2) if in_window(i, j, window)]
        content = softmax({j: math.fsum(a * b for a, b in zip(q[i], k[j], strict=True)) / math.sqrt(width) for j in keys})
        ways = {j: (j % SIDE - i % SIDE, j // SIDE - i // SIDE) for j in keys}
        position = softmax({j: v[0] * (dx**2 + dy**2) + v[1] * dx + v[2] * dy for j, (dx, dy) in ways.items()})
        mixed = {j: (1 - gate) * content[j] + gate * position[j] for j in keys}
        total = math.fsum(mixed.values())
        for j in keys:
            out[i, j] = mixed[j] / total  # the paper's last normalisation
    return out


def layer_of(heads: int = 4, window: int | None = None, **fields: float) -> GatedPositionalAttention:
    spec = GatedPositionalDiT(hidden=16, depth=1, heads=heads, gated=1, **fields)
    torch.manual_seed(heads)
    return spec.build(ImageShape(3, SIDE), (Attention(window=window),)).double().blocks[0].attn


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_initial_attention_is_the_papers(heads: int, window: int | None) -> None:
    layer = layer_of(heads, window, strength=0.7, spacing=1.5, gate=0.4)
    x = torch.randn(2, SIDE**2, 16, dtype=torch.float64)
    found = layer.maps(x)
    for n in range(2):
        for head in range(heads):
            torch.testing.assert_close(found[n, head], dense_map(layer, x[n], head, window), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("window", [None, 3])
def test_any_attention_is_the_papers_and_goes_to_the_values(window: int | None) -> None:
    layer = layer_of(2, window)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    x = torch.randn(1, SIDE**2, 16, dtype=torch.float64)
    maps = torch.stack([dense_map(layer, x[0], head, window) for head in range(2)])
    torch.testing.assert_close(layer.maps(x)[0], maps, rtol=1e-6, atol=1e-7)
    values = (x[0] @ layer.qkv.weight[32:].T + layer.qkv.bias[32:]).reshape(SIDE**2, 2, 8)
    attended = torch.einsum("hij,jhd->ihd", maps, values).reshape(SIDE**2, 16)
    expected = attended @ layer.proj.weight.T + layer.proj.bias
    torch.testing.assert_close(layer(x)[0], expected, rtol=1e-6, atol=1e-6)


def test_a_head_starts_as_a_gaussian_around_its_centre() -> None:
    strength, spacing = 0.8, 2.0
    layer = layer_of(4, strength=strength, spacing=spacing)
    for head, (across, down) in enumerate(centres(4).tolist()):
        query = (1, 2)  # row, column
        weights = {}
        for key in range(SIDE**2):
            dx, dy = key % SIDE - query[1] - spacing * across, key // SIDE - query[0] - spacing * down
            weights[key] = math.exp(-strength * (dx**2 + dy**2))
        total = math.fsum(weights.values())
        found = layer.positional()[head, query[0] * SIDE + query[1]].tolist()
        assert found == pytest.approx([weights[key] / total for key in range(SIDE**2)], abs=1e-6)


def test_values_start_as_the_identity_and_queries_as_in_the_plain_dit() -> None:
    layer = layer_of(2).float()
    assert torch.equal(layer.qkv.weight[32:], torch.eye(16))
    bound = math.sqrt(6 / (16 + 48))
    assert 0.9 * bound < layer.qkv.weight[:32].abs().max() <= bound
    assert torch.equal(layer.gate, torch.ones(2))


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        (1, {(0, 0)}),
        (2, {(-0.5, 0), (0.5, 0)}),
        (4, {(a, b) for a in (-0.5, 0.5) for b in (-0.5, 0.5)}),
        (9, {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}),
        (6, {(a, b) for a in (-1, 0, 1) for b in (-0.5, 0.5)}),
    ],
)
def test_the_centres_of_the_heads_are_a_grid(heads: int, expected: set[tuple[float, float]]) -> None:
    assert {tuple(centre) for centre in centres(heads).tolist()} == expected
    assert len(centres(heads)) == heads


def test_a_closed_gate_is_plain_attention_and_an_open_one_ignores_the_image() -> None:
    layer = layer_of(2)
    x = torch.randn(3, SIDE**2, 16, dtype=torch.float64)
    with torch.no_grad():
        layer.gate.fill_(-40.0)
    plain = SelfAttention(16, 2, Attention(), SIDE).double()
    plain.load_state_dict({name: w for name, w in layer.state_dict().items() if name not in ("gate", "position")})
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-6, atol=1e-9)
    with torch.no_grad():
        layer.gate.fill_(40.0)
    torch.testing.assert_close(layer.maps(x), layer.positional().expand(3, -1, -1, -1), rtol=1e-6, atol=1e-9)


def test_the_first_layers_are_gated_and_the_others_plain() -> None:
    network = GatedPositionalDiT(hidden=16, depth=3, heads=2, gated=2).build(ImageShape(3, SIDE), (Attention(),) * 3)
    assert [type(block.attn) for block in network.blocks] == [GatedPositionalAttention] * 2 + [SelfAttention]
    assert {"blocks.0.attn.gate", "blocks.1.attn.position"} <= set(network.state_dict())
    assert not any("offsets" in name for name in network.state_dict())
    twin = copy.deepcopy(network)
    assert torch.equal(twin.blocks[0].attn.offsets, network.blocks[0].attn.offsets)


def test_bf16_autocast_keeps_the_positions_exact() -> None:
    layer = layer_of(2).float()
    exact = layer.positional()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.positional(), exact)
        assert layer(torch.randn(1, SIDE**2, 16)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gated": 4}, "gated = 4 must be at most depth = 3"),
        ({"gated": 2, "strength": 0.0}, "strength = 0.0 must be above 0"),
        ({"gated": 2, "spacing": -1.0}, "spacing = -1.0 must be above 0"),
    ],
)
def test_impossible_gates_are_refused(fields: dict[str, float], words: str) -> None:
    with pytest.raises(FieldError, match=words):
        GatedPositionalDiT(hidden=16, depth=3, heads=2, **fields)
