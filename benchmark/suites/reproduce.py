"""Run a row again, apart from the project's runs and records, and hold the fresh numbers against the committed ones.

Everything goes under build/: runs/<spec id>/ (resumes after a kill), records/ (what came out), verdicts/ (what DVC
pins: the same bytes on every machine that reproduces the row).
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmark import run
from benchmark.declaring.fields import to_json
from benchmark.declaring.row import Row
from benchmark.declaring.spec import Spec
from benchmark.errors import BenchError
from benchmark.files import write_text
from benchmark.recording import record
from benchmark.recording.agreement import TOLERANCE, differences
from benchmark.recording.record import Record, path_of
from benchmark.run import Place
from benchmark.running.progress import Display
from benchmark.suites.pipeline import BUILD, VERDICTS

__all__ = ["TOLERANCE", "Bench", "Reproduction", "differences", "gather", "reproduce", "resumable", "verdict"]


@dataclass(frozen=True)
class Bench(Place):
    """A place whose runs lie under build/, so that no run of the user's is taken for a reproduction or dropped."""

    def folder(self, spec: Spec) -> Path:
        """Return the folder of a reproduction."""
        return self.home / BUILD / "runs" / spec.id


class Reproduction(NamedTuple):
    """The fresh record and the committed one, and what the two are to each other."""

    fresh: Record
    committed: Record | None
    status: Literal["recorded", "new"]  # new: no record of this configuration is committed


def reproduce(
    spec: Spec,
    place: Bench,
    display: Display,
    *,
    committed_in: Path,
    tolerance: float,
    publish: bool = False,
    force: bool = False,
) -> Reproduction:
    """Run a spec from nothing, or from where a reproduction by the same code was stopped; compare and write a verdict.

    tolerance: dB, of psnr_gap; psnr_train and psnr_test may differ by twice that. A run begun by other code
    starts anew. publish: where no record of this configuration is
    committed, make this one it. Raise BenchError, and write no verdict, where the fresh numbers are not the committed.
    """
    fresh = run.run(spec, place, display, force=force or not resumable(spec, place))
    path = path_of(committed_in, spec.row, spec.half)
    committed = record.read(path) if path.exists() else None
    if committed and not spec.describes(committed.spec):
        committed = None
    if committed is None and publish:
        record.write(fresh, path)
        committed = fresh
    if committed and (problems := differences(committed, fresh, tolerance)):
        raise BenchError(
            f"{spec.title} does not reproduce {path}: {'; '.join(problems)}. The fresh record is "
            f"{path_of(place.records, spec.row, spec.half)}. Where the change is meant, `benchmark.run(..., force=True)` of the same "
            "row makes the new record."
        )
    result = Reproduction(fresh, committed, "recorded" if committed else "new")
    write_text(path_of(place.home / VERDICTS, spec.row, spec.half), json.dumps(verdict(result), indent=1) + "\n")
    return result


def resumable(spec: Spec, place: Bench) -> bool:
    """Tell whether a reproduction that was stopped, or finished, is by this very code."""
    try:
        return bool(json.loads((place.folder(spec) / "spec.json").read_text(encoding="utf-8"))["code"] == spec.code)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def verdict(result: Reproduction) -> dict[str, Any]:
    """Return what DVC pins: nothing in it depends on the machine."""
    fresh = result.fresh
    half = {"half": fresh.half} if fresh.half else {}
    return {
        "row": fresh.row._asdict() | half,
        "id": fresh.id,
        "metric_version": fresh.metric_version,
        "status": result.status,
        "train_sha256": fresh.data.train_sha256,
        "test_sha256": fresh.data.test_sha256,
        "dropped_duplicates": fresh.data.dropped_duplicates,
        "steps": fresh.training.steps,
        "parameters": fresh.training.parameters,
        "trajectory": [point.step for point in fresh.trajectory],
        "diffusion_steps": to_json(fresh.psnr.diffusion_steps),
    }


def gather(suite: str, rows: Sequence[Row], home: Path, committed_in: Path, published: Path) -> Path:
    """Take the verdicts and the fresh records of a suite's rows; write its page and the suite's own verdict.

    Where every row is recorded, the committed page must be what the committed records give. Raise BenchError naming
    a row without verdict, or what of the committed page is stale.
    """
    from benchmark.pages import leaderboard

    verdicts = [_read_verdict(path_of(home / VERDICTS, row)) for row in rows]
    fresh = home / BUILD / "leaderboard" / suite / "records"
    shutil.rmtree(fresh, ignore_errors=True)
    for row in rows:
        record.write(record.read(path_of(home / BUILD / "records", row)), path_of(fresh, row))
    leaderboard.build(fresh, fresh.parent, published)
    recorded = committed_in.is_dir() and all(one["status"] == "recorded" for one in verdicts)
    if recorded and (problems := leaderboard.stale(committed_in, committed_in.parent, published)):
        raise BenchError(
            f"Every row of the suite {suite} is reproduced, but the committed page is not made from the "
            f"committed records: {' '.join(problems)}"
        )
    out = home / VERDICTS / f"{suite}.json"
    write_text(out, json.dumps({"suite": suite, "rows": verdicts}, indent=1) + "\n")
    return fresh.parent / leaderboard.PAGE


def _read_verdict(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        raise ValueError("it is no table")
    except (OSError, ValueError, RecursionError):
        raise BenchError(
            f"There is no verdict at {path}. `dvc repro`, or `benchmark.suites.reproduce.reproduce(...)` of the row, writes it."
        ) from None
