"""Products with the Jacobian of a network's noise estimate with respect to the noisy image, never the matrix itself."""

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmark.analysis import LARGE
from benchmark.errors import NotRun


class Linearised:
    """The noise estimate of a network around K noisy images at one diffusion step.

    `vjp` needs one forward pass for all its products (Pearlmutter 1994 for the two kinds), `jvp` one for each. The
    images do not mix: J is one (D, D) matrix per image, D = C R R. Attention is taken in its plain form, the only one
    that has derivatives of both kinds.
    """

    def __init__(self, network: nn.Module, x: Tensor, timestep: int) -> None:
        self.network, self.x = network, x
        self.images, self.size = len(x), x[0].numel()
        self.at_once = max(1, (64 if self.size <= LARGE else 8) // self.images)  # directions: beyond it nothing gets faster
        self.t = torch.full((self.images,), timestep, device=x.device)
        self._input = x.clone().requires_grad_()
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            self.estimate = network(self._input, self.t)
        if not self.estimate.requires_grad:
            raise NotRun(f"{type(network).__name__} gives no derivative of its estimate: it computes without gradients.")

    def vjp(self, cotangents: Tensor) -> Tensor:
        """Return v^T J for directions v: (B, K, D), of that shape."""
        shape = (-1, *self.x.shape)
        found = [
            torch.autograd.grad(self.estimate, self._input, some.reshape(shape), retain_graph=True, is_grads_batched=True)[0]
            for some in cotangents.split(self.at_once)
        ]
        return torch.cat(found).flatten(2)

    def jvp(self, tangents: Tensor) -> Tensor:
        """Return J v for directions v: (B, K, D), of that shape."""
        return torch.cat([self._jvp(some) for some in tangents.split(self.at_once)])

    def rows(self, first: int, last: int) -> Tensor:
        """Return the rows first to last - 1 of every J, (last - first, K, D): the gradients of those outputs."""
        return self.vjp(self._unit(range(first, last)))

    def gradients(self, outputs: list[int]) -> Iterator[Tensor]:
        """Yield the gradients of these outputs, (B, K, D), few at a time."""
        for start in range(0, len(outputs), self.at_once):
            yield self.vjp(self._unit(outputs[start : start + self.at_once]))

    def _unit(self, outputs: "range | list[int]") -> Tensor:
        unit = torch.zeros(len(outputs), 1, self.size, dtype=self.x.dtype, device=self.x.device)
        unit[range(len(outputs)), 0, list(outputs)] = 1
        return unit.expand(-1, self.images, -1)

    def _jvp(self, tangents: Tensor) -> Tensor:
        count = len(tangents)
        x, t = self.x.repeat(count, 1, 1, 1), self.t.repeat(count)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")  # torch's own use of it, at its first jvp
            estimate = self.network(forward_ad.make_dual(x, tangents.reshape(x.shape)), t)
            return forward_ad.unpack_dual(estimate).tangent.reshape(tangents.shape)
