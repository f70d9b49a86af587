"""Batches that fit: what an allocation that failed looks like, and halving until it does not."""

from collections.abc import Callable

import torch
from torch import Tensor

# What torch's allocator for the CPU says, which has no class of its own, and what its oneDNN kernels say without memory.
ON_THE_CPU = ("can't allocate memory", "could not create a primitive", "could not create a memory object", "std::bad_alloc")


def out_of_memory(problem: BaseException) -> bool:
    """Tell whether an exception is a failed allocation."""
    return isinstance(problem, torch.OutOfMemoryError | MemoryError) or (
        isinstance(problem, RuntimeError) and any(words in str(problem) for words in ON_THE_CPU)
    )


def release(device: torch.device) -> None:
    """Give back what the device's allocator holds without using it, so that smaller pieces find room."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


class Fitting:
    """A batch size for passes without gradients that halves for good when memory runs out."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, count: int, attempt: Callable[[slice], Tensor], device: torch.device) -> Tensor:
        """Return the results of `attempt` over 0 ... count - 1, joined along their first axis; one image must fit."""
        while True:
            try:
                parts = [attempt(slice(first, first + self.size)) for first in range(0, count, self.size)]
                return parts[0] if len(parts) == 1 else torch.cat(parts)
            except (RuntimeError, MemoryError) as problem:
                if not out_of_memory(problem) or self.size == 1:
                    raise
            self.size = (min(self.size, count) + 1) // 2  # outside the handler, which holds on to the tensors that were in use
            release(device)
