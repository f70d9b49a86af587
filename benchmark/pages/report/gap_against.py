"""What goes with the gap, on the page: how local attention is and how harmonic eigenvectors are, against the PSNR gap."""

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from benchmark.declaring.entries import rebuild
from benchmark.declaring.fields import FieldError
from benchmark.declaring.row import Row
from benchmark.errors import BenchError
from benchmark.pages.report.analysed import Analyses
from benchmark.pages.report.correlation import FEWEST, Correlation, Drawn, Observation, correlate, settled, settled_p
from benchmark.pages.report.inside import LEVELS, absent
from benchmark.pages.statistics import holm
from benchmark.pages.text import NONE, escaped, plain
from benchmark.recording.markdown import markdown_table
from benchmark.recording.record import Record
from benchmark.recording.style import Picture, short

SIDE = 8  # pixels: of the images of nearly all analysed rows, the ones that are correlated
DISTANCE = ("attention.distance", "mean attention distance (pixels)")
HARMONICITY = {t: (f"jacobian.harmonicity_t{t}", f"harmonicity at t = {t}") for t in LEVELS}
SHOWN = (DISTANCE, HARMONICITY[200])  # in the picture, the noise level being that of the claims; all of them are in the table
HEADING = "## What the paper does not have: what goes with the gap"
TEXT = (
    "Does a network with more local attention, or with more harmonic eigenvectors, have a smaller gap? "
    f"Over the analysed rows of {SIDE}×{SIDE} pixels: a distance in pixels means something else on larger images. "
    "A positive rho with the attention distance, or a negative one with harmonicity, says yes. "
    "Spearman's rank correlation with the PSNR gap; its 95% interval is that of a bootstrap over configurations, which keeps the "
    f"seeds of one configuration together (none below {FEWEST} configurations); p belongs to it, and Holm's correction of p is over "
    "the lines of this table. A decimal that another draw of resamples could change is left out. "
    "With so few configurations both are rough, and a correlation over rows that differ in N, network and "
    "recipe at once says nothing of what causes what: hence the lines for rows that share dataset, recipe and N. Those, and the line "
    "of trained networks, are without the references in closed form, whose gaps and Jacobians are known beforehand and lie apart."
)


def gap_against(analyses: Analyses) -> tuple[str, list[Picture]]:
    """Return the correlations as Markdown, and the picture of the points behind them."""
    picture = _picture(analyses)
    if picture is None:
        return f"{HEADING}\n\n{absent('attention')} Without them there is nothing to correlate.", []
    return f"{HEADING}\n\n{TEXT}{_left_out(analyses)}\n\n{_table(analyses)}", [picture]


def _table(analyses: Analyses) -> str:
    """Return a line for every number and every set of rows; Holm's correction is over them all."""
    found = [(title, kind, one) for name, title in (DISTANCE, *HARMONICITY.values()) for kind, one in _correlations(_rows(analyses, name))]
    titles = ["number", "rows", "Spearman's rho with the gap", "95% interval", "p", "Holm", "rows (configurations)"]
    corrected = zip(
        *(holm([getattr(one.p, side) if one.p else None for _, _, one in found]) for side in ("value", "least", "most")), strict=True
    )
    lines = [[title, kind, *_words(one, values)] for (title, kind, one), values in zip(found, corrected, strict=True)]
    return markdown_table(titles, lines, [False, False, True, True, True, True, True])


def _picture(analyses: Analyses) -> Picture | None:
    """Return a panel for each of SHOWN, with a point for every row; None where no row has any of them."""
    panels: list[dict[str, Any]] = []
    for name, title in SHOWN:
        rows = sorted(_rows(analyses, name), key=_order)
        points: dict[str, list[list[float]]] = {}
        for record, value in rows:
            points.setdefault(_configuration(record), []).append([short(value), short(record.psnr_gap)])
        if rows:
            log = all(record.psnr_gap > 0 for record, _ in rows)
            panels.append({"title": "", "x": title, "y": "PSNR gap (dB)", "points": points, "log": log})
    if not panels:
        return None
    labels = dict.fromkeys(label for panel in panels for label in panel["points"])
    return Picture(
        "scatter",
        PurePosixPath("figures", "gap-against-insides.svg"),
        "PSNR gap against attention distance and against harmonicity, one point a row",
        {"panels": panels, "columns": 2, "labels": list(labels)},
    )


def _rows(analyses: Analyses, name: str) -> list[tuple[Record, float]]:
    """Return the analysed rows of images of SIDE, and the number of each."""
    return [(record, value) for record, value in analyses.having(name) if _side(record) == SIDE]


def _correlations(rows: Sequence[tuple[Record, float]]) -> list[tuple[str, Correlation]]:
    """Return a line for all rows, one for trained networks, and of these one for each dataset, recipe and N with enough of them."""
    trained = [one for one in rows if one[0].training.steps > 0]
    kinds = {"all": list(rows)} | ({"trained networks": trained} if len(trained) < len(rows) else {})
    for recipe, subset, dataset in sorted({_alike(record) for record, _ in trained}):
        kinds[f"trained networks, {dataset}, {recipe}, N = {subset}"] = [
            one for one in trained if _alike(one[0]) == (recipe, subset, dataset)
        ]
    lines = []
    for kind, belonging in kinds.items():
        found = correlate([Observation(value, record.psnr_gap, _configuration(record)) for record, value in belonging])
        if found and (kind == "all" or found.configurations >= FEWEST):
            lines.append((escaped(kind), found))
    return lines


def _words(found: Correlation, corrected: Sequence[float | None]) -> list[str]:
    """Return the cells of a line; `corrected` is p after Holm, and the ends of where another draw of resamples would put it."""
    ends = NONE if found.low is None or found.high is None else f"[{settled(found.low)}, {settled(found.high)}]"
    note = f", {found.undefined:.1%} of resamples without one" if found.undefined >= 0.0005 else ""
    value, least, most = corrected
    holds = None if value is None or least is None or most is None else Drawn(value, least, most)
    p, p_holm = (NONE if one is None else escaped(settled_p(one)) for one in (found.p, holds))
    return [plain(found.rho), ends + note, p, p_holm, f"{found.rows} ({found.configurations})"]


def _side(record: Record) -> int | None:
    """Return the side of a record's images in pixels, as its dataset declares it; None where nothing here does."""
    stored = record.spec["dataset"]
    if said := stored["config"].get("resolution"):
        return int(said)
    try:
        declared = rebuild(stored, [])  # one that has a single size, or takes that of another dataset, says it in its code
    except (FieldError, BenchError, AttributeError, ImportError):
        return None
    return int(declared.config.resolution)


def _left_out(analyses: Analyses) -> str:
    """Say which analysed rows are left out because nobody here knows how large their images are; '' where there are none."""
    found = [one.record.row.dataset for one in analyses.rows if _side(one.record) is None]
    if not found:
        return ""
    rows = "1 analysed row is" if len(found) == 1 else f"{len(found)} analysed rows are"
    return f" {rows} left out, the size of the images being declared nowhere here: {', '.join(map(escaped, dict.fromkeys(found)))}."


def _order(row: tuple[Record, float]) -> Row:
    return row[0].row


def _alike(record: Record) -> tuple[str, int, str]:
    return record.row.recipe, record.row.subset, record.row.dataset


def _configuration(record: Record) -> str:
    """Return a row's name without its seed."""
    row = record.row
    return f"{row.model} {row.layout}, N = {row.subset}, {row.recipe}, {row.dataset}"
