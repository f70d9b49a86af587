"""When a run begins to memorise, in training steps: where its test PSNR peaks, and where its membership gap opens (Bonnaire et al. 2025).

Both are read off the trajectory, so they are known to its points: between them the membership gap is taken as linear.
"""

from collections.abc import Mapping, Sequence

from benchmark.pages.membership import gaps_along
from benchmark.recording.record import Point, Record

SHARE = 0.1  # of the final membership gap
FEWEST = 10  # points; a coarser trajectory has no onset to be read off


def peak(trajectory: Sequence[Point]) -> int | None:
    """Return the training step of the point with the highest test PSNR, the first of several; None where the points are too few."""
    if len(trajectory) < FEWEST:
        return None
    return max(sorted(trajectory, key=lambda point: point.step), key=lambda point: point.psnr_test).step


def opening(gaps: Mapping[int, float]) -> float | None:
    """Return the step from which on the membership gap, by step, stays above SHARE of its last value.

    Linear between points; the first step where it lies above from the start; None where the last value is not above 0.
    """
    steps = sorted(gaps)
    if len(steps) < FEWEST or gaps[steps[-1]] <= 0:
        return None
    level = SHARE * gaps[steps[-1]]
    below = [place for place, step in enumerate(steps) if gaps[step] <= level]
    if not below:
        return float(steps[0])
    before, after = steps[below[-1]], steps[below[-1] + 1]
    return before + (level - gaps[before]) / (gaps[after] - gaps[before]) * (after - before)


def peaks(runs: Mapping[int, Record]) -> dict[int, float]:
    """Return the step of the highest test PSNR by seed."""
    return {seed: float(step) for seed, record in runs.items() if (step := peak(record.trajectory)) is not None}


def openings(runs: Mapping[int, Record]) -> dict[int, float]:
    """Return the step at which the membership gap opens by seed."""
    return {seed: step for seed, gaps in gaps_along(runs).items() if (step := opening(gaps)) is not None}
