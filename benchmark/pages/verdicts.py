"""Records to verdicts: every comparison of the claims, its paired differences, and what they decide, corrected for their number."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.errors import BenchError
from benchmark.pages.claims import PSNR, WORTH, Claim, Contrast, Side, declared
from benchmark.pages.equivalence import Worth, worth
from benchmark.pages.membership import membership_gaps
from benchmark.pages.statistics import (
    Corrected,
    Estimate,
    Paired,
    best_stop,
    estimate,
    holm,
    p_value,
    paired,
    separated,
)
from benchmark.pages.tables import Series, at_equal_fit, common_seeds, gather, other_images
from benchmark.recording.record import METRIC_VERSION, Record, Score, mean

RULE = (
    "Of each comparison's statistic: the mean over seeds of the paired difference, with its 95% t-interval, which is not corrected. "
    "What a variant is worth in training images is a factor, averaged as its logarithm; beyond the ladder of N it counts as the bound "
    "that it is. p is the two-sided p-value of the t-test, and Holm's correction of it is over all comparisons that the suite's "
    "claims declare, the analyses' included and those not run yet. The verdict is by the corrected value: *shown* where it is below "
    "0.05 and the interval lies wholly on the claimed side of 0, *contradicted* where wholly on the other side, else *not separated*; "
    "where the interval alone would say more, that is said beside it. Where seeds that a claim declares are yet to be run it is "
    "*unfinished*, whatever the interval says. With one seed there is no interval, and only the direction is given. "
    "The same rule is applied twice, each time as a family of its own: to the final gaps (equal steps, the paper's comparison) "
    "and to the gaps at equal PSNR train."
)


VERDICTS = {1: "shown", -1: "contradicted", 0: "not separated"}
Rows = Mapping[tuple[Any, ...], list[Record]]  # by model, layout, dataset, N and recipe
Numbers = Mapping[str, Mapping[str, float]]  # by the record's id: the numbers of its analyses, "<what>.<number>"


@dataclass(frozen=True)
class Judged:
    """A comparison with its paired differences; None where there are no pairs."""

    claim: Claim
    contrast: Contrast
    equal_steps: Corrected | None
    equal_fit: Corrected | None
    baseline: Estimate | None  # of the quantity itself, on the baseline's side


def judge(records: Sequence[Record], claims: Sequence[Claim] | None = None, numbers: Numbers | None = None) -> list[Judged]:
    """Compute every comparison of `claims` from the ranked records of the current metric version, those of other images left out.

    `claims` are whole families: what is corrected for is how many comparisons those of one suite make, whatever was run of them.
    Without them, those of this project's own suites; `numbers` are the analyses' of each record, where a claim rests on them.
    """
    return judge_rows(usable(records), declared().families if claims is None else claims, numbers)


def judge_rows(rows: Rows, claims: Sequence[Claim], numbers: Numbers | None = None) -> list[Judged]:
    """Compute every comparison of `claims`, whole families, from rows that `usable` has given."""
    return _corrected([_judged(rows, claim, contrast, numbers or {}) for claim in claims for contrast in claim.contrasts])


def usable(records: Sequence[Record]) -> Rows:
    """Return the ranked records of the current metric version by row, those of other images left out."""
    found, apart = defaultdict[tuple[Any, ...], list[Record]](list), other_images(records)
    for record in records:
        if record.ranked and record.metric_version == METRIC_VERSION and record.id not in apart:
            row = record.row
            found[row.model, row.layout, row.dataset, row.subset, row.recipe].append(record)
    return found


def of_the_board(judged: Sequence[Judged]) -> list[Judged]:
    """Return those on the claims of the leaderboard."""
    own = declared().own
    return [one for one in judged if one.claim in own]


def left_over(judged: Sequence[Judged]) -> str:
    """Say how many verdicts at equal steps are left of those that the plain intervals would give; '' where there are none."""
    plain = [one for one in judged if one.equal_steps and plain_side(one.contrast, one.equal_steps) == 1]
    if not plain:
        return ""
    shown = sum(side_of(one.contrast, one.equal_steps) == 1 for one in plain if one.equal_steps)
    tested = [one for one in judged if one.equal_steps and one.equal_steps.p is not None]
    all_over = holm([one.equal_steps.p for one in tested if one.equal_steps])
    left = sum(separated(value) for one, value in zip(tested, all_over, strict=True) if one in plain)
    return (
        f"At equal steps the plain intervals of {len(plain)} comparisons lie where they were claimed; corrected within their suites "
        f"{shown} are shown. Corrected over all {len(tested)} comparisons of this page that were run, as if it were one suite, "
        f"{left} would be."
    )


def plain_side(contrast: Contrast, difference: Paired) -> int:
    """Return 1 where the plain interval lies wholly where it was expected, -1 where wholly elsewhere, 0 where neither."""
    low, high, margin = difference.estimate.low, difference.estimate.high, contrast.margin
    if low is None or high is None:
        return 0
    if contrast.expected in ("lower", "higher"):
        return ((high < 0) - (low > 0)) * (1 if contrast.expected == "lower" else -1)
    if margin is None:
        return 0
    if contrast.expected == "not lower":
        return (-margin < low) - (high <= -margin)
    return (-margin < low and high < margin) - (low >= margin or high <= -margin)


def side_of(contrast: Contrast, difference: Corrected) -> int:
    """Return plain_side where the corrected p-value is small enough for a verdict and every declared seed is run, else 0."""
    return plain_side(contrast, difference) if separated(difference.p_holm) and not unfinished(contrast, difference) else 0


def unfinished(contrast: Contrast, difference: Corrected) -> bool:
    """Whether seeds that the claim declares are yet to be run: who looks before the last one may stop where it pleases."""
    return difference.estimate.n < len(contrast.seeds)


def agreeing(contrast: Contrast, difference: Paired) -> int:
    """Return in how many seeds the difference lies where it was expected."""
    return sum(holds(contrast, value) for value in difference.differences.values())


def holds(contrast: Contrast, difference: float) -> bool:
    """Whether one difference lies where the contrast expects it."""
    if contrast.expected == "equal":
        return contrast.margin is not None and abs(difference) < contrast.margin
    if contrast.expected == "not lower":
        return contrast.margin is not None and difference > -contrast.margin
    return difference < 0 if contrast.expected == "lower" else difference > 0


def percent(value: float, baseline: float) -> float:
    """Return how far `value` lies above `baseline`, in percent of it."""
    if baseline <= 0:
        raise BenchError(f"A difference in percent of {baseline} has no meaning: a score of a record is not above 0.")
    return 100 * (value / baseline - 1)


def verdict(one: Judged, difference: Corrected | None) -> str:
    """Return the verdict in words on one of the two differences of a comparison, by RULE."""
    if difference is None:
        if one.equal_steps is None:
            return "not run"
        return "not available: no common level" if one.contrast.quantity == "psnr_gap" else "of gaps only"
    contrast, seeds = one.contrast, agreeing(one.contrast, difference)
    if difference.estimate.n == 1:
        return contrast.expected if seeds else f"not {contrast.expected}"
    if unfinished(contrast, difference):
        return f"unfinished, {contrast.expected} in {seeds} of {difference.estimate.n} seeds, {len(contrast.seeds)} declared"
    word, plain = VERDICTS[side_of(contrast, difference)], VERDICTS[plain_side(contrast, difference)]
    alone = "" if word == plain else f" (interval alone: {plain})"
    return f"{word}{alone}, {contrast.expected} in {seeds} of {difference.estimate.n} seeds"


def verdict_word(one: Judged) -> str:
    """Return the verdict at equal steps alone: shown, contradicted, not separated, unfinished, one seed, or not run."""
    difference = one.equal_steps
    if difference is None:
        return "not run"
    if unfinished(one.contrast, difference):
        return "unfinished"
    return "one seed" if difference.estimate.n == 1 else VERDICTS[side_of(one.contrast, difference)]


def p_words(difference: Corrected) -> str:
    """Return the two p-values of a comparison in words; '' where there is no test."""
    return "" if difference.p is None else f"p {p_value_words(difference.p)}, Holm {p_value_words(difference.p_holm)}"


def p_value_words(value: float | None) -> str:
    """Return a p-value with two digits."""
    if value is None:
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _judged(records: Rows, claim: Claim, contrast: Contrast, numbers: Numbers) -> Judged:
    steps, fit, baseline = _compared(records, contrast, numbers)
    if contrast.than_on is not None:
        there = _compared(records, replace(contrast, dataset=contrast.than_on), numbers)
        steps, fit = _less(steps, there[0]), _less(fit, there[1])
    return Judged(claim, contrast, _tested(contrast, steps), _tested(contrast, fit), baseline)


def _less(here: Paired | None, there: Paired | None) -> Paired | None:
    return paired(here.differences, there.differences) if here and there else None


def _compared(records: Rows, contrast: Contrast, numbers: Numbers) -> tuple[Paired | None, Paired | None, Estimate | None]:
    """Return the differences on the contrast's dataset at equal steps and at equal fit, and the baseline's own values."""
    variant, baseline = _series(records, contrast, contrast.variant), _series(records, contrast, contrast.baseline)
    if variant is None or baseline is None:
        return None, None, None
    if contrast.quantity in WORTH:
        found = {seed: math.log2(one.factor) for seed, one in worths(records, contrast, list(variant.runs)).items()}
        return paired(found, dict.fromkeys(found, 0.0)), None, None
    met = at_equal_fit(variant, baseline) if contrast.quantity == "psnr_gap" else None
    seeds, _ = common_seeds(variant, baseline)
    sides = [_values(side, seeds, contrast.quantity, numbers) for side in (variant, baseline)]
    same = [seed for seed in seeds if all(seed in side for side in sides) and sides[0][seed][1] == sides[1][seed][1]]
    mine, theirs = ({seed: side[seed][0] for seed in same} for side in sides)
    if contrast.relative:
        mine, theirs = {seed: percent(mine[seed], theirs[seed]) for seed in same}, dict.fromkeys(same, 0.0)
    of_baseline = [value for value, _ in _values(baseline, list(baseline.runs), contrast.quantity, numbers).values()]
    return paired(mine, theirs), met, estimate(of_baseline) if of_baseline else None


def worths(records: Rows, contrast: Contrast, seeds: Sequence[int]) -> dict[int, Worth]:
    """Return what the variant of a comparison is worth in training images, by seed.

    A seed whose baseline lacks an N that another seed has is left out until it is run: what its ladder cannot show is no bound.
    """
    quantity = WORTH[contrast.quantity]
    rungs = {seed: one.keys() for seed, one in ladder(records, contrast, contrast.baseline, "psnr_test").items()}
    every = set().union(*rungs.values())
    variant, baseline = (ladder(records, contrast, side, quantity) for side in (contrast.variant, contrast.baseline))
    return {
        seed: found
        for seed in seeds
        if rungs.get(seed) == every
        and (found := worth(variant.get(seed, {}), baseline.get(seed, {}), contrast.variant.subset, rises=quantity == "psnr_test"))
    }


def ladder(records: Rows, contrast: Contrast, side: Side, quantity: str) -> dict[int, dict[int, float]]:
    """Return a quantity by seed and N, on one side of a comparison."""
    found: dict[int, dict[int, float]] = {}
    for subset in sorted({subset for _, _, _, subset, _ in records}):
        series = _series(records, contrast, replace(side, subset=subset))
        for seed, (value, _) in (_values(series, list(series.runs), quantity, {}) if series else {}).items():
            found.setdefault(seed, {})[subset] = value
    return found


def _tested(contrast: Contrast, difference: Paired | None) -> Corrected | None:
    """Return a difference with its p-value, not corrected yet."""
    if difference is None:
        return None
    margin = contrast.margin
    bounds = (0.0,) if margin is None else (-margin,) if contrast.expected == "not lower" else (-margin, margin)
    p = p_value(difference.estimate, bounds)
    return Corrected(difference.differences, difference.estimate, p, p)


def _corrected(judged: Sequence[Judged]) -> list[Judged]:
    """Return the comparisons with Holm's correction: of each suite, and of each of the two readings, a family."""
    found = list(judged)
    for suite in dict.fromkeys(one.claim.suite for one in judged):
        places = [place for place, one in enumerate(judged) if one.claim.suite == suite]
        for reading in ("equal_steps", "equal_fit"):
            family = [p for p in places if reading == "equal_steps" or judged[p].contrast.quantity == "psnr_gap"]
            tested = [p for p in family if getattr(judged[p], reading) is not None]
            values = holm([getattr(judged[p], reading).p for p in tested], len(family))
            for place, value in zip(tested, values, strict=True):
                found[place] = replace(found[place], **{reading: replace(getattr(judged[place], reading), p_holm=value)})
    return found


