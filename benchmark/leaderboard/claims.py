"""What the committed suites are run to show, declared before they run, and what not; records give the verdicts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.leaderboard.statistics import Estimate, Paired, estimate
from benchmark.leaderboard.tables import BASELINE, Series, at_equal_fit, at_equal_steps, gather
from benchmark.record import METRIC_VERSION, Record

RULE = (
    "Statistic: the mean over seeds of the paired difference, in dB. A claim is *shown* where its 95% t-interval "
    "lies wholly on the claimed side of 0, *contradicted* where it lies wholly on the other side, *not separated* "
    "where it contains 0; with one seed there is no interval, and only the direction is given. The same rule is "
    "applied twice: to the final gaps (equal steps, the paper's comparison) and to the gaps at equal PSNR train. "
    "The intervals are not corrected for the number of claims."
)


@dataclass(frozen=True)
class Side:
    """One side of a comparison: a layout at a subset size; of another model than the contrast's where it names one."""

    layout: str
    subset: int
    model: str | None = None


@dataclass(frozen=True)
class Contrast:
    """`variant` - `baseline` of one model under one recipe on one dataset, expected below 0 (or above)."""

    recipe: str
    dataset: str
    model: str
    variant: Side
    baseline: Side
    quantity: Literal["psnr_gap", "psnr_test"] = "psnr_gap"
    expected: Literal["lower", "higher"] = "lower"

    @property
    def title(self) -> str:
        """The comparison in words."""
        sign = "<" if self.expected == "lower" else ">"
        if self.variant.model or self.baseline.model:
            sides = [f"{side.model or self.model} {side.layout}" for side in (self.variant, self.baseline)]
            return f"{sides[0]} {sign} {sides[1]}, N={self.variant.subset}"
        if self.variant.layout == self.baseline.layout:
            return f"{self.variant.layout}: N={self.variant.subset} {sign} N={self.baseline.subset}"
        return f"{self.variant.layout} {sign} {self.baseline.layout}, N={self.variant.subset}"


