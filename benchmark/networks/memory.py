"""What an allocation that failed looks like, and room for a smaller one."""

import torch

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
