"""Exact attention within windows, computed by the fastest of several kernels; all of them agree to rounding.

`set_kernel` forces one on a network, `kernels_used` says which ones a network has run with.
"""

from benchmark.networks.attention.choice import KERNELS, SMALLEST_GRID
from benchmark.networks.attention.layer import Attend, kernels_used, pairs_scored, set_kernel
from benchmark.networks.attention.windows import is_global, pairs, visible_keys

__all__ = ["KERNELS", "SMALLEST_GRID", "Attend", "is_global", "kernels_used", "pairs", "pairs_scored", "set_kernel", "visible_keys"]
