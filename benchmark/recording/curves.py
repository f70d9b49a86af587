"""PSNR over the diffusion steps: the curves of one run or of many, as numbers and as a picture."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmark.errors import UsageError
from benchmark.recording.record import Psnr, Record
from benchmark.recording.style import (
    COLOURS,
    DASHED,
    WIDTH,
    Picture,
    colour,
    drawn,
    legend,
    marker,
    short,
    shown,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def run_picture(record: Record) -> Picture:
    """Return the picture of one run: PSNR on training and test images, and the gap, over the diffusion steps."""
    layout = record.row.layout
    panel = {"subset": record.row.subset, "series": {layout: mean_curves([record])}}
    numbers = {"panels": [panel], "labels": [layout], "references": []}
    return Picture("curves", PurePosixPath("psnr.svg"), "PSNR and gap over the diffusion steps", numbers)


def run_svg(record: Record) -> str:
    """Draw the picture of one run."""
    return drawn(run_picture(record), draw)


def figure_of(curves: Psnr | Record | Mapping[str, Psnr | Record]) -> "Figure":
    """Return a figure of the curves by label; records of several N stand in panels of their own."""
    named = curves if isinstance(curves, Mapping) else {curves.row.layout if isinstance(curves, Record) else "": curves}
    if not named:
        raise UsageError("There are no curves to draw.")
    panels: dict[int | None, dict[str, Any]] = defaultdict(dict)
    for label, one in named.items():
        measured, subset = (one.psnr, one.row.subset) if isinstance(one, Record) else (one, None)
        steps, clipped = list(measured.diffusion_steps), measured.clipped
        lines = {"train": list(clipped.train), "test": list(clipped.test), "gap": list(clipped.gap)}
        panels[subset][label] = {"diffusion_steps": steps, "seeds": 1, **lines}
    order = sorted(panels, key=lambda subset: subset or 0)
    numbers = {"panels": [{"subset": subset, "series": panels[subset]} for subset in order], "labels": list(named), "references": []}
    return shown(numbers, draw, "PSNR and gap over the diffusion steps")


def mean_curves(records: Sequence[Record]) -> dict[str, Any]:
    """Return PSNR train and test and the gap at every scored diffusion step, means over the records."""
    curves = [record.psnr.clipped for record in records]
    means = {
        name: [short(fmean(column)) for column in zip(*(getattr(curve, name) for curve in curves), strict=True)]
        for name in ("train", "test", "gap")
    }
    return {"diffusion_steps": list(records[0].psnr.diffusion_steps), "seeds": len(records), **means}


def draw(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw PSNR over the diffusion steps (train solid, test dashed) and below it the gap; one column per N."""
    panels = numbers["panels"]
    figure.set_size_inches(max(WIDTH * 0.75, min(WIDTH, 2.7 * len(panels))), 4.6)
    grid = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False)
    for column, panel in enumerate(panels):
        for label, lines in panel["series"].items():
            index = numbers["labels"].index(label)
            _curve(grid[0][column], index, lines["diffusion_steps"], lines["train"])
            _curve(grid[0][column], index, lines["diffusion_steps"], lines["test"], dashed=True)
            _curve(grid[1][column], index, lines["diffusion_steps"], lines["gap"])
        if panel["subset"] is not None:
            grid[0][column].set_title(f"N = {panel['subset']:,}", fontsize=9)
        grid[1][column].set_xlabel("diffusion step t")
    _fit_to_trained(grid[0][0], numbers, ("train", "test"))
    _fit_to_trained(grid[1][0], numbers, ("gap",))
    grid[0][0].set_ylabel("PSNR (dB)")
    grid[1][0].set_ylabel("gap (dB)")
    _curves_legend(figure, numbers["labels"])


def _fit_to_trained(axes: "Axes", numbers: dict[str, Any], names: tuple[str, ...]) -> None:
    """Let the trained rows set the scale; what is fitted in closed form may leave it."""
    values = [
        value
        for panel in numbers["panels"]
        for label, lines in panel["series"].items()
        if label not in numbers["references"]
        for name in names
        for value in lines[name]
    ]
    if values and numbers["references"]:
        margin = 0.05 * (max(values) - min(values) or 1.0)
        axes.set_ylim(min(values) - margin, max(values) + margin)


def _curve(axes: "Axes", index: int, steps: list[int], values: list[float], *, dashed: bool = False) -> None:
    axes.plot(
        steps,
        values,
        color=colour(index),
        marker=marker(index) if index >= len(COLOURS) else None,  # where colours come again
        markersize=4,
        markevery=max(1, len(steps) // 5),
        linewidth=1.3,
        linestyle=DASHED if dashed else "solid",
    )


def _curves_legend(figure: "Figure", labels: list[str]) -> None:
    from matplotlib.lines import Line2D

    looks = [(colour(index), marker(index) if index >= len(COLOURS) else None) for index in range(len(labels))]
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=f" {label}")
        for (colour, marker), label in zip(looks, labels, strict=True)
    ]
    handles += [
        Line2D([], [], color="grey", label="train"),
        Line2D([], [], color="grey", linestyle=DASHED, label="test"),
    ]
    legend(figure, handles)
