"""Which directions of a noisy image a network keeps: the Jacobians of its two readings, their eigenvectors and spectra.

J = d eps_hat / d x_t is the Jacobian of the noise estimate. The denoised image as a function of the noisy image on the
clean image's own scale, x_t / sqrt(abar) = x_0 + (sigma / sqrt(abar)) noise, has the Jacobian

    M = sqrt(abar) d x0_hat / d x_t = I - sigma J,

without the clip to [-1, 1]. This is the matrix of Kadkhodaie et al. 2024: its eigenvalues say how much is kept of the noise
along each direction (1: all, 0: nothing). Neither matrix is symmetric, so that eigenvectors are those of the
symmetric part, and the singular vectors stand beside them. Numbers are of M, with `_noise` of J; means over the images:

effective_dimension  tr M, the degrees of freedom of the estimate (Stein 1981), the rank where M projects
energy_dimension     sum of s^2 over the singular values, the effective dimensionality of Mohan et al. 2020
leading_share        lambda_1^2 / sum lambda^2 of the symmetric part
asymmetry            |M - M^T| / |2 M| in the Frobenius norm: 0 symmetric, 1 antisymmetric, 0.71 for independent entries
harmonicity, sparsity, frequency_order   of the leading directions, see harmonicity.py; the last is the rank correlation
                     between the place of an eigenvector in the spectrum and its frequency (1: ever finer)
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.analysis import LARGE, study
from benchmark.analysis.derivatives import Linearised
from benchmark.analysis.harmonicity import frequency, harmonicity, sparsity
from benchmark.analysis.spectrum import Modes, leading_modes, modes
from benchmark.errors import UsageError
from benchmark.networks.diffusion import denoised, random_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = "jacobian-1"
VECTORS = 16  # leading directions that are kept and scored where the whole matrix is formed
FEWER = 8  # ... where it is not
LARGE_ON_CUDA = 4096
ROWS = 64  # of a matrix that are kept at once, so that an interrupted analysis goes on after them
PROBES = 32  # random directions of the estimated traces


def analyse(network: nn.Module, images: Tensor, request: study.Request, progress: study.Progress, parts: study.Parts) -> study.Result:
    """Return the spectra and the leading directions of both Jacobians, image by image and step by step."""
    size = images[0].numel()
    if (request.leading or 0) > size:
        raise UsageError(f"`leading={request.leading}` is more than the {size} directions that these images have.")
    whole = request.leading is None and size <= (LARGE_ON_CUDA if images.is_cuda else LARGE)
    count = min(size, VECTORS if whole else request.leading or FEWER)
    find = _whole if whole else _leading
    found: dict[str, list[Tensor]] = {}
    for place, timestep in enumerate(request.timesteps):
        x, level = study.noisy(images, timestep, request)
        update = partial(_update, progress, place, len(request.timesteps))
        with torch.no_grad():
            estimate = network(x, torch.full((len(x),), timestep, device=x.device))
        at_step = find(network, x, timestep, level.sigma[0].item(), count, update, parts)
        at_step |= {"noisy": x.cpu(), "denoised": denoised(x, estimate, level).clipped.cpu()}
        for name, values in at_step.items():
            found.setdefault(name, []).append(values)
    arrays = {name: torch.stack(values).numpy() for name, values in found.items()} | {"timesteps": np.array(request.timesteps)}
    settings: dict[str, Any] = {"method": "whole" if whole else "leading", "vectors": count}
    if not whole:
        settings |= {"probes": PROBES, "largest_residual": float(f"{arrays['residual'].max():.2g}")}
    figures = {
        "eigenvectors": partial(_draw, arrays, "eigen"),
        "eigenvectors-noise": partial(_draw, arrays, "eigen_noise"),
        "singular-vectors": partial(_draw, arrays, "singular"),
        "spectrum": partial(_draw, arrays, "spectrum"),
    }
    return study.Result(numbers(arrays, request.timesteps), arrays, figures, settings)


def _draw(arrays: dict[str, np.ndarray], kind: str, figure: "Figure") -> None:
    from benchmark.analysis import eigenpictures  # matplotlib

    if kind == "spectrum":
        eigenpictures.spectra(arrays, figure)
    else:
        eigenpictures.directions(arrays, kind, figure)


def numbers(arrays: dict[str, np.ndarray], timesteps: tuple[int, ...]) -> dict[str, float]:
    """Return the means over the images of what is one number per image and step."""
    names = [name for name, values in arrays.items() if values.ndim == 2 and name != "residual"]
    return {f"{name}_t{step}": float(arrays[name][place].mean()) for name in names for place, step in enumerate(timesteps)}


class Traces(NamedTuple):
    """tr M, the squared norms of its symmetric and antisymmetric part, each (K,)."""

    trace: Tensor
    symmetric: Tensor
    antisymmetric: Tensor


def _whole(
    network: nn.Module, x: Tensor, timestep: int, sigma: float, count: int, update: study.Progress, parts: study.Parts
) -> dict[str, Tensor]:
    """Form J block by block, and return all that is told of it, image by image."""
    around, blocks = Linearised(network, x, timestep), []
    for first in range(0, around.size, ROWS):
        last = min(first + ROWS, around.size)
        blocks.append(parts.keep(f"t{timestep}-rows{first}", partial(_block, around, first, last))["rows"])
        update(last, around.size)
    told = []
    for noise in torch.cat(blocks).transpose(0, 1).double():  # (D, D) of each image
        clean = torch.eye(around.size, dtype=torch.float64) - sigma * noise
        even, odd = (clean + clean.mT) / 2, (clean - clean.mT) / 2
        traces = Traces(clean.trace(), even.square().sum(), odd.square().sum())
        told.append(_told(modes(clean, count), modes(noise, count), traces, sigma, x[0].shape))
    return {name: torch.stack([one[name] for one in told]) for name in told[0]}


def _block(around: Linearised, first: int, last: int) -> dict[str, Tensor]:
    return {"rows": around.rows(first, last)}


def _leading(
    network: nn.Module, x: Tensor, timestep: int, sigma: float, count: int, update: study.Progress, parts: study.Parts
) -> dict[str, Tensor]:
    """Return what is told of the leading directions of each image, from products alone."""

    def find(k: int) -> dict[str, Tensor]:
        around = Linearised(network, x[k : k + 1], timestep)
        generator = torch.Generator().manual_seed(random_key("jacobian", timestep, k))
        clean = leading_modes(Products(around, sigma, 1.0), count, generator)
        noise = leading_modes(Products(around, 1.0, 0.0), count, generator)
        return _told(clean, noise, estimated_traces(Products(around, sigma, 1.0), clean, generator), sigma, x[0].shape)

    told = []
    for k in range(len(x)):
        told.append(parts.keep(f"t{timestep}-image{k}", partial(find, k)))
        update(k + 1, len(x))
    return {name: torch.stack([one[name] for one in told]) for name in told[0]}


class Products:
    """`identity` I - sigma J by its products, or J itself (sigma 1, identity 0), around one image."""

    def __init__(self, around: Linearised, sigma: float, identity: float) -> None:
        self.around, self.size, self.identity = around, around.size, identity
        self.factor = -sigma if identity else sigma

    def forward(self, directions: Tensor) -> Tensor:
        """Return M v of directions v: (B, D)."""
        return self._product(self.around.jvp, directions)

    def transposed(self, directions: Tensor) -> Tensor:
        """Return M^T v of directions v: (B, D)."""
        return self._product(self.around.vjp, directions)

    def _product(self, product: Callable[[Tensor], Tensor], directions: Tensor) -> Tensor:
        found = product(directions[:, None].to(self.around.x))[:, 0].to(directions)
        return self.identity * directions + self.factor * found


def estimated_traces(operator: Products, found: Modes, generator: torch.Generator) -> Traces:
    """Return unbiased estimates of the traces: exact along the leading directions, by random signs in what is left.

    (Hutchinson 1990; the split is that of Meyer et al. 2021.)
    """
    signs = torch.randint(0, 2, (PROBES, operator.size), generator=generator).double() * 2 - 1
    rest = signs - signs @ found.eigenvectors.mT @ found.eigenvectors
    forward, transposed = operator.forward(rest), operator.transposed(rest)
    even = ((forward + transposed) / 2).square().sum(1).mean() + found.eigenvalues.square().sum()
    trace = (rest * forward).sum(1).mean() + found.eigenvalues.sum()
    odd = (operator.forward(signs) - operator.transposed(signs)).square().sum(1).mean() / 4
    return Traces(trace, even, odd)


def _told(clean: Modes, noise: Modes, of_clean: Traces, sigma: float, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the arrays and the numbers of one image."""
    size = clean.eigenvectors.shape[1]
    of_noise = Traces(
        (size - of_clean.trace) / sigma, (size - 2 * of_clean.trace + of_clean.symmetric) / sigma**2, of_clean.antisymmetric / sigma**2
    )
    told = {"effective_dimension": of_clean.trace, "energy_dimension": of_clean.symmetric + of_clean.antisymmetric}
    for suffix, found, traces in (("", clean, of_clean), ("_noise", noise, of_noise)):
        vectors = {name: getattr(found, name).unflatten(1, shape) for name in ("eigenvectors", "right", "left")}
        told |= {
            f"leading_share{suffix}": found.eigenvalues[0] ** 2 / traces.symmetric,
            f"asymmetry{suffix}": (traces.antisymmetric / (traces.symmetric + traces.antisymmetric)).sqrt(),
            f"harmonicity{suffix}": harmonicity(vectors["eigenvectors"]).mean(),
            f"harmonicity_singular{suffix}": harmonicity(vectors["right"]).mean(),
            f"sparsity{suffix}": sparsity(vectors["eigenvectors"]).mean(),
            f"frequency_order{suffix}": rank_correlation(frequency(vectors["eigenvectors"])),
            f"eigenvalues{suffix}": found.eigenvalues,
            f"singular_values{suffix}": found.singular_values,
        } | {f"{name}{suffix}": vector.float() for name, vector in vectors.items()}
    return told | {"residual": torch.tensor(max(clean.residual, noise.residual), dtype=torch.float64)}


def rank_correlation(values: Tensor) -> Tensor:
    """Return Spearman's rank correlation of values (n,) with their places; equal values are as rare as for real numbers."""
    if len(values) < 2:
        return torch.zeros((), dtype=torch.float64)
    ranks = values.argsort().argsort().double()
    centred = ranks - ranks.mean()
    place = torch.arange(len(values), dtype=torch.float64) - (len(values) - 1) / 2
    return (centred * place).sum() / place.square().sum()


def _update(progress: study.Progress, place: int, steps: int, done: int, of: int) -> None:
    progress(place * of + done, steps * of)
