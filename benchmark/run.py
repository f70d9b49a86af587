"""The composition, one page: a spec becomes a record. The first file to read.

spec -> packed images -> subset -> network -> training -> PSNR -> record, everything under runs/<spec id>/.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import nn

from benchmark import checkpoint, data, environment, record
from benchmark.attention import kernels_used, set_kernel
from benchmark.cost import forward_flops, parameters, peak_memory_bytes
from benchmark.diffusion import random_key
from benchmark.distributed import ALONE, Processes
from benchmark.errors import BenchError, UsageError
from benchmark.leaderboard import plots
from benchmark.lease import Folder, Held, Lease, held
from benchmark.numerics import recompute
from benchmark.partial_scores import PARTIAL, PartialScores, identity
from benchmark.progress import Display
from benchmark.psnr import mean, psnr
from benchmark.record import METRIC_VERSION, Data, Point, Psnr, Record
from benchmark.record import Training as Budget
from benchmark.signals import stop_requested
from benchmark.spec import Spec, from_record
from benchmark.step import Work
from benchmark.train import Hooks, Training, start, train


@dataclass(frozen=True)
class Place:
    """Where a run happens and where its results go; none of it changes the numbers but the device."""

    home: Path  # holds runs/, packed/ and data/
    records: Path
    device: torch.device
    suite: str | None = None
    checkpoint_seconds: float = 60.0
    processes: Processes = ALONE
    micro_batch: int | None = None  # images at a time in each process; None: all of its share, while memory lasts
    recompute: bool = False  # activations in the backward pass, to save memory
    attention_kernel: str = "auto"
    wait: bool = False  # for another process that works on the run, instead of refusing

    def folder(self, spec: Spec) -> Path:
        """Return the folder of a run."""
        return self.home / "runs" / spec.id


def run(spec: Spec, place: Place, display: Display, *, force: bool = False,
        started: Callable[[Path], None] = lambda folder: None) -> Record:
    """Train and score a spec, resuming what is there; return the finished record at once where there is one.

    `started` is called with the run's folder once it describes the run, before the training.
    """
    processes, folder = place.processes, place.folder(spec)
    if not force and (done := processes.ask_first(lambda: finished(spec, place))):
        return _published(done, spec, place)
    check_trainable(spec)
    subset = processes.in_turn(lambda: load_subset(spec, place, display))
    network = _built(spec, place)  # what cannot be loaded or built leaves no folder behind
    with _held(place, folder, display) as lease:
        if force:
            processes.only_first(lambda: _clear(folder))
        elif done := processes.ask_first(lambda: finished(spec, place)):  # by another process, meanwhile
            return _published(done, spec, place)
        processes.only_first(lambda: _begin(spec, place, subset, started))
        trained = _fit(network, place, subset) if hasattr(network, "fit") else _train(spec, place, display, network, subset, lease)
        scored = score(spec, place, display, trained.ema, subset, keep=folder)

        def finish() -> Record:
            result = _record(spec, place, trained, scored, subset)
            if lease:
                lease.check()
            _save(result, folder, display)
            return publish(result, spec, place)

        return processes.ask_first(finish)


def evaluate(folder: Path, place: Place, display: Display, search: tuple[Path, ...]) -> Record:
    """Score the last checkpoint of a finished run again, without training, and replace its record's PSNR."""
    before = record.read(folder / "record.json")
    spec = from_record(before.spec, overrides=before.overrides, assumed=before.assumed, search=search)
    with only_one(folder):
        subset = load_subset(spec, place, display)
        network = trained_network(spec, place, display, subset, before.weights_sha256)
        scored = score(spec, place, display, network, subset, keep=folder)
        budget = vars(before.training) | {"evaluation_seconds": scored.seconds}
        result = _with_psnr(vars(before) | {"training": Budget(**budget)}, scored.psnr)
        _save(result, folder, display)
        return publish(result, spec, place)


