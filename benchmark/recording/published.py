"""The numbers that papers report, to stand beside the measured ones: never in a difference, never in a rank."""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmark.contract import Positive, checked
from benchmark.declaring.fields import FieldError, from_json
from benchmark.errors import BenchError, UsageError
from benchmark.recording.record import Record

# Which of the paper's variants a recipe repeats. Any other recipe is no repetition of the paper.
VARIANTS = {"paper": "default", "paper_dagger": "dagger"}


@checked
class Reported:
    """One value of a paper; `source` is its table or figure."""

    metric: str
    source: str
    model: str
    layout: str
    dataset: str | None  # None where the figure does not say
    n: Positive
    value: float
    variant: str


@dataclass(frozen=True)
class Published:
    """All reported values, and the works they are from."""

    works: tuple[str, ...] = ()
    rows: tuple[Reported, ...] = ()

    def beside(self, record: Record, metric: str) -> tuple[Reported, ...]:
        """Return what was reported of the same model, layout, dataset and N; none unless the recipe is the paper's."""
        if not repeats_paper(record):
            return ()
        model, layout, dataset, subset, _, recipe = record.row
        key = (metric, model, layout, dataset, subset, VARIANTS[recipe])
        return tuple(row for row in self.rows if (row.metric, row.model, row.layout, row.dataset, row.n, row.variant) == key)


def repeats_paper(record: Record) -> bool:
    """Whether a record was run under the paper's recipe, with nothing changed by `--set`."""
    return record.row[-1] in VARIANTS and not record.overrides


def load(path: Path) -> Published:
    """Read one file of reported values, or every one of a folder; raise where a value is not what it must be."""
    files = sorted(path.glob("[!.]*.json")) if path.is_dir() else [path]
    works, rows = [], []
    for file in files:
        try:
            document = json.loads(file.read_text(encoding="utf-8-sig"))
            works.append(str(document["source"]))
            rows += [from_json(Reported, row, f"rows[{i}]") for i, row in enumerate(document["rows"])]
        except FileNotFoundError:
            raise UsageError(f"There are no published values at {file}. They are part of the repository: check it out whole.") from None
        except (OSError, UnicodeDecodeError) as problem:
            raise BenchError(f"The published values {file} cannot be read: {problem}") from None
        except FieldError as problem:
            raise BenchError(f"The published values {file} are not valid: {problem}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise BenchError(f"The published values {file} must be a JSON table with 'source' and 'rows': {problem}") from None
    return Published(tuple(works), tuple(rows))
