"""The process that copies runs into MLflow.

`python -m benchmark.recording.mirror follow RUN_DIR` copies one run while it happens, `… sync` the runs whose folders it
reads from stdin; benchmark/recording/tracking.py starts them. What has been copied into which store stands in the run's
tracking.json, so that a resumed run goes on in the same MLflow run, and a replay adds exactly what is missing.
"""

import argparse
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.recording.mirror.copy import Copy
from benchmark.recording.mirror.progress import PREPARED, analyses_of, count, cut, digest, hold, note, progress
from benchmark.recording.mirror.store import connect, find
from benchmark.recording.said import scrubbed


def _main_follow(run_dir: Path, store: str, parent: int) -> int:
    os.nice(10)  # training comes first
    try:
        with hold(run_dir / "tracking.lock"):
            Copy(*connect(store), run_dir, store).follow(parent)
    except Exception as problem:  # whatever MLflow raises: the run must not notice, and is told at its end
        traceback.print_exc()
        note(run_dir, store, problem=_reason(problem))
        return 1
    return 0


def _main_sync(store: str) -> int:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        connection, refusal = connect(store), ""
    except Exception as problem:
        connection, refusal = None, f"failed: {_reason(problem)}"
    for line in sys.stdin:
        run_dir = Path(line.rstrip("\n"))
        try:
            outcome = _replay(*connection, run_dir, store) if connection else refusal
        except Exception as problem:  # one run's trouble is not the next one's
            traceback.print_exc()
            outcome = f"failed: {_reason(problem)}"
        print(json.dumps([run_dir.name, outcome]), file=answers, flush=True)
    return 0


def _main_prepare(store: str) -> int:
    try:
        _, experiment = connect(store)
    except Exception as problem:
        print(_reason(problem), file=sys.stderr)
        return 1
    print(f"{PREPARED}{experiment}")
    return 0


def _replay(client: Any, experiment: str, run_dir: Path, store: str) -> str:
    """Bring one run up to date in the store and say what that took."""
    if not (run_dir / "spec.json").exists():
        return f"failed: {run_dir} holds no spec.json, so it is not a run"
    try:
        with hold(run_dir / "tracking.lock", wait=False):
            before, path = progress(run_dir, store), run_dir / "record.json"
            content: dict[str, Any] = {"lines": count(run_dir / "metrics.jsonl"), "record": digest(path) if path.exists() else None}
            content["analyses"] = analyses_of(run_dir)
            copied = {"lines": before.get("lines", 0), "record": before.get("record"), "analyses": before.get("analyses", {})}
            there = find(client, experiment, before["token"]) if "token" in before else None
            if there and there.info.status != "RUNNING" and copied == content:
                return f"up to date{cut(run_dir)}"
            copy = Copy(client, experiment, run_dir, store)
            copy.lines()
            copy.end("KILLED")
            return f"replayed {copy.added} values{' and the record' if path.exists() else '; the run is not finished'}{cut(run_dir)}"
    except BlockingIOError:
        return "another process is mirroring it now"


def _reason(problem: Exception) -> str:
    """Return why a store failed on one line: the cause, without the layers of clients around it."""
    text = " ".join(scrubbed(str(problem), os.environ["MLFLOW_TRACKING_URI"]).split()) or type(problem).__name__
    cause = re.search(r"Caused by \w+\(.*?\): (.+?)[\"']?\)+$", text)
    return (cause.group(1) if cause else text)[:300].rstrip(".")


def main() -> int:
    """Run one of the mirror's processes; the store is named by MLFLOW_TRACKING_URI."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.recording.mirror")
    verbs = parser.add_subparsers(dest="verb", required=True)
    follow = verbs.add_parser("follow")
    follow.add_argument("run_dir", type=Path)
    follow.add_argument("--parent", type=int, required=True)
    verbs.add_parser("sync")
    verbs.add_parser("prepare")
    options, store = parser.parse_args(), os.environ["MLFLOW_TRACKING_URI"]
    with _scrubbed_errors(store):
        if options.verb == "follow":
            return _main_follow(options.run_dir, store, options.parent)
        return _main_sync(store) if options.verb == "sync" else _main_prepare(store)


@contextmanager
def _scrubbed_errors(store: str) -> Iterator[None]:
    """Pass on what this process writes to stderr, whoever writes it, without the store's secrets."""
    kept, (reading, writing) = os.dup(2), os.pipe()
    os.dup2(writing, 2)
    os.close(writing)

    def pass_on() -> None:
        with os.fdopen(reading, "rb") as lines, os.fdopen(kept, "wb", buffering=0) as out:
            for line in lines:
                out.write(scrubbed(line.decode(errors="replace"), store).encode())

    reader = threading.Thread(target=pass_on, daemon=True)
    reader.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        with open(os.devnull, "wb") as nowhere:
            for number in (1, 2):  # no end is left to write to, so the other reads to its end
                os.dup2(nowhere.fileno(), number)
        reader.join(5)


if __name__ == "__main__":
    sys.exit(main())
