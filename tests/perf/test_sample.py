"""What a sampler adds to the forward passes it makes: noise, recursion, grey levels. Turn by turn, in CPU seconds."""

import time

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from benchmark.contract import Attention, ImageShape
from benchmark.sampling import Request
from benchmark.sampling.drawing import draw_samples
from registry.backbones.dit import DiT

CPU = torch.device("cpu")
MINI = DiT(hidden=32, depth=6, heads=2), ImageShape(3, 8), 32, 10
XS1 = DiT(hidden=252, depth=12, heads=4), ImageShape(3, 32), 2, 2


@torch.no_grad()
def bare(network: nn.Module, x: torch.Tensor, steps: int) -> float:
    """Return the CPU seconds of the forward passes alone."""
    t = torch.full((len(x),), 500)
    began = time.process_time()
    for _ in range(steps):
        network(x, t)
    return time.process_time() - began


def sampling(network: nn.Module, request: Request, shape: ImageShape) -> float:
    """Return the CPU seconds of one batch of samples."""
    began = time.process_time()
    draw_samples(network, request, range(request.count), shape, CPU)
    return time.process_time() - began


@pytest.mark.parametrize(("model", "shape", "batch", "steps"), [MINI, XS1], ids=["mini", "xs1"])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
def test_sampling_is_at_least_095_of_the_bare_forward(
    benchmark: BenchmarkFixture, sampler: str, model: DiT, shape: ImageShape, batch: int, steps: int
) -> None:
    torch.set_num_threads(1)
    network = model.build(shape, (Attention(),) * model.depth).eval()
    request = Request(count=batch, sampler=sampler, steps=steps)
    x = torch.randn(batch, shape.channels, shape.resolution, shape.resolution)
    forwards: list[float] = []
    samples: list[float] = []

    def turn() -> None:
        forwards.append(bare(network, x, steps))
        samples.append(sampling(network, request, shape))

    benchmark.pedantic(turn, rounds=5, warmup_rounds=1)
    benchmark.extra_info["throughput"] = min(forwards[1:]) / min(samples[1:])
    assert min(forwards[1:]) >= 0.95 * min(samples[1:])
