"""The leaderboard in short, for the terminal: experiments, claims and tables."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from textwrap import fill, wrap
from typing import TYPE_CHECKING

from benchmark.pages import prose
from benchmark.pages import told as words
from benchmark.pages.capped import capped_words
from benchmark.pages.claims import Claim, declared
from benchmark.pages.columns import analysis_columns, marked
from benchmark.pages.comparisons import Judged, Numbers, judge, of_the_board
from benchmark.pages.experiments import Told, told
from benchmark.pages.objectives import Siblings, siblings
from benchmark.pages.quantities import apart, named
from benchmark.pages.statistics import Paired
from benchmark.pages.tables import BASELINE, Row, Table, tabulate
from benchmark.pages.text import mean_sd, paired_lines, rank_words
from benchmark.pages.verdicts import left_over
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Marks
from benchmark.recording.record import METRIC_VERSION, Record
from benchmark.recording.said import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table as Grid


WIDE = 100  # columns from which an interval stands on one line


def render(
    records: Sequence[Record], names: Sequence[str] = (), numbers: Numbers | None = None, width: int = WIDE, marks: Marks = UNMARKED
) -> "list[RenderableType]":
    """Return experiments, claims of the suites that were run, what is not claimed, and last the tables: they stand above the prompt.

    `names` are numbers of analyses to be shown beside the rows, from `numbers` by the record's id. Below `WIDE` columns an
    interval takes two lines, and from there on where a table would be cut.
    """
    tables, records = tabulate(records, marks), marks.standing(records)
    if not tables:
        return ["No ranked record yet: `benchmark.suites.sweep.sweep(...)` makes some."]
    judged = of_the_board(judge(records, numbers=numbers))
    run = [claim for claim in declared().own if any(one.claim == claim and one.equal_steps for one in judged)]
    sections = groupby(tables, key=lambda table: (table.metric_version, table.recipe, table.dataset))
    parts: list[RenderableType] = [part for one in told(records, numbers) for part in _experiment(one, width)]
    if run:
        parts += _claims(records, run, judged)
    grids = [partial(_grid, list(group), names, numbers or {}) for _, group in sections]
    grids += [partial(_siblings, one) for one in siblings(records)]
    return parts + [_whole(made, width) or made(narrow=True) for made in grids]


def _claims(records: Sequence[Record], run: Sequence[Claim], judged: Sequence[Judged]) -> "list[RenderableType]":
    """Return what was claimed and what became of it, what else is known of those differences, and what is not claimed."""
    from rich.text import Text

    parts: list[RenderableType] = [Text("Claims, declared before the runs unless they say otherwise; paired differences", style="bold")]
    parts += [Text(line) for claim in run for line in _claim_lines(claim, judged)]
    parts += [Text(f"\n{line}") for line in [left_over(judged)] if line]
    parts += [Text("\nWhat is left of a difference at equal fit, and how far seeds lie apart beside it", style="bold")]
    parts += [Text(f"- {line}") for line in prose.cautions_of(judged)]
    if left := prose.not_claimed_lines(records, [claim.suite for claim in run]):
        parts += [Text("\nWhat these suites do not show", style="bold"), *(Text(f"- {line}") for line in left)]
    return [*parts, Text("")]


def _grid(tables: Sequence[Table], names: Sequence[str], numbers: Numbers, *, narrow: bool) -> "Grid":
    """Return the tables of one section as one grid, in short: intervals of the differences only."""
    first = tables[0]
    version = "" if first.metric_version == METRIC_VERSION else f", metric {first.metric_version}"
    several = len({row.series.model for table in tables for row in table.rows}) > 1
    grid = _empty(
        f"{first.recipe} on {first.dataset}{version}, in dB",
        ["N", "rank", "layout"],
        [
            "PSNR\ntrain",
            "\ntest",
            "gap\n± sd",
            f"gap −\n{BASELINE},\nsteps" if narrow else f"gap − {BASELINE},\nequal steps",
            "equal\nfit" if narrow else "\nequal fit",
            "\nseeds",
            *(re.sub(r"(?<=\.)|(?=_t\d+$)", "\n", name) for name in names),
        ],
    )
    for table in tables:
        extra = analysis_columns(table, names, numbers)
        for place, row in enumerate(table.rows):
            measured = ["\n".join(column.cells[place]) for column in extra]
            _fill(grid, [f"{table.subset:,}", rank_words(row.rank), _name(row, several, narrow), *_scores(row, narrow), *measured])
        grid.add_section()
    return grid


def _name(row: Row, several: bool, narrow: bool) -> str:
    """Return the layout of a row, its network before it where the tables have several, and below it what sets the row apart."""
    names = [*([row.series.model] if several else []), row.series.layout]
    said = [f"other images: {row.series.images}"] if row.series.images else []
    said += [line for line in (*marked(row), capped_words(row)) if line]
    if narrow:
        names, said = [part for name in names for part in _at_underscores(name)], [_folded(line) for line in said]
    return "\n".join([*names, *said])


def _scores(row: Row, narrow: bool) -> list[str]:
    return [
        f"{row.psnr_train.mean:.2f}",
        f"{row.psnr_test.mean:.2f}",
        mean_sd(row.psnr_gap).replace(" ± ", "\n± "),
        _short(row.equal_steps, narrow),
        _short(row.equal_fit, narrow),
        str(row.psnr_gap.n),
    ]


def _siblings(one: Siblings, *, narrow: bool) -> "Grid":
    """Return recipes that differ in their objective alone as one grid: what is estimated, by which weights, and the gaps."""
    difference = "gap −\nfirst,\nsteps" if narrow else "gap − first,\nequal steps"
    titles = ["PSNR\ntrain", "\ntest", "gap\n± sd", "not\nclipped", difference, "equal\nfit", "\nseeds"]
    grid = _empty(f"{one.title}, in dB", ["recipe"], titles)
    for line in one.lines:
        _fill(
            grid,
            [
                "\n".join((line.recipe, *line.objective.lines)),
                f"{line.psnr_train.mean:.2f}",
                f"{line.psnr_test.mean:.2f}",
                mean_sd(line.psnr_gap).replace(" ± ", "\n± "),
                mean_sd(line.unclipped).replace(" ± ", "\n± "),
                _short(line.equal_steps, narrow),
                _short(line.equal_fit, narrow),
                str(line.psnr_gap.n),
            ],
        )
    return grid


def _experiment(one: Told, width: int) -> "list[RenderableType]":
    """Return an experiment's table and what it says: in columns where they fit, folded or not, else a row below the other."""
    from rich.text import Text

    grid = _whole(partial(_differences, one), width)
    table = [grid] if grid else _listed(one)
    said = [words.missing(one), f"What was learnt. {words.learnt(one)}", f"What was not. {words.not_learnt(one)}"]
    return [*table, Text(one_line(one.experiment.question)), *(Text(f"\n{one_line(part)}") for part in said if part), Text("")]


