"""Exact attention within windows, computed by the fastest of several kernels; all of them agree to rounding.

`set_kernel` forces one on a network, `kernels_used` says which ones a network has run with.
"""

from benchmark.attention.layer import KERNELS, Attend, kernels_used, set_kernel
from benchmark.attention.windows import is_global, visible_keys

__all__ = ["KERNELS", "Attend", "is_global", "kernels_used", "set_kernel", "visible_keys"]
