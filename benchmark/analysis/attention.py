"""The attention maps of a network, recomputed beside its forward pass, which stays as fast as it is (Fig. 4)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.analysis import attention_figures
from benchmark.analysis.locality import NAMES, locality
from benchmark.analysis.study import Parts, Progress, Request, Result, noisy
from benchmark.errors import NotRun

VERSION = "attention-1"
MOST = 1 << 26  # weights of all mean maps together (256 MiB); beyond it, the mean over the heads alone is kept

Visit = Callable[[int, Tensor], None]  # layer, maps


def attention_layers(network: nn.Module) -> list[nn.Module]:
    """Return the layers that can say what they weigh, in order: those with a method `maps` of forward's arguments."""
    return [module for module in network.modules() if callable(getattr(module, "maps", None))]


def attention_maps(network: nn.Module, x: Tensor, t: Tensor, y: Tensor | None = None) -> list[Tensor]:
    """Return the maps (N, heads, queries, keys) of every attention layer for x: (N, C, R, R) at steps t: (N,).

    A row holds the weights of one query and sums to one. The network's mode is left as it is. A map of 1024 tokens
    takes 4 MiB for each image, layer and head: give as few images at a time as fit.
    """
    maps: list[Tensor] = []
    visit_maps(network, x, t, lambda layer, found: maps.append(found), y)
    return maps


@torch.no_grad()
def visit_maps(network: nn.Module, x: Tensor, t: Tensor, visit: Visit, y: Tensor | None = None) -> None:
    """Show the same maps to `visit(layer, maps)` one layer at a time, so that no two need to be in memory."""
    with _visited(attention_layers(network), visit):
        network(x, t, *(() if y is None else (y,)))


@contextmanager
def _visited(layers: list[nn.Module], visit: Visit) -> Iterator[None]:
    """Show to `visit` what `maps` returns for the arguments of every call of the layers."""
    places = {layer: place for place, layer in enumerate(layers)}
    hooks = [layer.register_forward_pre_hook(lambda module, arguments: visit(places[module], module.maps(*arguments))) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def analyse(network: nn.Module, images: Tensor, request: Request, progress: Progress, parts: Parts) -> Result:
    """Return the mean maps of every layer and head at every noise level, their locality, and the pictures of both."""
    layers, heads, tokens = shape(network, images)
    keep_heads = len(request.timesteps) * layers * heads * tokens**2 <= MOST
    levels = []
    for place, timestep in enumerate(request.timesteps):
        show = partial(_show, progress, place * len(images), len(request.timesteps) * len(images))
        make = partial(averages, network, noisy(images, timestep, request)[0], timestep, keep_heads=keep_heads, progress=show)
        levels.append(parts.keep(f"t{timestep}", make))
        show(len(images))
    arrays = {name: torch.stack([level[name] for level in levels]).numpy() for name in ("maps", *NAMES)}
    arrays["timesteps"] = np.array(request.timesteps)
    settings = {"layers": layers, "heads": heads, "tokens": tokens, "maps": "every head" if keep_heads else "mean over the heads"}
    return Result(numbers(arrays, request.timesteps), arrays, attention_figures.figures(arrays, images.shape[-1]), settings)


def shape(network: nn.Module, images: Tensor) -> tuple[int, int, int]:
    """Return how many layers, heads and tokens the network's maps have; raise NotRun where there are no such maps."""
    found: list[Tensor] = []
    start = torch.zeros(1, dtype=torch.long, device=images.device)
    visit_maps(network, images[:1].float(), start, lambda layer, maps: found.append(maps[0, :, :, 0]))
    if not found:
        instead = " What applies to it is `what='representations'`." if callable(getattr(network, "stages", None)) else ""
        raise NotRun(
            "This model has no attention layers whose maps can be taken: a layer has to have a method `maps`, as those "
            f"of every DiT here.{instead}"
        )
    if len({tuple(maps.shape) for maps in found}) > 1 or round(found[0].shape[1] ** 0.5) ** 2 != found[0].shape[1]:
        raise NotRun(
            "The attention maps of this model are not of one size, or not over a square grid of tokens, so that no "
            "distance can be told from them."
        )
    return len(found), *found[0].shape


@torch.no_grad()
def averages(network: nn.Module, x: Tensor, timestep: int, *, keep_heads: bool, progress: Callable[[int], None]) -> dict[str, Tensor]:
    """Return means over the noisy images x: (K, C, R, R) at one step: `maps` and the numbers of locality.

    `maps` is (layers, heads, T, T) in float32, or (layers, 1, T, T), the mean over the heads; the numbers, of which the
    nonlinear ones are taken image by image, are (layers, heads) in float64. One layer of one image is looked at a time:
    what is in memory does not grow with the images.
    """
    sums: dict[int, Tensor] = {}
    found: dict[int, dict[str, Tensor]] = {}
    t = torch.full((1,), timestep, device=x.device)

    def visit(layer: int, maps: Tensor) -> None:
        own = maps[0] if keep_heads else maps[0].mean(0, keepdim=True)
        sums[layer] = sums[layer].add_(own) if layer in sums else own.float().clone()
        measured = locality(maps[0], patch=x.shape[-1] // round(maps.shape[-1] ** 0.5))
        before = found.get(layer)
        found[layer] = {name: measured[name] + before[name] for name in NAMES} if before else measured

    for k in range(len(x)):
        visit_maps(network, x[k : k + 1], t, visit)
        progress(k + 1)
    means = {name: torch.stack([found[layer][name] for layer in sorted(found)]) / len(x) for name in NAMES}
    return {"maps": torch.stack([sums[layer].div_(len(x)) for layer in sorted(sums)]), **means}


def numbers(arrays: dict[str, np.ndarray], timesteps: tuple[int, ...]) -> dict[str, float]:
    """Return the means of every number of locality: over all, by noise level and by layer (from 1)."""
    found = {}
    for name in NAMES:
        found[name] = float(arrays[name].mean())
        found |= {f"{name}_t{t}": float(values.mean()) for t, values in zip(timesteps, arrays[name], strict=True)}
        if name != "negative_mass":
            found |= {f"{name}_layer{layer}": float(values.mean()) for layer, values in enumerate(arrays[name].swapaxes(0, 1), start=1)}
    return found


def _show(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
