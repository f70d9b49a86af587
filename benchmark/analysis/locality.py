"""How local attention maps are: the numbers behind Fig. 4 of An et al. 2024, for maps of a side x side grid of tokens."""

from functools import lru_cache

import torch
from torch import Tensor

WINDOWS = (3, 5, 7, 9, 11, 13)  # sides of the windows whose mass is taken, in tokens: those of the paper's layouts
NAMES = ("distance", *(f"mass_{window}" for window in WINDOWS), "entropy", "position_invariance", "negative_mass")


def locality(maps: Tensor, patch: int = 1) -> dict[str, Tensor]:
    """Return the numbers NAMES of maps (..., T queries, T keys), each (...) in float64: means over the queries.

    `distance` is the mean Euclidean distance from a query to what it attends to, in pixels; `mass_w` the weight
    within the w x w tokens around the query, cut off at the border; `entropy` that of a row, in nats;
    `position_invariance` see below; `negative_mass` the share of negative weights, which only components' maps have: the
    other numbers take the weights' magnitudes, |A| / sum |A| of each row, which for a softmax are the weights.
    """
    maps = maps.double()
    magnitude = maps.abs()
    shares = magnitude / magnitude.sum(-1, keepdim=True)
    tokens = maps.shape[-1]
    means = shares.flatten(-2) @ _weights(tokens, maps.device) / tokens
    numbers = {name: means[..., place] for place, name in enumerate(NAMES[: 1 + len(WINDOWS)])}
    numbers["distance"] = patch * numbers["distance"]
    numbers["entropy"] = -torch.special.xlogy(shares, shares).sum(-1).mean(-1)
    numbers["position_invariance"] = position_invariance(maps)
    numbers["negative_mass"] = ((magnitude - maps).sum((-2, -1)) / 2) / magnitude.sum((-2, -1))
    return numbers


def position_invariance(maps: Tensor) -> Tensor:
    """Return the mean cosine similarity between the rows of two different queries, (...) for maps (..., T, T).

    1 where every query attends to the same tokens "irrespective of their positions" (the paper's introduction, of
    models trained on few images: all rows equal, vertical lines in the picture of a map), 0 where no two queries share
    a token, as on a diagonal. The mean over all pairs comes from the length of the sum of the unit rows.
    """
    tokens = maps.shape[-1]
    if tokens == 1:
        return torch.ones_like(maps[..., 0, 0])
    rows = torch.nn.functional.normalize(maps, dim=-1, eps=0)
    return (rows.sum(-2).square().sum(-1) - tokens) / (tokens * (tokens - 1))


@lru_cache(maxsize=1)
def _weights(tokens: int, device: torch.device) -> Tensor:
    """Return what each pair of tokens counts for `distance` and for each window, (T * T, 1 + windows) in float64."""
    side = round(tokens**0.5)
    if side**2 != tokens:
        raise ValueError(f"{tokens} tokens are no square grid")
    place = torch.arange(tokens)
    down = (place[:, None] // side - place // side).abs()
    across = (place[:, None] % side - place % side).abs()
    distance = torch.hypot(down.double(), across.double())
    reach = torch.maximum(down, across)
    inside = [(reach <= window // 2).double() for window in WINDOWS]
    return torch.stack([distance, *inside], dim=2).flatten(0, 1).to(device)