def _values(series: Series, seeds: Sequence[int], quantity: str, numbers: Numbers) -> dict[int, tuple[float, Score | None]]:
    """Return the quantity by seed where it was measured, and beside a score all that it depends on."""
    found: dict[int, tuple[float, Score | None]] = {}
    members = membership_gaps(series.runs) if quantity == "membership_gap" else {}
    for seed in seeds:
        record = series.runs[seed]
        if quantity in PSNR:
            found[seed] = getattr(record, quantity), None
        elif quantity == "psnr_gap_unclipped":
            found[seed] = mean(record.psnr.unclipped.gap), None
        elif quantity == "psnr_best_stop" and (stopped := best_stop(record.trajectory)) is not None:
            found[seed] = stopped, None
        elif seed in members:
            found[seed] = members[seed], None
        elif quantity in record.scores:
            score = record.scores[quantity]
            found[seed] = score.value, score.terms
        elif quantity in numbers.get(record.id, {}):
            found[seed] = numbers[record.id][quantity], None
    return found


def _series(records: Rows, contrast: Contrast, side: Side) -> Series | None:
    key = (side.model or contrast.model, side.layout, contrast.dataset, side.subset, side.recipe or contrast.recipe)
    found = gather(record for record in records.get(key, []) if not contrast.seeds or record.row.seed in contrast.seeds)
    return found[0] if found else None
