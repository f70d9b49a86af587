"""Records to a table of numbers, one row a record: for notebooks."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchError
from benchmark.recording import analyses
from benchmark.recording.record import Record, read_all

if TYPE_CHECKING:
    import pandas

NAMES = ("id", "metric_version", "recipe", "dataset", "subset", "model", "layout", "seed", "half")
BUDGET = ("parameters", "forward_flops", "steps", "wall_seconds", "device")
UNLABELLED = ("psnr_train", "psnr_test", "psnr_gap")  # of rows that take labels, given no class
COLUMNS = (*NAMES, "psnr_train", "psnr_test", "psnr_gap", *BUDGET, "ranked", "created")


def frame(records: Path) -> "pandas.DataFrame":
    """Return one row a record: its names, its numbers, its scores by name, its analyses by "<analysis>.<number>"."""
    try:
        import pandas
    except ImportError:
        raise BenchError("A table of records needs pandas, which is not installed here.") from None
    rows = [_row(one) | analyses.numbers(records.parent, one) for one in read_all(records)]
    return pandas.DataFrame(rows, columns=None if rows else list(COLUMNS))


def _row(one: Record) -> dict[str, Any]:
    names = {"id": one.id, "metric_version": one.metric_version, **one.row._asdict(), "half": one.half, "ranked": one.ranked}
    numbers = {name: getattr(one, name) for name in ("psnr_train", "psnr_test", "psnr_gap", "created")}
    known = names | numbers | {name: getattr(one.training, name) for name in BUDGET}
    without = {f"unlabelled.{name}": getattr(one.unlabelled, name) for name in UNLABELLED} if one.unlabelled else {}
    return {name: known[name] for name in COLUMNS} | without | {name: score.value for name, score in one.scores.items()}
