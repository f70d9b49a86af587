"""The composition, one page: a spec becomes a record. The first file to read.

spec -> packed images -> subset -> network -> training -> PSNR -> record, everything under runs/<spec id>/.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from benchmark.contract import ClosedForm
from benchmark.declaring.equivalence import OtherCode
from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import BenchError, UsageError
from benchmark.files import write_text
from benchmark.images import datasets
from benchmark.networks.attention import set_kernel
from benchmark.networks.denoiser import noise_estimate
from benchmark.networks.diffusion import random_key
from benchmark.networks.numerics import keep_compiled, recompute, reproducible
from benchmark.recording import errors, record
from benchmark.recording.record import METRIC_VERSION, Point, Record
from benchmark.running.hold import only_one
from benchmark.running.lease import Lease
from benchmark.running.place import Place, here
from benchmark.running.progress import Display
from benchmark.running.signals import stop_requested
from benchmark.scoring.measure import measure, of_trajectory, on_device
from benchmark.scoring.partial import PARTIAL, PartialScores, identity
from benchmark.scoring.result import Scored, headline, record_of, rescored, save
from benchmark.training import checkpoint
from benchmark.training.loop import Hooks, start, train
from benchmark.training.state import Trained, Training
from benchmark.training.step import Work


def run(
    spec: Spec, place: Place, display: Display, *, force: bool = False, started: Callable[[Path], None] = lambda folder: None
) -> Record:
    """Train and score a spec, resuming what is there; return the finished record at once where there is one.

    `started` is called with the run's folder once it describes the run, before the training.
    """
    processes, folder = place.processes, place.folder(spec)
    if not force and (done := processes.ask_first(lambda: finished(spec, place))):
        check_code(f"The record of {spec.title}", done.code, spec, place)
        return _published(done, spec, place)
    check_trainable(spec)
    if said := short_of_memory(spec):
        display.note(said)
    subset = processes.in_turn(lambda: load_subset(spec, place, display))
    network = _built(spec, place)  # what cannot be loaded or built leaves no folder behind
    with _held(place, folder, display) as lease:
        if force:
            processes.only_first(lambda: _clear(folder))
        elif done := processes.ask_first(lambda: finished(spec, place)):  # by another process, meanwhile
            return _published(done, spec, place)
        processes.only_first(lambda: _begin(spec, place, subset, started))
        trained = _fit(network, place, subset) if isinstance(network, ClosedForm) else _train(spec, place, display, network, subset, lease)
        scored = score(spec, place, display, trained.ema, subset, keep=folder)

        def finish() -> Record:
            result = record_of(spec, place, trained, scored, subset)
            if lease:
                lease.check()
            save(result, folder, display, scored)
            return publish(result, spec, place)

        return processes.ask_first(finish)


def evaluate(folder: Path, place: Place, display: Display, search: tuple[Path, ...]) -> Record:
    """Score the last checkpoint of a finished run again, without training, and replace its record's PSNR."""
    before = record.read(folder / "record.json")
    spec = from_record(before.spec, overrides=before.overrides, assumed=before.assumed, search=search)
    check_code(f"The run {folder.name}", before.code, spec, place)
    with only_one(folder):
        subset = load_subset(spec, place, display)
        network = trained_network(spec, place, display, subset, before.weights_sha256)
        scored = score(spec, place, display, network, subset, keep=folder)
        result = rescored(before, scored)
        save(result, folder, display, scored)
        return publish(result, spec, place)


def score_loaded(spec: Spec, place: Place, display: Display, network: nn.Module) -> Record:
    """Score a network whose weights come from elsewhere; the record claims no training step."""
    subset = load_subset(spec, place, display)
    network = network.to(place.device).eval()
    set_kernel(network, place.attention_kernel)
    return record_of(spec, place, Trained(network, network), score(spec, place, display, network, subset), subset)


