"""How much directions in image space look like local harmonics, like spikes, or like noise.

Harmonicity: the image is cut into windows of 8 x 8 pixels (the whole image where it is smaller) that overlap by half;
each window goes through the orthonormal cosine transform DCT-II (Ahmed et al. 1974, the local basis of block transform
coding); with the energies p_u of its n coefficients, the inverse participation ratio sum p^2 / (sum p)^2 (Thouless
1974) is 1 for one oscillation along the axes and 3 / (n + 2) on average for white noise, whose direction is uniform on
the sphere. The score (ratio - 3 / (n + 2)) / (1 - 3 / (n + 2)) is thus 1 for a cosine of the transform, 0 on average for
noise and a little below 0 for a spike, whose spectrum is flat. Windows and channels are averaged by their energy. It is
near to Fisher's (1929) test for hidden periodicities, which takes the share of the largest coefficient alone.
"""

import torch
from torch import Tensor

WINDOW = 8


def harmonicity(directions: Tensor) -> Tensor:
    """Return the harmonicity (...) of directions (..., C, R, R); 0 for one that is zero."""
    energies = local_spectra(directions)  # (..., C, windows, w, w)
    count = energies.shape[-1] * energies.shape[-2]
    whole = energies.sum((-2, -1))
    ratio = energies.square().sum((-2, -1)) / whole.square().clamp_min(1e-300)
    return _weighted(against_noise(ratio, count), whole)


def sparsity(directions: Tensor) -> Tensor:
    """Return the same score of the pixels instead of coefficients, (...): 1 for a single pixel of one channel, 0 for noise."""
    energies = directions.double().flatten(-3).square()
    ratio = energies.square().sum(-1) / energies.sum(-1).square().clamp_min(1e-300)
    return torch.where(energies.sum(-1) > 0, against_noise(ratio, energies.shape[-1]), 0.0)


def frequency(directions: Tensor) -> Tensor:
    """Return the mean frequency (...) of the local spectra, in cycles per pixel: 0 constant, 0.5 for the finest stripes."""
    energies = local_spectra(directions)
    along = torch.arange(energies.shape[-1], dtype=torch.float64, device=energies.device) / (2 * energies.shape[-1])
    size = torch.hypot(along[:, None], along[None, :])
    whole = energies.sum((-2, -1))
    return _weighted((energies * size).sum((-2, -1)) / whole.clamp_min(1e-300), whole)


def local_spectra(directions: Tensor) -> Tensor:
    """Return the energies of the cosine transform of every window, (..., C, windows, w, w) float64, of (..., C, R, R)."""
    side = directions.shape[-1]
    window = min(WINDOW, side)
    starts = sorted({*range(0, side - window + 1, max(1, window // 2)), side - window})
    transform = cosines(window).to(directions.device)
    cut = [directions[..., row : row + window, column : column + window] for row in starts for column in starts]
    return (transform @ torch.stack(cut, dim=-3).double() @ transform.mT).square()


def cosines(size: int) -> Tensor:
    """Return the orthonormal DCT-II, (frequency, position) float64."""
    place = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(torch.pi / size * (place[None, :] + 0.5) * place[:, None]) * (2 / size) ** 0.5
    basis[0] *= 0.5**0.5
    return basis


def against_noise(ratio: Tensor, count: int) -> Tensor:
    """Return an inverse participation ratio of `count` numbers on the scale where noise is 0 and a single number 1."""
    noise = 3 / (count + 2)  # E sum u^4 for u uniform on the unit sphere
    return (ratio - noise) / (1 - noise) if count > 1 else torch.ones_like(ratio)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Return the means (...) of values (..., C, windows) by their weights."""
    whole = weights.sum((-2, -1))
    return torch.where(whole > 0, (values * weights).sum((-2, -1)) / whole.clamp_min(1e-300), 0.0)
