"""Comparisons to verdicts: on which side of what was claimed the corrected difference lies, and the words for it."""

from collections.abc import Sequence

from benchmark.pages.claims import Contrast
from benchmark.pages.comparisons import Judged
from benchmark.pages.statistics import Corrected, Paired, holm, separated

RULE = (
    "Of each comparison's statistic: the mean over seeds of the paired difference, with its 95% t-interval, which is not corrected. "
    "What a variant is worth in training images is a factor, averaged as its logarithm; beyond the ladder of N it counts as the bound "
    "that it is. p is the two-sided p-value of the t-test, and Holm's correction of it is over all comparisons that the suite's "
    "claims declare, the analyses' included and those not run yet. The verdict is by the corrected value: *shown* where it is below "
    "0.05 and the interval lies wholly on the claimed side of 0, *contradicted* where wholly on the other side, else *not separated*; "
    "where the interval alone would say more, that is said beside it. Where seeds that a claim declares are yet to be run it is "
    "*unfinished*, whatever the interval says. With one seed there is no interval, and only the direction is given. "
    "Where two runs of a declared seed reach no common PSNR train, there is no verdict at equal PSNR train. "
    "The same rule is applied twice, each time as a family of its own: to the final gaps (equal steps, the paper's comparison) "
    "and to the gaps at equal PSNR train."
)
NO_LEVEL = "no common level"
VERDICTS = {1: "shown", -1: "contradicted", 0: "not separated"}


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


def without_level(one: Judged, difference: Corrected) -> int:
    """Return how many declared seeds were run on both sides and lack this reading: their two runs reach no common PSNR train."""
    ran = one.equal_steps.estimate.n if one.equal_steps else 0
    return ran - difference.estimate.n if ran == len(one.contrast.seeds) else 0


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


def verdict(one: Judged, difference: Corrected | None) -> str:
    """Return the verdict in words on one of the two differences of a comparison, by RULE."""
    if difference is None:
        if one.equal_steps is None:
            return "not run"
        return f"not available: {NO_LEVEL}" if one.contrast.quantity == "psnr_gap" else "of gaps only"
    contrast, seeds = one.contrast, agreeing(one.contrast, difference)
    held = f"{contrast.expected} in {seeds} of {difference.estimate.n} seeds"
    if apart := without_level(one, difference):
        return f"{NO_LEVEL} in {apart} of {len(contrast.seeds)} seeds, {held}"
    if unfinished(contrast, difference):
        return f"unfinished, {held}, {len(contrast.seeds)} declared"
    if difference.estimate.n == 1:
        return contrast.expected if seeds else f"not {contrast.expected}"
    word, plain = VERDICTS[side_of(contrast, difference)], VERDICTS[plain_side(contrast, difference)]
    alone = "" if word == plain else f" (interval alone: {plain})"
    return f"{word}{alone}, {held}"


def verdict_word(one: Judged) -> str:
    """Return the verdict at equal steps alone: shown, contradicted, not separated, unfinished, one seed, or not run."""
    return word_of(one, one.equal_steps)


def word_of(one: Judged, difference: Corrected | None) -> str:
    """Return the verdict on one of the two differences alone, as verdict_word; at equal fit there may be no common level."""
    if difference is None:
        return "not run" if one.equal_steps is None else NO_LEVEL
    if without_level(one, difference):
        return NO_LEVEL
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
