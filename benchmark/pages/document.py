"""The leaderboard as JSON: the tables, the objectives and the claims, each with its estimates and its differences by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmark.pages.comparisons import Judged, Numbers, judge, of_the_board
from benchmark.pages.objectives import Siblings, siblings, verdicts
from benchmark.pages.statistics import Corrected, Estimate, Paired
from benchmark.pages.tables import BASELINE, Row, Table, fits, tabulate
from benchmark.pages.verdicts import verdict
from benchmark.recording.marks import NONE as UNMARKED
from benchmark.recording.marks import Marks
from benchmark.recording.record import Record


def document(
    records: Sequence[Record], names: Sequence[str] = (), numbers: Numbers | None = None, marks: Marks = UNMARKED
) -> dict[str, Any]:
    """Return every table and every claim with its estimates; differences by seed; the analyses' numbers that are named."""
    judged = of_the_board(judge(marks.standing(records), numbers=numbers))
    return {
        "tables": [_table_json(table, names, numbers or {}) for table in tabulate(records, marks)],
        "objectives": [_siblings_json(one, judged) for one in siblings(marks.standing(records))],
        "claims": [_claim_json(one) for one in judged],
    }


def _table_json(table: Table, names: Sequence[str], numbers: Numbers) -> dict[str, Any]:
    key = {
        "metric_version": table.metric_version,
        "recipe": table.recipe,
        "dataset": table.dataset,
        "subset": table.subset,
        "rank_pairs": table.pairs,
    }
    baselines = {row.series.model: row.series for row in table.rows if row.series.layout == BASELINE and not row.series.images}
    rows = [_row_json(row, baselines) for row in table.rows]
    if names:
        for row, made in zip(table.rows, rows, strict=True):
            made["analyses"] = {
                str(seed): {name: value for name, value in numbers.get(record.id, {}).items() if name in names}
                for seed, record in row.series.runs.items()
            }
    return key | {"rows": rows}


def _row_json(row: Row, baselines: Mapping[str, Any]) -> dict[str, Any]:
    mine = row.series
    baseline = baselines.get(mine.model)
    met = fits(mine, baseline) if baseline is not None and baseline is not mine else {}
    return {
        "model": mine.model,
        "layout": mine.layout,
        "other_images": mine.images or None,
        "rank": row.rank,
        "mark": row.mark and {"state": row.mark.state, "reason": row.mark.reason, "day": row.mark.day},
        "seeds": list(mine.runs),
        "psnr_train": asdict(row.psnr_train),
        "psnr_test": asdict(row.psnr_test),
        "psnr_gap": asdict(row.psnr_gap),
        "gap_minus_global_at_equal_steps": _paired_json(row.equal_steps),
        "gap_minus_global_at_equal_psnr_train": _paired_json(row.equal_fit),
        "equal_psnr_train": {str(seed): fit.psnr_train for seed, fit in met.items()},
        "scores": {str(seed): {name: asdict(score) for name, score in record.scores.items()} for seed, record in mine.runs.items()},
    }


def _siblings_json(one: Siblings, judged: Sequence[Judged]) -> dict[str, Any]:
    rows = [
        {
            "recipe": line.recipe,
            **line.objective._asdict(),
            "seeds": list(line.series.runs),
            **{name: asdict(getattr(line, name)) for name in ("psnr_train", "psnr_test", "psnr_gap")},
            "psnr_gap_unclipped": asdict(line.unclipped),
            "gap_minus_first_at_equal_steps": _paired_json(line.equal_steps),
            "unclipped_gap_minus_first_at_equal_steps": _paired_json(line.unclipped_steps),
            "gap_minus_first_at_equal_psnr_train": _paired_json(line.equal_fit),
            "psnr_test_minus_first_at_equal_steps": _paired_json(line.test_steps),
            "verdicts": verdicts(line, judged),
        }
        for line in one.lines
    ]
    return {"dataset": one.dataset, "subset": one.subset, "model": one.model, "layout": one.layout, "rows": rows}


def _claim_json(one: Judged) -> dict[str, Any]:
    contrast = one.contrast
    return {
        "claim": one.claim.name,
        "statement": one.claim.said,
        "comparison": contrast.title,
        "recipe": contrast.recipe,
        "dataset": contrast.dataset,
        "model": contrast.model,
        "statistic": contrast.quantity,
        "at_equal_steps": _paired_json(one.equal_steps),
        "verdict_at_equal_steps": verdict(one, one.equal_steps),
        "at_equal_psnr_train": _paired_json(one.equal_fit),
        "verdict_at_equal_psnr_train": verdict(one, one.equal_fit),
    }


def _paired_json(difference: Paired | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    mine: Estimate = difference.estimate
    by_seed = {str(seed): value for seed, value in difference.differences.items()}
    tested = {"p": difference.p, "p_holm": difference.p_holm} if isinstance(difference, Corrected) else {}
    return asdict(mine) | tested | {"by_seed": by_seed, "lower": difference.lower, "higher": difference.higher}
