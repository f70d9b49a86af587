"""Estimates over seeds and paired differences by seed: mean, standard deviation, 95% t-interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmark.errors import BenchError
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
    reach = _t_quantile(n - 1) * sd / math.sqrt(n)
    return Estimate(n, mean, sd, mean - reach, mean + reach)


def paired(variant: Mapping[int, float], baseline: Mapping[int, float]) -> Paired | None:
    """Compare two sets of values by the seeds that both have; None where they share no seed."""
    seeds = sorted(variant.keys() & baseline.keys())
    if not seeds:
        return None
    differences = {seed: variant[seed] - baseline[seed] for seed in seeds}
    return Paired(differences, estimate(list(differences.values())))


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


def _t_quantile(freedom: int) -> float:
    try:
        from scipy.special import (
            stdtrit,  # the quantile of scipy.stats.t at a tenth of the import time
        )
    except ImportError:
        raise BenchError(
            "The leaderboard needs scipy and matplotlib, which are not installed here. `make setup` installs "
            "everything; `pip install 'dit-generalization-bench[leaderboard]'` only these."
        ) from None
    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))
