"""Tables, claims and pictures to one Markdown page. Everything that comes from a record is escaped."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from benchmark.pages import columns, prose
from benchmark.pages import told as words
from benchmark.pages.capped import capped_note
from benchmark.pages.comparisons import Numbers, judge, of_the_board
from benchmark.pages.experiment_pictures import picture
from benchmark.pages.experiments import Told, told
from benchmark.pages.objectives import TITLES, WORDS, cells, siblings
from benchmark.pages.plots import section_pictures
from benchmark.pages.tables import BASELINE, Row, Table, tabulate, withdrawn
from benchmark.pages.text import NONE, amount, escaped
from benchmark.pages.unlabelled import unlabelled_note
from benchmark.recording.markdown import markdown_table
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Marks
from benchmark.recording.published import Published, repeats_paper
from benchmark.recording.record import METRIC_VERSION, Record, path_of
from benchmark.recording.style import Picture

TITLE = (
    "# Every table\n\nGenerated from the records by `bench leaderboard`; do not edit it. [The leaderboard](README.md) is the short "
    "page: what is claimed, and the rows on one screen. `make site` makes pages for a browser."
)


def write_page(
    records: Sequence[Record], published: Published, records_from_page: Path, numbers: Numbers | None = None, marks: Marks = UNMARKED
) -> tuple[str, list[Picture]]:
    """Return the page of every table and its pictures; `records_from_page` is the folder of the records, relative to the page.

    `numbers` are the analyses': claims of experiments may be about them.
    """
    tables = tabulate(records, marks)
    sections, pictures = [], []
    for _, group in groupby(tables, key=lambda table: (table.metric_version, table.recipe, table.dataset)):
        section = list(group)
        shown = section_pictures(section)
        pictures += shown
        sections.append(_section(section, shown, published, records_from_page))
    experiments = told(marks.standing(records), numbers)
    pictures += map(picture, experiments)
    parts = [
        TITLE,
        *map(experiment, experiments),
        prose.how_to_read(),
        objectives(marks.standing(records), numbers),
        *sections,
        _not_ranked(records, records_from_page),
        prose.assumed(records),
        prose.environments(records),
    ]
    return "\n\n".join(part for part in parts if part) + "\n", pictures


def experiment(one: Told, *, drawn: bool = True, listed: bool = False) -> str:
    """Return the section of an experiment: its question, its table and figure, what was learnt and what not; a list where `listed`."""
    titles, rows = words.table(one)
    shown = picture(one)
    parts = [
        f"## {escaped(one.experiment.name)}",
        escaped(one.experiment.question),
        escaped(words.missing(one)),
        markdown_table([*map(escaped, titles)], [[*map(escaped, row)] for row in rows]),
        f"![{escaped(shown.alt)}]({quote(str(shown.path))})" if drawn else "",
        _said("What was learnt", words.learnt_lines(one), listed),
        _said("What was not", words.not_learnt_lines(one), listed),
    ]
    return "\n\n".join(filter(None, parts))


def objectives(records: Sequence[Record], numbers: Numbers | None = None) -> str:
    """Return the tables of recipes that differ in their objective alone; '' where there are none."""
    found = siblings(records)
    judged = of_the_board(judge(records, numbers=numbers)) if found else []
    right = [place not in WORDS for place in range(len(TITLES))]
    said = (
        "One budget, one set of images, the same noisy images at the same noise levels: the recipes differ in what the network estimates, "
        "how the levels of training are spread, and by which quantity its error is weighed. Differences are against the first row, paired "
        "by seed, with 95% intervals that are not corrected; the verdicts are those of the claims that were declared, corrected within "
        "their suite."
    )
    parts: list[str] = []
    for one in found:
        rows = [[_cell(cell) for cell in cells(line, judged)] for line in one.lines]
        about = "" if parts else f"{said}\n\n"
        parts.append(f"## {escaped(one.title)}\n\n{about}{markdown_table([*map(escaped, TITLES)], rows, right)}")
    return "\n\n".join(parts)


def _said(title: str, lines: Sequence[str], listed: bool) -> str:
    if not listed:
        return f"**{title}.** {escaped(' '.join(lines))}"
    return "\n".join([f"### {title}", "", *(f"- {escaped(line)}" for line in lines)])


def _section(tables: Sequence[Table], pictures: Sequence[Picture], published: Published, records_from_page: Path) -> str:
    first = tables[0]
    record = next(iter(first.rows[0].series.runs.values()))
    version = "" if first.metric_version == METRIC_VERSION else f" (metric {escaped(first.metric_version)})"
    parts = [f"## {escaped(first.recipe)} on {escaped(first.dataset)}{version}", prose.section(record)]
    if not repeats_paper(record):
        parts.append(f"The recipe {escaped(first.recipe)} is not the paper's: nothing here compares with its published numbers.")
    if not any(columns.score_columns(table) for table in tables):
        parts.append("Sample quality (FID) was not measured for these rows.")
    for table in tables:
        parts.append(f"### {escaped(table.recipe)} on {escaped(table.dataset)}{version}, N = {table.subset:,}")
        parts.append(_table(table, published, records_from_page))
        parts += _notes(table)
    parts += [f"![{escaped(picture.alt)}]({quote(str(picture.path))})" for picture in pictures]
    return "\n\n".join(parts)


def _table(table: Table, published: Published, records_from_page: Path) -> str:
    found = [
        *columns.main_columns(table),
        *columns.onset_columns(table),
        *columns.cost_columns(table),
        *columns.score_columns(table),
        *columns.reported_columns(table, published),
    ]
    rows = zip(*(map(_cell, column.cells) for column in found), strict=True)
    linked = [[*row, _seeds(mine, records_from_page)] for row, mine in zip(rows, table.rows, strict=True)]
    return markdown_table([*(escaped(column.title) for column in found), "seeds"], linked, [*(column.numeric for column in found), True])


def _cell(lines: Sequence[str]) -> str:
    return "<br>".join(escaped(line) for line in lines)


def _seeds(row: Row, records_from_page: Path) -> str:
    links = " ".join(_link(str(seed), record, records_from_page) for seed, record in row.series.runs.items())
    return f"{len(row.series.runs)}: {links}"


def _link(label: str, record: Record, records_from_page: Path) -> str:
    return f"[{escaped(label)}]({quote(path_of(records_from_page, record.row).as_posix())})"


def _notes(table: Table) -> list[str]:
    """Return what a reader must know about single rows."""
    notes = []
    baselines = {row.series.model for row in table.rows if row.series.layout == BASELINE and not withdrawn(row)}
    if table.pairs:
        pairs = "1 pair of rows" if table.pairs == 1 else f"{table.pairs:,} pairs of rows, corrected for their number (Holm)"
        notes.append(f"The ranks rest on {pairs}.")
    for row in table.rows:
        name = f"{escaped(row.series.model)} {escaped(row.series.layout)}"
        if row.mark:
            notes.append(f"{name}: **{row.mark.state}** ({escaped(row.mark.day)}): {escaped(row.mark.reason)}")
        if capped := capped_note(row):
            notes.append(f"{name}: {escaped(capped)}")
        if without := unlabelled_note(row.series):
            notes.append(f"{name}: {escaped(without)}")
        if row.series.images:
            notes.append(
                f"{name}, {escaped(row.series.images)}: of other images than the other records of this dataset, N and seed. A row of its "
                "own; it is in no mean, no claim and no picture with them."
            )
        if row.series.model not in baselines and not withdrawn(row):
            notes.append(f"{name}: no row of this model with the layout {BASELINE}, so there is no difference to show.")
        if row.unpaired:
            seeds = ", ".join(map(str, row.unpaired))
            why = f"{BASELINE} saw other images or ran on another kind of device"
            notes.append(f"{name}: seeds left out of the differences, because {why}: {seeds}.")
        steps, fit = (difference.estimate.n if difference else 0 for difference in (row.equal_steps, row.equal_fit))
        if fit < steps:
            notes.append(f"{name}: {steps - fit} of {steps} pairs share no level of PSNR train.")
        if words := sorted({word for record in row.series.runs.values() for word in record.overrides}):
            notes.append(f"{name}: changed with --set: {escaped(', '.join(words))}.")
    if any(row.rank is None and not withdrawn(row) for row in table.rows):
        notes.append(f"{NONE} in the first column: not ranked, for want of two seeds in common with another row.")
    return ["\n".join(f"- {note}" for note in notes)] if notes else []


def _not_ranked(records: Sequence[Record], records_from_page: Path) -> str:
    shown = [record for record in records if not record.ranked]
    if not shown:
        return ""
    rows = [_not_ranked_row(record, records_from_page) for record in shown]
    titles = [
        "recipe",
        "dataset",
        "model",
        "layout",
        "N",
        "seed",
        "training steps",
        "parameters",
        "FLOPs a forward",
        "seconds",
        "device",
    ]
    text = "These runs prove that a path works from end to end. They are compared with nothing."
    return f"## Not ranked\n\n{text}\n\n" + markdown_table(titles, rows)


def _not_ranked_row(record: Record, records_from_page: Path) -> list[str]:
    model, layout, dataset, subset, seed, recipe = record.row
    spent = record.training
    return [
        escaped(recipe),
        escaped(dataset),
        escaped(model),
        escaped(layout),
        f"{subset:,}",
        _link(str(seed), record, records_from_page),
        f"{spent.steps:,}",
        amount(spent.parameters),
        amount(spent.forward_flops),
        f"{spent.wall_seconds:.0f}",
        escaped(spent.device),
    ]
