"""The front page: the question, what answers it in one figure, and how much stands behind it."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from benchmark.pages import told as words
from benchmark.pages.comparisons import Numbers
from benchmark.pages.experiment_pictures import picture
from benchmark.pages.experiments import Told, told
from benchmark.pages.plots import draw
from benchmark.pages.site.pictures import Gallery
from benchmark.pages.site.view import Pages, Section
from benchmark.pages.statistics import Paired
from benchmark.pages.tables import Row
from benchmark.pages.text import interval, seeds_agreeing, short_text, signed
from benchmark.recording.record import Record

MOST = 12  # lines of the headline figure


def page(
    records: Sequence[Record], sections: Sequence[Section], pages: Pages, gallery: Gallery, numbers: Numbers | None = None
) -> dict[str, Any]:
    """Return what the template of the front page shows; `numbers` are the analyses'."""
    lines = [
        line
        for section in sections
        for table in section.tables[:1]  # the smallest N, where a bias is worth most
        for row in table.rows
        if (line := _line(section, table.subset, row, pages))
    ][:MOST]
    ends = [value for line in lines for reading in ("steps", "fit") if line[reading] for value in line[reading]["ends"]]
    return {
        "experiments": [_experiment(one, gallery) for one in told(records, numbers)],
        "lines": lines,
        "scale": _scale(ends),
        "records": len(records),
        "ranked": sum(record.ranked for record in records),
        "boards": [_board(section) for section in sections],
    }


def _experiment(one: Told, gallery: Gallery) -> dict[str, Any]:
    """Return an experiment as the page tells it, its figure drawn."""
    shown = picture(one)
    titles, rows = words.table(one)
    return {
        "name": one.experiment.name,
        "question": one.experiment.question,
        "missing": words.missing(one),
        "titles": titles,
        "rows": rows,
        "alt": shown.alt,
        "paths": gallery.add(draw(shown).encode(), ".svg"),
        "learnt": words.learnt_lines(one),
        "not_learnt": words.not_learnt_lines(one),
    }


def _line(section: Section, subset: int, row: Row, pages: Pages) -> dict[str, Any] | None:
    if row.equal_steps is None or row.equal_steps.estimate.n < 2:
        return None
    return {
        "name": f"{short_text(row.series.model)} {short_text(row.series.layout)}",
        "where": f"{section.title}, N = {subset:,}",
        "link": quote(f"{pages.of(row.series)}.html"),
        "steps": _reading(row.equal_steps),
        "fit": _reading(row.equal_fit),
    }


def _reading(difference: Paired | None) -> dict[str, Any] | None:
    if difference is None or difference.estimate.low is None:
        return None
    mine = difference.estimate
    return {
        "mean": mine.mean,
        "ends": (mine.low, mine.high),
        "text": f"{signed(mine.mean)} dB {interval(mine, sign=True)}, {seeds_agreeing(difference)} seeds",
        "side": difference.side,
    }


def _scale(ends: Sequence[float]) -> dict[str, float]:
    """Return the ends of the figure's axis: 0 is inside, with some room."""
    low, high = min([0.0, *ends]), max([0.0, *ends])
    room = 0.06 * (high - low or 1.0)
    return {"low": low - room, "high": high + room}


def _board(section: Section) -> dict[str, Any]:
    best = [(table.subset, _leaders(table.rows)) for table in section.tables]
    return {"title": section.title, "key": section.key, "best": best, "rows": sum(len(table.rows) for table in section.tables)}


def _leaders(rows: Sequence[Row]) -> str:
    """Name the rows that may be first: those whose best rank is 1."""
    first = [f"{short_text(row.series.model)} {short_text(row.series.layout)}" for row in rows if row.rank and row.rank[0] == 1]
    if not first:
        return "none ranked: no two rows share two seeds"
    return ", ".join(first[:4]) + (f" and {len(first) - 4} more" if len(first) > 4 else "")
