"""Tables to what the pages show: plain values and text, nothing drawn yet. Statistics are those of tables.py."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import quote

from benchmark.pages import columns
from benchmark.pages.alike import other_images
from benchmark.pages.membership import membership_gaps
from benchmark.pages.plots import slug
from benchmark.pages.standing import Standing
from benchmark.pages.statistics import Estimate, Paired, best_stop, estimate
from benchmark.pages.tables import BASELINE, Row, Series, Table, gather
from benchmark.pages.text import short_text
from benchmark.recording.published import Published
from benchmark.recording.record import METRIC_VERSION, Record
from benchmark.recording.said import one_line

# What a column of the results is called, and what it means. One list for the head of the table, its CSV and its JSON.
FIELDS = {
    "rank": "The range of ranks that the paired differences allow, corrected for their number; rows that nothing separates share ranks.",
    "model": "The backbone.",
    "layout": "Which layers attend locally, and how far.",
    "gap": "PSNR on training images less PSNR on test images, in dB, at least 0; mean over seeds with its 95% interval. Lower is "
    "better where the training images are fitted equally well.",
    "difference": f"The gap less the gap of the layout {BASELINE} of the same model, seed by seed, after the whole training, in dB; its "
    "interval is not corrected.",
    "at_equal_fit": "The same difference where both runs fit their training images equally well, in dB.",
    "membership": "Membership gap: PSNR on images that only this seed saw less what other seeds reach on them, in dB; lower is better.",
    "best_stop": "Test PSNR had each run been stopped where it was best, in dB; higher is better.",
    "psnr_test": "PSNR on held-out images, in dB; higher is better.",
    "psnr_train": "PSNR on training images, in dB.",
    "published": "What the paper prints of the gap of this row, in dB.",
    "badge": "How far the row was checked: reported, rebuilt, re-scored or retrained; older code where the code has changed since.",
    "seeds": "How many seeds were run.",
    "parameters": "All of the network's, trainable or not.",
    "flops": "Of one forward pass of one image, two per multiply-add.",
    "hours": "Of training and scoring one seed, on the machine that ran it.",
    "date": "When the last of its records was made.",
    "who": "Who submitted the row.",
}


@dataclass(frozen=True)
class Section:
    """The tables of one recipe, dataset and metric version, by N."""

    key: str  # in links and file names
    title: str
    tables: tuple[Table, ...]

    def script(self, table: Table) -> str:
        """Return where the data of a table lies under the site."""
        return f"data/{self.key}/n{table.subset}.js"


def sections(tables: Sequence[Table]) -> list[Section]:
    """Group the tables of a board by metric version, recipe and dataset."""
    found = []
    for (version, recipe, dataset), group in groupby(tables, key=lambda one: (one.metric_version, one.recipe, one.dataset)):
        other = "" if version == METRIC_VERSION else f", metric {short_text(version)}"
        key = "-".join(map(slug, (recipe, dataset) if not other else (recipe, dataset, version)))
        found.append(Section(key, f"{short_text(recipe)} on {short_text(dataset)}{other}", tuple(group)))
    return sorted(found, key=lambda section: section.tables[0].metric_version != METRIC_VERSION)  # the current metric first


class Pages:
    """Where the page of every row lies: one path for one series, whatever its names are made of."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.series: dict[str, Series] = {}
        self._paths: dict[tuple[str, ...], str] = {}
        apart = other_images([record for record in records if record.ranked])
        for key, group in _by_table(records).items():
            for series in gather(group, apart):
                path = _page_path(key, series)
                if path in self.series:  # names with a hyphen may spell one path in two ways
                    path += f"-{hashlib.sha256(series.model.encode()).hexdigest()[:8]}"
                self.series[path] = series
                self._paths[(*map(str, key), series.model, series.layout, series.images)] = path

    def of(self, series: Series) -> str:
        """Return the path of a series under the site, without its ending."""
        record = next(iter(series.runs.values()))
        return self._paths[(*map(str, _table_key(record)), series.model, series.layout, series.images)]


