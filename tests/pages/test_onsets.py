"""benchmark/pages/onsets.py against a loop by hand over fine grids, and against trajectories worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from benchmark.pages.columns import onset_columns
from benchmark.pages.onsets import opening, openings, peak, peaks
from benchmark.pages.tables import tabulate
from benchmark.recording.record import MEMBERSHIP_VERSION, Membership, PeerCurve, Point, Record
from tests.record_factory import made

STEPS = (100, 200, 350, 500, 700, 900, 1200, 1500, 1750, 2000)


def trajectory(tests: list[float], peers: list[tuple[float, ...]] | None = None) -> tuple[Point, ...]:
    return tuple(
        Point(step=step, loss=0.1, psnr_train=20.0, psnr_test=test, psnr_gap=0.0, psnr_peers=peers[place] if peers else ())
        for place, (step, test) in enumerate(zip(STEPS, tests, strict=True))
    )


def by_hand(gaps: dict[int, float]) -> float | None:
    """Walk back from the end in steps of 0.01, on np.interp, until the gap is no longer above a tenth of its last value."""
    steps = sorted(gaps)
    if gaps[steps[-1]] <= 0:
        return None
    grid = np.arange(steps[0], steps[-1] + 0.005, 0.01)
    values = np.interp(grid, steps, [gaps[step] for step in steps])
    place = len(grid) - 1
    while place >= 0 and values[place] > 0.1 * gaps[steps[-1]]:
        place -= 1
    return float(grid[max(place, 0)])


def test_the_opening_is_what_a_walk_by_hand_finds() -> None:
    generator = np.random.default_rng(0)
    for _ in range(40):
        gaps = dict(zip(STEPS, np.cumsum(generator.normal(0.05, 0.2, len(STEPS))), strict=True))
        found, walked = opening(gaps), by_hand(gaps)
        assert (found is None) == (walked is None)
        assert found is None or found == pytest.approx(walked, abs=0.02)


def test_the_opening_by_numbers_worked_out() -> None:
    """0 until step 700, 0.4 at 900, 1 at the end: a tenth is a quarter of the way from 700 to 900."""
    gaps = dict(zip(STEPS, (0, 0, 0, 0, 0, 0.4, 0.6, 0.8, 0.9, 1.0), strict=True))
    assert opening(gaps) == pytest.approx(750.0)
    assert opening({**gaps, 100: 0.5}) == pytest.approx(750.0)  # above once before it fell back is no opening
    assert opening(dict.fromkeys(STEPS, 1.0)) == 100.0
    assert opening(dict.fromkeys(STEPS, -1.0)) is None and opening({100: 0.0, 200: 1.0}) is None


def test_the_peak_is_the_highest_point_and_the_first_of_several() -> None:
    assert peak(trajectory([1, 2, 3, 5, 5, 4, 3, 2, 1, 0])) == 500
    assert peak(trajectory([*range(10)])[::-1]) == 2000
    assert peak(trajectory([*range(10)])[:9]) is None


def with_peers(seed: int, tests: list[float], own: list[float]) -> Record:
    """Return the record of a seed that reaches `own` on its images and 10 dB on those of the other of seeds 6 and 7."""
    peers = [tuple(value if peer == seed else 10.0 for peer in (6, 7)) for value in own]
    curves = tuple(PeerCurve(seed=peer, left=16, images=16, draws=2, sha256=f"{peer}", psnr=(10.0,)) for peer in (6, 7))
    one = made(1.0, seed=seed, recipe="mini_control", trajectory=trajectory(tests, peers))
    return replace(one, membership=Membership(version=MEMBERSHIP_VERSION, diffusion_steps=(0,), peers=curves))


def test_rows_show_both_onsets_with_their_range() -> None:
    rise = [10.0, 10.0, 10.0, 10.0, 10.0, 10.4, 10.6, 10.8, 10.9, 11.0]
    records = [
        with_peers(6, [1, 2, 3, 5, 4, 4, 3, 2, 1, 0], rise),
        with_peers(7, [1, 2, 3, 4, 5, 4, 3, 2, 1, 0], [10.0, *rise[:-2], 11.0]),
    ]
    runs = {record.row.seed: record for record in records}
    assert peaks(runs) == {6: 500.0, 7: 700.0}
    assert openings(runs) == {6: pytest.approx(750.0), 7: pytest.approx(975.0)}
    (table,) = tabulate(records)
    assert [column.cells for column in onset_columns(table)] == [[["600", "(500 to 700)"]], [["862", "(750 to 975)"]]]
    (coarse,) = tabulate([made(1.0)])
    assert onset_columns(coarse) == []