def trained_network(spec: Spec, place: Place, display: Display, subset: datasets.Subset | None, weights_sha256: str) -> nn.Module:
    """Return the network of a finished run as it was scored, from its last checkpoint or fitted anew: it estimates the noise.

    Only a fit needs the subset; it is loaded for one where it is None.
    """
    folder, network = place.folder(spec), _built(spec, place)
    if isinstance(network, ClosedForm):
        return _fit(network, place, subset or load_subset(spec, place, display)).ema
    saved = checkpoint.last(folder / "checkpoints", display.note)
    if saved is None:
        raise BenchError(f"The run {folder.name} has no checkpoint left in {folder}/checkpoints. Run it again with `force=True`.")
    if checkpoint.weights_digest(saved.ema) != weights_sha256:
        raise BenchError(f"The checkpoint of {folder.name} is not the one its record was made from. Run it again with `force=True`.")
    network.load_state_dict(saved.ema)
    return noise_estimate(network, spec.recipe.config).eval()


def check_code(what: str, code: str, spec: Spec, place: Place) -> None:
    """Raise OtherCode where `what` was made by code that is not known to give the numbers of this code."""
    if not place.accept_old_code and not spec.same_numbers(code):
        raise OtherCode(what, code, spec.code)


def check_trainable(spec: Spec) -> None:
    """Raise UsageError where a model wants class labels: no dataset here has any, and it would never see one."""
    if classes := getattr(spec.model.config, "num_classes", 0):
        raise UsageError(
            f"The model '{spec.model.name}' takes class labels (num_classes = {classes}), and no dataset here has any, so it "
            "cannot be trained. Train it without: `overrides=['model.num_classes=0']`. Weights trained elsewhere with labels are "
            "scored with one of them: `benchmark.networks.weights.unlabelled(..., path=FILE, form='dit', label=K)`."
        )


def short_of_memory(spec: Spec) -> str | None:
    """Say where the EMA, which is what is scored, remembers longer than the run lasts: much of it is still the initial weights."""
    recipe = spec.recipe.config
    if not isinstance(recipe, Recipe) or recipe.steps >= 1 / (1 - recipe.ema):
        return None
    return (
        f"The EMA remembers about {1 / (1 - recipe.ema):,.0f} steps, and the run has {recipe.steps:,}: the averaged network, which is "
        f"scored, still holds {100 * recipe.ema**recipe.steps:.0f}% of the initial weights. Train longer, or take a smaller ema than "
        f"{recipe.ema:g}."
    )


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
    """Put a record and the errors of its images among the records, unless an override made it a run that no registry declares."""
    path = record.path_of(place.records, spec.row, spec.half)
    if not spec.overrides:
        if not path.exists() or record.read(path) != result:
            record.write(result, path)
        errors.keep(place.folder(spec), result, path)
    return result


def load_subset(spec: Spec, place: Place, display: Display) -> datasets.Subset:
    """Load the images of a spec: its training subset and the held-out test images."""
    packed = datasets.load(datasets.packed_name(spec), spec.dataset.config, home=place.home, progress=display.bar("packing"))
    taken = datasets.subset(packed, spec.dataset.name, spec.subset, spec.seed, spec.half)
    if not spec.peers:
        return taken
    return replace(taken, peers=datasets.peers_of(packed, spec.dataset.name, spec.subset, spec.peers, spec.recipe.config.peer_images))


def describe(spec: Spec, place: Place, subset: datasets.Subset) -> None:
    """Write spec.json, the run's own description; refuse to resume a run whose images have changed since."""
    path = place.folder(spec) / "spec.json"
    before = json.loads(path.read_text()) if path.exists() else None
    if before:
        check_code(f"The unfinished run {spec.id}", before.get("code", ""), spec, place)
    images = {"train_sha256": subset.digest, "test_sha256": subset.test_digest}
    if before and before.get("data") != images:
        raise BenchError(
            f"The images of run {spec.id} have changed since it began ({before.get('data')} then, {images} now). "
            "Start it anew with `force=True`."
        )
    document = {
        "id": spec.id,
        "spec": spec.to_json(),
        "overrides": spec.overrides,
        "assumed": spec.assumed,
        "suite": place.suite,
        "data": images,
        "code": spec.code,
    }
    write_text(path, json.dumps(document, indent=1) + "\n")