def board_row(row: Row, page: str, published: Published, standing: Standing) -> list[Any]:
    """Return the cells of one row in the order of FIELDS, then its page, its link to a paper, and whether it is fitted in closed form."""
    runs = list(row.series.runs.values())
    spent = [run.training for run in runs]
    who = standing.who(runs)
    printed = [one.value for one in published.beside(runs[0], "psnr_gap")]
    return [
        list(row.rank) if row.rank else None,
        short_text(row.series.model),
        layout(row.series),
        _estimate(row.psnr_gap),
        _paired(row.equal_steps),
        _paired(row.equal_fit),
        *(_mean(list(values.values())) for values in readings(row.series).values()),
        _estimate(row.psnr_test),
        _estimate(row.psnr_train),
        printed[0] if printed else None,
        standing.badges(runs),
        len(runs),
        max(one.parameters for one in spent),
        max(one.forward_flops for one in spent),
        round(max(one.wall_seconds + one.evaluation_seconds for one in spent) / 3600, 4),
        max(day(run.created) for run in runs),
        short_text(who.author) if who else "",
        quote(f"{page}.html"),
        who.paper if who else "",
        all(one.steps == 0 for one in spent) and "steps" in runs[0].spec["recipe"]["config"],
    ]


def readings(series: Series) -> dict[str, dict[int, float]]:
    """Return by name what is read of a row beside its gap, by seed: empty where its records do not have it."""
    stops = {seed: best_stop(run.trajectory) for seed, run in series.runs.items()}
    return {
        "membership gap": membership_gaps(series.runs),
        "test PSNR at the best stop": {seed: value for seed, value in stops.items() if value is not None},
    }


def quality(table: Table) -> dict[str, Any]:
    """Return the sample quality of a table: its columns, and their cells as lines of text."""
    shown = columns.score_columns(table)
    return {
        "columns": [{"title": short_text(column.title.partition(" (")[0]), "help": one_line(column.title)} for column in shown],
        "rows": [["\n".join(column.cells[place]) for column in shown] for place in range(len(table.rows))] if shown else [],
    }


def layout(series: Series) -> str:
    """Return the layout of a row, and what its images are where they are not those of the others."""
    return short_text(series.layout) + (f", other images ({short_text(series.images)})" if series.images else "")


def day(created: str) -> str:
    """Return the day of a time stamp, or the first letters of what is none."""
    return created[:10] if re.match(r"\d{4}-\d\d-\d\d", created) else short_text(created, 10)


def flat(value: Any, name: str = "") -> dict[str, str]:
    """Return nested tables as one, by dotted names; names and values as text."""
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for part, item in value.items():
            found |= flat(item, f"{name}.{short_text(str(part))}" if name else short_text(str(part)))
        return found
    return {name: short_text(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))}


def _estimate(one: Estimate) -> list[float | None]:
    return [_number(one.mean), _number(one.low), _number(one.high)]


def _mean(values: Sequence[float]) -> list[float | None] | None:
    return _estimate(estimate(values)) if values else None


def _paired(one: Paired | None) -> list[float | int | None] | None:
    return None if one is None else [*_estimate(one.estimate), one.estimate.n, max(one.lower, one.higher)]


def _number(value: float | None) -> float | None:
    return None if value is None else round(value, 6) + 0.0


def _table_key(record: Record) -> tuple[str, str, str, int]:
    return record.metric_version, record.row.recipe, record.row.dataset, record.row.subset


def _by_table(records: Sequence[Record]) -> dict[tuple[str, str, str, int], list[Record]]:
    groups: dict[tuple[str, str, str, int], list[Record]] = {}
    for record in records:
        groups.setdefault(_table_key(record), []).append(record)
    return groups


def _page_path(key: tuple[str, str, str, int], series: Series) -> str:
    version, recipe, dataset, subset = key
    name = slug(
        f"{series.model}-{series.layout}-n{subset}"
        + ("" if version == METRIC_VERSION else f"-{version}")
        + (f"-{series.images}" if series.images else ""),
        120,
    )
    return f"rows/{slug(recipe)}/{slug(dataset)}/{name}"
