"""The attention maps of a network, recomputed beside its forward pass, which stays as fast as it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def attention_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers that can say what they weigh, in order: those with a method `maps` of forward's arguments."""
    return [module for module in network.modules() if callable(getattr(module, "maps", None))]


@torch.no_grad()
def attention_maps(network: nn.Module, x: Tensor, t: Tensor, y: Tensor | None = None) -> list[Tensor]:
    """Return the maps (N, heads, queries, keys) of every attention layer for x: (N, C, R, R) at steps t: (N,).

    A row holds the weights of one query and sums to one. The network's mode is left as it is. A map of 1024 tokens
    takes 4 MiB for each image, layer and head: give as few images at a time as fit.
    """
    with _recorded(attention_layers(network)) as maps:
        network(x, t, y)
    return maps


@contextmanager
def _recorded(layers: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Append to the list what `maps` returns for the arguments of every call of the layers."""
    maps: list[Tensor] = []
    hooks = [layer.register_forward_pre_hook(lambda module, arguments: maps.append(module.maps(*arguments)))
             for layer in layers]
    try:
        yield maps
    finally:
        for hook in hooks:
            hook.remove()
