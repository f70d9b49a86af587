"""Initial weights at a third of their price, for networks that are not going to be trained: drawn in part, and repeated."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

DRAWN = 16_381  # numbers of a tensor that are drawn; the rest repeats them. A prime: no two rows of a matrix begin alike
DRAWS = (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default)


class Repeated(TorchDispatchMode):
    """Within it a tensor that is filled at random gets its first DRAWN numbers as ever, and then those again and again.

    Each number has the distribution that it is given, and another seed gives others; only a tensor's parts are not independent.
    """

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Fill a large tensor in part and repeat that, and do everything else as asked."""
        if function not in DRAWS or args[0].numel() <= DRAWN or not args[0].is_contiguous():
            return function(*args, **kwargs or {})
        tensor = args[0]
        flat = tensor.view(-1)
        function(flat[:DRAWN], *args[1:], **kwargs or {})
        whole = flat.numel() // DRAWN * DRAWN
        flat[DRAWN:whole].view(-1, DRAWN).copy_(flat[:DRAWN])
        flat[whole:] = flat[: flat.numel() - whole]
        return tensor
