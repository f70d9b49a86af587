"""Before a run begins: all that its end will demand. Names, a record that can be read, places to write, space, memory."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_buffer_registration_hook, register_module_parameter_registration_hook

from benchmark.contract import ClosedForm
from benchmark.declaring import registry
from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import AXES, Spec
from benchmark.errors import BenchError, UsageError, foreign
from benchmark.files import check_room, existing, gibibytes
from benchmark.images import datasets
from benchmark.images.subsets import HELD_OUT
from benchmark.networks.cost import network_flops, on_meta, parameters
from benchmark.networks.diffusion import respaced
from benchmark.recording import record
from benchmark.running import environment
from benchmark.running.place import Place
from benchmark.training.checkpoint import KEPT

FLOAT = 4
TRAINED = 5  # numbers for every trained weight: itself, its gradient, two moments, the average
MOST_TENSORS = 20_000  # weights and buffers of one network: none that anybody trains has a tenth of them
RECORD_SPACE = 20_000_000  # bytes: record, errors of the images, curves, log
LONG = 123.45678901234567  # a number as long as any


def check(spec: Spec, place: Place) -> None:
    """Raise BenchError where the end of a run would fail, or its middle for want of memory: before anything is done."""
    check_names(spec)
    check_images(spec, place)
    network = bounded(spec, place)
    check_record(spec, network)
    check_places(spec, place)
    if not isinstance(network, ClosedForm):
        check_space(network, place.folder(spec))


def check_names(spec: Spec) -> None:
    """Raise UsageError where a record could not hold the name of an entry."""
    for axis in AXES:
        if why := registry.misnamed(getattr(spec, axis).name):
            raise UsageError(f"The {axis} {getattr(spec, axis).name!r} cannot have a record: {why}.")


def check_images(spec: Spec, place: Place) -> None:
    """Raise BenchError where the images of a generated dataset would not fit onto the disk."""
    dataset, name = spec.dataset.config, datasets.packed_name(spec)
    if not dataset.embedded or datasets.packed_here(name, place.home):
        return
    count = max(getattr(dataset, "count", 0), spec.subset + HELD_OUT)
    check_room(
        count * dataset.channels * dataset.resolution**2,
        place.home,
        f"The {count:,} images of '{spec.dataset.name}' at {dataset.resolution}x{dataset.resolution}",
    )


def bounded(spec: Spec, place: Place) -> nn.Module:
    """Return the network of a spec on meta; raise BenchError where its training would not fit into the memory of the device."""
    memory, recipe = environment.memory_bytes(place.device), spec.recipe.config
    batch = getattr(recipe, "batch", 0)
    drawn = batch * spec.images.channels * spec.images.resolution**2 * (2 * FLOAT + 1)  # the images, as bytes and scaled, and their noise
    if drawn > memory:
        raise BenchError(
            f"A batch of {batch:,} images needs {gibibytes(drawn)} for them and their noise alone, "
            f"and {place.device} has {gibibytes(memory)}. "
            "Take a smaller batch: `overrides=['recipe.batch=…']`."
        )
    what = f"The model '{spec.model.name}'"
    with foreign(f"{what} cannot be built"), _smaller_than(memory, what, str(place.device)):
        return on_meta(spec)


def check_record(spec: Spec, network: nn.Module) -> None:
    """Raise BenchError where the record of this run could not be written, read back and found in its place."""
    if bad := [name for name, value in network.state_dict().items() if not isinstance(value, Tensor)]:
        raise BenchError(f"The model '{spec.model.name}' has a state that no checkpoint holds: '{bad[0]}' is no tensor.")
    with foreign(f"The model '{spec.model.name}' cannot be counted"):
        flops = network_flops(network, spec.images, spec.classes)
    try:
        record.parsed(json.dumps(_imagined(spec, network, flops), indent=1, allow_nan=False))
    except (ValueError, RecursionError) as problem:
        raise BenchError(f"No record could hold this run: {problem}.") from None


def check_places(spec: Spec, place: Place) -> None:
    """Raise BenchError where the run's folder or its record could not be written, or what lies at the record's place is no record."""
    _writable(place.folder(spec))
    if not spec.overrides:
        path = record.path_of(place.records, spec.row, spec.half)
        _writable(path.parent)
        if path.exists():
            record.read(path)


def check_space(network: nn.Module, folder: Path) -> None:
    """Raise BenchError where the disk has no room for the checkpoints that a run keeps, the one being written, and its record."""
    total, trainable = parameters(network)
    saved = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    one = 2 * saved + 2 * FLOAT * trainable
    there = sum(path.stat().st_size for path in folder.glob("checkpoints/*/*") if path.is_file())
    check_room((KEPT + 1) * one + RECORD_SPACE - there, folder, f"{KEPT + 1} checkpoints of {total:,} parameters, and the record,")


@contextmanager
def _smaller_than(memory: int, what: str, device: str) -> Iterator[None]:
    """Stop the building of a network that could not be trained in so much memory, or would take hours to build."""
    seen: dict[int, Tensor] = {}
    total = 0

    def registered(numbers: int, tensor: Tensor | None) -> None:
        nonlocal total
        if tensor is None or id(tensor) in seen:
            return
        seen[id(tensor)] = tensor
        total += tensor.numel() * tensor.element_size() * numbers
        if total > memory:
            raise BenchError(
                f"{what} needs more than {gibibytes(total)} to be trained, and {device} has {gibibytes(memory)}. Take a smaller one."
            )
        if len(seen) > MOST_TENSORS:
            raise BenchError(f"{what} has more than {MOST_TENSORS:,} weight tensors: it would take hours to build. Take a smaller one.")

    handles = (
        register_module_parameter_registration_hook(lambda module, name, tensor: registered(TRAINED, tensor)),
        register_module_buffer_registration_hook(lambda module, name, tensor: registered(1, tensor)),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _imagined(spec: Spec, network: nn.Module, flops: int) -> dict[str, Any]:
    """Return the document of the record that the run would have, with numbers and words as long as any."""
    recipe, digest, long = spec.recipe.config, "0" * 64, "x" * 80
    steps = respaced(recipe.psnr_steps)
    curve = [LONG] * len(steps)
    both = {"train": curve, "test": curve}
    peer = {"left": 1, "images": 1, "draws": 1, "sha256": digest, "psnr": curve}
    point = {"loss": LONG, "psnr_train": LONG, "psnr_test": LONG, "psnr_gap": LONG, "psnr_test_halves": [LONG, LONG]}
    reached = [step for step in recipe.trajectory if step <= recipe.steps] if isinstance(recipe, Recipe) else []
    total, trainable = parameters(network)
    score = {"value": LONG, "sd": LONG, "samples": 1, "extractor": long, "version": long, "sampling": long}
    return {
        "schema": 1,
        "id": spec.id,
        "metric_version": record.LABELS_VERSION if spec.classes else record.METRIC_VERSION,
        "spec": spec.to_json(),
        "overrides": list(spec.overrides),
        "assumed": list(spec.assumed),
        "psnr_train": LONG,
        "psnr_test": LONG,
        "psnr_gap": 0.0,
        "psnr": {
            "diffusion_steps": steps,
            **dict.fromkeys(("images_train", "images_test", "draws_train", "draws_test"), 1),
            **dict.fromkeys(("clipped", "unclipped", "literal", "noise_mse"), both),
        },
        "trajectory": [point | {"step": step, "psnr_peers": [LONG] * len(spec.peers)} for step in reached],
        "scores": {f"{long} {number}": score | {"weights_digest": digest, "reference_digest": digest} for number in range(20)},
        "training": {
            **dict.fromkeys(("wall_seconds", "evaluation_seconds"), LONG),
            **dict.fromkeys(("peak_memory_bytes", "resumed"), 10**15),
            "device": long,
            "threads": 1,
            "steps": getattr(recipe, "steps", 0),
            "parameters": total,
            "parameters_trainable": trainable,
            "forward_flops": flops,
            "kernels": {"cpu bfloat16": [long] * len(spec.attention)},
        },
        "data": {**dict.fromkeys(("manifest_sha256", "train_sha256", "test_sha256"), digest), "dropped_duplicates": 0},
        "weights_sha256": digest,
        "environment": {
            **dict.fromkeys(("benchmark", "commit", "python", "torch", "platform", "processor"), long),
            "modified": True,
        },
        "created": long,
        "membership": {
            "version": record.MEMBERSHIP_VERSION,
            "diffusion_steps": steps,
            "peers": [peer | {"seed": seed} for seed in spec.peers],
        },
        "code": digest,
    }


def _writable(folder: Path) -> None:
    """Raise BenchError where a folder is none, or cannot be made and written to."""
    there = existing(folder)
    if not there.is_dir():
        raise BenchError(f"{folder} cannot be made: {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise BenchError(f"{there} cannot be written: it is read-only. Make it writable, or name another folder.")
