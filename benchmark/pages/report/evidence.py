"""Claims to evidence: what the paper prints of every comparison, and what the records say of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.pages.claims import Claim, Contrast, Side
from benchmark.pages.comparisons import Judged, Numbers, judge, percent
from benchmark.pages.statistics import Corrected
from benchmark.pages.verdicts import NO_LEVEL, agreeing, holds, side_of, unfinished, without_level
from benchmark.recording.published import VARIANTS, Published, Reported
from benchmark.recording.record import Record

# The paper's Fig. 2 names its DiT by no size, and what Fig. 3 prints of it contradicts itself: one entry fits the parameters, one the
# FLOPs, and both are read as it.
FIG2 = {"dit_480": "dit", "dit_480_p2": "dit"}
FIG2_DATASET = "celeba"  # nor its dataset: that of the suite paper_fig2, marked as assumed there
FIG2_VARIANT = "mean of 3 shuffles"

# Every verdict, as it is said of one comparison and of several.
VERDICTS = {
    "agrees": ("agrees", "agree"),
    "disagrees": ("disagrees", "disagree"),
    "not separated": ("not separated", "not separated"),
    "same direction, one seed": ("same direction (one seed)", "same direction (one seed each)"),
    "other direction, one seed": ("other direction (one seed)", "other direction (one seed each)"),
    "equal": ("equal", "equal"),
    "unfinished": ("unfinished", "unfinished"),
    NO_LEVEL: (NO_LEVEL, NO_LEVEL),
    "not run": ("not run", "not run"),
}
NOTHING = "no claim on it"
# Every sum of the verdicts on an exhibit.
WORDS = (
    "agrees",
    "agrees in part",
    "mixed",
    "disagrees in part",
    "disagrees",
    "not separated",
    "one seed only",
    "open",
    "not run",
    NOTHING,
)


@dataclass(frozen=True)
class Printed:
    """The two values that the paper prints of a comparison."""

    variant: float
    baseline: float

    def difference(self, contrast: Contrast) -> float:
        """Return variant - baseline, in the unit of the claim."""
        return percent(self.variant, self.baseline) if contrast.relative else self.variant - self.baseline

    def verdict(self, contrast: Contrast) -> str:
        """Say whether the printed values have the claimed sign; equal ones have none."""
        if self.variant == self.baseline and contrast.expected != "equal":
            return "equal"
        return "agrees" if holds(contrast, self.difference(contrast)) else "disagrees"


@dataclass(frozen=True)
class Evidence:
    """One comparison of a claim: the paper's values, and the records'."""

    judged: Judged
    printed: Printed | None

    @property
    def contrast(self) -> Contrast:
        """What is compared."""
        return self.judged.contrast

    @property
    def run(self) -> bool:
        """Whether there is a record of both sides."""
        return self.judged.equal_steps is not None

    def verdict(self, difference: Corrected | None) -> str:
        """Say whether a paired difference of the records agrees with the claim, by the claims' rule."""
        if difference is None:
            return NO_LEVEL if self.run and self.contrast.quantity == "psnr_gap" else "not run"
        if without_level(self.judged, difference):
            return NO_LEVEL
        if unfinished(self.contrast, difference):
            return "unfinished"
        if difference.estimate.n == 1:
            return "same direction, one seed" if agreeing(self.contrast, difference) else "other direction, one seed"
        return {1: "agrees", -1: "disagrees", 0: "not separated"}[side_of(self.contrast, difference)]


def weigh(records: Sequence[Record], claims: Sequence[Claim], published: Published, numbers: Numbers) -> list[Evidence]:
    """Return the evidence on every comparison of the claims."""
    return [Evidence(one, printed(published, one.contrast)) for one in judge(records, claims, numbers)]


def printed(published: Published, contrast: Contrast) -> Printed | None:
    """Return what the paper prints of both sides; None where it lacks one, or where the recipe is not the paper's."""
    values = [printed_value(published, contrast, side) for side in (contrast.variant, contrast.baseline)]
    return None if values[0] is None or values[1] is None else Printed(values[0], values[1])


def printed_value(published: Published, contrast: Contrast, side: Side) -> float | None:
    """Return what the paper prints of one side of a comparison."""
    key = (contrast.quantity, side.model or contrast.model, side.layout, contrast.dataset, side.subset)
    return value_of(published, VARIANTS.get(contrast.recipe), *key)


def value_of(published: Published, variant: str | None, metric: str, model: str, layout: str, dataset: str, subset: int) -> float | None:
    """Return a printed value; the one of Fig. 2 where no other names the model and the dataset."""
    key = (metric, FIG2.get(model, model), layout, dataset, subset, variant)
    return next((row.value for row in published.rows if variant and _named(row) == key), None)


def _named(row: Reported) -> tuple[str, str, str, str, int, str]:
    """Return a printed row under the names that the registry has for it, but the model's."""
    variant = "default" if row.variant == FIG2_VARIANT else row.variant
    return row.metric, row.model, row.layout, row.dataset or FIG2_DATASET, row.n, variant


def printed_once(evidence: Sequence[Evidence]) -> list[Evidence]:
    """Return the comparisons that are printed, those of one figure under two readings of its networks once."""
    found: dict[object, Evidence] = {}
    for one in evidence:
        if one.printed:
            contrast = one.contrast
            sides = [
                replace(side, model=FIG2.get(model := side.model or contrast.model, model))
                for side in (contrast.variant, contrast.baseline)
            ]
            found.setdefault((one.judged.claim.name, contrast.recipe, contrast.dataset, *sides), one)
    return list(found.values())


def count(verdicts: Sequence[str]) -> str:
    """Return verdicts in words: each with how often it fell, the first of how many."""
    found = [(verdicts.count(word), one, several) for word, (one, several) in VERDICTS.items() if word in verdicts]
    if len(verdicts) == 1:
        return found[0][1]
    (first, one, several), *others = found
    return ", ".join(
        [
            f"{first} of {len(verdicts)} {one if first == 1 else several}",
            *(f"{times} {one if times == 1 else several}" for times, one, several in others),
        ]
    )


def overall(verdicts: Sequence[str]) -> str:
    """Sum up the verdicts on one figure in a word or two."""
    judged = {word for word in verdicts if word != "not run"}
    if not judged:
        return "not run"
    if judged >= {"agrees", "disagrees"}:
        return "mixed"
    for word in ("agrees", "disagrees"):
        if word in judged:
            return word if judged == {word} else f"{word} in part"
    if "not separated" in judged:
        return "not separated"
    return "one seed only" if any("seed" in word for word in judged) else "open"
