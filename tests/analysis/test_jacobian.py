"""benchmark/analysis/jacobian.py, spectrum.py, derivatives.py: against differences, dense matrices and closed forms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.analysis import jacobian, spectrum
from benchmark.analysis.derivatives import Linearised
from benchmark.analysis.study import Parts, Request, noisy
from benchmark.contract import Attention, ImageShape
from benchmark.declaring import entries, registry
from benchmark.errors import NotRun
from benchmark.networks.diffusion import alphas_cumprod
from registry.backbones.dit import DiT
from registry.backbones.dit_diverse import DiverseDiT
from registry.backbones.dit_gpsa import GatedPositionalDiT
from registry.backbones.dit_shared import SharedDiT
from registry.backbones.local_score import LocalScore
from registry.backbones.reference import EmpiricalOptimal, Wiener
from registry.backbones.unet import UNet
from registry.backbones.unet_simple import SimpleUNet

SHAPE = ImageShape(3, 8)
SMALL = {"hidden": 16, "depth": 2, "heads": 2}
WINDOWS = (Attention(window=3), Attention(window=3, border="shifted"))
TRAINED = {
    "global": lambda: DiT(**SMALL).build(SHAPE, (Attention(),) * 2),
    "local": lambda: DiT(**SMALL).build(SHAPE, WINDOWS),
    "shared": lambda: SharedDiT(**SMALL, group=2).build(SHAPE, (Attention(),) * 2),
    "gated": lambda: GatedPositionalDiT(**SMALL, gated=1).build(SHAPE, WINDOWS),
    "diverse": lambda: DiverseDiT(**SMALL).build(SHAPE, (Attention(),) * 2),
    "pca": lambda: entry("dit_mini_pca").build(SHAPE, (Attention(),) * 6),
    "unet": lambda: UNet(channels=8, residual_blocks=1, multipliers=(1, 2), heads=2).build(SHAPE),
    "unet_simple": lambda: SimpleUNet(channels=4, scales=2).build(SHAPE),
}
FITTED = {
    "wiener": lambda: Wiener(shrinkage=0.1).build(SHAPE),
    "empirical_optimal": lambda: EmpiricalOptimal(bandwidth=0.2).build(SHAPE),
    "local_score": lambda: LocalScore(patches=(3,), from_steps=(0,)).build(SHAPE),
    "local_score_border": lambda: LocalScore(patches=(3,), from_steps=(0,), border="truncated").build(SHAPE),
}


def entry(name: str) -> object:
    """Return a backbone of the registry by name."""
    return entries.load(registry.find("model", name)).config


def uint8_images(count: int, side: int = 8) -> Tensor:
    """Return smooth images, whose pixels depend on each other."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    fine = nn.functional.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
    return (fine * 255).to(torch.uint8)


def network_of(name: str) -> nn.Module:
    """Return a network in double precision whose every weight does something, or one that is fitted."""
    torch.manual_seed(3)
    made = (TRAINED | FITTED)[name]()
    if name in FITTED:
        made.fit(uint8_images(40))
    else:
        with torch.no_grad():
            for weight in made.parameters():
                weight.add_(0.15 * torch.randn(weight.shape))
    return made.double().eval().requires_grad_(False)


def dense(around: Linearised) -> Tensor:
    """Return the Jacobian of every image, (K, D, D)."""
    return around.rows(0, around.size).transpose(0, 1)


@pytest.mark.parametrize("name", [*TRAINED, *FITTED])
def test_products_match_central_differences(name: str) -> None:
    network, t = network_of(name), 300
    generator = torch.Generator().manual_seed(0)
    x, _ = noisy(uint8_images(2), t, Request(images=2))
    x = x.double()
    around = Linearised(network, x, t)
    directions = torch.randn(4, 2, around.size, dtype=torch.float64, generator=generator)
    step = 1e-5 if name != "unet_simple" else 1e-7  # whose ReLUs must not switch on the way
    with torch.no_grad():
        differences = torch.stack(
            [(network(x + step * v.view_as(x), around.t) - network(x - step * v.view_as(x), around.t)).flatten(1) for v in directions]
        ) / (2 * step)
    forward = around.jvp(directions)
    assert differences.norm() > 0.01
    assert (forward - differences).norm() / differences.norm() < 1e-6
    matrix = dense(around)
    assert (torch.einsum("kij,bkj->bki", matrix, directions) - differences).norm() / differences.norm() < 1e-6
    backward = around.vjp(directions)
    assert torch.allclose(backward, torch.einsum("bki,kij->bkj", directions, matrix), atol=1e-10)


