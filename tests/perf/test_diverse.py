"""What the diversity loss costs: a training step of DiT-XS/1 at 32x32 with and without it, turn by turn."""

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from benchmark.contract import Attention, ImageShape
from registry.backbones.dit_diverse import DiverseDiT, diversity_loss

ROUNDS = 5
BATCH = 2


def step(network: nn.Module, x: torch.Tensor, t: torch.Tensor) -> float:
    """Return the CPU seconds of one forward and backward pass, the loss of the network's own included."""
    began = time.process_time()
    estimate, own = network.estimate_with_loss(x, t)
    ((estimate - x).square().mean() + own).backward()
    network.zero_grad(set_to_none=True)
    return time.process_time() - began


def test_a_step_with_the_loss_costs_at_most_five_percent_more(benchmark: BenchmarkFixture) -> None:
    torch.set_num_threads(1)
    x, t = torch.randn(BATCH, 3, 32, 32), torch.tensor([3, 700])
    networks = [
        DiverseDiT(hidden=252, depth=12, heads=4, diversity=weight).build(ImageShape(3, 32), (Attention(),) * 12).train()
        for weight in (0.0, 0.001)
    ]
    seconds: list[list[float]] = [[], []]

    def turn() -> None:
        for network, spent in zip(networks, seconds, strict=True):
            spent.append(step(network, x, t))

    benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
    without, with_loss = (min(spent[1:]) for spent in seconds)
    benchmark.extra_info["cost"] = with_loss / without - 1
    assert with_loss <= 1.05 * without


@pytest.mark.parametrize("batch", [2, 8])
def test_the_loss_alone(benchmark: BenchmarkFixture, batch: int) -> None:
    torch.set_num_threads(1)
    outputs = [torch.randn(batch, 1024, 252, requires_grad=True) for _ in range(12)]
    pairs = [(0, j) for j in range(1, 11)]
    benchmark.pedantic(lambda: diversity_loss(outputs, pairs).backward(), rounds=ROUNDS, warmup_rounds=1)
