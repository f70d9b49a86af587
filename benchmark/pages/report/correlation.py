"""Rank correlation between two numbers of the same rows, with an interval that knows which rows belong together.

The seeds of one configuration are no independent observations. So the interval is that of a cluster bootstrap (Davison
& Hinkley 1997, section 3.8): whole configurations are drawn with replacement, each with all of its seeds.
"""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.pages.statistics import CONFIDENCE

RESAMPLES = 2000
FEWEST = 4  # configurations below which no interval is given


@dataclass(frozen=True)
class Observation:
    """One row: two numbers, and the configuration (all but the seed) that it belongs to."""

    x: float
    y: float
    configuration: str


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of `rows` rows in `configurations` configurations; the interval is None where there are too few.

    `undefined` counts the resamples without a rank correlation, because a number did not vary in them; they are left out.
    """

    rho: float
    low: float | None
    high: float | None
    rows: int
    configurations: int
    undefined: int = 0


def correlate(observations: Sequence[Observation], resamples: int = RESAMPLES) -> Correlation | None:
    """Return the rank correlation of x and y, None where one of the two does not vary."""
    rho = spearman([one.x for one in observations], [one.y for one in observations])
    if rho is None:
        return None
    clusters: dict[str, list[Observation]] = defaultdict(list)
    for one in observations:
        clusters[one.configuration].append(one)
    groups = [clusters[name] for name in sorted(clusters)]
    if len(groups) < FEWEST:
        return Correlation(rho, None, None, len(observations), len(groups))
    drawn = bootstrap(groups, resamples)
    defined = sorted(value for value in drawn if value is not None)
    low, high = (quantile(defined, share) for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Correlation(rho, low, high, len(observations), len(groups), resamples - len(defined))


def bootstrap(groups: Sequence[Sequence[Observation]], resamples: int) -> list[float | None]:
    """Return rho of `resamples` draws of as many groups as there are, with replacement; the same ones on every machine."""
    source = random.Random(0)  # of its methods only random() is promised to stay the same
    found = []
    for _ in range(resamples):
        drawn = [one for _ in groups for one in groups[int(source.random() * len(groups))]]
        found.append(spearman([one.x for one in drawn], [one.y for one in drawn]))
    return found


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties at their mean rank; None where there is nothing to rank."""
    from scipy.stats import rankdata

    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    first, second = rankdata(x) - (len(x) + 1) / 2, rankdata(y) - (len(y) + 1) / 2
    rho = float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))
    return max(-1.0, min(1.0, rho))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of ordered values, linear between neighbours."""
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
