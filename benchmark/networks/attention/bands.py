"""Attention by bands of rows, on matrix products: made for the CPU, where a mask saves nothing.

A band is a few full rows of queries. The keys that any of them sees are whole rows too, a contiguous slice of the
tokens in raster order, so that nothing is gathered by index: scores of the band's queries with that slice, plus a bias of
-inf outside the windows, softmax, values. The weights are kept for the backward pass where they are small, and computed
again, to the same bits, where they are not. In bf16 scores and weights are rounded to bf16, as unfused attention does.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from benchmark.contract import Attention, Border
from benchmark.networks.attention.windows import is_global, visible_keys, visible_rows, window_of

KEPT_BYTES = 2**28  # of weights that one call keeps for its backward pass

Rows = slice  # of tokens: whole rows of the grid


@dataclass(frozen=True)
class Band:
    """Some rows of queries, and the rows of keys that they see."""

    queries: Rows
    keys: Rows

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of queries and of keys."""
        return self.queries.stop - self.queries.start, self.keys.stop - self.keys.start


def attend(q: Tensor, k: Tensor, v: Tensor, attention: Attention, side: int, scale: float) -> Tensor:
    """Return the attended values (N, heads, side**2, d) of q, k and v of that shape; softmax of `scale` * q k^T."""
    window = 0 if is_global(attention, side) else window_of(attention)
    trains = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
    return _attend(q, k, v, window, attention.border, side, scale, trains)[0]


def rows_of(attention: Attention, side: int, dtype: torch.dtype) -> int:
    """Return the rows of queries in a band, by measurement: enough queries for the matrix products, few keys for nothing."""
    if is_global(attention, side):
        queries = 128
    elif dtype.itemsize < 4:
        queries = 64 if window_of(attention) <= 9 else 128
    else:
        queries = 32 if window_of(attention) <= 5 else 64
    return min(side, max(1, queries // side))


def share_of_pairs(attention: Attention, side: int, dtype: torch.dtype) -> float:
    """Return which share of all pairs of a query and a key is scored; what a window needs is less."""
    return sum(math.prod(band.shape) for band in bands(attention, side, rows_of(attention, side, dtype))) / side**4


@lru_cache(maxsize=256)
def bands(attention: Attention, side: int, rows: int) -> tuple[Band, ...]:
    """Cut a side x side grid into bands of `rows` rows."""
    seen, made = visible_rows(attention, side), []
    for first in range(0, side, rows):
        last = min(first + rows, side)
        keys = slice(seen[first].start * side, seen[last - 1].stop * side)  # windows only move down with their query
        made.append(Band(slice(first * side, last * side), keys))
    return tuple(made)


@lru_cache(maxsize=256)
def biases(attention: Attention, side: int, rows: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor | None, ...]:
    """Return what is added to the scores of each band, (queries, keys): 0 where the query sees the key, else -inf.

    None where it sees all. Bands with the same windows share one, which then stays in the cache.
    """
    visible, shared, made = visible_keys(attention, side), {}, []
    for band in bands(attention, side, rows):
        window = visible[band.queries, band.keys]
        content = band.shape, window.numpy().tobytes()
        if content not in shared:
            bias = torch.zeros(window.shape, dtype=dtype).masked_fill_(~window, -math.inf).to(device)
            shared[content] = None if window.all() else bias
        made.append(shared[content])
    return tuple(made)


@torch.library.custom_op("bench::attend_by_bands", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, window: int, border: str, side: int, scale: float, trains: bool
) -> tuple[Tensor, list[Tensor]]:
    """Return the attended values and, if it `trains` and they are few, the weights of every chunk of images and band."""
    out, kept = _tokens_first(q), []
    attention = _layer(window, border)
    keeps = trains and _bytes_of_weights(q, attention, side) <= KEPT_BYTES
    for images, queries, keys, values in _chunked(attention, side, q, k, v):
        for band, bias in _parts(q, attention, side):
            weights = _weights(queries, keys, band, bias, scale)
            _put(out[images], band.queries, weights, _matrices(values, band.keys))
            if keeps:
                kept.append(weights)
    return out, kept


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, window: int, border: str, side: int, scale: float, trains: bool) -> tuple[Tensor, list[Tensor]]:
    attention, kept = _layer(window, border), list[Tensor]()
    if trains and _bytes_of_weights(q, attention, side) <= KEPT_BYTES:
        made = bands(attention, side, rows_of(attention, side, q.dtype))
        kept = [q.new_empty(len(q[images]) * q.shape[1], *band.shape) for images in _chunks(q) for band in made]
    return _tokens_first(q), kept


@torch.library.custom_op("bench::attend_by_bands_backward", mutates_args=())
def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], window: int, border: str, side: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients in q, k and v, given that in the attended values."""
    dq, dk, dv = q.new_empty(q.shape), k.new_zeros(k.shape), v.new_zeros(v.shape)
    attention, weights_of = _layer(window, border), iter(kept)
    for images, queries, keys, values, d_out in _chunked(attention, side, q, k, v, grad):
        for band, bias in _parts(q, attention, side):
            weights = next(weights_of) if kept else _weights(queries, keys, band, bias, scale)
            d_rows = _matrices(d_out, band.queries)
            _add(dv[images], band.keys, weights.mT, d_rows)
            d_weights = torch.bmm(d_rows, _matrices(values, band.keys).mT)
            d_scores = torch._softmax_backward_data(d_weights, weights, 2, weights.dtype)
            _put(dq[images], band.queries, d_scores, _matrices(keys, band.keys), scale)
            _add(dk[images], band.keys, d_scores.mT, _matrices(queries, band.queries), scale)
    return dq, dk, dv


@_gradients.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, kept: Sequence[Tensor], window: int, border: str, side: int, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _layer(window: int, border: str) -> Attention:
    """Return what a custom operator, which takes plain values alone, was asked for; a window of 0 is none."""
    return Attention(window=window or None, border=cast(Border, border))


def _keep(ctx: Any, inputs: tuple, output: tuple[Tensor, list[Tensor]]) -> None:
    q, k, v, *ctx.settings, _ = inputs
    ctx.save_for_backward(q, k, v, *output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    q, k, v, *kept = ctx.saved_tensors
    return *_gradients(grad, q, k, v, kept, *ctx.settings), None, None, None, None, None


_attend.register_autograd(_backward, setup_context=_keep)


def _parts(q: Tensor, attention: Attention, side: int) -> Iterable[tuple[Band, Tensor | None]]:
    """Return every band with its bias."""
    rows = rows_of(attention, side, q.dtype)
    return zip(bands(attention, side, rows), biases(attention, side, rows, q.dtype, q.device), strict=True)


def _chunked(attention: Attention, side: int, *tensors: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield every chunk of images with that part of each tensor.

    What many products read whole is laid out for them once; a bf16 product copies the rows that it reads in any case.
    """
    laid_out = tensors[0].element_size() >= 4 or is_global(attention, side)
    for images in _chunks(tensors[0]):
        yield images, *(x[images].contiguous() if laid_out else x[images] for x in tensors)


