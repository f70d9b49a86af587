"""Estimates over seeds, paired differences and the difference at equal PSNR train, against hand-worked numbers."""

import itertools
import math
import random
from dataclasses import replace

import pytest
from scipy import stats

from benchmark.pages.statistics import Corrected, EqualFit, best_stop, equal_fit, estimate, gap_at, holm, p_value, paired
from tests.record_factory import point


def test_estimate_by_hand() -> None:
    # mean 4; squared deviations 4 + 0 + 4 = 8; sd = sqrt(8 / 2) = 2; t(0.975, 2) = 4.3027 from the printed tables
    found = estimate([2.0, 4.0, 6.0])
    assert (found.n, found.mean, found.sd) == (3, 4.0, 2.0)
    assert found.low == pytest.approx(4 - 4.302652729911275 * 2 / math.sqrt(3), abs=1e-9)
    assert found.high == pytest.approx(4 + 4.302652729911275 * 2 / math.sqrt(3), abs=1e-9)


def test_two_seeds_have_a_wide_interval() -> None:
    found = estimate([0.0, 1.0])  # sd = sqrt(1/2), sd / sqrt(2) = 1/2, t(0.975, 1) = tan(0.475 pi) = 12.7062 (a Cauchy quantile)
    assert found.high == pytest.approx(0.5 + math.tan(0.475 * math.pi) / 2, rel=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 40])
def test_interval_agrees_with_scipy(n: int) -> None:
    draw = random.Random(n)
    values = [draw.gauss(3, 2) for _ in range(n)]
    found = estimate(values)
    low, high = stats.t.interval(0.95, n - 1, loc=sum(values) / n, scale=stats.sem(values))
    assert (found.low, found.high) == (pytest.approx(low, rel=1e-10), pytest.approx(high, rel=1e-10))


def test_one_seed_has_no_interval() -> None:
    found = estimate([1.5])
    assert (found.n, found.mean, found.sd, found.low, found.high) == (1, 1.5, None, None, None)


def test_pairs_only_common_seeds() -> None:
    found = paired({0: 1.0, 1: 2.0, 7: 9.0}, {1: 2.5, 0: 2.0, 3: 0.0})
    assert found is not None and found.differences == {0: -1.0, 1: -0.5}
    assert (found.lower, found.higher, found.estimate.n) == (2, 0, 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_paired_is_the_one_sample_test() -> None:
    variant, baseline = {0: 0.8, 1: 0.5, 2: 1.1, 3: 0.9}, {0: 1.1, 1: 0.7, 2: 1.2, 3: 1.3}
    found = paired(variant, baseline)
    low, high = stats.ttest_rel(list(variant.values()), list(baseline.values())).confidence_interval(0.95)
    assert found is not None and (found.estimate.low, found.estimate.high) == (pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("differences", "side"),
    [([-0.22, -0.27, -0.27], -1), ([0.22, 0.27, 0.27], 1), ([-0.62, -0.29, -0.76], 0), ([-5.0], 0), ([0.0, 0.0], 0)],
)
def test_side_of_zero(differences: list[float], side: int) -> None:
    found = paired(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    assert found is not None and found.side == side


@pytest.mark.parametrize("n", [2, 3, 7])
def test_p_value_is_that_of_the_t_test(n: int) -> None:
    draw = random.Random(n)
    values = [draw.gauss(0.4, 1) for _ in range(n)]
    assert p_value(estimate(values)) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-9)
    assert p_value(estimate(values[:1])) is None
    assert [p_value(estimate([value, value])) for value in (0.0, 0.1)] == [1.0, 0.0]


@pytest.mark.parametrize("mean", [-0.9, -0.3, 0.0, 0.2, 0.45, 0.6])
def test_p_value_against_a_margin_is_the_level_at_which_the_interval_reaches_it(mean: float) -> None:
    """Search the confidence at which the nearer end of the interval is at the margin, by halving."""
    values, margin = [mean - 0.11, mean + 0.02, mean + 0.09], 0.5
    low, high = 0.0, 1.0
    for _ in range(60):
        confidence = (low + high) / 2
        ends = stats.t.interval(confidence, 2, loc=mean, scale=stats.sem(values))
        clear = (-margin < ends[0] and ends[1] < margin) or ends[0] >= margin or ends[1] <= -margin
        low, high = (confidence, high) if clear else (low, confidence)
    assert p_value(estimate(values), (-margin, margin)) == pytest.approx(1 - low, abs=1e-6)


def test_holm_is_the_closed_test_of_bonferronis() -> None:
    """A hypothesis falls where every family that holds it does (Marcus et al. 1976): the largest Bonferroni p of all such families."""
    draw = random.Random(7)
    for size in (1, 2, 5, 7):
        values = [draw.random() ** 3 for _ in range(size)]
        families = [family for count in range(1, size + 1) for family in itertools.combinations(range(size), count)]
        closed = [max(min(1.0, len(family) * min(values[j] for j in family)) for family in families if i in family) for i in range(size)]
        assert holm(values) == pytest.approx(closed)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.02, None, 0.01]) == [pytest.approx(0.02), None, pytest.approx(0.02)]
    assert holm([0.02, None, 0.01], 5) == [pytest.approx(0.08), None, pytest.approx(0.05)]  # as if the others' were 1
    assert holm([0.02, 0.01, 1.0, 1.0, 1.0]) == pytest.approx([0.08, 0.05, 1.0, 1.0, 1.0]) and holm([]) == []


