"""What there is to copy of a run, and what has been copied into which store: tracking.json."""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.files import write_text
from benchmark.recording import analyses, record
from benchmark.recording.said import scrubbed

PREPARED = "experiment "  # what `prepare` says, with its id


def shown(store: str) -> str:
    """Return a store's address without its secrets."""
    return scrubbed(store)


def progress(run_dir: Path, store: str) -> dict[str, Any]:
    """Return what tracking.json says of a store: token, run, lines, record, problem; empty where nothing is known."""
    return _all(run_dir).get(shown(store), {})


def note(run_dir: Path, store: str, **changes: Any) -> None:
    """Write into tracking.json what has changed for a store."""
    known = _all(run_dir)
    known[shown(store)] = known.get(shown(store), {}) | changes
    write_text(run_dir / "tracking.json", json.dumps(known, indent=1) + "\n")


@contextmanager
def hold(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which a killed process lets go of; without `wait` raise BlockingIOError where it is held."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def values_of(line: bytes) -> list[tuple[str, int, float, float]]:
    """Return metric, step, value and time (s) of a line; nothing of one that a kill has cut short."""
    try:
        document = json.loads(line)
        step, seconds = int(document["step"]), float(document["time"])
        return [(key, step, float(value), seconds) for key, value in document["metrics"].items()]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return []


def cut(run_dir: Path) -> str:
    """Say where metrics.jsonl does not reach the end of a finished run: what MLflow has of its training is not all."""
    path = run_dir / "record.json"
    if not path.exists() or not (steps := record.read(path).training.steps):
        return ""
    lines = (run_dir / "metrics.jsonl").read_bytes().splitlines() if (run_dir / "metrics.jsonl").exists() else []
    last = max((step for line in lines for _, step, *_ in values_of(line)), default=0)
    return "" if last >= steps else f", but its metrics.jsonl is cut short: it ends at step {last} of {steps}"


def analyses_of(run_dir: Path) -> dict[str, str]:
    """Return the JSON files of a run's analyses, each with its digest."""
    return {path.name: digest(path) for path in sorted((run_dir / analyses.FOLDER).glob("[!.]*.json"))}


def count(path: Path) -> int:
    """Return the complete lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def digest(path: Path) -> str:
    """Return the sha256 of a file, its first 12 digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _all(run_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((run_dir / "tracking.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {store: said for store, said in found.items() if isinstance(said, dict)} if isinstance(found, dict) else {}
