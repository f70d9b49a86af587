"""Tables to pictures (SVG): the numbers of each first, so that their digest can be checked without drawing."""

import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchError
from benchmark.pages.statistics import Paired, estimate
from benchmark.pages.tables import Row, Series, Table, gather
from benchmark.recording.record import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STYLE = 2  # raise it when the same numbers are to be drawn differently
# Okabe and Ito's colours, which stay apart for colour-blind readers; black is the baseline.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_IDENTIFIER = re.compile(r"<dc:identifier>([^<]*)</dc:identifier>")


@dataclass(frozen=True)
class Picture:
    """One figure of a section: where it goes (under the page), what it says, and the numbers that it shows."""

    kind: str
    path: PurePosixPath
    alt: str
    numbers: dict[str, Any] = field(repr=False)

    @property
    def digest(self) -> str:
        """sha256 of the numbers and of the way they are drawn."""
        canonical = json.dumps([STYLE, self.kind, self.numbers], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def pictures(tables: Sequence[Table]) -> list[Picture]:
    """Return the pictures of all tables, section by section: gap against N, paired differences, curves."""
    found = []
    for _, section in groupby(tables, key=lambda table: (table.metric_version, table.recipe, table.dataset)):
        found += section_pictures(list(section))
    return found


def section_pictures(tables: Sequence[Table]) -> list[Picture]:
    """Return the pictures of the tables of one metric version, recipe and dataset."""
    first = tables[0]
    folder = PurePosixPath("figures", *map(_slug, (first.metric_version, first.recipe, first.dataset)))
    labels = _labels(tables)
    found = []
    if len(tables) > 1:
        found.append(
            Picture("gap", folder / "gap.svg", "PSNR gap against the number of training images", _gap(tables, labels))
        )
    if differences := _differences(tables):
        found.append(
            Picture(
                "paired", folder / "paired.svg", "Paired differences of the gap against the global layout", differences
            )
        )
    found.append(
        Picture("curves", folder / "curves.svg", "PSNR and gap over the diffusion steps", _curves(tables, labels))
    )
    return found


def run_picture(record: Record) -> Picture:
    """Return the picture of one run: PSNR on training and test images, and the gap, over the diffusion steps."""
    (series,) = gather([record])
    panel = {"subset": record.row.subset, "series": {series.layout: mean_curves(series)}}
    numbers = {"panels": [panel], "labels": [series.layout], "references": []}
    return Picture("curves", PurePosixPath("psnr.svg"), "PSNR and gap over the diffusion steps", numbers)


def digest_in(svg: Path) -> str | None:
    """Return the digest that a drawn picture carries, or None."""
    try:
        found = _IDENTIFIER.search(svg.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found.group(1) if found else None


def draw(picture: Picture) -> str:
    """Draw a picture as SVG, the same text for the same numbers."""
    with styled(picture.digest) as figure:
        from benchmark.pages import drawing

        drawing.DRAW[picture.kind](figure, picture.numbers)
        return as_svg(figure, {"Title": picture.alt, "Identifier": picture.digest})


@contextmanager
def styled(salt: str) -> "Iterator[Figure]":
    """Give an empty figure in the one style of all pictures, to be drawn and saved inside; `salt` makes its SVG repeatable."""
    try:
        import matplotlib.style
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError(
            "The pictures need matplotlib, which is not installed here. `make setup` installs everything; "
            "`pip install 'dit-generalization-bench[leaderboard]'` only what the leaderboard needs."
        ) from None
    style = {
        "svg.hashsalt": salt,
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
    }
    with matplotlib.style.context(["default", style]):  # the reader's own matplotlibrc has no say
        yield Figure(layout="constrained")


def as_svg(figure: "Figure", metadata: dict[str, str]) -> str:
    """Return a figure as SVG, the same text for the same drawing."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None, "Creator": None, **metadata})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


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
                    "equal_steps": _paired(row.equal_steps),
                    "equal_fit": _paired(row.equal_fit),
                }
            )
    return {"lines": lines} if lines else None


def _paired(difference: Paired | None) -> dict[str, Any] | None:
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
        lines = {
            labels[_key(row.series)]: mean_curves(row.series)
            for row in sorted(table.rows, key=lambda row: _order(row.series))
        }
        panels.append({"subset": table.subset, "series": lines})
    return {"panels": panels, "labels": list(labels.values()), "references": _references(tables, labels)}


def _references(tables: Sequence[Table], labels: dict[tuple[str, str], str]) -> list[str]:
    """Return the labels of the rows that are fitted in closed form: drawn as lines to hold the trained ones against."""
    fitted = {_key(row.series) for _, row in _every_row(tables) if all(r.training.steps == 0 for r in row.series.runs.values())}
    return [label for key, label in labels.items() if key in fitted]


def mean_curves(series: Series) -> dict[str, Any]:
    """Return PSNR train and test and the gap at every scored diffusion step, means over seeds."""
    records = list(series.runs.values())
    curves = [record.psnr.clipped for record in records]
    means = {
        name: [
            short(estimate(column).mean) for column in zip(*(getattr(curve, name) for curve in curves), strict=True)
        ]
        for name in ("train", "test", "gap")
    }
    return {"diffusion_steps": list(records[0].psnr.diffusion_steps), "seeds": len(records), **means}


def _labels(tables: Sequence[Table]) -> dict[tuple[str, str], str]:
    """Name every series of a section, in one order for all its pictures; the model only where there are several."""
    keys = sorted(
        {_key(row.series): _order(row.series) for _, row in _every_row(tables)}.items(), key=lambda item: item[1]
    )
    several = len({model for (model, _), _ in keys}) > 1
    return {(model, layout): f"{model} {layout}" if several else layout for (model, layout), _ in keys}


def _every_row(tables: Iterable[Table]) -> list[tuple[Table, Row]]:
    return [(table, row) for table in tables for row in sorted(table.rows, key=lambda row: _order(row.series))]


def _key(series: Series) -> tuple[str, str]:
    return series.model, series.layout


def _order(series: Series) -> tuple[str, bool, str]:
    return series.model, series.layout != "global", series.layout


def short(value: float) -> float:
    """Return a number as pictures keep it, six decimals."""
    return round(value, 6) + 0.0  # no -0.0, no last digits that differ between machines


def _slug(name: str) -> str:
    """Return a name as one safe path component, different for different names."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:60]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
