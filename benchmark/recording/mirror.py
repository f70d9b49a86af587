"""The process that copies runs into MLflow; the only file that imports mlflow.

`python -m benchmark.track.mirror follow RUN_DIR` copies one run while it happens, `… sync` the runs whose folders it reads
from stdin; benchmark/recording/tracking.py starts them. What has been copied into which store stands in the run's tracking.json, so
that a resumed run goes on in the same MLflow run, and a replay adds exactly what is missing.
"""

import argparse
import fcntl
import hashlib
import json
import os
import re
import select
import sys
import threading
import traceback
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.declaring.spec import AXES
from benchmark.files import write_text
from benchmark.recording import analyses, record
from benchmark.recording.said import scrubbed

EXPERIMENT = "dit-generalization-bench"
POLL_SECONDS = 3.0
BATCH = 1000  # metric values per call, MLflow's limit
SQLITE = "sqlite:///"


class Copy:
    """One run folder and the MLflow run that mirrors it."""

    def __init__(self, client: Any, experiment: str, run_dir: Path, store: str) -> None:
        self._client, self._run_dir, self._store = client, run_dir, store
        self._description = json.loads((run_dir / "spec.json").read_text(encoding="utf-8-sig"))
        self._path, self._offset, self._lines, self.added = run_dir / "metrics.jsonl", 0, 0, 0
        token = progress(run_dir, store).get("token") or uuid.uuid4().hex
        _note(run_dir, store, token=token, problem=None)  # first, so that a kill now makes no second MLflow run
        self._run = _find(client, experiment, token) or self._create(experiment, token)
        self._id = self._run.info.run_id
        _note(run_dir, store, run=self._id)
        self._describe()
        history = [(key, point) for key in self._run.data.metrics for point in client.get_metric_history(self._id, key)]
        self._logged = {(key, point.step) for key, point in history}
        self._latest = max((point.timestamp for _, point in history), default=0)

    def follow(self, parent: int) -> None:
        """Copy what is appended until the parent process says that it has finished, or is gone."""
        self._client.update_run(self._id, status="RUNNING")
        said = None
        while said is None:
            self.lines()
            said = _heard(parent)
        self.lines()
        self.end("FAILED" if said == "finish" else "KILLED")

    def lines(self) -> None:
        """Copy the complete lines that metrics.jsonl has gained; a (metric, step) is copied once."""
        from mlflow.entities import Metric

        gained = self._gained()
        points = {
            (key, step): Metric(key, value, int(seconds * 1000), step)  # of a repeated step the later line wins
            for line in gained
            for key, step, value, seconds in _values(line)
            if (key, step) not in self._logged
        }
        self._log(list(points.values()))
        self._logged |= points.keys()
        self._lines += len(gained)
        self._latest = max([self._latest, *(point.timestamp for point in points.values())])
        if gained:
            _note(self._run_dir, self._store, lines=self._lines)

    def end(self, status: str) -> None:
        """End the MLflow run: with record and pictures where the run has finished, else with `status`."""
        done, path, ended = None, self._run_dir / "record.json", None
        if path.exists():
            done, result = _digest(path), record.read(path)
            status, ended = "FINISHED", int(datetime.fromisoformat(result.created).timestamp() * 1000)
            self._final(result, max(int(path.stat().st_mtime * 1000), self._latest + 1))
            self._client.log_artifact(self._id, str(path))
        if (self._run_dir / "figures").is_dir():
            self._client.log_artifacts(self._id, str(self._run_dir / "figures"), "figures")
        analyses = _analyses(self._run_dir)
        for name in analyses:
            self._analysis(name)
        self._client.set_terminated(self._id, status, ended)
        _note(self._run_dir, self._store, record=done, **({"analyses": analyses} if analyses else {}))

    def _analysis(self, name: str) -> None:
        """Log the files of one analysis, and its numbers at step 0 where they are new."""
        from mlflow.entities import Metric

        path = self._run_dir / analyses.FOLDER / name
        found, when = analyses.read(path), max(int(path.stat().st_mtime * 1000), self._latest + 1)
        for written in sorted(file for file in path.parent.glob(f"{found.what}[-.]*") if file.is_file()):
            self._client.log_artifact(self._id, str(written), analyses.FOLDER)
        known, values = self._client.get_run(self._id).data.metrics, {f"{found.what}.{key}": value for key, value in found.numbers.items()}
        self._log([Metric(key, value, when, 0) for key, value in values.items() if known.get(key) != value])

    def _create(self, experiment: str, token: str) -> Any:
        first = next((int(seconds * 1000) for line in self._gained() for *_, seconds in _values(line)), None)
        self._offset = 0
        spec = self._description["spec"]
        half = f"-half_{spec['half']}" if "half" in spec else ""
        name = f"{spec['model']['name']}-{spec['layout']['name']}-n{spec['subset']}-s{spec['seed']}{half}"
        return self._client.create_run(experiment, start_time=first, tags={"mirror": token}, run_name=name)

    def _describe(self) -> None:
        """Log params, tags and the digests of the images, as far as the MLflow run lacks them: params cannot change."""
        from mlflow.entities import Param, RunTag

        spec, data = self._description["spec"], self._run.data
        params = [Param(name, value) for name, value in parameters(spec).items() if name not in data.params]
        tags = {axis: spec[axis]["name"] for axis in AXES} | {
            "N": str(spec["subset"]),
            "seed": str(spec["seed"]),
            "half": spec.get("half", ""),
            "id": self._description["id"],
            "suite": self._description["suite"] or "",
            "overrides": " ".join(self._description["overrides"]),
        }
        for part in _chunks(params, 100):
            self._client.log_batch(self._id, params=part)
        self._client.log_batch(self._id, tags=[RunTag(name, value) for name, value in tags.items() if value])
        self._client.log_artifact(self._id, str(self._run_dir / "spec.json"))
        if digests := self._description.get("data"):
            self._images(digests["train_sha256"], digests["test_sha256"])

    def _images(self, train: str, test: str) -> None:
        """Log both sets of images by our own digests, cut to what MLflow keeps (36) and whole in the profile.

        MLflow keeps one input of equal name and digest, however often it is logged.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = self._description["spec"]["dataset"]
        inputs = [
            DatasetInput(
                Dataset(
                    name=entry["name"],
                    digest=digest[:32],
                    source_type="local",
                    source=json.dumps(entry),
                    profile=json.dumps({"sha256": digest}),
                ),
                [InputTag("mlflow.data.context", context)],
            )
            for context, digest in (("training", train), ("test", test))
        ]
        self._client.log_inputs(self._id, inputs)

    def _final(self, result: record.Record, when: int) -> None:
        """Log what the record adds to the lines, at the time `when` (ms).

        Of several values at one step MLflow shows the latest, so `when` must be later than the lines.
        """
        from mlflow.entities import Metric

        if not self._description.get("data"):
            self._images(result.data.train_sha256, result.data.test_sha256)
        budget = ("parameters", "parameters_trainable", "forward_flops", "wall_seconds", "evaluation_seconds", "peak_memory_bytes")
        values = {name: getattr(result, name) for name in ("psnr_train", "psnr_test", "psnr_gap")}
        values |= {name: float(getattr(result.training, name)) for name in budget}
        values |= {name: score.value for name, score in result.scores.items()}
        known = self._client.get_run(self._id).data.metrics
        step = result.training.steps
        self._log([Metric(name, value, when, step) for name, value in values.items() if known.get(name) != value])

    def _log(self, metrics: Sequence[Any]) -> None:
        for part in _chunks(metrics, BATCH):
            self._client.log_batch(self._id, metrics=part)
        self.added += len(metrics)

    def _gained(self) -> list[bytes]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except FileNotFoundError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._offset += len(complete)
        return complete.splitlines()


def shown(store: str) -> str:
    """Return a store's address without its secrets."""
    return scrubbed(store)


def parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return a spec's JSON as flat names and text: model, model.depth, …, subset, seed."""
    flat = {name: str(spec[name]) for name in ("subset", "seed", "half") if name in spec}
    for axis in AXES:
        flat |= {axis: spec[axis]["name"], **dict(_flat(axis, spec[axis]["config"]))}
    return flat


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(f"{name}.{key}", item)
    else:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _values(line: bytes) -> list[tuple[str, int, float, float]]:
    """Return metric, step, value and time (s) of a line; nothing of one that a kill has cut short."""
    try:
        document = json.loads(line)
        step, seconds = int(document["step"]), float(document["time"])
        return [(key, step, float(value), seconds) for key, value in document["metrics"].items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _connect(store: str) -> tuple[Any, str]:
    """Return a client and the id of our experiment; make the database and the experiment where they are missing."""
    from mlflow import MlflowClient

    if not store.startswith(SQLITE):
        client = MlflowClient(store)
        return client, _experiment(client, None)
    path = Path(store.removeprefix(SQLITE)).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _hold(path.with_name(path.name + "-lock")):  # processes that create it at the same time crash each other
        if not path.exists():
            _create_database(path)
        client = MlflowClient(store)
        return client, _experiment(client, (path.parent / "mlartifacts").as_uri())


def _create_database(path: Path) -> None:
    """Create the tables under another name first, so that a kill on the way leaves no half database."""
    from mlflow import MlflowClient

    new = path.with_name(path.name + "-new")
    for left in path.parent.glob(new.name + "*"):
        left.unlink()
    MlflowClient(f"{SQLITE}{new}").search_experiments(max_results=1)
    new.replace(path)


def _experiment(client: Any, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    if found := client.get_experiment_by_name(EXPERIMENT):
        return _active(client, found)
    try:
        return client.create_experiment(EXPERIMENT, artifact_location=artifacts)
    except MlflowException:
        if found := client.get_experiment_by_name(EXPERIMENT):  # another process was first
            return _active(client, found)
        raise


def _active(client: Any, experiment: Any) -> str:
    """Return the id of our experiment; restore it, and its runs, where it was deleted in MLflow's pages."""
    from mlflow.exceptions import MlflowException

    number = experiment.experiment_id
    if experiment.lifecycle_stage == "deleted":
        try:
            client.restore_experiment(number)
        except MlflowException as problem:
            raise MlflowException(
                f"its experiment {EXPERIMENT} was deleted and cannot be restored ({problem}). `mlflow experiments restore "
                f"--experiment-id {number}` restores it; `mlflow gc` removes it for good; or name another `store=...`"
            ) from None
    return number


def _find(client: Any, experiment: str, token: str) -> Any:
    return next(iter(client.search_runs([experiment], f"tags.mirror = '{token}'", max_results=1)), None)


def _heard(parent: int) -> str | None:
    """Wait a little for the parent's word; return 'finish', 'gone' where it has died, or None."""
    ready, _, _ = select.select([0], [], [], POLL_SECONDS)
    if ready:
        return "finish" if os.read(0, 64) else "gone"
    return None if os.getppid() == parent else "gone"


def _replay(client: Any, experiment: str, run_dir: Path, store: str) -> str:
    """Bring one run up to date in the store and say what that took."""
    if not (run_dir / "spec.json").exists():
        return f"failed: {run_dir} holds no spec.json, so it is not a run"
    try:
        with _hold(run_dir / "tracking.lock", wait=False):
            before, path = progress(run_dir, store), run_dir / "record.json"
            content: dict[str, Any] = {"lines": _count(run_dir / "metrics.jsonl"), "record": _digest(path) if path.exists() else None}
            content["analyses"] = _analyses(run_dir)
            copied = {"lines": before.get("lines", 0), "record": before.get("record"), "analyses": before.get("analyses", {})}
            there = _find(client, experiment, before["token"]) if "token" in before else None
            if there and there.info.status != "RUNNING" and copied == content:
                return f"up to date{_cut(run_dir)}"
            copy = Copy(client, experiment, run_dir, store)
            copy.lines()
            copy.end("KILLED")
            return f"replayed {copy.added} values{' and the record' if path.exists() else '; the run is not finished'}{_cut(run_dir)}"
    except BlockingIOError:
        return "another process is mirroring it now"


def _cut(run_dir: Path) -> str:
    """Say where metrics.jsonl does not reach the end of a finished run: what MLflow has of its training is not all."""
    path = run_dir / "record.json"
    if not path.exists() or not (steps := record.read(path).training.steps):
        return ""
    lines = (run_dir / "metrics.jsonl").read_bytes().splitlines() if (run_dir / "metrics.jsonl").exists() else []
    last = max((step for line in lines for _, step, *_ in _values(line)), default=0)
    return "" if last >= steps else f", but its metrics.jsonl is cut short: it ends at step {last} of {steps}"


def _analyses(run_dir: Path) -> dict[str, str]:
    """Return the JSON files of a run's analyses, each with its digest."""
    return {path.name: _digest(path) for path in sorted((run_dir / analyses.FOLDER).glob("*.json"))}


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def progress(run_dir: Path, store: str) -> dict[str, Any]:
    """Return what tracking.json says of a store: token, run, lines, record, problem; empty where nothing is known."""
    return _all(run_dir).get(shown(store), {})


def _all(run_dir: Path) -> dict[str, Any]:
    try:
        return json.loads((run_dir / "tracking.json").read_text())
    except (OSError, ValueError):
        return {}


def _note(run_dir: Path, store: str, **changes: Any) -> None:
    known = _all(run_dir)
    known[shown(store)] = known.get(shown(store), {}) | changes
    write_text(run_dir / "tracking.json", json.dumps(known, indent=1) + "\n")


@contextmanager
def _hold(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which a killed process lets go of; without `wait` raise BlockingIOError where it is held."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield


def _reason(problem: Exception) -> str:
    """Return why a store failed on one line: the cause, without the layers of clients around it."""
    text = " ".join(scrubbed(str(problem), os.environ["MLFLOW_TRACKING_URI"]).split()) or type(problem).__name__
    cause = re.search(r"Caused by \w+\(.*?\): (.+?)[\"']?\)+$", text)
    return (cause.group(1) if cause else text)[:300].rstrip(".")


def _main_follow(run_dir: Path, store: str, parent: int) -> int:
    os.nice(10)  # training comes first
    try:
        with _hold(run_dir / "tracking.lock"):
            Copy(*_connect(store), run_dir, store).follow(parent)
    except Exception as problem:  # whatever MLflow raises: the run must not notice, and is told at its end
        traceback.print_exc()
        _note(run_dir, store, problem=_reason(problem))
        return 1
    return 0


def _main_sync(store: str) -> int:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    try:
        connection, refusal = _connect(store), ""
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


PREPARED = "experiment "  # what `prepare` says, with its id


def _main_prepare(store: str) -> int:
    try:
        _, experiment = _connect(store)
    except Exception as problem:
        print(_reason(problem), file=sys.stderr)
        return 1
    print(f"{PREPARED}{experiment}")
    return 0


def main() -> int:
    """Run one of the mirror's processes; the store is named by MLFLOW_TRACKING_URI."""
    parser = argparse.ArgumentParser(prog="python -m benchmark.track.mirror")
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
