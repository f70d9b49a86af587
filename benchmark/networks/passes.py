"""Passes without gradients, to score or to sample: in batches that fit, and of one shape where shapes are compiled."""

import warnings

import torch
from torch import Tensor, nn

from benchmark.networks import attention, numerics
from benchmark.networks.memory import out_of_memory, release


class Passes:
    """A network and how many images it takes at a time, which halves for good when memory runs out.

    Where something is compiled for each shape, a batch of fewer images is filled up with its last one, so that it is compiled
    once. A compiler that fails leaves the blocks as they are.
    """

    def __init__(self, network: nn.Module, size: int) -> None:
        self.network, self.size = network, size
        self.filled = numerics.compiled(network) or attention.compiles(network)

    def over(self, *inputs: Tensor) -> Tensor:
        """Return what the network makes of `inputs`, one of each an image, joined along the first axis; one image must fit."""
        while True:
            try:
                return self._in_parts(inputs)
            except (RuntimeError, MemoryError) as problem:
                short = out_of_memory(problem)
                if not short and not (numerics.compiled(self.network) and numerics.compile_failed(problem)):
                    raise
                if short and self.size == 1:
                    raise
                said = numerics.failure_said(problem)
            # outside the handler, which holds on to the tensors that were in use
            if short:
                self.size = (min(self.size, len(inputs[0])) + 1) // 2
                release(inputs[0].device)
            else:
                numerics.uncompile(self.network)
                warnings.warn(said, stacklevel=2)

    def _in_parts(self, inputs: tuple[Tensor, ...]) -> Tensor:
        count = len(inputs[0])
        parts = [self._one(inputs, first, min(first + self.size, count)) for first in range(0, count, self.size)]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _one(self, inputs: tuple[Tensor, ...], first: int, end: int) -> Tensor:
        if not self.filled or end - first == self.size:
            return self.network(*(each[first:end] for each in inputs))
        taken = torch.arange(first, first + self.size, device=inputs[0].device).clamp_(max=end - 1)
        return self.network(*(each[taken] for each in inputs))[: end - first]
