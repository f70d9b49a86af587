"""The composition, one page: a spec becomes a record. The first file to read.

spec -> packed images -> subset -> network -> training -> PSNR -> record, everything under runs/<spec id>/.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from benchmark.contract import ClosedForm
from benchmark.declaring.spec import Spec, from_record
from benchmark.errors import BenchError, foreign
from benchmark.images import datasets
from benchmark.networks.attention import set_kernel
from benchmark.networks.denoiser import noise_estimate
from benchmark.networks.diffusion import random_key
from benchmark.networks.numerics import compile_passes, keep_compiled, reproducible
from benchmark.recording import errors, record
from benchmark.recording.record import Record
from benchmark.running.folder import clear, describe
from benchmark.running.hold import clean, only_one
from benchmark.running.lease import Lease
from benchmark.running.place import Place, check_code, here
from benchmark.running.progress import Display
from benchmark.scoring import ahead
from benchmark.scoring.measure import digests, on_device
from benchmark.scoring.result import record_of, rescored, save, score
from benchmark.scoring.trajectory import train_measured
from benchmark.training import checkpoint
from benchmark.training.beforehand import check_labels, check_trainable, short_of_memory
from benchmark.training.state import Trained


def run(
    spec: Spec, place: Place, display: Display, *, force: bool = False, started: Callable[[Path], None] = lambda folder: None
) -> Record:
    """Train and score a spec, resuming what is there; return the finished record at once where there is one.

    `started` is called with the run's folder once it describes the run, before the training.
    """
    processes, folder = place.processes, place.folder(spec)
    if not force and (done := processes.ask_first(lambda: finished(spec, place))):
        check_code(f"The record of {spec.title}", done.code, spec, place)
        processes.only_first(lambda: clean(folder))
        return _published(done, spec, place)
    check_trainable(spec)
    processes.only_first(lambda: ahead.check(spec, place))
    if said := short_of_memory(spec):
        display.note(said)
    subset = processes.in_turn(lambda: load_subset(spec, place, display))
    network = _built(spec, place)  # what cannot be loaded or built leaves no folder behind
    with _held(place, folder, display) as lease, reproducible(strict=place.deterministic):
        if force:
            processes.only_first(lambda: clear(folder))
        elif done := processes.ask_first(lambda: finished(spec, place)):  # by another process, meanwhile
            return _published(done, spec, place)
        processes.only_first(lambda: _begin(spec, place, subset, started, display))
        trained = (
            _fit(spec, network, place, subset)
            if isinstance(network, ClosedForm)
            else train_measured(spec, place, display, network, subset, lease)
        )
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
        compile_passes(network, spec.recipe.config)
        scored = score(spec, place, display, network, subset, keep=folder)
        result = rescored(before, scored)
        save(result, folder, display, scored)
        return publish(result, spec, place)


def score_loaded(spec: Spec, place: Place, display: Display, network: nn.Module) -> Record:
    """Score a network whose weights come from elsewhere; the record claims no training step."""
    ahead.check_names(spec)
    subset = load_subset(spec, place, display)
    network = network.to(place.device).eval()
    set_kernel(network, place.attention_kernel, timed=not place.deterministic)
    return record_of(spec, place, Trained(network, network), score(spec, place, display, network, subset), subset)


def trained_network(spec: Spec, place: Place, display: Display, subset: datasets.Subset | None, weights_sha256: str) -> nn.Module:
    """Return the network of a finished run as it was scored, from its last checkpoint or fitted anew: it estimates the noise.

    Only a fit needs the subset; it is loaded for one where it is None.
    """
    folder, network = place.folder(spec), _built(spec, place)
    if isinstance(network, ClosedForm):
        return _fit(spec, network, place, subset or load_subset(spec, place, display)).ema
    saved = checkpoint.last(folder / "checkpoints", display.note)
    if saved is None:
        raise BenchError(f"The run {folder.name} has no checkpoint left in {folder}/checkpoints. Run it again with `force=True`.")
    if checkpoint.weights_digest(saved.ema) != weights_sha256:
        raise BenchError(f"The checkpoint of {folder.name} is not the one its record was made from. Run it again with `force=True`.")
    network.load_state_dict(saved.ema)
    return noise_estimate(network, spec.recipe.config).eval()


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
    check_labels(spec)
    name, config = datasets.packed_name(spec), spec.dataset.config
    packed = datasets.load(name, config, home=place.home, labelled=spec.classes > 0, progress=display.bar("packing"))
    taken = datasets.subset(packed, spec.dataset.name, spec.subset, spec.seed, spec.half)
    if not spec.peers:
        return taken
    return replace(taken, peers=datasets.peers_of(packed, spec.dataset.name, spec.subset, spec.peers, spec.recipe.config.peer_images))


def _fit(spec: Spec, network: nn.Module, place: Place, subset: datasets.Subset) -> Trained:
    """Fit a network in closed form to its subset: a training of no steps."""
    assert isinstance(network, ClosedForm)
    began = time.monotonic()
    with foreign(f"The model '{spec.model.name}' cannot be fitted"):
        network.fit(on_device(subset, place.device).train)
    return Trained(network, network.eval(), wall_seconds=time.monotonic() - began)


def _built(spec: Spec, place: Place) -> nn.Module:
    with foreign(f"The model '{spec.model.name}' cannot be built"):
        network = build(spec).to(place.device)
    set_kernel(network, place.attention_kernel, timed=not place.deterministic)
    return network


def _begin(spec: Spec, place: Place, subset: datasets.Subset, started: Callable[[Path], None], display: Display) -> None:
    describe(spec, place, digests(subset), display.note)
    started(place.folder(spec))


def _published(done: Record, spec: Spec, place: Place) -> Record:
    place.processes.only_first(lambda: publish(done, spec, place))
    return done


@contextmanager
def _held(place: Place, folder: Path, display: Display) -> Iterator[Lease | None]:
    """Hold the folder in the first process of the run; the others have nothing to hold."""
    with ExitStack() as stack:
        yield place.processes.only_first(lambda: stack.enter_context(only_one(folder, place.wait, display.note)))


class _Callable(ModuleType):
    """`benchmark.run` is this module to the instrument, and to a notebook the function that runs one spec.

    One name cannot be both in a package: importing the module sets the attribute `benchmark.run` to it, whatever stood
    there. So the module itself can be called.
    """

    def __call__(
        self, spec: Spec, *, device: str = "auto", records: Path | None = None, force: bool = False, deterministic: bool | None = None
    ) -> Record:
        """Train and score a spec as `bench run` does, and return its record; the same call again resumes, or returns it at once.

        The record goes into `records` (default: the leaderboard's), unless the spec has overrides. `force` runs anew.
        `deterministic` makes what torch cannot compute deterministically an error (default: on a CPU, not on a GPU).
        """
        place = here(device, records, deterministic)
        keep_compiled(place.home / "runs" / "compiled")
        with Display() as display:
            return run(spec, place, display, force=force)


sys.modules[__name__].__class__ = _Callable