def score_loaded(spec: Spec, place: Place, display: Display, network: nn.Module) -> Record:
    """Score a network whose weights come from elsewhere; the record claims no training step."""
    subset = load_subset(spec, place, display)
    network = network.to(place.device).eval()
    set_kernel(network, place.attention_kernel)
    return _record(spec, place, Training(network, network, None, []), score(spec, place, display, network, subset), subset)


def trained_network(spec: Spec, place: Place, display: Display, subset: data.Subset, weights_sha256: str) -> nn.Module:
    """Return the network of a finished run as it was scored, from its last checkpoint or fitted anew."""
    folder, network = place.folder(spec), _built(spec, place)
    if hasattr(network, "fit"):
        return _fit(network, place, subset).ema
    saved = checkpoint.last(folder / "checkpoints", display.note)
    if saved is None:
        raise BenchError(f"The run {folder.name} has no checkpoint left in {folder}/checkpoints. Run it again with --force.")
    if checkpoint.weights_digest(saved.ema) != weights_sha256:
        raise BenchError(f"The checkpoint of {folder.name} is not the one its record was made from. Run it again with --force.")
    network.load_state_dict(saved.ema)
    return network.eval()


def check_trainable(spec: Spec) -> None:
    """Raise UsageError where a model wants class labels: no dataset here has any, and it would never see one."""
    if classes := getattr(spec.model.config, "num_classes", 0):
        raise UsageError(f"The model '{spec.model.name}' takes class labels (num_classes = {classes}), and no dataset here has any, so it "
                         "cannot be trained. Train it without: --set model.num_classes=0. Weights trained elsewhere with labels are "
                         "scored by `bench evaluate --weights FILE --format dit --label K`.")


def build(spec: Spec) -> nn.Module:
    """Build the network of a spec, initialised as a function of its seed."""
    torch.manual_seed(random_key("init", spec.seed))
    return spec.model.config.build(spec.images, spec.attention)


def finished(spec: Spec, place: Place) -> Record | None:
    """Return the record of this very spec, from its run folder or from the records, or None."""
    candidates = [place.folder(spec) / "record.json", record.path_of(place.records, spec.row, spec.half)]
    found = (record.read(path) for path in candidates if path.exists())
    return next((one for one in found if spec.describes(one.spec)), None)


def publish(result: Record, spec: Spec, place: Place) -> Record:
    """Put a record among the records, unless `--set` made it a run that the registry does not declare."""
    path = record.path_of(place.records, spec.row, spec.half)
    if not spec.overrides and (not path.exists() or record.read(path) != result):
        record.write(result, path)
    return result


def load_subset(spec: Spec, place: Place, display: Display) -> data.Subset:
    """Load the images of a spec: its training subset and the held-out test images."""
    packed = data.load(data.packed_name(spec), spec.dataset.config, home=place.home, progress=display.bar("packing"))
    return data.subset(packed, spec.dataset.name, spec.subset, spec.seed, spec.half)


def describe(spec: Spec, place: Place, subset: data.Subset) -> None:
    """Write spec.json, the run's own description; refuse to resume a run whose images have changed since."""
    path = place.folder(spec) / "spec.json"
    images = {"train_sha256": subset.digest, "test_sha256": subset.test_digest}
    if path.exists() and (before := json.loads(path.read_text()).get("data")) != images:
        raise BenchError(f"The images of run {spec.id} have changed since it began ({before} then, {images} now). "
                         "Start it anew with --force.")
    document = {"id": spec.id, "spec": spec.to_json(), "overrides": spec.overrides, "assumed": spec.assumed,
                "suite": place.suite, "data": images}
    record.write_text(path, json.dumps(document, indent=1) + "\n")


class Scored(NamedTuple):
    """The PSNR curves of a network, and the seconds they took."""

    psnr: Psnr
    seconds: float


