"""The numbers of the pictures of experiments: paired differences in four readings, and ladders with what they are worth."""

from pathlib import PurePosixPath
from statistics import fmean
from typing import Any

from benchmark.pages.experiments import READINGS, Arm, Told
from benchmark.pages.plots import paired_numbers
from benchmark.pages.quantities import named
from benchmark.pages.told import label, line_label
from benchmark.recording.style import Picture, short

ALTS = {
    "differences": "Paired differences against global attention, by dataset and layout, in four readings",
    "ladder": "Test PSNR against the number of training images, and what each bias is worth in images",
}


def picture(told: Told) -> Picture:
    """Return the picture of an experiment."""
    figure = told.experiment.figure
    numbers = _differences(told) if figure == "differences" else _ladder(told)
    return Picture(figure, PurePosixPath("figures", "experiments", f"{told.experiment.suite}.svg"), ALTS[figure], numbers)


def _differences(told: Told) -> dict[str, Any]:
    """One panel for each reading; a line for each comparison that was run."""
    lines = [line for line in told.lines if told.difference(line, "psnr_gap")]
    panels = [
        {"title": named(quantity), "lines": [paired_numbers(told.difference(line, quantity)) for line in lines]} for quantity in READINGS
    ]
    return {"labels": [line_label(told, line).replace(" on ", "\non ").replace(" less ", "\nless ") for line in lines], "panels": panels}


def _ladder(told: Told) -> dict[str, Any]:
    """One column for each dataset: test PSNR by N of every arm, and the factor N*/N of all but the baseline."""
    arms = [told.baseline, *told.arms]
    columns = [{"dataset": dataset, "series": {label(told, arm): _series(told, arm, dataset) for arm in arms}} for dataset in told.datasets]
    labels = [name for arm in arms if any(column["series"][name := label(told, arm)]["points"] for column in columns)]  # that were run
    return {"labels": labels, "subsets": list(told.subsets), "columns": columns}


def _series(told: Told, arm: Arm, dataset: str) -> dict[str, Any]:
    by_seed = told.psnr_test(arm, dataset)
    points = [[subset, seed, short(value)] for seed, ladder in by_seed.items() for subset, value in ladder.items()]
    sizes = sorted({subset for subset, _, _ in points})
    means = [[size, short(fmean(value for subset, _, value in points if subset == size))] for size in sizes]
    worth = []
    for subset in told.subsets if arm != told.baseline else ():
        if found := told.worth(arm, dataset, subset, "worth_psnr_test"):
            log2, bound = found.log2, (found.least > 0) - (found.most > 0) if found.least * found.most == 0 else 2
            ends = None if bound or log2.low is None or log2.high is None else [short(2**log2.low), short(2**log2.high)]
            worth.append({"subset": subset, "factor": short(2**log2.mean), "interval": ends, "bound": bound})
    return {"points": points, "means": means, "worth": worth}