def _differences(one: Told, *, narrow: bool) -> "Grid":
    (head, *titles), rows = words.table(one)
    if narrow:
        head, titles = _folded(head), [title.replace(" on ", "\non\n").replace(" less ", "\nless\n") for title in titles]
    grid = _empty(one.experiment.name, [head], titles)
    for label, *cells in rows:
        folded = [cell.replace(" [", "\n[").replace(", ", ",\n" if narrow else ", ").replace(" n=", "\nn=") for cell in cells]
        _fill(grid, [_folded(label) if narrow else label, *folded])
    return grid


def _listed(one: Told) -> "list[RenderableType]":
    """Return the same table as text: of each row its name, and below it every number with the name of its column."""
    from rich.padding import Padding
    from rich.text import Text

    (head, *titles), rows = words.table(one)
    lines: list[RenderableType] = [Text(one_line(f"{one.experiment.name}: {head}"), style="bold")]
    for label, *cells in rows:
        lines.append(Text(one_line(label)))
        lines += [Padding(Text(one_line(f"{title}: {cell}")), (0, 0, 0, 2)) for title, cell in zip(titles, cells, strict=True)]
    return [*lines, Text("")]


def _whole(made: "Callable[..., Grid]", width: int) -> "Grid | None":
    """Return `made(narrow=...)` as wide as so many columns show it whole; None where even narrow it would be cut."""
    from rich.console import Console

    measure = Console(width=10_000).measure
    forms = (False, True) if width >= WIDE else (True,)
    return next((grid for narrow in forms if measure(grid := made(narrow=narrow)).maximum <= width), None)


def _folded(label: str) -> str:
    """Return the words that name a row of a narrow table on lines of 14 letters."""
    return fill(label, 14, break_long_words=False)


def _at_underscores(name: str) -> list[str]:
    """Return a name on lines of 15 letters, parted behind underscores."""
    return [line.replace("_ ", "_") for line in wrap(name.replace("_", "_ "), 15, break_long_words=False)]


def _claim_lines(claim: Claim, judged: Sequence[Judged]) -> list[str]:
    lines = [f"{claim.name}: {claim.said}"]
    for one in (one for one in judged if one.claim == claim):
        lines.append(f"  {one.contrast.title}; {named(claim.statistic)}")
        for when, difference in (("equal steps     ", one.equal_steps), ("equal PSNR train", one.equal_fit)):
            if difference is None and one.equal_steps and claim.statistic != "psnr_gap":
                continue
            values = difference.differences.values() if difference and difference.estimate.n > 1 else ()
            each = [apart(one.contrast, value).removesuffix(" dB") for value in values]
            seeds = f" ({' '.join(each)})" if each else ""
            lines.append(f"    {when}  {prose.difference_words(one, difference)}{seeds}")
    return lines


def _empty(title: str, left: Sequence[str], right: Sequence[str]) -> "Grid":
    """Return a grid whose columns are never broken inside a word: at 80 columns what does not fit is folded at its line breaks."""
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title=Text(one_line(title), style="bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in left:
        grid.add_column(Text(name), no_wrap=True, overflow="ellipsis")
    for name in right:
        grid.add_column(Text(name), justify="right", no_wrap=True, overflow="ellipsis")
    return grid


def _fill(grid: "Grid", cells: Sequence[str]) -> None:
    """Add a row of plain text: nothing in it is taken for markup."""
    from rich.text import Text

    grid.add_row(*(Text("\n".join(map(one_line, cell.splitlines()))) for cell in cells))


def _short(difference: Paired | None, narrow: bool) -> str:
    return "\n".join(paired_lines(difference)[:2]).replace(", ", ",\n" if narrow else ", ").replace("(one seed)", "one seed")
