"""What the recipe says of arithmetic, put into practice: TF32, compiled blocks; and recomputed activations."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.utils import deterministic
from torch.utils.checkpoint import checkpoint

from benchmark.contract import OwnLoss
from benchmark.declaring.recipe import External, Recipe
from benchmark.errors import UsageError
from benchmark.networks.denoiser import NoiseEstimate, device_of

GRAPHS_SAID = "recipe.compile = 'graphs': CUDA graphs need a GPU; compiled by blocks without them."
GRAPHS_SPLIT_SAID = (
    "recipe.compile = 'graphs': a CUDA graph keeps the gradient in memory that its next pass overwrites, and this batch is taken in "
    "parts, whose gradients add up; compiled by blocks without graphs."
)
TF32_SAID = "recipe.tf32: the CPU has no TF32; the training step is computed in full fp32."


@contextmanager
def tf32(wanted: bool) -> Iterator[None]:
    """Allow TF32 in fp32 matrix products for the time of the block, or forbid it; scores are made without."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = wanted
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@contextmanager
def reproducible(*, strict: bool = False) -> Iterator[None]:
    """Compute as the command line does for the time of the block: deterministic algorithms, fp32 without TF32.

    `strict`: what has none is an error, as in `set_up`.
    """
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    _deterministic(strict)
    try:
        with tf32(False):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network: what its outermost module lists hold; the network itself where it has none."""

    def within(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            yield from within(child) if isinstance(child, nn.ModuleList) else [child]

    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    return [block for each in lists for block in within(each)] or [network]


def set_up(threads: int | None, compiled: Path, *, strict: bool) -> None:
    """Set torch up for reproducible numbers in the whole process, on so many CPU threads (None: its own choice).

    What torch.compile makes is kept in `compiled`. `strict`: an operation without a deterministic algorithm is an error;
    else torch warns of it and goes on, and fused attention's backward pass on a GPU takes its faster algorithm, which is none.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    _deterministic(strict)
    # Scores are fp32, whatever the environment says (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE is set in some containers).
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    keep_compiled(compiled)


def strict() -> bool:
    """Tell whether torch refuses what it cannot compute deterministically."""
    return torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()


def not_deterministic(problem: BaseException) -> bool:
    """Tell whether an exception is torch's refusal of an operation without a deterministic algorithm."""
    said = str(problem)
    return "have a deterministic implementation" in said or "Deterministic behavior was enabled" in said


def keep_compiled(folder: Path) -> None:
    """Keep what torch.compile makes in a folder, unless TORCHINDUCTOR_CACHE_DIR names another one."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def compile_blocks(network: nn.Module, how: str, device: torch.device, split: bool) -> str | None:
    """Have every block compiled at its first call; return what of the wish `how` cannot be done here, if anything.

    `split`: the gradients of several passes add up.
    """
    if how == "none":
        return None
    import torch._dynamo

    torch._dynamo.config.recompile_limit = 64  # windows, batch sizes, training and scoring each make a version of a block
    if device.type == "cuda" and strict():
        import torch._inductor.config

        torch._inductor.config.deterministic = True  # else some kernels are chosen by the clock
    graphs = how == "graphs" and device.type == "cuda" and not split
    for block in blocks(network):
        block.compile(mode="reduce-overhead" if graphs else None, dynamic=False)
    if how != "graphs" or graphs:
        return None
    return GRAPHS_SPLIT_SAID if device.type == "cuda" else GRAPHS_SAID


def compile_passes(network: nn.Module, recipe: Recipe | External) -> None:
    """Have the blocks of a network that is scored or sampled compiled as its recipe says; there, 'graphs' counts as 'blocks'."""
    if not isinstance(recipe, Recipe) or recipe.compile == "none" or compiled(network):
        return
    inner = network.network if isinstance(network, NoiseEstimate) else network
    compile_blocks(inner, "blocks", device_of(inner), split=False)


def compiled(network: nn.Module) -> bool:
    """Tell whether a part of a network is compiled at its first call."""
    return any(module._compiled_call_impl is not None for module in network.modules())


def uncompile(network: nn.Module) -> None:
    """Go back to eager blocks."""
    for module in network.modules():
        module._compiled_call_impl = None


def compile_failed(problem: BaseException) -> bool:
    """Tell whether an exception is torch.compile's own or that of its CUDA graphs, not the network's."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(problem, TorchDynamoException) or (isinstance(problem, RuntimeError) and "CUDAGraphs" in str(problem))


def failure_said(problem: BaseException) -> str:
    """Say once that torch.compile failed, and why."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"torch.compile failed, so the blocks are not compiled: {lines[0][:200] if lines else type(problem).__name__}"


def new_step(how: str) -> None:
    """Tell CUDA graphs that the results of the pass before are no longer needed."""
    if how == "graphs":
        torch.compiler.cudagraph_mark_step_begin()


def recompute(network: nn.Module) -> None:
    """Keep only the inputs of every block in the forward pass and compute the rest again in the backward pass."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise UsageError("`recompute=True`: this network keeps running statistics, in which a block computed twice would count twice.")
    for block in blocks(network):
        if block is network:
            raise UsageError("`recompute=True`: this network has no list of blocks that could be computed again one by one.")
        block.forward = _twice(block.forward)


def whole_batch_only(network: nn.Module) -> str | None:
    """Say why the gradient of a batch is not the mean over its parts, for a network of which that is so."""
    if isinstance(network, OwnLoss):
        return "it adds a loss of its own over the whole batch"
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        return "it normalises over the whole batch"
    return None


def _deterministic(strict: bool) -> None:
    if strict:  # what cuBLAS asks of its surroundings, which it reads when it is first used
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=not strict)
    # A debugging aid, which writes every new tensor once more.
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _twice(forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return partial(checkpoint, forward, use_reentrant=False)
