"""Which kernel is the faster one, by the clock: once for a device, a type, a grid and a window; kept beside what is compiled."""

import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.contract import Attention
from benchmark.errors import raised
from benchmark.files import write_text
from benchmark.networks.attention import bands, flex, neighbourhood
from benchmark.networks.attention.windows import is_global, visible_keys
from benchmark.networks.memory import release

IMAGES, HEADS, SIZE = 8, 4, 64  # of the layer that is timed
REPEATS = 5
FILE = "attention.json"

Milliseconds = dict[str, tuple[float, float]]  # by kernel: of the forward pass, and of both
Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]


@lru_cache(maxsize=256)
def milliseconds(kernels: tuple[str, ...], attention: Attention, side: int, device: torch.device, dtype: torch.dtype) -> Milliseconds:
    """Return what each kernel takes for a layer on a device; one that fails there is left out.

    What was measured before is read from the folder of compiled code (TORCHINDUCTOR_CACHE_DIR), where there is one.
    """
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}, {torch.get_num_threads()} threads"
    key = f"{name}, torch {torch.__version__}, {str(dtype).removeprefix('torch.')}, {side} x {side}, {attention!r}"
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    kept = _read(Path(folder) / FILE) if folder else {}
    found = kept.get(key, {})
    if set(kernels) <= set(found):
        return {kernel: found[kernel] for kernel in kernels if found[kernel][0] > 0}
    made = measure(kernels, attention, side, device, dtype)
    if folder:  # 0: it failed, and need not be tried again
        entry = {kernel: made.get(kernel, (0.0, 0.0)) for kernel in kernels}
        write_text(Path(folder) / FILE, json.dumps(_read(Path(folder) / FILE) | {key: entry}, indent=1) + "\n")
    return made


def fastest(times: Mapping[str, tuple[float, float]], *, trains: bool) -> str:
    """Return the kernel that takes least time, in both passes together or in the forward pass alone; 'masked' where none ran."""
    return min(times, key=lambda kernel: times[kernel][trains], default="masked")


def measure(kernels: Sequence[str], attention: Attention, side: int, device: torch.device, dtype: torch.dtype) -> Milliseconds:
    """Time the kernels in turn, medians after a pass that compiles; one that fails or does not fit is left out."""
    made = torch.Generator().manual_seed(0)
    shape = (IMAGES, HEADS, side**2, SIZE)
    q, k, v = (torch.randn(shape, generator=made).to(device, dtype).requires_grad_() for _ in range(3))
    able = {kernel: run for kernel in kernels if _works(kernel, run := _kernel(kernel, attention, side, device), q, k, v)}
    taken: dict[str, list[tuple[float, float]]] = {kernel: [] for kernel in able}
    for _ in range(REPEATS):
        for kernel, run in able.items():
            taken[kernel].append(_timed(run, q, k, v))
    return {kernel: (_median(one[0] for one in times), _median(one[1] for one in times)) for kernel, times in taken.items()}


def _kernel(name: str, attention: Attention, side: int, device: torch.device) -> Kernel:
    if name == "masked":
        mask = None if is_global(attention, side) else visible_keys(attention, side).to(device)
        return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scale = SIZE**-0.5
    if name == "flex":
        blocks = flex.block_mask(attention, side, device)
        return lambda q, k, v: flex.attend(q, k, v, attention, side, scale, blocks)
    attend = {"bands": bands.attend, "natten": neighbourhood.attend}[name]
    return lambda q, k, v: attend(q, k, v, attention, side, scale)


def _works(kernel: str, run: Kernel, q: Tensor, k: Tensor, v: Tensor) -> bool:
    try:
        for _ in range(2):
            _timed(run, q, k, v)
    except Exception as problem:  # of a compiler or a driver that nobody has met: another kernel serves the layer
        said = f"The attention kernel '{kernel}' is left out, it fails on {q.device}: {raised(problem)}"
    else:
        return True
    warnings.warn(said, stacklevel=2)
    release(q.device)
    return False


def _timed(run: Kernel, q: Tensor, k: Tensor, v: Tensor) -> tuple[float, float]:
    """Return the milliseconds of a forward pass without gradients, and of a forward and a backward pass."""
    with torch.no_grad():
        began = _now(q.device)
        run(q, k, v)
        forward = _now(q.device) - began
    began = _now(q.device)
    torch.autograd.grad(run(q, k, v).sum(), (q, k, v))
    return forward, _now(q.device) - began


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * time.perf_counter()


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 4)


def _read(path: Path) -> dict[str, Milliseconds]:
    """Return what was measured before; nothing where there is nothing, or nothing that can be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: {kernel: (float(a), float(b)) for kernel, (a, b) in entry.items()} for key, entry in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