def score(spec: Spec, place: Place, display: Display, network: nn.Module, subset: datasets.Subset, keep: Path | None = None) -> Scored:
    """Score a network by the recipe; the errors of what is scored go into the folder `keep`, where a killed scoring resumes."""
    began = time.monotonic()
    recipe, images = spec.recipe.config, on_device(subset, place.device)
    network = noise_estimate(network, recipe)
    partial = None
    if keep:
        depends = identity(
            weights=checkpoint.weights_digest(network.state_dict()),
            train=subset.digest,
            test=subset.test_digest,
            seed=spec.seed,
            steps=recipe.psnr_steps,
            images=recipe.psnr_images,
            peers=",".join(peer.digest for peer in subset.peers),
            version=METRIC_VERSION,
        )
        partial = PartialScores(keep / PARTIAL, depends, seconds=place.checkpoint_seconds, processes=place.processes)
    try:
        measured = measure(
            network,
            images,
            seed=spec.seed,
            steps=recipe.psnr_steps,
            most=recipe.psnr_images,
            peer_pairs=recipe.peer_images if subset.peers else 0,
            progress=display.bar("scoring"),
            processes=place.processes,
            partial=partial,
        )
    except KeyboardInterrupt:
        if partial:
            partial.write()
        raise
    return Scored(measured, time.monotonic() - began)


def _train(spec: Spec, place: Place, display: Display, network: nn.Module, subset: datasets.Subset, lease: Lease | None) -> Training:
    """Train by the recipe, appending to metrics.jsonl and taking the trajectory on the way."""
    folder, recipe = place.folder(spec), spec.recipe.config
    images = on_device(subset, place.device)
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

        def point(ema: nn.Module, step: int, loss: float) -> Point:
            measured = measure(
                noise_estimate(ema, recipe),
                images,
                seed=spec.seed,
                steps=recipe.trajectory_psnr_steps,
                most=recipe.trajectory_psnr_images,
                peer_pairs=recipe.trajectory_peer_images if subset.peers else 0,
                processes=processes,
            )
            found = headline(measured.psnr)
            report(step, found)
            values: dict[str, Any] = found | of_trajectory(measured)
            return Point(step=step, loss=loss, **values)

        def stopping() -> bool:
            if lease:
                lease.check()  # before the step's results are written: this process may have slept while another took over
            return stop()

        def resumes(code: str) -> None:
            check_code(f"The checkpoint of run {spec.id}", code, spec, place)
            if not spec.same_numbers(code):
                training.notes.append(f"began with other code ({code[:12] or 'not recorded'})")

        hooks = Hooks(
            resumes=resumes, report=report, measure=point, warn=display.note, stop=stopping, checkpoint_seconds=place.checkpoint_seconds
        )
        work = Work(recipe, spec.seed, processes, place.micro_batch, warn=display.note)
        training = start(network, recipe)
        training.code = spec.code
        if place.recompute:
            recompute(network)  # the EMA copy, which is only scored, keeps its own blocks
        return train(training, images.train, recipe, seed=spec.seed, folder=folder / "checkpoints", hooks=hooks, work=work)


def _fit(network: nn.Module, place: Place, subset: datasets.Subset) -> Trained:
    """Fit a network in closed form to its subset: a training of no steps."""
    assert isinstance(network, ClosedForm)
    began = time.monotonic()
    network.fit(on_device(subset, place.device).train)
    return Trained(network, network.eval(), wall_seconds=time.monotonic() - began)


def _built(spec: Spec, place: Place) -> nn.Module:
    network = build(spec).to(place.device)
    set_kernel(network, place.attention_kernel)
    return network


def _begin(spec: Spec, place: Place, subset: datasets.Subset, started: Callable[[Path], None]) -> None:
    describe(spec, place, subset)
    started(place.folder(spec))


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


class _Callable(ModuleType):
    """`benchmark.run` is this module to the instrument, and to a notebook the function that runs one spec.

    One name cannot be both in a package: importing the module sets the attribute `benchmark.run` to it, whatever stood
    there. So the module itself can be called.
    """

    def __call__(self, spec: Spec, *, device: str = "auto", records: Path | None = None, force: bool = False) -> Record:
        """Train and score a spec as `bench run` does, and return its record; the same call again resumes, or returns it at once.

        The record goes into `records` (default: the leaderboard's), unless the spec has overrides. `force` runs anew.
        """
        place = here(device, records)
        keep_compiled(place.home / "runs" / "compiled")
        with Display() as display, reproducible():
            return run(spec, place, display, force=force)


sys.modules[__name__].__class__ = _Callable
