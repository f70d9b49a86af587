"""The leaderboard on one screen of a repository's page: a narrow table a dataset, one picture, the claims after them."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple
from urllib.parse import quote

from benchmark.pages import prose
from benchmark.pages.answers import in_short
from benchmark.pages.capped import capped_words
from benchmark.pages.columns import marked
from benchmark.pages.comparisons import Numbers
from benchmark.pages.experiments import told
from benchmark.pages.objectives import Line, Siblings, siblings
from benchmark.pages.page import experiment
from benchmark.pages.statistics import Paired
from benchmark.pages.tables import BASELINE, Row, Table, tabulate
from benchmark.pages.text import NONE, escaped, interval, plain, rank_words, signed
from benchmark.recording.markdown import markdown_table
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Marks
from benchmark.recording.record import METRIC_VERSION, Record
from benchmark.recording.style import Picture

TITLES = ("N", "rank", "row", "gap, dB", f"gap − {BASELINE}", "test PSNR", "seeds")
OF_OBJECTIVES = ("recipe", "gap, dB", "not clipped", "gap − first", "equal fit", "test PSNR", "seeds")
MOST = 12  # rows of one N; the site and the whole tables have the others


class Beside(NamedTuple):
    """Where other pages lie, relative to this one; '' where there is none."""

    tables: str
    paper: str
    rules: str


def write_short(
    records: Sequence[Record], pictures: Sequence[Picture], beside: Beside, numbers: Numbers | None = None, marks: Marks = UNMARKED
) -> str:
    """Return the page; `pictures` are those of the whole tables. `numbers` are the analyses': claims may be about them."""
    tables, standing = tabulate(records, marks), marks.standing(records)
    parts = [prose.opening(records, sum(row.rank is not None for table in tables for row in table.rows), beside.paper)]
    if tables:
        parts.append(
            f"A lower gap is better where the training images are fitted equally well; rows that nothing separates share a range of ranks; "
            f"gap − {BASELINE} is paired by seed, with "
            f"its 95% interval. `make site` makes the board for a browser (sort, filter, compare any two rows, a page for each). "
            f"[Every table, how to read them, and where they ran]({beside.tables})"
            + (f"; [the rules of the board]({beside.rules})." if beside.rules else ".")
        )
    parts.append(in_short(standing, numbers))
    for _, group in groupby(tables, key=lambda table: (table.metric_version, table.recipe, table.dataset)):
        parts.append(_section(list(group)))
    parts += map(_siblings, siblings(standing))
    experiments = told(standing, numbers)
    parts += [experiment(one, drawn=place == 0) for place, one in enumerate(experiments)]  # one picture: the whole tables have the others
    if not experiments and (shown := next((p for kind in ("gap", "paired", "curves") for p in pictures if p.kind == kind), None)):
        parts.append(f"![{escaped(shown.alt)}]({quote(str(shown.path))})")
    parts += [prose.claims(standing, numbers), prose.not_claimed(standing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(tables: Sequence[Table]) -> str:
    first = tables[0]
    version = "" if first.metric_version == METRIC_VERSION else f" (metric {escaped(first.metric_version)})"
    rows = [_row(table, row) for table in tables for row in table.rows[:MOST]]
    more = sum(max(0, len(table.rows) - MOST) for table in tables)
    left = f"\n\n{more} more rows are in the whole tables." if more else ""
    right = [True, False, False, True, True, True, True]
    return f"## {escaped(first.recipe)} on {escaped(first.dataset)}{version}\n\n{markdown_table(TITLES, rows, right)}{left}"


def _siblings(one: Siblings) -> str:
    """Return the recipes that differ in their objective alone, side by side."""
    rows = [_line(line) for line in one.lines]
    return f"## {escaped(one.title)}\n\n{markdown_table(OF_OBJECTIVES, rows, [False, True, True, True, True, True, True])}"


def _line(line: Line) -> list[str]:
    ends = f"<br>{interval(line.psnr_gap)}" if line.psnr_gap.low is not None else ""
    return [
        "<br>".join(map(escaped, (line.recipe, *line.objective.lines))),
        plain(line.psnr_gap.mean) + ends,
        plain(line.unclipped.mean),
        _paired(line.equal_steps),
        _paired(line.equal_fit),
        f"{line.psnr_test.mean:.2f}",
        str(line.psnr_gap.n),
    ]


def _row(table: Table, row: Row) -> list[str]:
    images = f", {escaped(row.series.images)}" if row.series.images else ""
    name = f"{escaped(row.series.model)}<br>{escaped(row.series.layout)}{images}"
    name += "".join(f"<br>**{line}**" for line in marked(row))
    ends = f"<br>{interval(row.psnr_gap)}" if row.psnr_gap.low is not None else ""
    ends += f"<br>{capped}" if (capped := capped_words(row)) else ""
    return [
        f"{table.subset:,}",
        rank_words(row.rank),
        name,
        plain(row.psnr_gap.mean) + ends,
        _paired(row.equal_steps),
        f"{row.psnr_test.mean:.2f}",
        str(row.psnr_gap.n),
    ]


def _paired(difference: Paired | None) -> str:
    if difference is None:
        return NONE
    ends = f"<br>{interval(difference.estimate, sign=True)}" if difference.estimate.low is not None else ""
    return signed(difference.estimate.mean) + ends