def test_what_is_run_later_takes_no_verdict_back() -> None:
    draw = random.Random(3)
    for _ in range(200):
        values = [draw.random() ** 4 for _ in range(6)]
        before, after = holm(values[:3], 6), holm(values, 6)
        assert all(b is not None and a is not None and a <= b + 1e-15 for a, b in zip(after, before, strict=False))


def test_a_corrected_difference_has_a_side_only_where_the_corrected_value_says_so() -> None:
    found = paired({0: -0.22, 1: -0.27, 2: -0.27}, dict.fromkeys(range(3), 0.0))
    assert found is not None and found.side == -1
    said = [Corrected(found.differences, found.estimate, 0.004, p_holm).side for p_holm in (0.049, 0.051, None)]
    assert said == [-1, 0, 0]


def test_equal_fit_by_hand() -> None:
    # The variant ends at 24 dB, the baseline at 28: the level is 24. There the variant's gap is its last, 0.8; the
    # baseline is half way from 22 to 26 dB, so half way from 0.6 to 1.4: 1.0. The difference is -0.2 (at equal steps:
    # 0.8 - 2.0 = -1.2).
    variant = [point(100, 18.0, 0.2), point(200, 22.0, 0.5), point(300, 24.0, 0.8)]
    baseline = [point(100, 22.0, 0.6), point(200, 26.0, 1.4), point(300, 28.0, 2.0)]
    assert equal_fit(variant, baseline) == EqualFit(24.0, pytest.approx(0.8), pytest.approx(1.0))
    assert equal_fit(baseline, variant) == EqualFit(24.0, pytest.approx(1.0), pytest.approx(0.8))


def test_equal_fit_takes_the_first_crossing_of_a_trajectory_that_dips() -> None:
    # PSNR train rises to 24, dips to 21 and ends at 23: the level is the highest value reached, 24, at its first time.
    dips = [point(100, 20.0, 0.1), point(200, 24.0, 0.5), point(300, 21.0, 3.0), point(400, 23.0, 4.0)]
    rises = [point(100, 22.0, 1.0), point(200, 26.0, 2.0)]
    assert equal_fit(dips, rises) == EqualFit(24.0, pytest.approx(0.5), pytest.approx(1.5))
    assert gap_at(dips, 22.0) == pytest.approx(0.3)  # half way up the first rise, not on the way down or the second rise


def test_the_gap_is_read_between_the_two_points_around_the_level() -> None:
    rises = [point(100, 20.0, 1.0), point(200, 22.0, 1.5), point(300, 26.0, 3.5)]
    assert gap_at(rises, 23.0) == pytest.approx(2.0)  # a quarter of the way from 1.5 to 3.5


def test_points_are_taken_in_the_order_of_the_steps() -> None:
    rises = [point(200, 24.0, 1.0), point(100, 20.0, 0.0)]
    assert gap_at(rises, 21.0) == pytest.approx(0.25)


def test_no_common_level() -> None:
    late, early = [point(100, 25.0, 1.0), point(200, 28.0, 2.0)], [point(100, 20.0, 0.5), point(200, 24.0, 0.7)]
    assert equal_fit(late, early) is None and equal_fit(early, late) is None
    assert equal_fit([], early) is None and gap_at(early, 24.1) is None and gap_at(late, 24.9) is None
    assert gap_at(late, 25.0) == 1.0


def test_best_stop_is_chosen_on_one_half_and_read_on_the_other() -> None:
    halves = [(10.0, 12.0), (14.0, 13.0), (13.0, 15.0), (12.0, 11.0)]
    run = [replace(point(step, 20.0, 1.0), psnr_test_halves=pair) for step, pair in enumerate(halves)]
    assert best_stop(run) == pytest.approx((13.0 + 13.0) / 2)  # half 0 is best at step 1, half 1 at step 2
    assert best_stop(run[:1]) == pytest.approx(11.0)
    assert best_stop([point(1, 20.0, 1.0)]) is None
    assert best_stop([]) is None
