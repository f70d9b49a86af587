"""Where the results of an analysis lie, and what its JSON file says. Imports no torch: the leaderboard reads these files."""

import json
from pathlib import Path
from typing import Any, Literal

from benchmark.contract import checked
from benchmark.declaring.fields import from_json, to_json
from benchmark.declaring.row import Row
from benchmark.errors import BenchError
from benchmark.recording import record
from benchmark.recording.record import Record, Seconds

FOLDER = "analysis"
LARGEST = {".json": 30_000, ".svg": 500_000}  # bytes of a file beside the records; maps of 12 layers of 1024 tokens take most


@checked
class Analysis:
    """The numbers of one analysis of one run, and all that they depend on."""

    what: str
    schema: Literal[1]
    run: str
    spec: dict[str, Any]  # the row, by name
    weights_sha256: str
    settings: dict[str, Any]
    numbers: dict[str, float]
    seconds: Seconds


def published_folder(leaderboard: Path, row: Row) -> Path:
    """Return where the analyses of a record stand beside the page: the record's own key, as a folder."""
    return record.path_of(leaderboard / FOLDER, row).with_suffix("")


def published_seeds(leaderboard: Path, row: Row, what: str) -> set[int]:
    """Return the seeds of a row of which an analysis stands beside the page."""
    folder = published_folder(leaderboard, row)
    stem = folder.name.removesuffix(str(row.seed))
    found = (path.parent.name.removeprefix(stem) for path in folder.parent.glob(f"*/{what}.json") if path.parent.name.startswith(stem))
    return {int(seed) for seed in found if seed.isdecimal()}


def published(leaderboard: Path, of: Record) -> dict[str, Analysis]:
    """Return the committed analyses of a record by name, without those that were made from other weights."""
    found = (read(path) for path in sorted(published_folder(leaderboard, of.row).glob("[!.]*.json")))
    return {one.what: one for one in found if one.weights_sha256 == of.weights_sha256 and one.run == of.id}


def numbers(leaderboard: Path, of: Record) -> dict[str, float]:
    """Return every number of a record's committed analyses, by "<what>.<number>"."""
    return {f"{what}.{name}": value for what, one in published(leaderboard, of).items() for name, value in one.numbers.items()}


def read(path: Path) -> Analysis:
    """Read an analysis; raise BenchError naming the file and the field."""
    try:
        return from_json(Analysis, json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(
            f"The analysis {path} is not valid: {problem}. Remove it and make it again: `benchmark.analysis.study.analyse(...)`."
        ) from None


def text(analysis: Analysis) -> str:
    """Return an analysis as the text of its file."""
    return json.dumps(to_json(analysis), indent=1, allow_nan=False) + "\n"


def check_size(path: Path, size: int) -> None:
    """Raise where a file is too large to stand beside the records."""
    if size > (most := LARGEST[path.suffix]):
        raise BenchError(
            f"{path.name} would be {size:,} bytes; beside the records a {path.suffix[1:]} file has at most {most:,}. "
            "Analyse fewer noise levels: `timesteps=...`."
        )
