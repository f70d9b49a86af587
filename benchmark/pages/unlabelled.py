"""What rows with class labels score without them: beside the numbers of their table, never in it."""

from benchmark.pages.statistics import estimate
from benchmark.pages.tables import Series
from benchmark.pages.text import interval, plain, short_text


def unlabelled_note(series: Series) -> str:
    """Say what a network that takes labels scores with that of no class, on the same images and noise; '' where that is not known."""
    found = [one.unlabelled for one in series.runs.values() if one.unlabelled]
    if not found:
        return ""
    gap, train, test = (estimate([getattr(one, name) for one in found]) for name in ("psnr_gap", "psnr_train", "psnr_test"))
    version, many = short_text(found[0].metric_version), f" over {gap.n} seeds" if gap.n > 1 else ""
    return (
        f"given no class in place of the label (metric {version}): gap {plain(gap.mean)} dB {interval(gap)}{many}, "
        f"PSNR train {train.mean:.2f} dB, test {test.mean:.2f} dB."
    )