def _chunks(q: Tensor) -> list[slice]:
    """Return the images in chunks, by measurement: in bf16 a product's fixed cost counts, in fp32 what the cache holds."""
    few = 64 if q.shape[2] <= 256 else 32  # the smaller the products, the more of them at a time
    matrices = few if q.element_size() < 4 else 8 * torch.get_num_threads()
    step = max(1, matrices // q.shape[1])
    return [slice(first, min(first + step, q.shape[0])) for first in range(0, q.shape[0], step)]


def _bytes_of_weights(q: Tensor, attention: Attention, side: int) -> float:
    return q.shape[0] * q.shape[1] * q.element_size() * side**4 * share_of_pairs(attention, side, q.dtype)


def _weights(q: Tensor, k: Tensor, band: Band, bias: Tensor | None, scale: float) -> Tensor:
    queries, keys = _matrices(q, band.queries), _matrices(k, band.keys).mT
    if bias is None:
        return q.new_empty(len(queries), *band.shape).baddbmm_(queries, keys, beta=0, alpha=scale).softmax(2)
    return torch.baddbmm(bias, queries, keys, alpha=scale).softmax(2)


def _tokens_first(q: Tensor) -> Tensor:
    """Return an empty tensor of the shape (N, heads, tokens, d) whose memory is (N, tokens, heads, d), as what follows reads it."""
    n, heads, tokens, d = q.shape
    return q.new_empty(n, tokens, heads, d).transpose(1, 2)


def _matrices(x: Tensor, rows: Rows) -> Tensor:
    """Return the rows of x: (N, heads, tokens, d) as a stack of matrices (N * heads, rows, d)."""
    return x[:, :, rows].flatten(0, 1)


def _put(x: Tensor, rows: Rows, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """Set the rows of x: (N, heads, tokens, d) to `scale` times the products of two stacks of matrices."""
    if x.element_size() >= 4 and x.is_contiguous():
        x[:, :, rows].flatten(0, 1).baddbmm_(a, b, beta=0, alpha=scale)
    else:
        torch.mul(torch.bmm(a, b).unflatten(0, x.shape[:2]), scale, out=x[:, :, rows])


def _add(x: Tensor, rows: Rows, a: Tensor, b: Tensor, scale: float = 1.0) -> None:
    """Add `scale` times the products of two stacks of matrices to the rows of a contiguous x: (N, heads, tokens, d)."""
    rows_of_x = x[:, :, rows]
    if x.element_size() >= 4 or rows_of_x.is_contiguous():
        rows_of_x.flatten(0, 1).baddbmm_(a, b, alpha=scale)
    else:  # the library's bf16 product writes only whole tensors, and would copy twice
        rows_of_x.add_(torch.bmm(a, b).unflatten(0, x.shape[:2]), alpha=scale)
