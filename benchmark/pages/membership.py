"""The membership gap (after Feldman and Zhang 2020): the same images under the same noise, seen against unseen.

For the run of seed i among its peers, with C_i the images that only it trains on:
m_i = mean over t and over j != i of PSNR_i,t(C_i) - PSNR_j,t(C_i), in dB, signed. How hard the images are and what the
noise does cancels: it is 0 in expectation for a network that ignores its training set.
"""

import math
from collections.abc import Mapping

from benchmark.recording.record import MEMBERSHIP_VERSION, PeerCurve, Record


def membership_gaps(runs: Mapping[int, Record]) -> dict[int, float]:
    """Return m_i by seed from the records of one row; a seed is left out where its images are too few or no peer is there."""
    return {seed: value for seed in runs if (value := _gap(seed, runs)) is not None}


def gaps_along(runs: Mapping[int, Record]) -> dict[int, dict[int, float]]:
    """Return m_i by seed and training step, from the cheaper numbers of the trajectories."""
    by_seed = {seed: {point.step: _of_point(record, point.psnr_peers) for point in record.trajectory} for seed, record in runs.items()}
    found: dict[int, dict[int, float]] = {}
    for seed, points in by_seed.items():
        others = [by_seed[other] for other in _peers(seed, runs)]
        for step, values in points.items():
            unseen = [value for other in others if (value := other.get(step, {}).get(seed)) is not None]
            if (seen := values.get(seed)) is not None and unseen:
                found.setdefault(seed, {})[step] = seen - math.fsum(unseen) / len(unseen)
    return found


def _gap(seed: int, runs: Mapping[int, Record]) -> float | None:
    seen = _curve(runs[seed], seed)
    unseen = [curve for other in _peers(seed, runs) if (curve := _curve(runs[other], seed))]
    if seen is None or not seen.psnr or not unseen:
        return None
    return math.fsum(math.fsum(seen.psnr) - math.fsum(curve.psnr) for curve in unseen) / len(unseen) / len(seen.psnr)


def _peers(seed: int, runs: Mapping[int, Record]) -> list[int]:
    """Return the other seeds that scored the same images of this one, with the same draws, at the same diffusion steps."""
    mine, membership = _curve(runs[seed], seed), runs[seed].membership
    if mine is None or membership is None:
        return []
    key = (mine.sha256, mine.images, mine.draws, membership.diffusion_steps)
    return [other for other in runs if other != seed and _key(runs[other], seed) == key]


def _key(record: Record, seed: int) -> tuple[object, ...] | None:
    curve, membership = _curve(record, seed), record.membership
    return (curve.sha256, curve.images, curve.draws, membership.diffusion_steps) if curve and membership else None


def _curve(record: Record, seed: int) -> PeerCurve | None:
    if record.membership is None or record.membership.version != MEMBERSHIP_VERSION:
        return None
    return next((peer for peer in record.membership.peers if peer.seed == seed), None)


def _of_point(record: Record, values: tuple[float | None, ...]) -> dict[int, float]:
    seeds = [peer.seed for peer in record.membership.peers] if record.membership else []
    return {seed: value for seed, value in zip(seeds, values, strict=False) if value is not None}
