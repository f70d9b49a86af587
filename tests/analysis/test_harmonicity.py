"""benchmark/analysis/harmonicity.py: cosines, noise and spikes, each against what can be computed apart."""

import math

import pytest
import torch
from torch import Tensor

from benchmark.analysis.harmonicity import (
    cosines,
    frequency,
    harmonicity,
    local_spectra,
    sparsity,
)


def cosine(u: int, v: int, side: int) -> Tensor:
    """Return one cosine of the DCT-II, (side, side), from its formula."""
    return torch.tensor(
        [[math.cos(math.pi * u * (i + 0.5) / side) * math.cos(math.pi * v * (j + 0.5) / side) for j in range(side)] for i in range(side)],
        dtype=torch.float64,
    )


def spike_score(i: int, j: int, side: int = 8) -> float:
    """Return the harmonicity of a single pixel by loops over its coefficients."""

    def energy(k: int, place: int) -> float:
        return (1 if k == 0 else 2) / side * math.cos(math.pi * k * (place + 0.5) / side) ** 2

    ratio = sum((energy(k, i) * energy(m, j)) ** 2 for k in range(side) for m in range(side))
    noise = 3 / (side**2 + 2)
    return (ratio - noise) / (1 - noise)


def test_the_transform_is_orthonormal_and_keeps_the_energy() -> None:
    basis = cosines(8)
    assert torch.allclose(basis @ basis.mT, torch.eye(8, dtype=torch.float64), atol=1e-14)
    x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(local_spectra(x).sum((-2, -1))[..., 0], x.square().sum((-2, -1)))


def test_every_cosine_of_the_window_scores_one_and_has_its_frequency() -> None:
    basis = torch.stack([cosine(u, v, 8) for u in range(8) for v in range(8)])[:, None].expand(-1, 3, -1, -1)
    assert torch.allclose(harmonicity(basis), torch.ones(64, dtype=torch.float64), atol=1e-12)
    expected = torch.tensor([math.hypot(u, v) / 16 for u in range(8) for v in range(8)], dtype=torch.float64)
    assert torch.allclose(frequency(basis), expected, atol=1e-12)
    one_channel = basis * torch.tensor([0.0, 1.0, 0.0])[:, None, None]  # a channel without energy has no say
    assert torch.allclose(harmonicity(one_channel), torch.ones(64, dtype=torch.float64), atol=1e-12)


def test_a_cosine_of_a_large_image_is_far_above_noise_in_every_window() -> None:
    scores = torch.stack([harmonicity(cosine(u, v, 32)[None]) for u in range(32) for v in range(32)])
    assert scores.min() > 0.15  # a frequency between two of the window's spreads over both axes' neighbours
    assert scores.median() > 0.35


def test_noise_scores_zero_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    for side in (8, 16):
        noise = torch.randn(3000, 3, side, side, dtype=torch.float64, generator=generator)
        for score in (harmonicity(noise), sparsity(noise)):
            assert abs(score.mean().item()) < 4 * score.std().item() / 3000**0.5
            assert 0 < score.std() < 0.02


def test_the_expectation_for_noise_is_that_of_the_sphere() -> None:
    generator = torch.Generator().manual_seed(1)
    for count in (4, 64):
        energies = torch.randn(200_000, count, dtype=torch.float64, generator=generator).square()
        ratios = energies.square().sum(1) / energies.sum(1).square()
        assert ratios.mean().item() == pytest.approx(3 / (count + 2), abs=5 * ratios.std().item() / 200_000**0.5)


def test_spikes_score_as_their_formula_says_and_below_noise() -> None:
    for i in range(8):
        for j in range(8):
            spike = torch.zeros(3, 8, 8)
            spike[1, i, j] = -2.0
            assert harmonicity(spike).item() == pytest.approx(spike_score(i, j), abs=1e-12)
            assert harmonicity(spike) < 0
            assert sparsity(spike).item() == pytest.approx(1.0)
    sparse = torch.zeros(500, 3, 8, 8, dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    for one in sparse:
        one.view(-1)[torch.randperm(192, generator=generator)[:4]] = 1.0
    assert harmonicity(sparse).mean() < 0.01  # four pixels of equal height, at random places
    assert torch.allclose(sparsity(sparse), torch.full((500,), (1 / 4 - 3 / 194) / (1 - 3 / 194), dtype=torch.float64))


def test_a_direction_of_no_length_scores_nothing() -> None:
    nothing = torch.zeros(2, 3, 8, 8)
    assert harmonicity(nothing).tolist() == sparsity(nothing).tolist() == frequency(nothing).tolist() == [0, 0]