@dataclass(frozen=True)
class Claim:
    """A statement about one suite and the comparisons that decide it."""

    name: str
    suite: str
    statement: str
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A comparison with its paired differences; None where there are no pairs."""

    claim: Claim
    contrast: Contrast
    equal_steps: Paired | None
    equal_fit: Paired | None
    baseline: Estimate | None  # of the quantity itself, on the baseline's side


def _mini(variant: Side, baseline: Side, dataset: str = "dead_leaves8") -> Contrast:
    return Contrast("mini", dataset, "dit_mini", variant, baseline)


def _small(variant: str, baseline: str) -> Contrast:
    return Contrast("small", "dead_leaves8", "dit_small", Side(variant, 8), Side(baseline, 8))


def _higher(contrast: Contrast, quantity: Literal["psnr_gap", "psnr_test"] = "psnr_gap") -> Contrast:
    return replace(contrast, quantity=quantity, expected="higher")


_WINDOWED = "local_3x3_head"
_HEAD, _MIX, _TAIL = "local_3x6_head", "local_3x6_mix", "local_3x6_tail"
_MINI_LOCAL = _mini(Side(_WINDOWED, 16), Side(BASELINE, 16))
_NATURAL_LOCAL = replace(_MINI_LOCAL, dataset="natural8")

CLAIMS = (
    Claim(
        "mini-1",
        "mini",
        "The gap falls as the number of training images N grows.",
        tuple(
            _mini(Side(layout, more), Side(layout, fewer))
            for layout in (BASELINE, _WINDOWED)
            for fewer, more in ((16, 64), (64, 512))
        ),
    ),
    Claim("mini-2", "mini", "Local attention in the first layers lowers the gap at N = 16.", (_MINI_LOCAL,)),
    Claim(
        "natural8",
        "natural8",
        "The same on real photographs: local attention in the first layers lowers the gap at N = 16.",
        (_NATURAL_LOCAL,),
    ),
    Claim(
        "small-1",
        "small",
        "At N = 8, local attention in the first layers (head) lowers the gap.",
        (_small(_HEAD, BASELINE),),
    ),
    Claim(
        "small-2",
        "small",
        "Placement matters: head has a lower gap than tail and than mix.",
        (_small(_HEAD, _TAIL), _small(_HEAD, _MIX)),
    ),
    Claim(
        "biases-1",
        "mini_biases",
        "A DiT has a lower gap than a UNet of equal multiply-adds (the paper's Fig. 2). Declared after the first rows were seen.",
        (_mini(Side(BASELINE, 16), Side(BASELINE, 16, "unet_mini")),),
    ),
    Claim(
        "biases-2",
        "mini_biases",
        "Local attention has a lower gap than shared attention parameters or PCA attention (the paper's section 3.1). "
        "Declared after the first rows were seen.",
        tuple(_mini(Side(_WINDOWED, 16), Side(BASELINE, 16, model)) for model in ("dit_mini_shared", "dit_mini_pca")),
    ),
)

NOT_CLAIMED = (
    *(
        Claim(
            f"biases: {model}",
            "mini_biases",
            f"That {what} lowers the gap.",
            (_mini(Side(BASELINE, 16, model), Side(BASELINE, 16)),),
        )
        for model, what in (
            ("dit_mini_shared", "sharing attention parameters"),
            ("dit_mini_pca", "PCA attention, whose components come from 512 images more,"),
            ("dit_mini_diverse", "DiverseDiT"),
            ("dit_mini_gpsa", "gated positional attention"),
        )
    ),
    Claim("mini: placement", "mini", "That head is better than mix or tail at this scale; the suite has no such rows."),
    Claim("mini: window size", "mini", "That a smaller window lowers the gap more; the suite has no such rows."),
    Claim(
        "mini: test PSNR",
        "mini",
        "That local attention raises PSNR on test images.",
        (_higher(_MINI_LOCAL, "psnr_test"),),
    ),
    Claim("natural8: test PSNR", "natural8", "The same on real photographs.", (_higher(_NATURAL_LOCAL, "psnr_test"),)),
    Claim(
        "small: tail and mix",
        "small",
        "That tail or mix have a higher gap than global attention.",
        (_higher(_small(_TAIL, BASELINE)), _higher(_small(_MIX, BASELINE))),
    ),
    Claim("small: window size", "small", "That a smaller window lowers the gap more; the suite has no such rows."),
    Claim(
        "small: test PSNR",
        "small",
        "That the head placement raises PSNR on test images.",
        (_higher(_small(_HEAD, BASELINE), "psnr_test"),),
    ),
)


def judge(records: Sequence[Record], claims: Sequence[Claim] = CLAIMS) -> list[Judged]:
    """Compute every comparison of `claims` from the ranked records of the current metric version."""
    usable = [record for record in records if record.ranked and record.metric_version == METRIC_VERSION]
    return [_judged(usable, claim, contrast) for claim in claims for contrast in claim.contrasts]


def verdict(one: Judged, difference: Paired | None) -> str:
    """Return the verdict in words on one of the two differences of a comparison, by RULE."""
    if difference is None:
        return "not run" if one.equal_steps is None else "not available: no common level"
    contrast = one.contrast
    wanted = -1 if contrast.expected == "lower" else 1
    agreeing = difference.lower if wanted < 0 else difference.higher
    if difference.estimate.n == 1:
        return contrast.expected if agreeing else f"not {contrast.expected}"
    word = {wanted: "shown", -wanted: "contradicted", 0: "not separated"}[difference.side]
    return f"{word}, {contrast.expected} in {agreeing} of {difference.estimate.n} seeds"


def _judged(records: Sequence[Record], claim: Claim, contrast: Contrast) -> Judged:
    variant, baseline = _series(records, contrast, contrast.variant), _series(records, contrast, contrast.baseline)
    if variant is None or baseline is None:
        return Judged(claim, contrast, None, None, None)
    met = at_equal_fit(variant, baseline) if contrast.quantity == "psnr_gap" else None
    spread = estimate(list(baseline.values(contrast.quantity).values()))
    return Judged(claim, contrast, at_equal_steps(variant, baseline, contrast.quantity), met, spread)


def _series(records: Sequence[Record], contrast: Contrast, side: Side) -> Series | None:
    key = (side.model or contrast.model, side.layout, contrast.dataset, side.subset, contrast.recipe)
    found = gather(record for record in records if (*record.row[:4], record.row[5]) == key)
    return found[0] if found else None