def score(spec: Spec, place: Place, display: Display, network: nn.Module, subset: data.Subset, keep: Path | None = None) -> Scored:
    """Score a network by the recipe; the errors of what is scored go into the folder `keep`, where a killed scoring resumes."""
    began = time.monotonic()
    recipe, train_images, test_images = spec.recipe.config, *_on_device(subset, place.device)
    partial = None
    if keep:
        depends = identity(weights=checkpoint.weights_digest(network.state_dict()), train=subset.digest, test=subset.test_digest,
                           seed=spec.seed, steps=recipe.psnr_steps, images=recipe.psnr_images, version=METRIC_VERSION)
        partial = PartialScores(keep / PARTIAL, depends, seconds=place.checkpoint_seconds, processes=place.processes)
    try:
        measured = psnr(network, train_images, test_images, seed=spec.seed, steps=recipe.psnr_steps, images=recipe.psnr_images,
                        progress=display.bar("scoring"), processes=place.processes, partial=partial)
    except KeyboardInterrupt:
        if partial:
            partial.write()
        raise
    return Scored(measured, time.monotonic() - began)


def draw(result: Record, path: Path, display: Display) -> None:
    """Draw the PSNR curves of one record; where matplotlib is not installed (a bare GPU node), say so and go on."""
    try:
        record.write_text(path, plots.draw(plots.run_picture(result)))
    except BenchError as problem:
        display.note(f"No picture of this run: {problem}")


def _train(spec: Spec, place: Place, display: Display, network: nn.Module, subset: data.Subset,
           lease: Lease | None) -> Training:
    """Train by the recipe, appending to metrics.jsonl and taking the trajectory on the way."""
    folder, recipe = place.folder(spec), spec.recipe.config
    images, test_images = _on_device(subset, place.device)
    bar, processes = display.bar("training"), place.processes
    metrics_file = folder / "metrics.jsonl" if processes.first else Path(os.devnull)
    cut = metrics_file.exists() and not metrics_file.read_bytes().endswith(b"\n")  # by a kill in the middle of a line
    with metrics_file.open("a", encoding="utf-8") as log, stop_requested(patient=processes.size > 1) as stop:
        log.write("\n" if cut else "")

        def report(step: int, metrics: dict[str, float]) -> None:
            log.write(json.dumps({"step": step, "time": time.time(), "metrics": metrics}) + "\n")
            log.flush()
            if "loss" in metrics:
                bar(step, recipe.steps, f"{metrics['steps_per_second']:.1f} steps/s  loss {metrics['loss']:.4f}")

        def measure(ema: nn.Module, step: int, loss: float) -> Point:
            curves = psnr(ema, images, test_images, seed=spec.seed, steps=recipe.trajectory_psnr_steps,
                          images=recipe.trajectory_psnr_images, processes=processes)
            means = _means(curves)
            report(step, means)
            return Point(step=step, loss=loss, **means)

        def stopping() -> bool:
            if lease:
                lease.check()  # before the step's results are written: this process may have slept while another took over
            return stop()

        hooks = Hooks(report=report, measure=measure, warn=display.note, stop=stopping, checkpoint_seconds=place.checkpoint_seconds)
        work = Work(recipe, spec.seed, processes, place.micro_batch, warn=display.note)
        training = start(network, recipe)
        if place.recompute:
            recompute(network)  # the EMA copy, which is only scored, keeps its own blocks
        return train(training, images, recipe, seed=spec.seed, folder=folder / "checkpoints", hooks=hooks, work=work)


def _fit(network: nn.Module, place: Place, subset: data.Subset) -> Training:
    """Fit a network in closed form to its subset: a training of no steps."""
    began = time.monotonic()
    network.fit(_on_device(subset, place.device)[0])
    return Training(network, network.eval(), None, [], wall_seconds=time.monotonic() - began)


