"""DiverseDiT: each third of its loss and its long residuals against loops in float64 written from their definitions."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from benchmark.contract import Attention, FieldError, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.networks import diffusion
from registry.backbones import dit_diverse
from registry.backbones.dit import DiT
from registry.backbones.dit_diverse import (
    DiverseDiT,
    DiverseTransformer,
    diversity_loss,
    first_coefficient,
    mean_similarity,
    token_similarity,
    usage_variance,
)

IMAGES = ImageShape(3, 4)
STEPS = torch.tensor([3, 700])
ALL_PAIRS = ((0, 1), (0, 2), (1, 2))


def built(depth: int = 4, window: int | None = None, seed: int = 0, **fields: object) -> DiverseTransformer:
    """A network off its start, so that every block and every join does something."""
    torch.manual_seed(seed)
    network = DiverseDiT(hidden=8, depth=depth, heads=2, **fields).build(IMAGES, (Attention(window=window),) * depth)
    for parameter in network.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def features(blocks: int = 3, samples: int = 10, hidden: int = 5, shift: float = 0.3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(samples, hidden, generator=generator, dtype=torch.float64) + shift for _ in range(blocks)]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(p * p for p in a) * math.fsum(q * q for q in b))


def test_the_first_third_is_the_cosine_of_the_mean_features() -> None:
    blocks = [block.tolist() for block in features()]
    means = [[math.fsum(row[c] for row in block) / len(block) for c in range(5)] for block in blocks]
    for pairs in (ALL_PAIRS, ((1, 2),)):
        expected = math.fsum(cosine(means[i], means[j]) for i, j in pairs) / len(pairs)
        assert mean_similarity(features(), pairs).item() == pytest.approx(expected, rel=1e-12)


def test_the_second_third_is_the_absolute_mean_cosine_of_the_tokens() -> None:
    blocks = [block.tolist() for block in features()]
    for pairs in (ALL_PAIRS, ((0, 2),)):
        means = [math.fsum(cosine(a, b) for a, b in zip(blocks[i], blocks[j], strict=True)) / 10 for i, j in pairs]
        assert token_similarity(features(), pairs).item() == pytest.approx(math.fsum(map(abs, means)) / len(pairs), rel=1e-12)


def test_the_last_third_is_the_variance_of_the_use_of_the_channels() -> None:
    use = [0.0] * 5
    for block in features():
        for c in range(5):
            column = block[:, c].tolist()
            length = math.sqrt(math.fsum(v * v for v in column))
            use[c] += math.fsum(abs(v) / length for v in column) / len(column) / 3
    use = [u / max(use) for u in use]
    mean = math.fsum(use) / 5
    variance = math.fsum((u - mean) ** 2 for u in use) / 5
    assert 0 < variance < 0.25
    assert usage_variance(features()).item() == pytest.approx(variance / 0.25, rel=1e-6)


def test_thirds_of_features_made_by_hand() -> None:
    x, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])
    flipped = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    one = ((0, 1),)
    for pair, mean, token in (((x, x), 1, 1), ((x, y), 0, 0), ((x, -3 * x), -1, 1), ((x, flipped), 0, 0)):
        assert mean_similarity(pair, one).item() == pytest.approx(mean, abs=1e-6)
        assert token_similarity(pair, one).item() == pytest.approx(token, abs=1e-6)  # tokens of +1 and -1 cancel
    even = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    assert usage_variance([even, even]).item() == pytest.approx(0, abs=1e-6)
    dead = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # one channel always used, one never: the largest variance there is
    assert usage_variance([dead, dead]).item() == pytest.approx(1, abs=1e-6)


def test_the_loss_is_their_mean_with_use_rewarded_and_clamped(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [block.view(2, 5, 5) for block in features()]
    thirds = mean_similarity(features(), ALL_PAIRS), token_similarity(features(), ALL_PAIRS), usage_variance(features())
    expected = (thirds[0] + thirds[1] - thirds[2]).item() / 3
    assert expected > 0.05
    assert diversity_loss(outputs, ALL_PAIRS).item() == pytest.approx(expected, rel=1e-5)
    assert dit_diverse.LARGEST_LOSS == 5.0
    monkeypatch.setattr(dit_diverse, "LARGEST_LOSS", 0.05)
    assert diversity_loss(outputs, ALL_PAIRS).item() == pytest.approx(0.05)


def test_the_gradient_makes_blocks_differ_and_survives_dead_channels() -> None:
    outputs = [block.view(2, 5, 5).float().requires_grad_() for block in features(shift=1.0)]
    before = diversity_loss(outputs, ALL_PAIRS)
    before.backward()
    moved = [output.detach() - 0.5 * output.grad for output in outputs]
    assert diversity_loss(moved, ALL_PAIRS) < before
    silent = [torch.zeros(1, 4, 3, requires_grad=True), torch.ones(1, 4, 3, requires_grad=True)]
    loss = diversity_loss(silent, ((0, 1),))
    loss.backward()
    assert loss.isfinite()
    assert all(output.grad.isfinite().all() for output in silent)


@pytest.mark.parametrize(
    ("depth", "pairs", "expected"),
    [
        (12, 10, [(0, j) for j in range(1, 11)]),
        (3, 10, [(0, 1), (0, 2), (1, 2)]),
        (5, 6, [(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3)]),
    ],
)
def test_which_pairs(depth: int, pairs: int, expected: list[tuple[int, int]]) -> None:
    assert list(built(depth, pairs=pairs).pairs) == expected


def test_pairs_may_begin_at_the_second_block() -> None:
    assert list(built(12, first_block=1).pairs) == [(1, j) for j in range(2, 12)]
    assert list(built(3, first_block=1).pairs) == [(1, 2)]
    with pytest.raises(FieldError, match="from block 1 on"):
        DiverseDiT(hidden=8, depth=2, heads=2, first_block=1)


@pytest.mark.parametrize(
    ("loss", "coefficient", "slope"),
    [(0.05, 0.0, 0.0), (0.1, 0.0, 0.0), (0.2, 0.2, 0.6), (0.45, 0.7, 1.6), (0.55, 1.0, 1.0), (3.0, 1.0, 1.0)],
)
def test_the_coefficient_as_first_released(loss: float, coefficient: float, slope: float) -> None:
    """The slope of c(L) L: by hand (2 L - 0.1) / 0.5 where it rises, since c is not detached; and by a central difference."""
    value = torch.tensor(loss, dtype=torch.float64, requires_grad=True)
    weighted = value * first_coefficient(value)
    weighted.backward()
    assert first_coefficient(value).item() == pytest.approx(coefficient, abs=1e-12)
    assert value.grad is not None and value.grad.item() == pytest.approx(slope, abs=1e-12)
    if loss != 0.1:  # a corner
        ends = [torch.tensor(loss + step, dtype=torch.float64) for step in (1e-6, -1e-6)]
        difference = (ends[0] * first_coefficient(ends[0]) - ends[1] * first_coefficient(ends[1])).item() / 2e-6
        assert difference == pytest.approx(slope, abs=1e-6)


def test_the_first_rule_weighs_hundreds_of_times_the_constant_at_the_start() -> None:
    """As an untrained mini network starts: the loss is where the rule rises, and the gradient goes through the rule."""
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = {}
    for name in ("dit_mini_diverse", "dit_mini_diverse_released"):
        torch.manual_seed(0)
        network = load(registry.find("model", name)).config.build(ImageShape(3, 8), (Attention(),) * 6)
        _, loss = network.estimate_with_loss(x, torch.tensor([3, 300, 700, 990]))
        loss.backward()
        found[name] = loss.item(), network.blocks[0].mlp.fc1.weight.grad, network.x_embedder.proj.weight.grad
    constant, released = found["dit_mini_diverse"], found["dit_mini_diverse_released"]
    bare = constant[0] / 0.001
    assert 0.1 < bare < 0.5 and released[0] == pytest.approx((bare - 0.1) / 0.5 * bare, rel=1e-5)
    slope = (2 * bare - 0.1) / 0.5
    assert 650 < slope / 0.001 < 1200
    for mine, theirs in zip(released[1:], constant[1:], strict=True):
        torch.testing.assert_close(mine, slope / 0.001 * theirs, rtol=1e-3, atol=1e-6)


def test_a_rule_without_a_loss_is_refused() -> None:
    with pytest.raises(FieldError, match="asks for one"):
        DiverseDiT(hidden=8, depth=4, heads=2, diversity=0.0, coefficient="as_first_released")


def by_hand(network: DiverseTransformer, x: Tensor, joins: dict[int, tuple[int, int]]) -> tuple[list[Tensor], Tensor]:
    """Every block's output and the estimate in float64; joins: block -> (the earlier block, which norm and projection)."""
    tokens, condition = network.embed(x, STEPS, None)
    outputs: list[Tensor] = []
    for i, block in enumerate(network.blocks):
        tokens = block(tokens, condition)
        if i in joins:
            earlier, place = joins[i]
            norm, linear = network.skip_norms[place], network.skip_linears[place].linear
            rows = []
            for row in torch.cat([tokens, outputs[earlier]], dim=2).flatten(0, 1):
                centred = row - row.mean()
                rows.append(linear.weight @ (centred / (centred.square().mean() + 1e-6).sqrt() * norm.weight + norm.bias) + linear.bias)
            tokens = torch.stack(rows).view_as(tokens)
        outputs.append(tokens)
    return outputs, network.estimate(tokens, condition)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(
    ("depth", "joins"),
    [
        (2, {1: (0, 0)}),
        (4, {2: (1, 0), 3: (0, 1)}),
        (6, {3: (2, 0), 4: (1, 1), 5: (0, 2)}),
        (5, {3: (1, 0), 4: (0, 1)}),
    ],
)
@torch.no_grad()
def test_long_residuals_are_last_in_first_out(depth: int, joins: dict[int, tuple[int, int]], window: int | None) -> None:
    network = built(depth, window).double()
    for joined in (network.skip_norms, network.skip_linears):
        joined.float()  # a join happens in fp32 whatever the rest is
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    found: list[Tensor] = []
    tokens, condition = network.embed(x, STEPS, None)
    network.through_blocks(tokens, condition, found)
    reference = built(depth, window).double()
    outputs, estimate = by_hand(reference, x, joins)
    for one, other in zip(found, outputs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network(x, STEPS), estimate, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_order_of_the_long_residuals_shows() -> None:
    network, x = built(4).double(), torch.randn(2, 3, 4, 4, dtype=torch.float64)
    last_in_first_out, first_in_first_out = {2: (1, 0), 3: (0, 1)}, {2: (0, 0), 3: (1, 1)}
    assert (by_hand(network, x, last_in_first_out)[1] - by_hand(network, x, first_in_first_out)[1]).abs().max() > 0.01


def test_the_join_is_normalised_in_single_precision_under_autocast() -> None:
    network, seen = built(), []
    for norm in network.skip_norms:
        norm.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate, loss = network.estimate_with_loss(torch.randn(2, 3, 4, 4), STEPS)
    assert seen == [(torch.float32, torch.float32)] * 2
    assert loss.dtype == torch.float32
    assert estimate.isfinite().all()


def test_the_estimate_comes_with_the_weighted_loss_of_its_own_outputs() -> None:
    network = built(diversity=0.7)
    x = torch.randn(2, 3, 4, 4)
    outputs: list[Tensor] = []
    tokens, condition = network.embed(x, STEPS, None)
    network.through_blocks(tokens, condition, outputs)
    estimate, loss = network.estimate_with_loss(x, STEPS)
    assert torch.equal(estimate, network(x, STEPS))
    assert loss.item() == pytest.approx(0.7 * diversity_loss(outputs, network.pairs).item(), rel=1e-6)
    noise, abar = torch.randn(2, 3, 4, 4), diffusion.alphas_cumprod()
    noisy = diffusion.noised(x, noise, diffusion.levels(abar, STEPS))
    estimate, own = network.estimate_with_loss(noisy, STEPS)
    total = diffusion.loss(network, x, STEPS, noise, abar)
    assert total.item() == pytest.approx((estimate - noise).square().mean().item() + own.item(), rel=1e-6)


def test_either_part_alone() -> None:
    x = torch.randn(2, 3, 4, 4)
    residuals, loss = built(diversity=0.0), built(long_residuals=False)
    assert residuals.estimate_with_loss(x, STEPS)[1].item() == 0
    assert loss.estimate_with_loss(x, STEPS)[1].item() != 0
    assert not [name for name, _ in loss.named_parameters() if "skip" in name]
    plain = DiT(hidden=8, depth=4, heads=2).build(IMAGES, (Attention(),) * 4).eval()
    plain.load_state_dict(loss.state_dict())
    assert torch.equal(plain(x, STEPS), loss(x, STEPS))


def test_it_starts_with_the_weights_of_the_plain_dit() -> None:
    torch.manual_seed(5)
    plain = DiT(hidden=8, depth=4, heads=2).build(IMAGES, (Attention(),) * 4).state_dict()
    torch.manual_seed(5)
    diverse = DiverseDiT(hidden=8, depth=4, heads=2).build(IMAGES, (Attention(),) * 4).state_dict()
    assert all(torch.equal(diverse[name], plain[name]) for name in plain)
    extra = sorted(set(diverse) - set(plain))
    assert extra == sorted(
        f"{name}.{k}.{weight}"
        for k in (0, 1)
        for name, weight in (
            ("skip_norms", "weight"),
            ("skip_norms", "bias"),
            ("skip_linears", "linear.weight"),
            ("skip_linears", "linear.bias"),
        )
    )
    drawn = diverse["skip_linears.0.linear.weight"]
    assert drawn.abs().max() <= math.sqrt(6 / (16 + 8))
    assert drawn.std() > 0.2


def test_the_entries_are_the_parts_they_are_named_after() -> None:
    for name, (residuals, weight) in {"diverse": (True, 0.001), "longres": (True, 0.0), "divloss": (False, 0.001)}.items():
        for size in ("xs1", "s1", "mini") if name == "diverse" else ("xs1", "mini"):
            config, plain = (load(registry.find("model", f"dit_{n}")).config for n in (f"{size}_{name}", size))
            assert (config.long_residuals, config.diversity, config.pairs) == (residuals, weight, 10)
            assert {field: getattr(config, field) for field in vars(plain)} == vars(plain)


def test_impossible_ones_are_refused() -> None:
    with pytest.raises(FieldError, match="depth = 1 leaves no two blocks"):
        DiverseDiT(hidden=8, depth=1, heads=2)
    with pytest.raises(FieldError, match="diversity = -0.1 must be at least 0"):
        DiverseDiT(hidden=8, depth=2, heads=2, diversity=-0.1)
    with pytest.raises(FieldError, match="heads = 3 must divide hidden = 8"):
        DiverseDiT(hidden=8, depth=2, heads=3)
    with pytest.raises(FieldError, match="the layout gives 3"):
        DiverseDiT(hidden=8, depth=2, heads=2).build(IMAGES, (Attention(),) * 3)
