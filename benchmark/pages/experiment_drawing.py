"""How the pictures of experiments are drawn. Imported only to draw: matplotlib costs."""

from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from benchmark.recording.style import COLOURS, WIDTH, colour, legend, marker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BOUNDS = {0: "o", 1: "^", -1: "v", 2: "x"}  # known, at least, at most, some seeds each way


def differences(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw paired differences, a panel for each reading: one point per seed, the mean and its 95% interval."""
    labels, panels = numbers["labels"], numbers["panels"]
    figure.set_size_inches(WIDTH * 1.15, 1.2 + 0.6 * len(labels))
    heights = range(len(labels))[::-1]  # the first line on top
    for axes, panel in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        axes.axvline(0, color="black", linewidth=0.8)
        for height, line in zip(heights, panel["lines"], strict=True):
            _difference(axes, height, line)
        axes.set_xlim(*_limits(panel["lines"]))
        axes.set_title(panel["title"], fontsize=9)
        axes.set_xlabel("difference (dB)")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.set_yticks(list(heights), labels, fontsize=7.5)
    seed = Line2D([], [], linestyle="none", marker="o", markersize=5, color=COLOURS[1], markeredgewidth=0, label="a seed")
    mean = Line2D(
        [],
        [],
        marker="D",
        markersize=5,
        color=COLOURS[2],
        linewidth=1.8,
        label="mean and its 95% interval; of two seeds it may run off the picture",
    )
    legend(figure, [seed, mean])


def _limits(lines: list[dict[str, Any] | None]) -> tuple[float, float]:
    """Return the ends of a panel: 0, every seed, and the intervals of three seeds or more, beside which one of two shows nothing."""
    there = [line for line in lines if line is not None]
    seen = [0.0, *(value for line in there for _, value in line["seeds"])]
    seen += [end for line in there if line["interval"] and len(line["seeds"]) > 2 for end in line["interval"]]
    margin = 0.06 * (max(seen) - min(seen)) or 1.0
    return min(seen) - margin, max(seen) + margin


def _difference(axes: "Axes", height: int, line: dict[str, Any] | None) -> None:
    if line is None:
        axes.text(0.5, height, "not measured", transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=7)
        return
    values = [value for _, value in line["seeds"]]
    look: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4, "color": COLOURS[1], "markeredgewidth": 0, "alpha": 0.8}
    axes.plot(values, [height + 0.16] * len(values), **look)
    if line["interval"]:
        axes.plot(line["interval"], [height - 0.12] * 2, color=COLOURS[2], linewidth=1.8)
        axes.plot([line["mean"]], [height - 0.12], marker="D", markersize=4.5, color=COLOURS[2])


def ladder(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw test PSNR against N, and below it the factor in images that each bias is worth; a column for each dataset."""
    columns, labels = numbers["columns"], numbers["labels"]
    figure.set_size_inches(WIDTH, 5.2)
    grid = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
    for place, column in enumerate(columns):
        above, below = grid[0][place], grid[1][place]
        for index, name in enumerate(labels):
            aside = 1 + 0.03 * (index - (len(labels) - 1) / 2)  # so that the series do not cover each other
            _psnr(above, index, column["series"][name], aside)
            _worth(below, index, column["series"][name]["worth"], aside)
        above.set_title(column["dataset"], fontsize=9)
        below.axhline(1, color="black", linewidth=0.8)
        below.set_xlabel("training images N")
        below.set_xscale("log")
        below.set_yscale("log", base=2)
        below.yaxis.set_major_locator(LogLocator(base=2, subs=(1, 1.5)))
        below.yaxis.set_major_formatter(lambda value, _: f"×{value:g}")
        below.set_xticks(numbers["subsets"], [f"{n:,}" for n in numbers["subsets"]])
        below.minorticks_off()
    grid[0][0].set_ylabel("PSNR test (dB)")
    grid[1][0].set_ylabel("worth in images, N*/N")
    handles = [Line2D([], [], color=colour(index), marker=marker(index), markersize=5, label=name) for index, name in enumerate(labels)]
    bounds = {"at least": "^", "at most": "v"}
    handles += [Line2D([], [], color="grey", marker=mark, linestyle="none", label=word) for word, mark in bounds.items()]
    legend(figure, handles)


def _psnr(axes: "Axes", index: int, series: dict[str, Any], aside: float) -> None:
    look: dict[str, Any] = {"color": colour(index), "marker": marker(index)}
    points = series["points"]
    axes.plot(
        [n * aside for n, _, _ in points], [v for _, _, v in points], linestyle="none", markersize=3, alpha=0.5, markeredgewidth=0, **look
    )
    means = series["means"]
    axes.plot([n * aside for n, _ in means], [v for _, v in means], markersize=5, markerfacecolor="white", linewidth=1.3, **look)


def _worth(axes: "Axes", index: int, worth: list[dict[str, Any]], aside: float) -> None:
    for one in worth:
        place = one["subset"] * aside
        if one["interval"]:
            axes.plot([place] * 2, one["interval"], color=colour(index), linewidth=1.5)
        axes.plot([place], [one["factor"]], color=colour(index), marker=BOUNDS[one["bound"]], markersize=5, linestyle="none")


DRAW = {"differences": differences, "ladder": ladder}
