"""Exact attention within windows, computed by the fastest of several kernels; all of them agree to rounding.

`set_kernel` forces one on a network, `kernels_used` says which ones a network has run with, `kernel_milliseconds` what was timed.
"""

from benchmark.networks.attention.choice import KERNELS, SMALLEST_GRID
from benchmark.networks.attention.layer import Attend, compiles, kernel_milliseconds, kernels_used, pairs_scored, set_kernel
from benchmark.networks.attention.windows import is_global, pairs, visible_keys

__all__ = [
    "KERNELS",
    "SMALLEST_GRID",
    "Attend",
    "compiles",
    "is_global",
    "kernel_milliseconds",
    "kernels_used",
    "pairs",
    "pairs_scored",
    "set_kernel",
    "visible_keys",
]
