"""A denoiser whose locality comes from the principal components of the training images, not from a patch.

After the finding of Lukoianov et al. 2025, "Locality in image diffusion models emerges from data statistics" (arXiv
2509.09672), that the linear denoiser of least error, which the data's covariance alone decides, is as local as trained
networks are. Derived here: the optimal denoiser weighs a training image by the squared distance of all pixels; this
one weighs it anew for every output pixel q, the distance at pixel p counting as much as the linear denoiser's answer at
q depends on p, |W_t(q, p)| / max_p |W_t(q, p)| (Frobenius norm over the channels), in terms of the noise that is left.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, Fraction, ImageShape, entry
from benchmark.networks.diffusion import alphas_cumprod, scaled
from registry.backbones.reference import PAIRS_AT_ONCE, Level, WienerDenoiser, fitted, no_attention, noise_estimate


@entry(kind="pca_locality")
class PcaLocality:
    """The denoiser, declared; `shrinkage` of the covariance is that of the linear denoiser `wiener`."""

    shrinkage: Fraction | None = None

    attention_layers = 0

    def build(self, images: ImageShape, attention: tuple[Attention, ...] = ()) -> nn.Module:
        """Build the network, to be fitted; raise FieldError where there is attention."""
        no_attention(attention)
        return PcaLocalDenoiser(self.shrinkage)


class PcaLocalDenoiser(nn.Module):
    """Each pixel of x_0 is that of some training image, the likelier the nearer it is where the pixel depends on it."""

    images: Tensor | None
    abar: Tensor

    def __init__(self, shrinkage: float | None) -> None:
        super().__init__()
        self.linear = WienerDenoiser(shrinkage)
        self.register_buffer("abar", alphas_cumprod(), persistent=False)
        self.register_buffer("images", None, persistent=False)

    def fit(self, images: Tensor) -> None:
        """Keep the training images (N, C, R, R), uint8, and their principal components."""
        self.linear.fit(images)
        self.images = images

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Return the estimated noise (N, C, R, R) in x: (N, C, R, R) at steps t: (N,); raise FieldError before the fit."""
        fitted(self.images)
        clean = torch.empty(x.shape, dtype=torch.float64, device=x.device)
        steps = [0] * len(t) if t.is_meta else t.tolist()
        for step in sorted(set(steps)):
            chosen = [i for i, other in enumerate(steps) if other == step]
            level = Level.at(self.abar, t[chosen[:1]])
            clean[chosen] = self._clean(x[chosen].double(), level, self.importance(level, x.shape[1]))
        return noise_estimate(x, clean, Level.at(self.abar, t))

    def importance(self, level: Level, channels: int) -> Tensor:
        """Return how much each output pixel depends on each input pixel, (P, P) from 0 to 1, at one level: (1, 1) each."""
        axes, variances, rest = map(fitted, (self.linear.axes, self.linear.variances, self.linear.rest))
        along, beside = (level.signal * v / (level.signal**2 * v + level.variance) for v in (variances, rest))
        filter = (axes * (along - beside)) @ axes.mT + beside * torch.eye(len(axes), dtype=axes.dtype, device=axes.device)  # (D, D)
        norms = filter.unflatten(0, (channels, -1)).unflatten(2, (channels, -1)).square().sum(dim=(0, 2)).sqrt()
        most = norms.amax(dim=1, keepdim=True)
        return torch.where(most > 0, norms / most.clamp_min(1e-300), 1.0)  # of no covariance at all: nothing is nearer

    def _clean(self, x: Tensor, level: Level, importance: Tensor) -> Tensor:
        """Return the weighted mean (N, C, R, R) of the training images, pixel by pixel, for x of one level."""
        noisy = x.flatten(2)  # (n, C, P)
        highest, weight, mean = x.new_full((), -torch.inf), x.new_zeros(()), x.new_zeros(())
        for images in self._blocks(noisy[:, 0].numel()):
            apart = (noisy[:, None] - level.signal * images).square().sum(dim=2)  # (n, block, P)
            scores = -(apart @ importance.mT) / (2 * level.variance)
            higher = scores.amax(dim=1, keepdim=True).clamp_min(highest)
            weights, fade = (scores - higher).exp(), (highest - higher).exp()
            weight = weight * fade + weights.sum(dim=1, keepdim=True)  # (n, 1, P)
            mean, highest = mean * fade + torch.einsum("nip,icp->ncp", weights, images), higher
        return (mean / weight).view(x.shape)

    def _blocks(self, queries: int) -> Iterator[Tensor]:
        """Yield the training images as (block, C, P) float64 in [-1, 1]: so many that the pairs with so many pixels stay in bounds."""
        for block in fitted(self.images).split(max(1, PAIRS_AT_ONCE // queries)):
            yield scaled(block).double().flatten(2)
