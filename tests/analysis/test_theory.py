"""Agreement with theory: its known answers, and r^2 against the definition."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.analysis import study, theory
from benchmark.networks.diffusion import alphas_cumprod
from registry.backbones.reference import Wiener
from tests.networks.test_reference import fitted, images

REQUEST = study.Request(images=3, timesteps=(700, 50))


class Linear(nn.Module):
    """x0_hat = m + W_t (x - sqrt(abar) m) with whole matrices in float64, as a network would hold them."""

    def __init__(self, train: Tensor) -> None:
        super().__init__()
        flat = (train.double() / 127.5 - 1).flatten(1)
        denoiser = fitted(Wiener(), train)
        self.mean = nn.Parameter(flat.mean(dim=0))
        beside = denoiser.rest * torch.eye(flat.shape[1], dtype=torch.float64)
        self.covariance = nn.Parameter(denoiser.axes @ torch.diag(denoiser.variances - denoiser.rest) @ denoiser.axes.T + beside)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found = []
        for one, step in zip(x, t.tolist(), strict=True):
            abar = alphas_cumprod()[step].item()
            inner = abar * self.covariance + (1 - abar) * torch.eye(len(self.mean), dtype=torch.float64)
            off = one.flatten() - math.sqrt(abar) * self.mean
            clean = self.mean + math.sqrt(abar) * self.covariance @ torch.linalg.solve(inner, off)
            found.append((one - math.sqrt(abar) * clean.view(one.shape)) / math.sqrt(1 - abar))
        return torch.stack(found)


def analysed(network: nn.Module, folder: Path, train: Tensor) -> study.Result:
    return theory.analyse(network, images(3, seed=9), REQUEST, lambda *_: None, study.Parts(folder), train)


def test_a_linear_network_agrees_with_the_linear_denoiser_and_with_no_other(tmp_path: Path) -> None:
    found = analysed(Linear(images(5)), tmp_path, images(5)).numbers
    for name in ("r2_wiener_t50", "r2_wiener_t700", "r2_samples_wiener"):
        assert found[name] == pytest.approx(1, abs=1e-6)
    others = [value for name, value in found.items() if name.startswith("r2_") and "wiener" not in name]
    assert len(others) == 9 and max(others) < 0.9999


@pytest.mark.parametrize("name", theory.REFERENCES)
def test_a_reference_agrees_with_itself(name: str, tmp_path: Path) -> None:
    train = images(5)
    fields = {"patches": (3,), "from_steps": (0,)} if name == theory.LOCAL else {}
    found = analysed(theory._fitted(name, train, **fields), tmp_path, train)
    for key in (f"r2_{name}_t50", f"r2_{name}_t700", f"r2_samples_{name}"):
        assert found.numbers[key] == pytest.approx(1, abs=1e-9)
    assert found.arrays["r2"].shape == (4, 2, 3) and found.arrays["r2_samples"].shape == (4, 3)


def test_an_interrupted_one_goes_on_where_it_stopped(tmp_path: Path) -> None:
    train = images(5)
    before = analysed(Linear(train), tmp_path, train)
    again = analysed(nn.Identity(), tmp_path, train)  # asked for nothing: everything was kept
    assert again.numbers == before.numbers


def test_r2_is_the_squared_correlation() -> None:
    one, other = (torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    other = other + 0.5 * one
    expected = [np.corrcoef(a.flatten(), b.flatten())[0, 1] ** 2 for a, b in zip(one.double().numpy(), other.double().numpy(), strict=True)]
    assert theory.r2(one, other).tolist() == pytest.approx(expected, abs=1e-12)
    flat = torch.ones(1, 2, 3, 3)
    assert theory.r2(flat, flat).tolist() == [1.0] and theory.r2(flat, one[:1]).tolist() == [0.0]


def test_the_local_machine_takes_the_best_patch_of_each_level() -> None:
    train = images(5)
    x = study.noisy(images(3, seed=9), 400, REQUEST)[0]
    for side in (1, 3):
        ours = theory._clean(theory._fitted(theory.LOCAL, train, patches=(side,), from_steps=(0,)), x, 400)
        found = theory._best_side(ours, x, 400, train)
        assert int(found["side"]) == 3  # of 4x4 images the largest odd patch; the entry names none below 3
        assert (found["r2"].min().item() == pytest.approx(1)) == (side == 3)


def test_a_step_between_two_takes_the_patch_of_the_nearer() -> None:
    assert theory.patches_of({700: 5, 50: 3, 200: 7}) == {"patches": (3, 7, 5), "from_steps": (0, 125, 450)}
