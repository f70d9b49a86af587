"""benchmark/analysis/receptive_field.py: networks whose reach is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.analysis.derivatives import Linearised
from benchmark.analysis.receptive_field import (
    analyse,
    asked,
    cumulative,
    distances_of,
    mass_by_offset,
    radius,
    summary,
    uniform_mass,
)
from benchmark.analysis.study import Parts, Request

SIDE = 9


class Convolution(nn.Module):
    """Every pixel takes the pixels of a window around it, all alike."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, width, padding=width // 2, bias=False)
        nn.init.constant_(self.conv.weight, -0.3)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.conv(x)


class Mean(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x.mean(dim=(1, 2, 3), keepdim=True).expand_as(x) * 1.0


class Pointwise(nn.Module):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(x.flip(1) * t.view(-1, 1, 1, 1) / 1000)


def mass_of(network: nn.Module, side: int = SIDE) -> np.ndarray:
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    return mass_by_offset(Linearised(network.requires_grad_(False), x, 500), asked(side)).numpy()


def window_mass(width: int) -> np.ndarray:
    """Return the mass of a window of equal weights cut at the border, by loops."""
    total, reach = np.zeros((2 * SIDE - 1, 2 * SIDE - 1)), width // 2
    for row in range(SIDE):
        for column in range(SIDE):
            inside = [(i - row, j - column) for i in range(SIDE) for j in range(SIDE) if max(abs(i - row), abs(j - column)) <= reach]
            for down, across in inside:
                total[SIDE - 1 + down, SIDE - 1 + across] += 1 / len(inside) / SIDE**2
    return total


@pytest.mark.parametrize("width", [1, 3, 5])
def test_a_convolution_reaches_as_far_as_its_window(width: int) -> None:
    mass, distances = mass_of(Convolution(width)), distances_of(SIDE)
    assert np.allclose(mass, window_mass(width), atol=1e-7)
    outside = np.maximum(*np.abs(np.indices(mass.shape) - SIDE + 1)) > width // 2
    assert mass[outside].max() == 0
    assert radius(mass, distances, 0.99) <= np.hypot(width // 2, width // 2) + 1e-9


def test_a_pointwise_network_reaches_nowhere() -> None:
    found = summary(mass_of(Pointwise()), distances_of(SIDE))
    assert found == {
        "own_share": pytest.approx(1),
        "radius50": 0,
        "radius90": 0,
        "others_radius50": 0,
        "others_radius90": 0,
        "others_mean_distance": 0,
    }


def test_a_mean_reaches_everywhere_alike() -> None:
    mass = mass_of(Mean())
    assert np.allclose(mass, uniform_mass(SIDE, asked(SIDE)), atol=1e-7)
    found = summary(mass, distances_of(SIDE))
    assert found["own_share"] == pytest.approx(1 / SIDE**2, rel=1e-5)
    pairs = [(i, j) for i in range(SIDE) for j in range(SIDE)]
    apart = sorted(np.hypot(a - c, b - d) for a, b in pairs for c, d in pairs)
    assert found["radius50"] == pytest.approx(apart[len(apart) // 2])
    others = [value for value in apart if value > 0]
    assert found["others_mean_distance"] == pytest.approx(np.mean(others), rel=1e-5)


def test_the_radius_is_the_first_that_holds_the_share() -> None:
    distances, mass = np.array([0.0, 1.0, 1.0, 2.0]), np.array([0.5, 0.2, 0.2, 0.1])
    assert [radius(mass, distances, share) for share in (0.5, 0.51, 0.9, 0.91)] == [0, 1, 1, 2]
    assert cumulative(mass, distances)[1].tolist() == pytest.approx([0.5, 0.9, 1.0])


def test_a_large_image_is_asked_at_an_even_grid() -> None:
    pixels = asked(32)
    assert len(pixels) == 256
    assert sorted({row for row, _ in pixels}) == list(range(1, 32, 2))
    assert asked(8) == [(row, column) for row in range(8) for column in range(8)]
    mass = mass_of(Convolution(3), 18)
    assert mass.sum() == pytest.approx(1)
    assert mass[16:19, 16:19].sum() == pytest.approx(1)


def test_the_analysis_tells_each_step_apart_and_resumes(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network, request, seen = Convolution(3).requires_grad_(False), Request(images=2, timesteps=(100, 900)), []

    def stop_at_second_step(done: int, total: int, detail: str = "") -> None:
        seen.append((done, total))
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        analyse(network, images, request, stop_at_second_step, Parts(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["t100.npz"]
    kept = (tmp_path / "t100.npz").stat().st_mtime_ns
    result = analyse(network, images, request, lambda done, total: None, Parts(tmp_path))
    assert (tmp_path / "t100.npz").stat().st_mtime_ns == kept
    again = analyse(network, images, request, lambda done, total: None, Parts(tmp_path / "other"))
    assert result.numbers == again.numbers
    assert result.numbers["radius90_t100"] == pytest.approx(2**0.5)
    assert result.settings["uniform"]["own_share"] == pytest.approx(1 / 36, rel=1e-5)
