"""Which kernel computes a layer: what each can serve, and the fastest of those that can, by measurement."""

import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import torch
from torch.utils._triton import has_triton

from benchmark.contract import Attention, Border
from benchmark.errors import UsageError
from benchmark.networks.attention import bands, neighbourhood
from benchmark.networks.attention.windows import is_global

KERNELS = ("auto", "masked", "bands", "flex", "natten")

SMALLEST_GRID = 64  # tokens: up to here the mask costs nothing that another kernel would save
WORTHWHILE = 0.75  # of all pairs scored: above it the bands are slower than torch's own attention in fp32


@dataclass(frozen=True)
class AnyPattern:
    """Stands for every pattern: the choice depends on nothing of it. (Each query sees itself.)"""

    def keys(self, side: int, query: int) -> tuple[int, ...]:
        """Return the query."""
        return (query,)


ANY = AnyPattern()


@dataclass(frozen=True)
class Circumstances:
    """What the choice depends on beside the layer; `trains` says that gradients are wanted."""

    device: str
    dtype: torch.dtype
    trains: bool

    @property
    def name(self) -> str:
        """Return the circumstances as the record names them."""
        return f"{self.device} {str(self.dtype).removeprefix('torch.')}"


@lru_cache(maxsize=1024)
def choose(forced: str, attention: Attention, side: int, given: Circumstances) -> str:
    """Return the kernel of a layer; raise UsageError where the forced one cannot serve it."""
    if given.device == "meta" or (forced == "natten" and is_global(attention, side)):
        return "masked"  # on meta nothing runs; without a window there is no neighbourhood
    if forced == "auto":
        return _fastest(attention, side, given)
    if reason := refusal(forced, attention, side, given):
        raise _refused(forced, attention, side, given, reason)
    return forced


@torch.compiler.assume_constant_result  # all that it depends on is an argument, and guarded
def chosen(
    forced: str, window: int | None, border: str, patterned: bool, side: int, device: str, dtype: torch.dtype, trains: bool
) -> tuple[str, str]:
    """Return the kernel of a layer and the name of the circumstances, "" on meta, where nothing runs."""
    return _chosen(forced, window, border, patterned, side, device, dtype, trains)


@lru_cache(maxsize=1024)
def _chosen(
    forced: str, window: int | None, border: str, patterned: bool, side: int, device: str, dtype: torch.dtype, trains: bool
) -> tuple[str, str]:
    given = Circumstances(device, dtype, trains)
    attention = Attention(pattern=ANY) if patterned else Attention(window=window, border=cast(Border, border))
    kernel = choose(forced, attention, side, given)
    return kernel, "" if device == "meta" else given.name


def without_flex(forced: str, attention: Attention, side: int, given: Circumstances, problem: BaseException) -> None:
    """Warn that FlexAttention does not compile and torch's own attention takes its place; raise UsageError if it was forced."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    why = lines[0][:200] if lines else type(problem).__name__
    if forced == "flex":
        raise _refused("flex", attention, side, given, f"torch.compile of FlexAttention failed, {why}.") from problem
    warnings.warn(
        f"torch.compile of FlexAttention failed on {given.name}, so the attention kernel is 'masked', torch's own, "
        f"with the same result: {why}",
        stacklevel=2,
    )


def _refused(forced: str, attention: Attention, side: int, given: Circumstances, reason: str) -> UsageError:
    """Return the error that says why a forced kernel cannot serve a layer, and which ones can."""
    able = [name for name in KERNELS[1:] if name != forced and refusal(name, attention, side, given) is None]
    return UsageError(
        f"The attention kernel {forced!r} cannot serve a layer of {describe(attention, side)} on "
        f"{given.name}: {reason.rstrip('.')}. Here can: {', '.join(able)}, and 'auto' takes the fastest."
    )


def refusal(kernel: str, attention: Attention, side: int, given: Circumstances) -> str | None:
    """Return why a kernel cannot serve a layer, or None where it can."""
    half = given.dtype in (torch.float16, torch.bfloat16)
    if kernel == "bands" and attention.pattern is not None and not is_global(attention, side):
        return "the bands are made for windows, and this layer sees a pattern"
    if kernel == "bands" and not (given.dtype.is_floating_point and given.device in ("cpu", "cuda")):
        return "it is for CPUs and NVIDIA or AMD GPUs"
    if kernel == "flex":
        if given.device == "cpu" and given.trains:
            return "FlexAttention has no backward pass on a CPU"
        if given.device not in ("cpu", "cuda"):
            return "FlexAttention is for CPUs and GPUs"
        if given.device == "cuda" and not has_triton():
            return "FlexAttention needs Triton on a GPU, which is not installed"
        if not (half or given.dtype == torch.float32):
            return "FlexAttention computes in float32, bfloat16 or float16"
    if kernel == "natten":
        return _natten_refuses(attention, side, given)
    return None


def _natten_refuses(attention: Attention, side: int, given: Circumstances) -> str | None:
    if attention.window is None or is_global(attention, side):
        return "it has no window"
    if attention.border != "shifted":
        return "NATTEN shifts the window at the border, and this layer truncates it"
    if attention.window < 2 or attention.window % 2 == 0:
        return "NATTEN's windows are odd and at least 3"
    if not neighbourhood.installed():
        return "the package natten is not installed"
    if given.device == "cpu" and given.trains:
        return "NATTEN has no backward pass on a CPU"
    return None


def describe(attention: Attention, side: int) -> str:
    """Return a layer in words."""
    tokens = f"{side} x {side} tokens"
    if is_global(attention, side):
        return tokens
    return f"{tokens} with a {'pattern' if attention.pattern is not None else f'{attention.border} window of {attention.window}'}"


def _fastest(attention: Attention, side: int, given: Circumstances) -> str:
    if side**2 <= SMALLEST_GRID:
        return "masked"
    if given.device == "cpu":
        return _fastest_on_cpu(attention, side, given.dtype)
    if given.device == "cuda" and not is_global(attention, side) and given.dtype != torch.float32:
        able = [name for name in ("natten", "flex") if refusal(name, attention, side, given) is None]
        return able[0] if able else "masked"
    return "masked"


def to_be_timed(forced: str, attention: Attention, side: int, given: Circumstances) -> tuple[str, ...]:
    """Return the kernels between which only the clock decides, () where it need not: windows in fp32 on a GPU.

    FlexAttention's fp32 kernels skip what no window touches, and have no tensor cores.
    """
    if forced != "auto" or given.device != "cuda" or given.dtype != torch.float32:
        return ()
    if is_global(attention, side) or side**2 <= SMALLEST_GRID:
        return ()
    able = tuple(name for name in ("natten", "flex") if refusal(name, attention, side, given) is None)
    return ("masked", *able) if able else ()


def may_be_flex(forced: str, attention: Attention, side: int, given: Circumstances) -> bool:
    """Tell whether FlexAttention may compute a windowed layer, in one type or another."""
    if is_global(attention, side) or refusal("flex", attention, side, given) is not None:
        return False
    return forced == "flex" or (forced == "auto" and given.device == "cuda" and side**2 > SMALLEST_GRID)


def _fastest_on_cpu(attention: Attention, side: int, dtype: torch.dtype) -> str:
    if attention.pattern is not None and not is_global(attention, side):
        return "masked"
    if dtype == torch.bfloat16:
        return "bands"  # global attention too: the library's bf16 kernel is slower than plain matrix products
    if dtype not in (torch.float32, torch.float64) or is_global(attention, side):
        return "masked"
    return "bands" if bands.share_of_pairs(attention, side, dtype) <= WORTHWHILE else "masked"
