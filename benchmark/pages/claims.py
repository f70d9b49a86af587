"""What the suites are run to show, and what not, from registry/claims.toml; the records give the verdicts."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

from benchmark.contract import Count, Positive, Range, checked
from benchmark.declaring.fields import FieldError, from_json
from benchmark.declaring.registry import STOCK
from benchmark.errors import BenchError
from benchmark.pages.columns import SCORE_TITLES
from benchmark.pages.membership import membership_gaps
from benchmark.pages.statistics import Estimate, Paired, best_stop, estimate, paired
from benchmark.pages.tables import Series, at_equal_fit, common_seeds, gather
from benchmark.recording.published import VARIANTS
from benchmark.recording.record import METRIC_VERSION, Record, Score

FILE = STOCK / "claims.toml"
RULE = (
    "Statistic: the mean over seeds of the paired difference, in dB. A claim is *shown* where its 95% t-interval "
    "lies wholly on the claimed side of 0, *contradicted* where it lies wholly on the other side, *not separated* "
    "where it contains 0; with one seed there is no interval, and only the direction is given. The same rule is "
    "applied twice: to the final gaps (equal steps, the paper's comparison) and to the gaps at equal PSNR train. "
    "The intervals are not corrected for the number of claims."
)

ANALYSES = ("jacobian", "attention", "representations", "receptive-field")
PSNR = ("psnr_gap", "psnr_train", "psnr_test")
MEASURES = (*PSNR, "membership_gap", "psnr_best_stop")
Expected = Literal["lower", "higher", "equal", "not lower"]
Numbers = Mapping[str, Mapping[str, float]]  # by the record's id: the numbers of its analyses, "<what>.<number>"


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a layout at a subset size; of another model than the contrast's where it names one."""

    layout: str
    subset: int
    model: str | None = None


@dataclass(frozen=True)
class Contrast:
    """`variant` - `baseline` of one model under one recipe on one dataset, expected below 0, above, or within the margin.

    `quantity` is one of PSNR, the name of a score, or "<what>.<number>" of an analysis; `relative` is in percent. With
    `than_on` it is a difference of differences: that on `dataset` less that on the other. `seeds` are all that count, () any.
    """

    recipe: str
    dataset: str
    model: str
    variant: Side
    baseline: Side
    quantity: str = "psnr_gap"
    expected: Expected = "lower"
    relative: bool = False
    margin: float | None = None
    than_on: str | None = None
    seeds: tuple[int, ...] = ()

    @property
    def title(self) -> str:
        """The comparison in words."""
        return f"{self._sides} (on {self.dataset} less on {self.than_on})" if self.than_on else self._sides

    @property
    def _sides(self) -> str:
        sign = {"lower": "<", "higher": ">", "equal": "≈", "not lower": "≮"}[self.expected]
        if self.variant.model or self.baseline.model:
            sides = [f"{side.model or self.model} {side.layout}" for side in (self.variant, self.baseline)]
            return f"{sides[0]} {sign} {sides[1]}, N={self.variant.subset}"
        if self.variant.layout == self.baseline.layout:
            return f"{self.variant.layout}: N={self.variant.subset} {sign} N={self.baseline.subset}"
        return f"{self.variant.layout} {sign} {self.baseline.layout}, N={self.variant.subset}"


@checked
class Part:
    """What a side of a comparison has of its own; the rest is the product's."""

    model: str | None = None
    layout: str | None = None
    subset: Positive | None = None


@checked
class Over:
    """One comparison for each of its models, datasets, subsets and layouts."""

    recipe: str
    models: tuple[str, ...]
    datasets: tuple[str, ...]
    subsets: tuple[Positive, ...] = ()
    layouts: tuple[str, ...] = ()
    variant: Part = Part()
    baseline: Part = Part()

    def validate(self) -> None:
        """Refuse sides that lack a part, and sides that are the same."""
        for name, given in (("models", self.models), ("datasets", self.datasets)):
            if not given:
                raise FieldError(f"{name} = () must name at least one")
        for part, several in (("layout", self.layouts), ("subset", self.subsets)):
            for side in ("variant", "baseline"):
                if not several and getattr(getattr(self, side), part) is None:
                    raise FieldError(f"{side} names no {part}, and there are no {part}s: one of the two must say it")
        if self.variant == self.baseline:
            raise FieldError(f"variant and baseline are the same: {self.variant}")

    def contrasts(self) -> list[Contrast]:
        """Return the comparisons, in order of model, dataset, subset and layout."""
        return [
            Contrast(self.recipe, dataset, model, _side(self.variant, subset, layout), _side(self.baseline, subset, layout))
            for model, dataset, subset, layout in product(self.models, self.datasets, self.subsets or (None,), self.layouts or (None,))
        ]


