"""How alike the stages of a network are inside: similarity of their features, effective rank, DiverseDiT's terms."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.analysis import representation_figures
from benchmark.analysis.similarity import FEWEST, Comparison, diversity
from benchmark.analysis.study import Parts, Progress, Request, Result, noisy
from benchmark.errors import BenchError, NotRun, UsageError

VERSION = "representations-1"
BATCH = 16  # images of a minibatch, over which the unbiased HSIC is taken


def analyse(network: nn.Module, images: Tensor, request: Request, progress: Progress, parts: Parts) -> Result:
    """Compare all pairs of stages at every noise level, over minibatches of the images."""
    names = [name for name, _ in stages(network)]
    if len(images) < FEWEST:
        raise UsageError(
            f"`images={len(images)}` must be at least {FEWEST}: the similarity of representations is one of how "
            "images differ, and its unbiased estimate takes that many."
        )
    levels = []
    for place, timestep in enumerate(request.timesteps):
        show = partial(_show, progress, place * len(images), len(request.timesteps) * len(images))
        make = partial(compare, network, noisy(images, timestep, request)[0], timestep, progress=show)
        levels.append(parts.keep(f"t{timestep}", make))
        show(len(images))
    arrays = {name: torch.stack([level[name] for level in levels]).numpy() for name in ("cka", "cosine", "effective_rank")}
    arrays |= {"timesteps": np.array(request.timesteps), "stages": np.array(names)}
    return Result(
        numbers(arrays, levels), arrays, representation_figures.figures(arrays), {"stages": len(names), "batch": min(BATCH, len(images))}
    )


def stages(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the stages that a network names; raise NotRun where it names none."""
    named = getattr(network, "stages", None)
    if not callable(named):
        raise NotRun(
            "This model names no stages whose features could be compared: its network has no method `stages()`, as "
            "those of every DiT and UNet here. A model that is fitted in closed form has none to name."
        )
    return named()


@torch.no_grad()
def compare(network: nn.Module, x: Tensor, timestep: int, progress: Callable[[int], None]) -> dict[str, Tensor]:
    """Return the comparison of a network's stages on the noisy images x: (K, C, R, R) at one step, K >= 4."""
    found, done = Comparison(), 0
    for batch in x.tensor_split(-(-len(x) // BATCH)):
        with recorded(stages(network)) as features:
            network(batch, torch.full((len(batch),), timestep, device=x.device))
        found.add([features[name] for name, _ in stages(network)])
        done += len(batch)
        progress(done)
    return found.result()


@contextmanager
def recorded(named: list[tuple[str, nn.Module]]) -> Iterator[dict[str, Tensor]]:
    """Keep the output of every stage of the forward pass inside, as (N, positions, channels); raise where one has none."""
    features: dict[str, Tensor] = {}
    hooks = [stage.register_forward_hook(partial(_keep, features, name)) for name, stage in named]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()
    if missing := [name for name, _ in named if name not in features]:
        raise BenchError(
            f"The stage '{missing[0]}' of this model took no part in its forward pass: `stages()` of a network "
            "names modules that are called."
        )


def _keep(features: dict[str, Tensor], name: str, stage: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
    if name in features or not isinstance(out, Tensor) or out.dim() not in (3, 4):
        raise BenchError(
            f"The stage '{name}' of this model was called twice in a forward pass, or returned something other than "
            "(N, tokens, channels) or (N, channels, H, W): `stages()` of a network names modules that do so once."
        )
    features[name] = out if out.dim() == 3 else out.flatten(2).mT


def numbers(arrays: dict[str, np.ndarray], levels: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the means over pairs of stages and over stages, over all levels and by level; DiverseDiT's terms where defined."""
    timesteps = arrays["timesteps"].tolist()
    every = [("", arrays["cka"], arrays["cosine"], arrays["effective_rank"], levels)]
    every += [
        (f"_t{t}", arrays["cka"][place], arrays["cosine"][place], arrays["effective_rank"][place], [levels[place]])
        for place, t in enumerate(timesteps)
    ]
    found: dict[str, float] = {}
    for suffix, cka, cosine, rank, some in every:
        pairs = {"cka": _pairs(cka), "cka_neighbours": np.diagonal(cka, 1, -2, -1), "cosine": _pairs(cosine), "effective_rank": rank}
        found |= {name + suffix: float(np.nanmean(values)) for name, values in pairs.items() if not np.isnan(values).all()}
        if terms := diversity(some):
            found |= {name + suffix: value for name, value in terms._asdict().items()}
    ranks = zip(arrays["stages"].tolist(), arrays["effective_rank"].mean(0), strict=True)
    return found | {f"effective_rank_{name.replace(' ', '')}": float(rank) for name, rank in ranks}


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Return the entries of symmetric matrices (..., stages, stages) above the diagonal: (..., pairs)."""
    return matrix[(..., *np.triu_indices(matrix.shape[-1], 1))]


def _show(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