def test_the_denoised_image_has_the_jacobian_that_its_name_says() -> None:
    network, t = network_of("global"), 200
    x = noisy(uint8_images(1), t, Request(images=1))[0].double()
    abar = alphas_cumprod()[t]
    v = torch.randn(1, 1, 192, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def clean(scaled: Tensor) -> Tensor:
        """Return x0_hat as a function of x_t / sqrt(abar)."""
        xt = scaled * abar.sqrt()
        return (xt - (1 - abar).sqrt() * network(xt, torch.tensor([t]))) / abar.sqrt()

    at, step = x / abar.sqrt(), 1e-5 * v.view_as(x)
    expected = (clean(at + step) - clean(at - step)).flatten() / 2e-5
    operator = jacobian.Products(Linearised(network, x, t), (1 - abar).sqrt().item(), 1.0)
    assert torch.allclose(operator.forward(v[0])[0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["global", "unet"])
def test_leading_modes_match_the_dense_ones_in_192_dimensions(name: str) -> None:
    network, t, sigma = network_of(name).float(), 200, 0.58
    x, _ = noisy(uint8_images(1), t, Request(images=1))
    around = Linearised(network, x, t)
    matrix = torch.eye(192, dtype=torch.float64) - sigma * dense(around)[0].double()
    found = spectrum.leading_modes(jacobian.Products(around, sigma, 1.0), 8, torch.Generator().manual_seed(0))
    symmetric = (matrix + matrix.mT) / 2
    expected = torch.linalg.eigvalsh(symmetric).flip(0)[:8]
    assert torch.allclose(found.eigenvalues, expected, rtol=0, atol=1e-4 * expected[0].item())
    assert torch.allclose(found.singular_values, torch.linalg.svdvals(matrix)[:8], rtol=1e-4)
    assert torch.allclose(symmetric @ found.eigenvectors[0], expected[0] * found.eigenvectors[0], atol=1e-4)
    assert torch.allclose(found.right @ matrix.mT, found.singular_values[:, None] * found.left, atol=1e-4)
    assert torch.allclose(found.right @ found.right.mT, torch.eye(8, dtype=torch.float64), atol=1e-6)
    traces = jacobian.estimated_traces(jacobian.Products(around, sigma, 1.0), found, torch.Generator().manual_seed(1))
    odd = (matrix - matrix.mT) / 2
    assert traces.trace.item() == pytest.approx(matrix.trace().item(), rel=0.15)
    assert traces.symmetric.item() == pytest.approx(symmetric.square().sum().item(), rel=0.15)
    assert traces.antisymmetric.item() == pytest.approx(odd.square().sum().item(), rel=0.3)


def test_the_estimated_traces_are_exact_where_their_variance_is_none() -> None:
    diagonal = torch.linspace(3, -1, 50, dtype=torch.float64)
    turn = torch.zeros(50, 50, dtype=torch.float64)
    turn[0, 1], turn[1, 0] = 0.7, -0.7  # along the leading directions, where nothing is estimated
    operator = Matrix(torch.diag(diagonal) + turn)
    found = spectrum.leading_modes(operator, 4, torch.Generator().manual_seed(0))
    traces = jacobian.estimated_traces(operator, found, torch.Generator().manual_seed(1))
    assert traces.trace.item() == pytest.approx(diagonal.sum().item())  # random signs give the trace of a diagonal exactly
    assert traces.symmetric.item() == pytest.approx(diagonal.square().sum().item())
    assert traces.antisymmetric.item() == pytest.approx(2 * 0.7**2)


class Matrix:
    """A matrix that counts how many directions it is multiplied with."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.size, self.products = matrix, len(matrix), 0

    def forward(self, directions: Tensor) -> Tensor:
        self.products += len(directions)
        return directions @ self.matrix.mT

    def transposed(self, directions: Tensor) -> Tensor:
        self.products += len(directions)
        return directions @ self.matrix


def test_few_products_find_the_leading_directions_of_a_large_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    turned = torch.linalg.qr(torch.randn(1200, 1200, dtype=torch.float64, generator=generator)).Q
    values = 1 / (1 + torch.arange(1200, dtype=torch.float64)) ** 0.7
    operator = Matrix(turned @ torch.diag(values) @ turned.mT)
    found, vectors, residual = spectrum.leading(operator.forward, 1200, 8, torch.Generator().manual_seed(1))
    assert torch.allclose(found, values[:8], atol=1e-5)
    assert ((vectors @ turned[:, :8]).abs() - torch.eye(8, dtype=torch.float64)).abs().max() < 1e-3
    assert residual <= spectrum.TOLERANCE
    assert operator.products < 200


def test_what_has_not_settled_is_said() -> None:
    dense = Matrix(torch.diag(torch.linspace(0, 1, 2000, dtype=torch.float64) ** 0.2))  # ever closer to the largest
    _, _, residual = spectrum.leading(dense.forward, 2000, 4, torch.Generator().manual_seed(1))
    assert residual > spectrum.TOLERANCE
    assert dense.products <= spectrum.ROUNDS * 8


def test_degenerate_and_tiny_matrices() -> None:
    for matrix in (torch.zeros(12, 12, dtype=torch.float64), torch.eye(12, dtype=torch.float64), torch.ones(3, 3, dtype=torch.float64)):
        found = spectrum.leading_modes(Matrix(matrix), 3, torch.Generator().manual_seed(0))
        assert torch.allclose(found.eigenvalues, torch.linalg.eigvalsh(matrix).flip(0)[:3], atol=1e-9)
        assert torch.allclose(found.singular_values, torch.linalg.svdvals(matrix)[:3], atol=1e-7)


def wiener_gains(images: Tensor, shrinkage: float, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues and eigenvectors (columns) of the linear denoiser from the covariance, apart from its code."""
    pixels = images.numpy().reshape(len(images), -1) / 127.5 - 1
    covariance = np.cov(pixels.T, bias=True)
    shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    variances, axes = np.linalg.eigh(shrunk)
    abar = float(np.prod(1 - np.linspace(1e-4, 0.02, 1000)[: t + 1]))
    return (abar * variances / (abar * variances + 1 - abar))[::-1], axes[:, ::-1]


@pytest.mark.parametrize("leading", [None, 5])
def test_wiener_matches_its_closed_form(leading: int | None, tmp_path: Path) -> None:
    network, images = network_of("wiener"), uint8_images(40)
    request = Request(images=2, timesteps=(50, 400), leading=leading)
    result = jacobian.analyse(network, uint8_images(2), request, lambda done, total: None, Parts(tmp_path))
    assert result.settings["method"] == ("whole" if leading is None else "leading")
    for place, t in enumerate((50, 400)):
        gains, axes = wiener_gains(images, 0.1, t)
        sigma = (1 - alphas_cumprod()[t]).sqrt().item()
        found = result.arrays["eigenvalues"][place]
        assert np.allclose(found, gains[: found.shape[1]], atol=2e-6)
        noise = result.arrays["eigenvalues_noise"][place]
        assert np.allclose(noise, ((1 - gains) / sigma)[::-1][: noise.shape[1]], atol=2e-4 if leading else 1e-5)
        along = result.arrays["eigenvectors"][place, 0].reshape(-1, 192)[:5] @ axes[:, :5]
        assert np.allclose(np.abs(along), np.eye(5), atol=2e-3)
        assert result.numbers[f"effective_dimension_t{t}"] == pytest.approx(gains.sum(), rel=1e-5 if leading is None else 0.05)
        assert result.numbers[f"leading_share_t{t}"] == pytest.approx(
            gains[0] ** 2 / (gains**2).sum(), rel=1e-4 if leading is None else 0.05
        )
        assert result.numbers[f"asymmetry_t{t}"] < 1e-5
        assert result.numbers[f"energy_dimension_t{t}"] == pytest.approx((gains**2).sum(), rel=1e-4 if leading is None else 0.05)
        if leading is None:
            assert np.allclose(result.arrays["singular_values"][place], np.abs(gains), atol=2e-6)


def test_asymmetry_of_matrices_that_are_known() -> None:
    shape, even = (1, 2, 2), torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64))
    odd = torch.zeros(4, 4, dtype=torch.float64)
    odd[0, 1], odd[1, 0] = 2.0, -2.0
    for matrix, expected in ((even, 0.0), (odd, 1.0), (even + odd, (8 / 38) ** 0.5)):
        half = (matrix + matrix.mT) / 2
        traces = jacobian.Traces(matrix.trace(), half.square().sum(), (matrix - half).square().sum())
        noise = torch.eye(4, dtype=torch.float64) - matrix
        told = jacobian._told(spectrum.modes(matrix, 2), spectrum.modes(noise, 2), traces, 1.0, shape)
        assert told["asymmetry"].item() == pytest.approx(expected)
        whole = ((noise - noise.mT) / 2).norm() / noise.norm()
        assert told["asymmetry_noise"].item() == pytest.approx(whole.item())
        if expected < 1:
            share = torch.linalg.eigvalsh((noise + noise.mT) / 2).square()
            assert told["leading_share_noise"].item() == pytest.approx(
                (torch.linalg.eigvalsh((noise + noise.mT) / 2)[-1] ** 2 / share.sum()).item()
            )


