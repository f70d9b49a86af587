"""What the suites are run to show, and what not, as registry/claims.toml declares it."""

import tomllib
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
from benchmark.recording.published import VARIANTS

FILE = STOCK / "claims.toml"
ANALYSES = ("jacobian", "attention", "representations", "receptive-field", "theory")
PSNR = ("psnr_gap", "psnr_train", "psnr_test")
WORTH = {"worth_psnr_test": "psnr_test", "worth_psnr_gap": "psnr_gap", "worth_membership_gap": "membership_gap"}  # log2 of N* / N
MEASURES = (*PSNR, "psnr_gap_unclipped", "membership_gap", "psnr_best_stop", *WORTH)
Expected = Literal["lower", "higher", "equal", "not lower"]


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a layout at a subset size; of another model or recipe than the contrast's where it names one."""

    layout: str
    subset: int
    model: str | None = None
    recipe: str | None = None


@dataclass(frozen=True)
class Contrast:
    """`variant` - `baseline` on one dataset, expected below 0, above, or within the margin; of one model under one recipe unless
    a side names its own.

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
        if self.variant.recipe or self.baseline.recipe:
            sides = [f"{side.recipe or self.recipe}" for side in (self.variant, self.baseline)]
            return f"{sides[0]} {sign} {sides[1]}, {self.variant.layout}, N={self.variant.subset}"
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
    recipe: str | None = None


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
class Meaning:
    """What it would mean that a claim is shown, that it is contradicted, and that it stays open; '' where the statement says it."""

    shown: str = ""
    contradicted: str = ""
    open: str = ""


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
    pilot: str = ""  # what had been seen of it before it was declared, and how often it was looked at
    meaning: Meaning = Meaning()

    def validate(self) -> None:
        """Refuse an unknown statistic; demand a margin where equality is expected or lower excluded, and only there."""
        what, dot, number = self.statistic.partition(".")
        if not (what in ANALYSES and number if dot else what in (*MEASURES, *SCORE_TITLES)):
            known = [*MEASURES, *SCORE_TITLES, *(f"{name}.<number>" for name in ANALYSES)]
            raise FieldError(f"statistic = {self.statistic!r} must be one of {', '.join(known)}")
        if (self.expected in ("equal", "not lower")) != (self.margin is not None):
            raise FieldError(f"margin = {self.margin} belongs to expected = 'equal' or 'not lower', and only to them")

    @property
    def said(self) -> str:
        """The statement, and what its reader must know of pilots."""
        return f"{self.statement} {self.pilot}".strip()

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
class Experiment:
    """A suite that is told as one experiment: its question, what it cannot decide, and which figure shows it.

    The first model of the suite under the layout global is what everything else is compared with.
    """

    name: str
    suite: str
    figure: Literal["differences", "ladder"]
    question: str
    limits: str


@checked
class Question:
    """What a reader comes to ask, and the claims of the leaderboard that answer it."""

    asks: str
    answered_by: tuple[str, ...]


@checked
class Declared:
    """The claims, what is not claimed, the experiments that they belong to, and the questions that they answer."""

    claim: tuple[Claim, ...]
    not_claimed: tuple[Claim, ...] = ()
    experiment: tuple[Experiment, ...] = ()
    question: tuple[Question, ...] = ()

    def validate(self) -> None:
        """Refuse one name for two claims, and a question that a claim of the leaderboard by that name does not answer."""
        names = [claim.name for claim in (*self.claim, *self.not_claimed)]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise FieldError(f"two claims are called '{doubled}'")
        known = {claim.name for claim in self.own}
        if absent := next((name for one in self.question for name in one.answered_by if name not in known), None):
            raise FieldError(f"a question names the claim '{absent}', which is none of the leaderboard's: {', '.join(sorted(known))}")

    @property
    def own(self) -> tuple[Claim, ...]:
        """The claims of this project's own suites about PSNR: those of the leaderboard."""
        return tuple(claim for claim in self.families if claim.statistic in MEASURES)

    @property
    def families(self) -> tuple[Claim, ...]:
        """Every claim of this project's own suites: what those of the leaderboard are corrected for."""
        return tuple(claim for claim in self.claim if not claim.of_the_paper)


@cache
def declared(path: Path = FILE) -> Declared:
    """Read the claims; raise BenchError where the file is not what it must be."""
    try:
        return from_json(Declared, tomllib.loads(path.read_text(encoding="utf-8-sig")), "claims")
    except (OSError, UnicodeDecodeError) as problem:
        raise BenchError(f"The claims {path} cannot be read: {problem}") from None
    except (ValueError, RecursionError) as problem:
        raise BenchError(f"The claims {path} are not valid: {problem}") from None


def _side(part: Part, subset: int | None, layout: str | None) -> Side:
    own_layout, own_subset = part.layout or layout, part.subset or subset
    if own_layout is None or own_subset is None:  # Over.validate has refused it
        raise FieldError("a side of a comparison needs a layout and a subset")
    return Side(own_layout, own_subset, part.model, part.recipe)
