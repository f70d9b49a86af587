"""How the paper's kinds of pictures are drawn: grouped bars, lines, scatter. Imported only to draw: matplotlib costs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmark.recording import curves
from benchmark.recording.style import WIDTH, colour, legend, marker, stroke

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILLED = 0.8  # of the distance between two groups is bars


def bars(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw groups of bars, the baseline's textured; over the paper's bars stand our means, where there are any."""
    grid = _panels(figure, numbers, height=2.5)
    series = numbers["series"]
    for axes, panel in zip(grid, numbers["panels"], strict=True):
        labels = [group["label"] for group in panel["groups"]]
        for place, group in enumerate(panel["groups"]):
            for bar in group["bars"]:
                _bar(axes, place + _aside(group, bar), FILLED / len(group["bars"]), bar, series[bar["series"]])
        turned = len(labels) > 3 and max(map(len, labels)) > 5
        axes.set_xticks(
            range(len(labels)), labels, rotation=40 if turned else 0, ha="right" if turned else "center", rotation_mode="anchor", fontsize=8
        )
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, max(len(labels), 2) - 0.4)
        axes.grid(visible=False, axis="x")
        axes.set_title(panel["title"], fontsize=9)
        axes.set_xlabel(panel.get("x", ""))
        axes.set_ylabel(panel["y"])
    drawn = [bar for panel in numbers["panels"] for group in panel["groups"] for bar in group["bars"]]
    handles: list[Any] = [_patch(one) for one in series]
    if any(bar.get("seeds") for bar in drawn):
        handles.append(
            Line2D([], [], linestyle="none", marker="o", markersize=3.5, color="black", markerfacecolor="white", label="ours: a seed")
        )
    if any(bar.get("interval") for bar in drawn):
        handles.append(Line2D([], [], color="black", marker="_", linewidth=1.2, label="ours: mean and its 95% interval"))
    legend(figure, handles)


def lines(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw lines through means, one point per seed beside them; one panel beside the other."""
    grid = _panels(figure, numbers, height=2.9)
    for axes, panel in zip(grid, numbers["panels"], strict=True):
        if panel.get("log"):
            axes.set_xscale("log")
        for line in panel["lines"]:
            _line(axes, line)
        if panel.get("ticks"):
            axes.set_xticks([place for place, _ in panel["ticks"]], [word for _, word in panel["ticks"]])
            axes.minorticks_off()
        if panel.get("zero"):
            axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        if panel.get("ends"):
            axes.set_ylim(*panel["ends"])
        axes.set_title(panel["title"], fontsize=9)
        axes.set_xlabel(panel["x"])
        axes.set_ylabel(panel["y"])
        if panel.get("note"):
            axes.text(0.5, 0.5, panel["note"], transform=axes.transAxes, ha="center", va="center", fontsize=8, color="#444444")
    looks = {line["label"]: line for panel in numbers["panels"] for line in panel["lines"] if line["label"] and line["mean"]}
    handles = [
        Line2D(
            [],
            [],
            color=colour(line["look"]),
            marker=marker(line["look"]),
            markersize=5,
            markerfacecolor="white",
            linestyle=stroke(line["look"], dashed=line["dashed"]),
            label=f" {label}",
        )
        for label, line in looks.items()
    ]
    if handles:
        legend(figure, handles, numbers.get("legend"))


def scatter(figure: "Figure", numbers: dict[str, Any]) -> None:
    """Draw one point per row, colour and marker by configuration."""
    grid = _panels(figure, numbers, height=3.4)
    labels = numbers["labels"]
    for axes, panel in zip(grid, numbers["panels"], strict=True):
        for label, points in panel["points"].items():
            look = labels.index(label)
            axes.plot(
                *zip(*points, strict=True),
                linestyle="none",
                marker=marker(look),
                color=colour(look),
                markersize=6,
                alpha=0.85,
                markeredgecolor="white",
                markeredgewidth=0.6,
            )
        if panel.get("log"):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_locator(NullLocator())
        axes.set_title(panel["title"], fontsize=9)
        axes.set_xlabel(panel["x"])
        axes.set_ylabel(panel["y"])
    handles = [
        Line2D([], [], linestyle="none", marker=marker(look), color=colour(look), markersize=6, label=f" {label}")
        for look, label in enumerate(labels)
    ]
    figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(handles) // 2))
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)


def _panels(figure: "Figure", numbers: dict[str, Any], height: float) -> "list[Axes]":
    """Return one set of axes for each panel, in rows of `columns`; panels of one row share their scale where they say so."""
    panels, columns = numbers["panels"], min(numbers["columns"], len(numbers["panels"]))
    rows = -(-len(panels) // columns)
    figure.set_size_inches(WIDTH if columns > 1 else WIDTH * 0.6, height * rows)
    grid = [figure.add_subplot(rows, columns, place + 1) for place in range(len(panels))]
    for axes, panel in zip(grid, panels, strict=True):
        if panel.get("like") is not None:
            axes.sharey(grid[panel["like"]])
    return grid


def _bar(axes: "Axes", place: float, width: float, bar: dict[str, Any], look: dict[str, Any]) -> None:
    if bar["value"] is not None:
        axes.bar(place, bar["value"], width * 0.92, color=look["colour"], hatch=look["hatch"], edgecolor="white", linewidth=0.5)
        top = max([bar["value"], *(bar.get("interval") or ()), *bar.get("seeds", ())])
        words = f"{bar['value']:.2f}".lstrip("0") if bar["value"] else "0"
        axes.annotate(
            words,
            (place, top),
            xytext=(0, 1.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=5.5 if width < 0.42 and "seeds" not in bar else 7,
        )
    if bar.get("interval"):
        axes.plot([place, place], bar["interval"], color="black", linewidth=1.2, marker="_", markersize=6)
    for seed in bar.get("seeds", ()):
        axes.plot(
            [place], [seed], linestyle="none", marker="o", markersize=3.5, color="black", markerfacecolor="white", markeredgewidth=0.7
        )


def _aside(group: dict[str, Any], bar: dict[str, Any]) -> float:
    return FILLED * ((group["bars"].index(bar) + 0.5) / len(group["bars"]) - 0.5)


def _patch(look: dict[str, Any]) -> Patch:
    return Patch(facecolor=look["colour"], hatch=look["hatch"], edgecolor="white", label=f" {look['label']}")


def _line(axes: "Axes", line: dict[str, Any]) -> None:
    look = line["look"]
    for seed in line["seeds"]:
        axes.plot(
            *zip(*seed, strict=True),
            color=colour(look),
            linewidth=0.7,
            alpha=0.45,
            marker="." if len(seed) < 13 else None,
            markersize=4,
            linestyle=stroke(look, dashed=line["dashed"]),
        )
    if line["mean"]:
        axes.plot(
            *zip(*line["mean"], strict=True),
            color=colour(look),
            marker=marker(look),
            markersize=5,
            markerfacecolor="white",
            linewidth=1.5,
            linestyle=stroke(look, dashed=line["dashed"]),
        )


DRAW: dict[str, Callable[["Figure", dict[str, Any]], None]] = {
    "bars": bars,
    "lines": lines,
    "scatter": scatter,
    "curves": curves.draw,
}
