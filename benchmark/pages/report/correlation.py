"""Rank correlation between two numbers of the same rows, with an interval that knows which rows belong together.

The seeds of one configuration are no independent observations. So the interval is that of a cluster bootstrap (Davison
& Hinkley 1997, section 3.8): whole configurations are drawn with replacement, each with all of its seeds. Of few
configurations every resample is listed, with its chance, and nothing is left to the draw; of more many are drawn, and each
number comes with the range in which another draw would put it. The p-value is the one that belongs to the interval: twice
the chance of a resample on the other side of 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations_with_replacement

import numpy as np

from benchmark.pages.statistics import CONFIDENCE
from benchmark.pages.verdicts import p_value_words

FEWEST = 4  # configurations below which no interval is given
LISTED = 10  # configurations up to which all resamples are listed: 92,378 of them
DRAWN = 1_000_000
ERRORS = 3  # standard errors of the draw, on either side
CHUNK = 2_000  # resamples at a time


@dataclass(frozen=True)
class Observation:
    """One row: two numbers, and the configuration (all but the seed) that it belongs to."""

    x: float
    y: float
    configuration: str


@dataclass(frozen=True)
class Drawn:
    """A number that rests on drawn resamples, and the range in which another draw would put it."""

    value: float
    least: float
    most: float


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of `rows` rows in `configurations` configurations; interval and p are None where there are too few.

    `undefined` is the chance of a resample without a rank correlation, because a number does not vary in it; the
    interval and p are of the others.
    """

    rho: float
    low: Drawn | None
    high: Drawn | None
    p: Drawn | None
    rows: int
    configurations: int
    undefined: float = 0.0


