"""Estimates over seeds and paired differences by seed: mean, standard deviation, 95% t-interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from benchmark.errors import BenchError
from benchmark.files import install
from benchmark.recording.record import Point

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over n seeds, its standard deviation (n - 1) and its t-interval; one seed has neither of the two."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Paired:
    """Differences variant - baseline by seed, and their estimate."""

    differences: Mapping[int, float]
    estimate: Estimate

    @property
    def lower(self) -> int:
        """In how many seeds the variant is strictly lower."""
        return sum(value < 0 for value in self.differences.values())

    @property
    def higher(self) -> int:
        """In how many seeds the variant is strictly higher."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def side(self) -> int:
        """-1 or 1 where the whole interval lies below or above 0; 0 where it contains 0 or there is none."""
        if self.estimate.low is None or self.estimate.high is None:
            return 0
        return (self.estimate.low > 0) - (self.estimate.high < 0)


@dataclass(frozen=True)
class Corrected(Paired):
    """Paired differences that were tested: the two-sided p-value, and Holm's correction of it within its family.

    None where there is no interval: one seed is no test.
    """

    p: float | None
    p_holm: float | None

    @property
    def side(self) -> int:
        """As of any paired differences, and 0 where the corrected p-value is not below 1 - CONFIDENCE."""
        return super().side if separated(self.p_holm) else 0


@dataclass(frozen=True)
class EqualFit:
    """The gaps of two runs where both fit their training images equally well; dB."""

    psnr_train: float
    variant: float
    baseline: float


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of at least one value; the interval is mean +- t(0.975, n - 1) sd / sqrt(n)."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(1, mean, None, None, None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    reach = t_quantile(n - 1) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - reach, mean + reach)


def paired(variant: Mapping[int, float], baseline: Mapping[int, float]) -> Paired | None:
    """Compare two sets of values by the seeds that both have; None where they share no seed."""
    seeds = sorted(variant.keys() & baseline.keys())
    if not seeds:
        return None
    differences = {seed: variant[seed] - baseline[seed] for seed in seeds}
    return Paired(differences, estimate(list(differences.values())))


def p_value(found: Estimate, bounds: Sequence[float] = (0.0,)) -> float | None:
    """Return the two-sided p-value of a mean against the nearest of `bounds`: the level at which its t-interval just reaches it.

    None where there is no interval.
    """
    if found.sd is None:
        return None
    apart = min(abs(found.mean - bound) for bound in bounds)
    if found.sd == 0:
        return 0.0 if apart > 0 else 1.0
    return min(1.0, 2 * _t_tail(found.n - 1, apart / (found.sd / math.sqrt(found.n))))


def holm(values: Sequence[float | None], family: int | None = None) -> list[float | None]:
    """Return Holm's step-down correction (Holm 1979): the i-th smallest p-value times (family - i + 1), never falling, at most 1.

    A family larger than the number of values counts tests that were declared and not made, as if their p-values were 1: the
    correction of a value can only fall once they are made.
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    size, found, highest = max(family or 0, len(known)), list[float | None]([None] * len(values)), 0.0
    for rank, (value, place) in enumerate(known):
        highest = max(highest, min(1.0, (size - rank) * value))
        found[place] = highest
    return found


def separated(p_holm: float | None) -> bool:
    """Whether a corrected p-value is small enough for a verdict."""
    return p_holm is not None and p_holm < 1 - CONFIDENCE


def equal_fit(variant: Sequence[Point], baseline: Sequence[Point]) -> EqualFit | None:
    """Return both gaps at the highest PSNR_train that both trajectories reach; None where they share no level.

    Where PSNR_train only rises, that level is the smaller of the two last values. A trajectory may also dip: then the
    level is the smaller of the two highest values, and each gap is the one where the level is first reached.
    """
    if not variant or not baseline:
        return None
    level = min(max(point.psnr_train for point in side) for side in (variant, baseline))
    gaps = gap_at(variant, level), gap_at(baseline, level)
    return None if gaps[0] is None or gaps[1] is None else EqualFit(level, gaps[0], gaps[1])


def gap_at(trajectory: Sequence[Point], level: float) -> float | None:
    """Return the gap where PSNR_train first reaches `level`, linear in PSNR_train between the two points around it.

    None where it never does, or where the first point already lies above: the crossing was before, nobody saw it.
    """
    points = sorted(trajectory, key=lambda point: point.step)
    before = points[0]
    if before.psnr_train >= level:
        return before.psnr_gap if before.psnr_train == level else None
    for after in points[1:]:
        if after.psnr_train >= level:
            way = (level - before.psnr_train) / (after.psnr_train - before.psnr_train)
            return before.psnr_gap + way * (after.psnr_gap - before.psnr_gap)
        before = after
    return None


def best_stop(trajectory: Sequence[Point]) -> float | None:
    """Return the test PSNR of a run stopped where it was best, in dB: chosen on one half of the test images, read on the other.

    The mean over both ways round, so that no image chooses where it is read. None where the points have no halves.
    """
    points = [point.psnr_test_halves for point in trajectory if len(point.psnr_test_halves) == 2]
    if not points:
        return None
    read = [max(points, key=lambda halves: halves[chosen])[1 - chosen] for chosen in (0, 1)]
    return math.fsum(read) / 2


@cache
def t_quantile(freedom: int) -> float:
    """Return the quantile of the t-distribution that the ends of an interval are made from."""
    return float(special().stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _t_tail(freedom: int, above: float) -> float:
    return float(special().stdtr(freedom, -above))


def special() -> Any:
    """Return scipy.special, which has the t-distribution of scipy.stats at a tenth of the import time."""
    try:
        from scipy import special
    except ImportError:
        raise BenchError(
            "The leaderboard needs scipy and matplotlib, which are not installed here. `make setup` installs "
            f"everything; `{install('leaderboard')}` only these."
        ) from None
    return special
