"""How each kind of picture is drawn, from the numbers that plots.py gives. Imported only to draw: matplotlib costs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from benchmark.pages import experiment_drawing
from benchmark.recording import curves
from benchmark.recording.style import (
    COLOURS,
    DASHED,
    WIDTH,
    Draw,
    colour,
    legend,
    marker,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def gap(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw the gap against N: one point per seed, a line through the means."""
    figure.set_size_inches(WIDTH * 0.75, 3.6)
    axes = figure.subplots()
    axes.set_xscale("log")
    handles = []
    trained = [label for label in numbers["series"] if label not in numbers["references"]] or list(numbers["series"])
    for index, label in enumerate(trained):
        series = numbers["series"][label]
        # a little aside, so that the seeds of two series do not cover each other
        aside = 1 + min(0.05, 0.2 / len(trained)) * (index - (len(trained) - 1) / 2)
        handles += _seeds_and_means(axes, label, series, aside, index)
    axes.set_xticks(numbers["subsets"], [f"{n:,}" for n in numbers["subsets"]])
    axes.minorticks_off()
    bottom, top = min(0.0, axes.get_ylim()[0]), axes.get_ylim()[1]
    handles += [
        handle
        for label in numbers["references"]
        if label not in trained
        for handle in _reference(axes, label, numbers["series"][label]["means"], top)
    ]
    axes.set_ylim(bottom, top)
    axes.set_xlabel("training images N")
    axes.set_ylabel("PSNR gap (dB)")
    legend(figure, handles, "small: a seed, large: the mean")


def _seeds_and_means(axes: "Axes", label: str, series: Mapping[str, Any], aside: float, index: int) -> list[Line2D]:
    """Draw a point for each seed and a line through the means, `aside` times their N; return the line."""
    axes.plot(
        [n * aside for n, _, _ in series["points"]],
        [value for _, _, value in series["points"]],
        color=colour(index),
        marker=marker(index),
        linestyle="none",
        markersize=4,
        alpha=0.55,
        markeredgewidth=0,
    )
    return axes.plot(
        [n * aside for n, _ in series["means"]],
        [value for _, value in series["means"]],
        color=colour(index),
        marker=marker(index),
        markersize=7,
        markerfacecolor="white",
        linewidth=1.5,
        label=f" {label}",
    )


def _reference(axes: "Axes", label: str, means: list[list[float]], top: float) -> list[Line2D]:
    """Draw a row that is fitted in closed form as a level at its N, or say its value where it lies above the trained rows."""
    said = f" {label}: " + ", ".join(f"{value:.1f} dB at N = {n:,}" for n, value in means) + " (closed form)"
    for n, value in means:
        if value <= top:
            axes.plot([n / 1.25, n * 1.25], [value, value], color="grey", linestyle=DASHED, linewidth=1.2)
    return [Line2D([], [], color="grey", linestyle=DASHED if any(v <= top for _, v in means) else "none", label=said)]


def paired(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw the paired differences: one point per seed, the mean and its 95% interval; equal steps beside equal fit."""
    lines = numbers["lines"][::-1]  # the first line on top
    figure.set_size_inches(WIDTH, 1.3 + 0.55 * len(lines))
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    for axes, key, title in zip(panels, ("equal_steps", "equal_fit"), ("at equal steps", "at equal PSNR train"), strict=True):
        axes.axvline(0, color="black", linewidth=0.8)
        for height, line in enumerate(lines):
            _paired_line(axes, height, line[key])
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("gap − gap of global (dB)")
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-0.6, len(lines) - 0.4)
    panels[0].set_yticks(range(len(lines)), ["\n".join(line["label"]) for line in lines])
    seed = Line2D([], [], linestyle="none", marker="o", markersize=5, color=COLOURS[1], markeredgewidth=0, label="a seed")
    mean = Line2D([], [], marker="D", markersize=5, color=COLOURS[2], linewidth=1.8, label="mean and its 95% interval")
    legend(figure, [seed, mean])


def _paired_line(axes: "Axes", height: int, difference: dict[str, Any] | None) -> None:
    if difference is None:
        axes.text(0.5, height, "no common level", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=8)
        return
    axes.plot(
        [value for _, value in difference["seeds"]],
        [height + 0.16] * len(difference["seeds"]),
        linestyle="none",
        marker="o",
        markersize=5,
        color=COLOURS[1],
        markeredgewidth=0,
        alpha=0.8,
    )
    if difference["interval"]:
        axes.plot(difference["interval"], [height - 0.12] * 2, color=COLOURS[2], linewidth=1.8)
        axes.plot([difference["mean"]], [height - 0.12], marker="D", markersize=5, color=COLOURS[2])


DRAW: dict[str, Draw] = {"gap": gap, "paired": paired, "curves": curves.draw, **experiment_drawing.DRAW}