def correlate(observations: Sequence[Observation], *, listed: int = LISTED, drawn: int = DRAWN) -> Correlation | None:
    """Return the rank correlation of x and y, None where one of the two does not vary."""
    rho = spearman([one.x for one in observations], [one.y for one in observations])
    if rho is None:
        return None
    count = len({one.configuration for one in observations})
    if count < FEWEST:
        return Correlation(rho, None, None, None, len(observations), count)
    counts, chances = every_resample(count) if count <= listed else some_resamples(count, drawn)
    values = resampled(observations, counts)
    defined = ~np.isnan(values)
    undefined = float(chances[~defined].sum())
    order = np.argsort(values)[: defined.sum()]  # NaN comes last
    values, up_to = values[order], np.cumsum(chances[order]) / chances[order].sum()
    size = None if count <= listed else len(values)
    low, high = (_end(values, up_to, share, size) for share in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Correlation(rho, low, high, _p(values, up_to, size), len(observations), count, undefined)


@cache
def every_resample(groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each group is drawn, (resamples, groups), in every resample of as many as there are, and their chances."""
    drawn = np.array(list(combinations_with_replacement(range(groups), groups)))
    counts = _counts(drawn, groups)
    factorials = np.array([math.factorial(n) for n in range(groups + 1)], dtype=np.float64)
    return counts, math.factorial(groups) / factorials[counts].prod(axis=1) / float(groups) ** groups


@lru_cache(maxsize=2)
def some_resamples(groups: int, drawn: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each group is drawn in `drawn` resamples, the same ones on every machine, and their equal chances."""
    stream, counts = np.random.PCG64(seed), []
    for start in range(0, drawn, CHUNK):
        rows = min(CHUNK, drawn - start)
        raw = stream.random_raw(rows * groups) >> np.uint64(32)  # of numpy's streams only the raw ones are promised to stay
        counts.append(_counts((raw * np.uint64(groups) >> np.uint64(32)).astype(np.int64).reshape(rows, groups), groups))
    return np.concatenate(counts), np.full(drawn, 1 / drawn)


def resampled(observations: Sequence[Observation], counts: np.ndarray) -> np.ndarray:
    """Return the rank correlation in each resample, NaN where a number does not vary.

    counts: (resamples, configurations), the configurations in the order of their names.
    """
    names = sorted({one.configuration for one in observations})
    belongs = np.array([names.index(one.configuration) for one in observations])
    below = [_below(np.array([getattr(one, axis) for one in observations]), belongs, len(names)) for axis in ("x", "y")]
    found = []
    for start in range(0, len(counts), CHUNK):
        drawn = counts[start : start + CHUNK].astype(np.float32)  # exact: ranks are multiples of 1/2, and few
        weights = drawn[:, belongs]
        x, y = (drawn @ table - weights.sum(axis=1, keepdims=True) / 2 for table in below)  # ranks less their mean
        weighted = weights * x
        pairs = ((weighted, y), (weighted, x), (weights * y, y))
        both, of_x, of_y = (np.einsum("rn,rn->r", a, b).astype(np.float64) for a, b in pairs)
        with np.errstate(invalid="ignore"):
            found.append(np.clip(both / np.sqrt(of_x * of_y), -1, 1))
    return np.concatenate(found)


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Return Spearman's rank correlation, ties at their mean rank; None where there is nothing to rank."""
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    first, second = (_ranks(np.asarray(one)) - (len(one) + 1) / 2 for one in (x, y))
    rho = float(first @ second) / math.sqrt(float(first @ first) * float(second @ second))
    return max(-1.0, min(1.0, rho))


def settled(number: Drawn) -> str:
    """Return a number with three decimals or fewer, as many as no other draw would change; with one where none is sure."""
    forms = [[f"{value:.{decimals}f}" for value in (number.value, number.least, number.most)] for decimals in (3, 2, 1)]
    return next((value for value, least, most in forms if least == most), forms[-1][0]).replace("-", "−")


def settled_p(number: Drawn) -> str:
    """Return a p-value with the decimals that no other draw would change, or a bound that it lies below."""
    if (said := p_value_words(number.least)) == p_value_words(number.most):
        return said
    for decimals in (2, 1):
        if (said := f"{number.least:.{decimals}f}") == f"{number.most:.{decimals}f}" and float(said):
            return said
    return next((f"< {bound}" for bound in (0.01, 0.05, 0.1, 0.2, 0.5) if number.most < bound), "< 1")


def _end(values: np.ndarray, up_to: np.ndarray, share: float, drawn: int | None) -> Drawn:
    """Return the smallest of the rising values up to which lies `share` of the chances."""
    error = ERRORS * math.sqrt(share * (1 - share) / drawn) if drawn else 0.0
    places = np.searchsorted(up_to, np.array([share, share - error, share + error]) - 1e-12)
    return Drawn(*(float(values[min(place, len(values) - 1)]) for place in places))


def _p(values: np.ndarray, up_to: np.ndarray, drawn: int | None) -> Drawn:
    below, over = (int(np.searchsorted(values, 0.0, side=side)) for side in ("right", "left"))
    beyond = min(float(up_to[below - 1]) if below else 0.0, 1 - float(up_to[over - 1]) if over else 1.0)
    if drawn:
        beyond = max(beyond, 1 / drawn)
    error = ERRORS * math.sqrt(beyond * (1 - beyond) / drawn) if drawn else 0.0
    value, least, most = (min(1.0, max(0.0, 2 * chance)) for chance in (beyond, beyond - error, beyond + error))
    return Drawn(value, least, most)


def _below(values: np.ndarray, belongs: np.ndarray, groups: int) -> np.ndarray:
    """Return, (groups, observations), how many values of each group lie below each value, those equal to it by half: mid-ranks less 1/2."""
    table = (values[:, None] < values[None]) + 0.5 * (values[:, None] == values[None])
    return np.array([table[belongs == group].sum(axis=0) for group in range(groups)], dtype=np.float32)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, from 1; of equal ones the mean. As scipy.stats.rankdata, whose import takes longer than a page."""
    _, place, equal = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(equal) - (equal - 1) / 2)[place]


def _counts(drawn: np.ndarray, groups: int) -> np.ndarray:
    rows = np.arange(len(drawn))[:, None] * groups
    return np.bincount((rows + drawn).ravel(), minlength=len(drawn) * groups).reshape(len(drawn), groups).astype(np.uint8)
