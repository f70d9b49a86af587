"""A table's columns as plain text, the same for the page and for the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from benchmark.pages import onsets
from benchmark.pages.capped import capped_words
from benchmark.pages.statistics import estimate
from benchmark.pages.tables import BASELINE, Row, Table
from benchmark.pages.text import (
    NONE,
    amount,
    estimate_lines,
    mean_sd,
    paired_lines,
    plain,
    rank_words,
)
from benchmark.recording.published import Published, Reported
from benchmark.recording.record import Record, Score

# A score is called FID only where the published Inception weights made it; every other has a name of its own.
SCORE_TITLES = {
    "fid": "FID",
    "sfid": "sFID",
    "kid": "KID",
    "is": "Inception Score",
    "fd_randconv": "FD, random conv net (not FID)",
    "fd_other_inception": "FD, Inception with other weights (not FID)",
    "memorisation": "memorised samples, share",
    "memorisation_ratio_test": "nearest training / nearest test image",
}


@dataclass(frozen=True)
class Column:
    """A title and one cell per row; a cell is a list of lines. All of it is plain text, to be escaped."""

    title: str
    cells: list[list[str]]
    numeric: bool = True


def main_columns(table: Table) -> list[Column]:
    """Return rank, model, layout, PSNR train and test, gap, and the two differences against the baseline layout."""
    names = [
        ("rank", lambda row: [rank_words(row.rank)]),
        ("model", lambda row: [row.series.model]),
        ("layout", lambda row: [row.series.layout, *([f"other images: {row.series.images}"] if row.series.images else []), *marked(row)]),
    ]
    numbers = [
        ("PSNR train, dB", lambda row: [*estimate_lines(row.psnr_train), *_capped(row)]),
        ("PSNR test, dB", lambda row: estimate_lines(row.psnr_test)),
        ("gap, dB", lambda row: [*estimate_lines(row.psnr_gap), *_capped(row)]),
        (f"gap − {BASELINE}, equal steps", lambda row: paired_lines(row.equal_steps)),
        (f"gap − {BASELINE}, equal PSNR train", lambda row: paired_lines(row.equal_fit)),
    ]
    return [_column(table, title, cell, numeric=False) for title, cell in names] + [_column(table, *pair) for pair in numbers]


def _capped(row: Row) -> list[str]:
    return [words] if (words := capped_words(row)) else []


def marked(row: Row) -> list[str]:
    """Return the mark of a row as lines of its name."""
    return [row.mark.state] if row.mark else []


def onset_columns(table: Table) -> list[Column]:
    """Return the training steps at which test PSNR peaks and the membership gap opens; none where no row has such a trajectory."""
    found = [
        _column(table, "PSNR test peaks at step", lambda row: _steps(onsets.peaks(row.series.runs))),
        _column(table, "membership gap opens at step", lambda row: _steps(onsets.openings(row.series.runs))),
    ]
    return [column for column in found if any(cell != [NONE] for cell in column.cells)]


def cost_columns(table: Table) -> list[Column]:
    """Return parameters and the FLOPs of one forward pass of one image."""
    parameters = _column(table, "parameters", lambda row: _amounts(row, "parameters"))
    return [parameters, _column(table, "FLOPs a forward", lambda row: _amounts(row, "forward_flops"))]


def score_columns(table: Table) -> list[Column]:
    """Return one column per sample-quality score: a name, and all that the number depends on."""
    kinds = sorted(
        {_kind(name, score) for row in table.rows for record in row.series.runs.values() for name, score in record.scores.items()},
        key=repr,
    )
    return [Column(_score_title(kind), [_score_lines(row, kind) for row in table.rows]) for kind in kinds]


def analysis_columns(table: Table, names: Sequence[str], numbers: Mapping[str, Mapping[str, float]]) -> list[Column]:
    """Return a column per number of an analysis, "<what>.<number>", from the numbers of each record by its id.

    Mean ± sd over the seeds that have it; how many, where not all have.
    """
    return [Column(name, [_analysis_lines(row, name, numbers) for row in table.rows]) for name in names]


def reported_columns(table: Table, published: Published) -> list[Column]:
    """Return what the paper reports beside our rows; a column without any value is left out."""
    columns = [
        Column(title, [_reported_lines(published.beside(_any(row), metric)) for row in table.rows])
        for metric, title in (("psnr_gap", "reported by the paper: gap, dB"), ("fid", "reported by the paper: FID"))
    ]
    return [column for column in columns if any(cell != [NONE] for cell in column.cells)]


def _column(table: Table, title: str, cell: Callable[[Row], list[str]], numeric: bool = True) -> Column:
    return Column(title, [cell(row) for row in table.rows], numeric)


def _steps(by_seed: Mapping[int, float]) -> list[str]:
    """Return the mean step over seeds and, of several, the first and the last."""
    if not by_seed:
        return [NONE]
    values = by_seed.values()
    return [f"{estimate(list(values)).mean:,.0f}"] + ([f"({min(values):,.0f} to {max(values):,.0f})"] if len(values) > 1 else [])


def _amounts(row: Row, field: str) -> list[str]:
    return [amount(count) for count in sorted({getattr(record.training, field) for record in row.series.runs.values()})]


def _kind(name: str, score: Score) -> tuple[str, Score]:
    """Return what must agree before two scores may stand in one column: all but the number itself."""
    return name, _terms(score)


@lru_cache(maxsize=100_000)
def _terms(score: Score) -> Score:
    return score.terms  # which builds and checks another score: of every record, for every column


def _score_title(kind: tuple[str, Score]) -> str:
    name, score = kind
    parts = [f"{score.samples:,} samples" + (", too few to compare" if score.small else ""), score.sampling, score.extractor]
    parts.append(f"weights {score.weights_digest[:8]}" if score.weights_digest else "")
    parts.append(f"reference {score.reference_digest[:8]}" if score.reference_digest else "")
    parts.append(reference_words(score))
    title = SCORE_TITLES.get(name, name) + null_words(name, score)
    return f"{title} ({', '.join(part for part in [*parts, score.version] if part)})"


def reference_words(score: Score) -> str:
    """Say how many images a score has for reference, and how many of them are training images."""
    if not score.reference_samples:
        return ""
    known = score.reference_trained_on
    said = "those trained on not counted" if known is None else f"{known:,} of them trained on" if known else "none trained on"
    return f"{score.reference_samples:,} images, {said}"


def null_words(name: str, score: Score) -> str:
    """Say of a score that has a null whether it is shown over it."""
    if not name.endswith("_ratio_test"):
        return ""
    return ", its null not taken" if score.null is None else ", over that of held-out images"


def _score_lines(row: Row, kind: tuple[str, Score]) -> list[str]:
    runs = row.series.runs.values()
    found = [score for record in runs for name, score in record.scores.items() if _kind(name, score) == kind]
    if not found:
        return [NONE]
    nulls = [score.null for score in found if score.null is not None]
    lines = estimate_lines(estimate([score.value for score in found])) + ([f"null {plain(fmean(nulls))}"] if nulls else [])
    return lines + _of_fewer(len(found), len(runs))


def _analysis_lines(row: Row, name: str, numbers: Mapping[str, Mapping[str, float]]) -> list[str]:
    runs = row.series.runs.values()
    values = [numbers[record.id][name] for record in runs if name in numbers.get(record.id, {})]
    if not values:
        return [NONE]
    return [mean_sd(estimate(values)), *_of_fewer(len(values), len(runs))]


def _of_fewer(found: int, runs: int) -> list[str]:
    return [f"{found} of {runs} seeds"] if found < runs else []


def _reported_lines(rows: Sequence[Reported]) -> list[str]:
    values: dict[float, list[str]] = {}
    for row in rows:
        values.setdefault(row.value, []).append(row.source)
    return [f"{plain(value)} ({', '.join(dict.fromkeys(sources))})" for value, sources in values.items()] or [NONE]


def _any(row: Row) -> Record:
    return next(iter(row.series.runs.values()))
