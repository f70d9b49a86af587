"""What the statistics of the claims are called, and how a difference in each is written: in dB, in percent, or as a factor."""

from benchmark.pages.claims import PSNR, WORTH, Contrast
from benchmark.pages.columns import SCORE_TITLES
from benchmark.pages.statistics import Estimate
from benchmark.pages.text import interval, signed

NAMES = {
    "psnr_gap": "gap",
    "psnr_gap_unclipped": "gap, estimate not clipped",
    "psnr_train": "PSNR train",
    "psnr_test": "PSNR test",
    "membership_gap": "membership gap",
    "psnr_best_stop": "PSNR test at the best stop",
    "worth_psnr_test": "worth in training images, N*/N, by PSNR test",
    "worth_psnr_gap": "worth in training images, N*/N, by the gap",
    "worth_membership_gap": "worth in training images, N*/N, by the membership gap",
}
DECIBELS = (*PSNR, "psnr_gap_unclipped", "membership_gap", "psnr_best_stop")


def named(quantity: str) -> str:
    """Return what a statistic is called."""
    return NAMES.get(quantity) or SCORE_TITLES.get(quantity) or quantity


def apart(contrast: Contrast, difference: float) -> str:
    """Return a difference with its unit; one of log2 N*/N as the factor that it is the logarithm of."""
    if contrast.quantity in WORTH:
        return factor(difference)
    if contrast.relative:
        return f"{difference:+.2f}%".replace("-", "−")
    return signed(difference) + (" dB" if contrast.quantity in DECIBELS else "")


def apart_with_interval(contrast: Contrast, found: Estimate) -> str:
    """Return a mean difference with its unit and its plain interval, or that there is one seed."""
    if contrast.quantity in WORTH and found.low is not None and found.high is not None:
        return f"{factor(found.mean)} [{factor(found.low)}, {factor(found.high)}]"
    return f"{apart(contrast, found.mean)} {interval(found, sign=True)}"


def factor(log2: float) -> str:
    """Return 2 to the power of a number, as a factor of three digits."""
    value = 2.0**log2
    return f"×{value:.2f}" if value < 100 else f"×{value:.3g}"
