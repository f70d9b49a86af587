"""One run folder and its copy in MLflow, brought up to date line by line."""

import json
import os
import select
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmark.declaring.spec import AXES
from benchmark.recording import analyses, record
from benchmark.recording.mirror.progress import analyses_of, digest, note, progress, values_of
from benchmark.recording.mirror.store import find

POLL_SECONDS = 3.0
BATCH = 1000  # metric values per call, MLflow's limit


class Copy:
    """One run folder and the MLflow run that mirrors it."""

    def __init__(self, client: Any, experiment: str, run_dir: Path, store: str) -> None:
        self._client, self._run_dir, self._store = client, run_dir, store
        self._description = json.loads((run_dir / "spec.json").read_text(encoding="utf-8-sig"))
        self._path, self._offset, self._lines, self.added = run_dir / "metrics.jsonl", 0, 0, 0
        token = progress(run_dir, store).get("token") or uuid.uuid4().hex
        note(run_dir, store, token=token, problem=None)  # first, so that a kill now makes no second MLflow run
        self._run = find(client, experiment, token) or self._create(experiment, token)
        self._id = self._run.info.run_id
        note(run_dir, store, run=self._id)
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
            for key, step, value, seconds in values_of(line)
            if (key, step) not in self._logged
        }
        self._log(list(points.values()))
        self._logged |= points.keys()
        self._lines += len(gained)
        self._latest = max([self._latest, *(point.timestamp for point in points.values())])
        if gained:
            note(self._run_dir, self._store, lines=self._lines)

    def end(self, status: str) -> None:
        """End the MLflow run: with record and pictures where the run has finished, else with `status`."""
        done, path, ended = None, self._run_dir / "record.json", None
        if path.exists():
            done, result = digest(path), record.read(path)
            status, ended = "FINISHED", int(datetime.fromisoformat(result.created).timestamp() * 1000)
            self._final(result, max(int(path.stat().st_mtime * 1000), self._latest + 1))
            self._client.log_artifact(self._id, str(path))
        if (self._run_dir / "figures").is_dir():
            self._client.log_artifacts(self._id, str(self._run_dir / "figures"), "figures")
        found = analyses_of(self._run_dir)
        for name in found:
            self._analysis(name)
        self._client.set_terminated(self._id, status, ended)
        note(self._run_dir, self._store, record=done, **({"analyses": found} if found else {}))

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
        first = next((int(seconds * 1000) for line in self._gained() for *_, seconds in values_of(line)), None)
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


def _heard(parent: int) -> str | None:
    """Wait a little for the parent's word; return 'finish', 'gone' where it has died, or None."""
    ready, _, _ = select.select([0], [], [], POLL_SECONDS)
    if ready:
        return "finish" if os.read(0, 64) else "gone"
    return None if os.getppid() == parent else "gone"


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))
