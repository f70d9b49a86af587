"""Attention by torch's FlexAttention: made for the GPU, where it skips the blocks of scores that no window touches."""

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    BlockMask,
    create_block_mask,
    flex_attention,
)

from benchmark.contract import Attention
from benchmark.networks.attention.windows import is_global, visible_keys, window_of
from benchmark.networks.memory import out_of_memory


def attend(q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int, scale: float, blocks: BlockMask | None = None) -> Tensor:
    """Return the attended values (N, heads, side**2, d) of q, k and v of that shape; softmax of `scale` * q k^T.

    `blocks` is the layer's `block_mask` where it was made before: in a compiled network it would be made at every call.
    """
    run = cast(Callable[..., Tensor], flex_attention) if torch.compiler.is_compiling() else _compiled()
    return run(q, k, v, block_mask=block_mask(attention, side, q.device) if blocks is None else blocks, scale=scale)


@lru_cache(maxsize=64)
def block_mask(attention: Attention, side: int, device: torch.device) -> BlockMask | None:
    """Return which blocks of scores a layer needs, None for all."""
    if is_global(attention, side):
        return None
    return create_block_mask(sees(attention, side, device), None, None, side**2, side**2, device=str(device))


def sees(attention: Attention, side: int, device: torch.device) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return the rule of `windows.visible_keys`: arithmetic on the numbers of a query and a key, for a pattern a table of them."""
    if attention.pattern is not None:
        visible = visible_keys(attention, side).to(device)
        return lambda _image, _head, query, key: visible[query, key]
    window, shifted = window_of(attention), attention.border == "shifted"

    def on_axis(query: Tensor, key: Tensor) -> Tensor:
        first = query - window // 2
        if shifted:
            first = first.clamp(0, side - window)
        return (key >= first) & (key < first + window)

    def rule(_image: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return on_axis(query // side, key // side) & on_axis(query % side, key % side)

    return rule


def compile_failed(problem: BaseException) -> bool:
    """Tell whether an exception is the compiler's: none of ours, and not for want of memory, which callers meet themselves."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(problem, TorchDynamoException) and not out_of_memory(getattr(problem, "inner_exception", problem))


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., Tensor]:
    torch._dynamo.config.recompile_limit = 64  # windows, batch sizes, training and scoring each make a version
    return torch.compile(flex_attention, dynamic=False)