@checked
class Claim:
    """A statement about one suite, the comparisons that decide it, and the figures and tables that it is about."""

    name: str
    suite: str
    statement: str
    shows: tuple[str, ...] = ()
    statistic: str = "psnr_gap"
    relative: bool = False
    expected: Expected = "lower"
    margin: Annotated[float, Range(above=0)] | None = None
    over: tuple[Over, ...] = ()
    than_on: str | None = None
    seeds: tuple[Count, ...] = ()
    pilot: str = ""

    def validate(self) -> None:
        """Refuse an unknown statistic; demand a margin where equality is expected or lower excluded, and only there."""
        what, dot, number = self.statistic.partition(".")
        if not (what in ANALYSES and number if dot else what in (*MEASURES, *SCORE_TITLES)):
            known = [*MEASURES, *SCORE_TITLES, *(f"{name}.<number>" for name in ANALYSES)]
            raise FieldError(f"statistic = {self.statistic!r} must be one of {', '.join(known)}")
        if (self.expected in ("equal", "not lower")) != (self.margin is not None):
            raise FieldError(f"margin = {self.margin} belongs to expected = 'equal' or 'not lower', and only to them")

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The comparisons, with the claim's statistic and rule."""
        return tuple(
            replace(
                contrast,
                quantity=self.statistic,
                expected=self.expected,
                relative=self.relative,
                margin=self.margin,
                than_on=self.than_on,
                seeds=self.seeds,
            )
            for over in self.over
            for contrast in over.contrasts()
        )

    @property
    def of_the_paper(self) -> bool:
        """Whether the claim is decided by rows under the paper's own recipe."""
        return any(over.recipe in VARIANTS for over in self.over)


@checked
class Declared:
    """The claims, and what is not claimed."""

    claim: tuple[Claim, ...]
    not_claimed: tuple[Claim, ...] = ()

    def validate(self) -> None:
        """Refuse one name for two claims."""
        names = [claim.name for claim in (*self.claim, *self.not_claimed)]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise FieldError(f"two claims are called '{doubled}'")

    @property
    def own(self) -> tuple[Claim, ...]:
        """The claims of this project's own suites about PSNR: those of the leaderboard."""
        return tuple(claim for claim in self.claim if not claim.of_the_paper and claim.statistic in MEASURES)


@dataclass(frozen=True)
class Judged:
    """A comparison with its paired differences; None where there are no pairs."""

    claim: Claim
    contrast: Contrast
    equal_steps: Paired | None
    equal_fit: Paired | None
    baseline: Estimate | None  # of the quantity itself, on the baseline's side


@cache
def declared(path: Path = FILE) -> Declared:
    """Read the claims; raise BenchError where the file is not what it must be."""
    try:
        return from_json(Declared, tomllib.loads(path.read_text(encoding="utf-8")), "claims")
    except (OSError, UnicodeDecodeError) as problem:
        raise BenchError(f"The claims {path} cannot be read: {problem}") from None
    except (FieldError, tomllib.TOMLDecodeError) as problem:
        raise BenchError(f"The claims {path} are not valid: {problem}") from None


def judge(records: Sequence[Record], claims: Sequence[Claim] | None = None, numbers: Numbers | None = None) -> list[Judged]:
    """Compute every comparison of `claims` from the ranked records of the current metric version.

    Without `claims`, those of the leaderboard; `numbers` are the analyses' of each record, where a claim rests on them.
    """
    usable = [record for record in records if record.ranked and record.metric_version == METRIC_VERSION]
    claims = declared().own if claims is None else claims
    return [_judged(usable, claim, contrast, numbers or {}) for claim in claims for contrast in claim.contrasts]


