"""A data distribution of which everything is known: Gaussian images, their optimal denoiser, their probability flow."""

import torch
from torch import Tensor, nn

from benchmark.networks.diffusion import alphas_cumprod


class Gaussian(nn.Module):
    """N(mean, covariance) over images of a shape (C, R, R), as the network that estimates its noise best.

    With x = sqrt(a) x_0 + sqrt(1 - a) eps, E[eps | x] = sqrt(1 - a) (a Sigma + (1 - a) I)^-1 (x - sqrt(a) mu).
    """

    def __init__(self, mean: Tensor, covariance: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.mean, self.covariance, self.shape = mean, covariance, shape
        self.variances, self.axes = torch.linalg.eigh(covariance)
        self.abar = alphas_cumprod()

    def estimate(self, x: Tensor, abar: Tensor) -> Tensor:
        """Return E[eps | x] for x: (N, C, R, R) at levels abar: (N,)."""
        a = abar.to(torch.float64)[:, None]
        along = (x.double().flatten(1) - a.sqrt() * self.mean) @ self.axes / (a * self.variances + 1 - a)
        return ((1 - a).sqrt() * along @ self.axes.T).view(x.shape)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.estimate(x, self.abar[t]).to(x.dtype)

    def predict(self, abar: list[float]):
        """Return predict(x, i) = E[x_0 | x] at levels of one's own, which need be no diffusion steps."""

        def x0(x: Tensor, i: int) -> Tensor:
            a = torch.full((len(x),), abar[i], dtype=torch.float64)
            return (x - (1 - a[0]).sqrt() * self.estimate(x, a)) / a[0].sqrt()

        return x0

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Return where the probability flow brings x: (N, C, R, R) from the level `start` to `end`, exactly.

        Along each axis it keeps the standard score: the mean is sqrt(a) mu, the variance a c + 1 - a.
        """
        along = (x.flatten(1) - start**0.5 * self.mean) @ self.axes
        scale = ((end * self.variances + 1 - end) / (start * self.variances + 1 - start)).sqrt()
        return (end**0.5 * self.mean + (along * scale) @ self.axes.T).view(x.shape)


def diagonal() -> Gaussian:
    """Four independent values with variances from 0.01 to 1."""
    return Gaussian(
        torch.tensor([0.5, -0.3, 0.0, 0.2], dtype=torch.float64),
        torch.diag(torch.tensor([1.0, 0.25, 0.05, 0.01], dtype=torch.float64)),
        (1, 2, 2),
    )


def correlated() -> Gaussian:
    """Twelve values in three channels with a full covariance, of eigenvalues from 0.02 to 1."""
    generator = torch.Generator().manual_seed(3)
    axes = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    variances = torch.logspace(-1.7, 0, 12, dtype=torch.float64)
    return Gaussian(torch.randn(12, generator=generator, dtype=torch.float64) * 0.3, axes @ torch.diag(variances) @ axes.T, (3, 2, 2))
