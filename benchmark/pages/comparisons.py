"""Records to comparisons: what every claim compares, paired by seed, at equal steps and at equal fit, with the p-values of both."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmark.errors import BenchError
from benchmark.pages.alike import other_images
from benchmark.pages.claims import PSNR, WORTH, Claim, Contrast, Side, declared
from benchmark.pages.equivalence import Worth, worth
from benchmark.pages.membership import membership_gaps
from benchmark.pages.statistics import Corrected, Estimate, Paired, best_stop, estimate, holm, p_value, paired
from benchmark.pages.tables import Series, at_equal_fit, common_seeds, gather
from benchmark.recording.record import METRIC_VERSION, Record, Score, mean

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


def percent(value: float, baseline: float) -> float:
    """Return how far `value` lies above `baseline`, in percent of it."""
    if baseline <= 0:
        raise BenchError(f"A difference in percent of {baseline} has no meaning: a score of a record is not above 0.")
    return 100 * (value / baseline - 1)


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