def _record(spec: Spec, place: Place, trained: Training, scored: Scored, subset: data.Subset) -> Record:
    total, trainable = parameters(trained.network)
    budget = Budget(
        steps=trained.step, device=environment.device_name(place.device), threads=torch.get_num_threads(),
        wall_seconds=trained.wall_seconds, evaluation_seconds=scored.seconds, peak_memory_bytes=peak_memory_bytes(place.device),
        resumed=trained.resumed, parameters=total, parameters_trainable=trainable, forward_flops=forward_flops(spec),
        processes=place.processes.size, micro_batch=trained.micro_batch, recompute=place.recompute,
        kernels=kernels_used(trained.network) | kernels_used(trained.ema), notes=tuple(trained.notes),
    )
    images = Data(manifest_sha256=subset.manifest_digest, train_sha256=subset.digest, test_sha256=subset.test_digest,
                  dropped_duplicates=subset.dropped_duplicates)
    fields: dict[str, Any] = {
        "schema": 1, "id": spec.id, "metric_version": METRIC_VERSION, "spec": spec.to_json(), "overrides": spec.overrides,
        "assumed": spec.assumed, "trajectory": tuple(trained.trajectory), "scores": {}, "training": budget, "data": images,
        "weights_sha256": checkpoint.weights_digest(trained.ema.state_dict()), "environment": environment.describe(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return _with_psnr(fields, scored.psnr)


def _with_psnr(fields: dict[str, Any], measured: Psnr) -> Record:
    return Record(**fields | {"psnr": measured} | _means(measured))


def _means(curves: Psnr) -> dict[str, float]:
    """Return the headline: the means of the clipped reading over the diffusion steps, in dB."""
    sides = {"psnr_train": curves.clipped.train, "psnr_test": curves.clipped.test, "psnr_gap": curves.clipped.gap}
    return {name: mean(values) for name, values in sides.items()}


def _on_device(subset: data.Subset, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(subset.train).to(device), torch.from_numpy(subset.test).to(device)


def _built(spec: Spec, place: Place) -> nn.Module:
    network = build(spec).to(place.device)
    set_kernel(network, place.attention_kernel)
    return network


def _begin(spec: Spec, place: Place, subset: data.Subset, started: Callable[[Path], None]) -> None:
    describe(spec, place, subset)
    started(place.folder(spec))


def _save(result: Record, folder: Path, display: Display) -> None:
    record.write(result, folder / "record.json")
    (folder / PARTIAL).unlink(missing_ok=True)
    draw(result, folder / "figures" / "psnr.svg", display)


def _published(done: Record, spec: Spec, place: Place) -> Record:
    place.processes.only_first(lambda: publish(done, spec, place))
    return done


@contextmanager
def _held(place: Place, folder: Path, display: Display) -> Iterator[Lease | None]:
    """Hold the folder in the first process of the run; the others have nothing to hold."""
    with ExitStack() as stack:
        yield place.processes.only_first(lambda: stack.enter_context(only_one(folder, place.wait, display.note)))


def _clear(folder: Path) -> None:
    for child in folder.iterdir():
        if child.name not in ("lock", "lease"):
            shutil.rmtree(child) if child.is_dir() else child.unlink()


@contextmanager
def only_one(folder: Path, wait: bool = False, note: Callable[[str], None] = lambda text: None) -> Iterator[Lease]:
    """Hold the folder of a run; a second process is told so, or waits, instead of writing into it.

    A file lock holds on one machine and ends with its process; the lease holds on every machine that sees the folder.
    """
    what = f"The run {folder.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as problem:
        raise BenchError(f"The run folder {folder} cannot be made: {problem.strerror}. Free space or make it writable.") from None
    with lock:
        locked = _lock(lock, what, wait, note)
        with held(Folder(folder / "lease"), what, alone=locked, wait=wait, note=note) as lease:
            yield lease


def _lock(lock: IO[str], what: str, wait: bool, note: Callable[[str], None]) -> bool:
    """Lock a file against other processes of this machine; False where its file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            raise Held(f"{what} is in progress in another process. Wait for it, or stop it first.") from None
        note(f"{what} is in progress in another process. Waiting for it to end.")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:
        return False
    return True