def test_rank_correlation() -> None:
    assert jacobian.rank_correlation(torch.tensor([0.1, 0.2, 0.5, 9.0])).item() == pytest.approx(1)
    assert jacobian.rank_correlation(torch.tensor([4.0, 3.0, 2.0])).item() == pytest.approx(-1)
    assert jacobian.rank_correlation(torch.tensor([1.0, 3.0, 2.0, 4.0])).item() == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)


def test_an_interrupted_matrix_goes_on_after_its_whole_blocks(tmp_path: Path) -> None:
    network, images, request = network_of("global").float(), uint8_images(2), Request(images=2, timesteps=(100,))

    def stop(done: int, total: int) -> None:
        if done >= 2 * jacobian.ROWS:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jacobian.analyse(network, images, request, stop, Parts(tmp_path))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sorted(before) == ["t100-rows0.npz", "t100-rows64.npz"]
    resumed = jacobian.analyse(network, images, request, lambda done, total: None, Parts(tmp_path))
    assert all((tmp_path / name).stat().st_mtime_ns == when for name, when in before.items())
    whole = jacobian.analyse(network, images, request, lambda done, total: None, Parts(tmp_path / "other"))
    assert resumed.numbers == whole.numbers


class Silent(nn.Module):
    """A network that computes without gradients."""

    @torch.no_grad()
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * 2


def test_a_network_without_derivatives_is_refused_by_name() -> None:
    with pytest.raises(NotRun, match="Silent"):
        Linearised(Silent(), torch.zeros(1, 3, 4, 4), 5)
