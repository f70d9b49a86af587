"""Tables to pictures (SVG): the numbers of each first, so that their digest can be checked without drawing."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from benchmark.pages.statistics import Paired
from benchmark.pages.tables import Row, Series, Table
from benchmark.pages.text import slug
from benchmark.recording.curves import mean_curves
from benchmark.recording.style import Picture, drawn, short


def pictures(tables: Sequence[Table]) -> list[Picture]:
    """Return the pictures of all tables, section by section: gap against N, paired differences, curves."""
    found = []
    for _, section in groupby(tables, key=lambda table: (table.metric_version, table.recipe, table.dataset)):
        found += section_pictures(list(section))
    return found


def section_pictures(tables: Sequence[Table]) -> list[Picture]:
    """Return the pictures of the tables of one metric version, recipe and dataset."""
    first = tables[0]
    folder = PurePosixPath("figures", *map(slug, (first.metric_version, first.recipe, first.dataset)))
    labels = _labels(tables)
    found = []
    if len(tables) > 1:
        found.append(Picture("gap", folder / "gap.svg", "PSNR gap against the number of training images", _gap(tables, labels)))
    if differences := _differences(tables):
        found.append(Picture("paired", folder / "paired.svg", "Paired differences of the gap against the global layout", differences))
    found.append(Picture("curves", folder / "curves.svg", "PSNR and gap over the diffusion steps", _curves(tables, labels)))
    return found


def draw(picture: Picture) -> str:
    """Draw a picture as SVG."""
    from benchmark.pages import drawing

    return drawn(picture, drawing.DRAW[picture.kind])


def _gap(tables: Sequence[Table], labels: dict[tuple[str, str], str]) -> dict[str, Any]:
    """gap[series] = points (N, seed, gap) and the mean at every N."""
    series: dict[str, Any] = {labels[_key(row.series)]: {"points": [], "means": []} for _, row in _every_row(tables)}
    for table, row in _every_row(tables):
        mine = series[labels[_key(row.series)]]
        mine["points"] += [[table.subset, seed, short(gap)] for seed, gap in row.series.values("psnr_gap").items()]
        mine["means"].append([table.subset, short(row.psnr_gap.mean)])
    return {"series": series, "subsets": [table.subset for table in tables], "references": _references(tables, labels)}


def _differences(tables: Sequence[Table]) -> dict[str, Any] | None:
    """One line per row that has a baseline: the differences by seed at equal steps and at equal fit."""
    models = len({row.series.model for _, row in _every_row(tables)})
    lines = []
    for table, row in _every_row(tables):
        if row.equal_steps is not None:
            name = row.series.layout if models == 1 else f"{row.series.model} {row.series.layout}"
            lines.append(
                {
                    "label": [name, f"N = {table.subset}"],
                    "equal_steps": paired_numbers(row.equal_steps),
                    "equal_fit": paired_numbers(row.equal_fit),
                }
            )
    return {"lines": lines} if lines else None


def paired_numbers(difference: Paired | None) -> dict[str, Any] | None:
    """Return paired differences as pictures keep them: by seed, their mean and its interval."""
    if difference is None:
        return None
    mine = difference.estimate
    ends = None if mine.low is None or mine.high is None else [short(mine.low), short(mine.high)]
    return {
        "seeds": [[seed, short(value)] for seed, value in difference.differences.items()],
        "mean": short(mine.mean),
        "interval": ends,
    }


def _curves(tables: Sequence[Table], labels: dict[tuple[str, str], str]) -> dict[str, Any]:
    """Per N and series: PSNR train and test and their gap at every scored diffusion step, means over seeds."""
    panels = []
    for table in tables:
        lines = {labels[_key(row.series)]: mean_curves(list(row.series.runs.values())) for _, row in _every_row([table])}
        panels.append({"subset": table.subset, "series": lines})
    return {"panels": panels, "labels": list(labels.values()), "references": _references(tables, labels)}


def _references(tables: Sequence[Table], labels: dict[tuple[str, str], str]) -> list[str]:
    """Return the labels of the rows that are fitted in closed form: drawn as lines to hold the trained ones against."""
    fitted = {_key(row.series) for _, row in _every_row(tables) if all(r.training.steps == 0 for r in row.series.runs.values())}
    return [label for key, label in labels.items() if key in fitted]


def _labels(tables: Sequence[Table]) -> dict[tuple[str, str], str]:
    """Name every series of a section, in one order for all its pictures; the model only where there are several."""
    keys = sorted({_key(row.series): _order(row.series) for _, row in _every_row(tables)}.items(), key=lambda item: item[1])
    several = len({model for (model, _), _ in keys}) > 1
    return {(model, layout): f"{model} {layout}" if several else layout for (model, layout), _ in keys}


def _every_row(tables: Iterable[Table]) -> list[tuple[Table, Row]]:
    """Return the rows in one order; those of other images are on the page, and in no picture."""
    return [(table, row) for table in tables for row in sorted(table.rows, key=lambda row: _order(row.series)) if not row.series.images]


def _key(series: Series) -> tuple[str, str]:
    return series.model, series.layout


def _order(series: Series) -> tuple[str, bool, str]:
    return series.model, series.layout != "global", series.layout
