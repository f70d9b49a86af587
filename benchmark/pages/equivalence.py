"""Data-equivalence: what a variant is worth in training images, by seed.

N* is the subset size at which the baseline reaches the variant's number at N, read off a monotone curve through the
baseline's ladder of N, linear in log N; the variant is worth N* / N. Both ladders are made monotone first (least
squares), so that a variant is never compared with a wiggle; where the baseline's curve is flat, the N* nearest to N counts.
Beyond the ladder a number is a bound, which is nearer to 1 than what it stands for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Ladder = Mapping[int, float]  # a number by N


@dataclass(frozen=True)
class Worth:
    """The factor N* / N; `bound` is 1 where it is at least that, -1 where at most, 0 where it is that."""

    factor: float
    bound: int


def worth(variant: Ladder, baseline: Ladder, subset: int, *, rises: bool) -> Worth | None:
    """Return what the variant is worth at N = `subset`; None without its number there or with one N of the baseline.

    `rises` says that the number grows with N, as test PSNR does; a gap falls.
    """
    if subset not in variant or len(baseline) < 2:
        return None
    sign = 1 if rises else -1
    value, curve = _monotone(variant, sign)[subset], _monotone(baseline, sign)
    sizes = sorted(curve)
    if value > curve[sizes[-1]] or value < curve[sizes[0]]:
        bound = 1 if value > curve[sizes[-1]] else -1
        return Worth(sizes[-1 if bound > 0 else 0] / subset, bound)
    at = [_log_size(curve, sizes, value, first=first) for first in (True, False)]
    return Worth(math.exp(min(max(math.log(subset), at[0]), at[1])) / subset, 0)


def _log_size(curve: Ladder, sizes: list[int], value: float, *, first: bool) -> float:
    """Return log N where a rising curve is at `value`: the first place of a flat stretch, or the last."""
    pairs = list(zip(sizes, sizes[1:], strict=False))
    for low, high in pairs if first else reversed(pairs):
        if curve[low] <= value <= curve[high]:
            if curve[low] == curve[high]:
                return math.log(low if first else high)
            way = (value - curve[low]) / (curve[high] - curve[low])
            return math.log(low) + way * (math.log(high) - math.log(low))
    raise ValueError(f"{value} lies outside of the curve")  # the caller has looked


def _monotone(ladder: Ladder, sign: int) -> dict[int, float]:
    """Return the rising numbers nearest to `sign` times the ladder's in least squares, by pooling adjacent violators."""
    pools: list[tuple[float, list[int]]] = []
    for size in sorted(ladder):
        mean, members = sign * ladder[size], [size]
        while pools and pools[-1][0] > mean:
            before, others = pools.pop()
            mean = (before * len(others) + mean * len(members)) / (len(others) + len(members))
            members = others + members
        pools.append((mean, members))
    return {size: mean for mean, members in pools for size in members}