def side_of(contrast: Contrast, difference: Paired) -> int:
    """Return 1 where the interval lies wholly where it was expected, -1 where wholly elsewhere, 0 where neither."""
    if contrast.expected in ("lower", "higher"):
        return difference.side * (-1 if contrast.expected == "lower" else 1)
    low, high, margin = difference.estimate.low, difference.estimate.high, contrast.margin
    if low is None or high is None or margin is None:
        return 0
    if contrast.expected == "not lower":
        return (-margin < low) - (high <= -margin)
    return (-margin < low and high < margin) - (low >= margin or high <= -margin)


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


def verdict(one: Judged, difference: Paired | None) -> str:
    """Return the verdict in words on one of the two differences of a comparison, by RULE."""
    if difference is None:
        return "not run" if one.equal_steps is None else "not available: no common level"
    contrast, seeds = one.contrast, agreeing(one.contrast, difference)
    if difference.estimate.n == 1:
        return contrast.expected if seeds else f"not {contrast.expected}"
    word = {1: "shown", -1: "contradicted", 0: "not separated"}[side_of(contrast, difference)]
    return f"{word}, {contrast.expected} in {seeds} of {difference.estimate.n} seeds"


def _side(part: Part, subset: int | None, layout: str | None) -> Side:
    own_layout, own_subset = part.layout or layout, part.subset or subset
    if own_layout is None or own_subset is None:  # Over.validate has refused it
        raise FieldError("a side of a comparison needs a layout and a subset")
    return Side(own_layout, own_subset, part.model)


def _judged(records: Sequence[Record], claim: Claim, contrast: Contrast, numbers: Numbers) -> Judged:
    here = _compared(records, contrast, numbers)
    if contrast.than_on is None:
        return Judged(claim, contrast, *here)
    there = _compared(records, replace(contrast, dataset=contrast.than_on), numbers)
    return Judged(claim, contrast, _less(here[0], there[0]), _less(here[1], there[1]), here[2])


def _less(here: Paired | None, there: Paired | None) -> Paired | None:
    return paired(here.differences, there.differences) if here and there else None


def _compared(records: Sequence[Record], contrast: Contrast, numbers: Numbers) -> tuple[Paired | None, Paired | None, Estimate | None]:
    """Return the differences on the contrast's dataset at equal steps and at equal fit, and the baseline's own values."""
    variant, baseline = _series(records, contrast, contrast.variant), _series(records, contrast, contrast.baseline)
    if variant is None or baseline is None:
        return None, None, None
    met = at_equal_fit(variant, baseline) if contrast.quantity == "psnr_gap" else None
    seeds, _ = common_seeds(variant, baseline)
    sides = [_values(side, seeds, contrast.quantity, numbers) for side in (variant, baseline)]
    same = [seed for seed in seeds if all(seed in side for side in sides) and sides[0][seed][1] == sides[1][seed][1]]
    mine, theirs = ({seed: side[seed][0] for seed in same} for side in sides)
    if contrast.relative:
        mine, theirs = {seed: percent(mine[seed], theirs[seed]) for seed in same}, dict.fromkeys(same, 0.0)
    of_baseline = [value for value, _ in _values(baseline, list(baseline.runs), contrast.quantity, numbers).values()]
    return paired(mine, theirs), met, estimate(of_baseline) if of_baseline else None


def _values(series: Series, seeds: Sequence[int], quantity: str, numbers: Numbers) -> dict[int, tuple[float, Score | None]]:
    """Return the quantity by seed where it was measured, and beside a score all that it depends on."""
    found: dict[int, tuple[float, Score | None]] = {}
    members = membership_gaps(series.runs) if quantity == "membership_gap" else {}
    for seed in seeds:
        record = series.runs[seed]
        if quantity in PSNR:
            found[seed] = getattr(record, quantity), None
        elif quantity == "psnr_best_stop" and (stopped := best_stop(record.trajectory)) is not None:
            found[seed] = stopped, None
        elif seed in members:
            found[seed] = members[seed], None
        elif quantity in record.scores:
            score = record.scores[quantity]
            found[seed] = score.value, replace(score, value=0.0, sd=None)
        elif quantity in numbers.get(record.id, {}):
            found[seed] = numbers[record.id][quantity], None
    return found


def _series(records: Sequence[Record], contrast: Contrast, side: Side) -> Series | None:
    key = (side.model or contrast.model, side.layout, contrast.dataset, side.subset, contrast.recipe)
    mine = (record for record in records if (*record.row[:4], record.row[5]) == key)
    found = gather(record for record in mine if not contrast.seeds or record.row.seed in contrast.seeds)
    return found[0] if found else None
